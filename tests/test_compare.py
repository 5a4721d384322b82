"""Several work directories side by side: whose arms are whose, and what may be compared."""

import json

import pytest
from rows import experiment, row, with_runs

from experiments import files
from experiments.errors import UserError
from experiments.report import compare, figures, page
from experiments.report.sentences import data_note, sentences
from experiments.report.summary import summarise
from experiments.workdir import Experiment


def made(name, errors, arms=('net',), dataset='digits', model='lenet5', **plan) -> Experiment:
    rows = [
        row(arm, seed, error + index / 10)
        | {'overrides': {'model.pool': index}, 'validation/loss': 1.0}
        for index, arm in enumerate(arms)
        for seed, error in enumerate(errors)
    ]
    named = {'experiment': name, 'dataset': dataset, 'model': model, 'title': f'title of {name}'}
    curves = {one['point']: [{'epoch': 1, 'validation/error': one['test/error']}] for one in rows}
    seeds = range(len(errors))
    return with_runs(experiment(rows, arms=arms, seeds=seeds, curves=curves, **named | plan))


def store(folder, given: Experiment):
    folder.mkdir()
    (folder / 'plan.json').write_text(json.dumps(given.plan))
    for one in given.rows:
        files.append(folder / 'results.jsonl', one)
        (folder / 'points' / one['point']).mkdir(parents=True)
        for line in given.curves[one['point']]:
            files.append(folder / 'points' / one['point'] / 'metrics.jsonl', line)
    return folder


def test_arms_that_clash_are_named_by_their_experiment_and_paired_by_seed():
    # the same labels, seeds, rates, and so the same names of runs
    one, two = made('a', [0.10, 0.12]), made('b', [0.08, 0.11], arms=('net', 'wide'))
    both = compare.together(['x/a', 'x/b'], [one, two])
    summary = summarise(both)
    assert [arm['arm'] for arm in summary] == ['net (a)', 'net (b)', 'wide']
    assert [arm['test_error'].mean for arm in summary] == pytest.approx([0.11, 0.095, 0.195])
    assert summary[1]['difference'].mean == pytest.approx(-0.015)
    assert summary[1]['difference'].n == 2
    assert len({one['point'] for one in both.rows}) == 6 == len(both.curves)


def test_neighbours_are_those_of_the_same_experiment():
    one, two = made('a', [0.1, 0.2], arms=('x', 'y')), made('b', [0.1, 0.2], arms=('v', 'w'))
    # w and y differ in one field, but from different configs
    summary = summarise(compare.together(['a', 'b'], [one, two]))
    assert [list(arm['neighbours']) for arm in summary] == [[], [], [], ['v']]


@pytest.mark.parametrize(
    'names, folders, called',
    [
        (('a', 'b'), ('x/1', 'x/2'), ['a', 'b']),
        (('a', 'a'), ('x/1', 'y/2/'), ['1', '2']),
        (('a', 'a'), ('x/1', 'y/1'), ['x/1', 'y/1']),
    ],
)
def test_a_work_directory_is_called_by_the_first_name_that_tells_it_apart(names, folders, called):
    found = [made(name, [0.1]) for name in names]
    assert compare.names(folders, found) == called


def test_arms_of_other_data_have_no_difference_and_what_differs_is_said():
    one = made('a', [0.10, 0.12], epochs=5)
    two = made('b', [0.30, 0.40], dataset='mnist', model='vgg11', epochs=9)
    both = compare.together(['a', 'b'], [one, two])
    summary = summarise(both)
    assert summary[1]['difference'].n == 0
    assert sentences(summary) == [
        'net (b): no comparison, because its data set is not that of net (a)'
    ]
    assert both.plan['remarks'] == [
        'The data sets differ (a: digits; b: mnist).',
        'The nets differ (a: lenet5; b: vgg11).',
        'The numbers of epochs differ (a: 5; b: 9).',
    ]
    words = ' '.join(text.get_text().replace('\n', ' ') for text in figures.render(both).texts)
    assert 'a: digits; b: mnist' in words


def test_one_name_for_different_images_is_no_common_data_set():
    one, two = made('a', [0.1, 0.2]), made('b', [0.1, 0.3])
    for digest, part in (('f00d', one), ('beef', two)):
        for each in part.rows:
            each['data_found'] = digest
    both = compare.together(['a', 'b'], [one, two])
    assert summarise(both)[1]['difference'].n == 0
    assert both.plan['remarks'] == ['The data sets differ (a: digits (f00d); b: digits (beef)).']


def test_each_arm_keeps_its_own_grid_of_learning_rates():
    one, two = made('a', [0.1], rates=(0.1, 0.3)), made('b', [0.1], rates=(0.01, 0.1, 1.0))
    summary = summarise(compare.together(['a', 'b'], [one, two]))
    assert [arm['rate_at_edge'] for arm in summary] == [True, False]


def test_the_commands_write_one_page_table_and_figure_of_both(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folders = [str(store(tmp_path / name, made(name, [0.1, 0.2]))) for name in 'ab']
    assert page.main(folders) == 0
    out = capsys.readouterr().out
    assert out.count('net (') >= 3 and 'comparison/report.html' in out
    text = (tmp_path / 'comparison/report.html').read_text()
    assert 'title of a; title of b' in text and 'net (b)' in text
    assert len((tmp_path / 'comparison/results.csv').read_text().splitlines()) == 3
    assert figures.main([*folders, '--out', 'f']) == 0
    assert 'net (b) (n = 2)' in (tmp_path / 'f.svg').read_text()
    assert not list((tmp_path / 'a').glob('*.html'))
    assert page.main([*folders, '--markdown']) == 0
    assert '| net (a) |' in capsys.readouterr().out


@pytest.mark.parametrize(
    'words, message',
    [
        (['--out', ''], "--out '' names no folder"),
        (['--out', '/dev/null'], '/dev/null/report.html cannot be written'),
        (['--out', 'a'], 'a is a work directory, whose page stays'),
        (['nowhere'], 'no plan.json in nowhere'),
        (['./a'], 'a work directory was given twice'),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_drawn(
    tmp_path, monkeypatch, capsys, words, message
):
    monkeypatch.chdir(tmp_path)
    for name in 'ab':
        store(tmp_path / name, made(name, [0.1]))
    monkeypatch.setattr(page, 'write', None)
    assert page.main(['a', 'b', *words]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f'error: {message}') and err.count('\n') == 1 and not out
    assert not (tmp_path / 'comparison').exists()


def test_two_arms_that_cannot_be_told_apart_are_refused():
    one, two = made('a', [0.1], arms=('net', 'net (b)')), made('b', [0.1])
    with pytest.raises(UserError, match=r"two work directories have an arm 'net \(b\)'"):
        compare.together(['a', 'b'], [one, two])


def test_the_images_of_every_experiment_are_said():
    one, two = (made(name, [0.1], dataset_note=f'{name} of 10 images') for name in 'ab')
    summary = summarise(compare.together(['a', 'b'], [one, two]))
    assert data_note(summary) == 'Data: a of 10 images; b of 10 images.'
