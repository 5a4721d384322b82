"""A work directory is read as its plan says, or named as none."""

import json

import pytest
from rows import row
from test_files import killed_while_writing

from experiments import files, run
from experiments import workdir as workdirs
from experiments.errors import UserError

PLAN = {
    'title': 't',
    'dataset_note': 'd',
    'arms': ['average'],
    'seeds': [0],
    'rates': [],
    'level': 0.95,
    'points': ['0123456789ab'],
}


def test_loading_keeps_the_last_row_of_each_run_of_the_plan(tmp_path):
    (tmp_path / 'plan.json').write_text(json.dumps(PLAN))
    for one in (
        row('average', 0, 0, 'failed', point='0123456789ab'),
        row('average', 7, 0.5, point='ba9876543210'),
        row('average', 0, 0.25, point='0123456789ab'),
        {'no': 'point'},
        row('average', 0, 1.25, point='0123456789ab'),
    ):
        files.append(tmp_path / 'results.jsonl', one)
    folder = tmp_path / 'points' / PLAN['points'][0]
    folder.mkdir(parents=True)
    for epoch, value in ((1, 0.9), (2, 0.8), (1, 0.7)):  # started over: the later line counts
        files.append(folder / 'metrics.jsonl', {'epoch': epoch, 'validation/error': value})
    with pytest.warns(UserWarning, match='a row is left out: it lacks point, arm') as found:
        loaded = workdirs.read_experiment(tmp_path)
    assert 'a row of run 0123456789ab is left out: test/error is 1.25' in str(found[1].message)
    assert [one['test/error'] for one in loaded.rows] == [0.25]
    assert [line['validation/error'] for line in loaded.curves[PLAN['points'][0]]] == [0.7, 0.8]


def test_an_epoch_that_does_not_fit_is_left_out_and_named(tmp_path):
    (tmp_path / 'plan.json').write_text(json.dumps(PLAN))
    path = tmp_path / 'points' / PLAN['points'][0] / 'metrics.jsonl'
    path.parent.mkdir(parents=True)
    for epoch, value in ((1, 0.9), (2, 1.8), ('3', 0.1)):
        files.append(path, {'epoch': epoch, 'validation/error': value})
    with pytest.warns(
        UserWarning, match='an epoch is left out: (validation/error|epoch) is'
    ) as found:
        loaded = workdirs.read_experiment(tmp_path)
    assert len(found) == 2 and str(path) in str(found[0].message)
    assert [line['epoch'] for line in loaded.curves[PLAN['points'][0]]] == [1]


@pytest.mark.parametrize(
    'content, message',
    [
        (None, 'no plan.json'),
        ('{', 'cannot be used .not a complete'),
        ('[]', 'cannot be used'),
        (json.dumps({**PLAN, 'arms': []}), 'arms is .., it must be'),
        (json.dumps({k: v for k, v in PLAN.items() if k != 'level'}), 'lacks level'),
    ],
)
def test_a_folder_without_a_usable_plan_is_an_error_that_says_what_to_do(
    tmp_path, content, message
):
    if content is not None:
        (tmp_path / 'plan.json').write_text(content)
    with pytest.raises(UserError, match=f'(?s){message}.*(give the work directory|run the exp)'):
        workdirs.read_experiment(tmp_path)


def test_labels_of_arms_come_from_the_plan_and_not_from_old_rows(tmp_path):
    """Two labels were exchanged in a config: the rows keep their runs, and get the new labels."""
    runs = {
        name: {
            'arm': arm,
            'phase': 'final',
            'seed': 0,
            'learning_rate': 0.1,
            'overrides': {'model.pool': pool},
        }
        for name, arm, pool in (('a' * 12, 'one', 'max'), ('b' * 12, 'two', 'average'))
    }
    plan = PLAN | {'arms': ['one', 'two'], 'points': list(runs), 'runs': runs}
    (tmp_path / 'plan.json').write_text(json.dumps(files.sealed(plan)))
    for name, arm, error in (('a' * 12, 'two', 0.1), ('b' * 12, 'one', 0.4)):
        files.append(tmp_path / 'results.jsonl', row(arm, 0, error, point=name))
    found = workdirs.read_experiment(tmp_path).rows
    assert [(one['arm'], one['test/error']) for one in found] == [('one', 0.1), ('two', 0.4)]


def test_a_row_of_no_arm_of_an_older_plan_is_named(tmp_path):
    (tmp_path / 'plan.json').write_text(json.dumps(PLAN))
    files.append(tmp_path / 'results.jsonl', row('averge', 0, 0.25, point='0123456789ab'))
    with pytest.warns(UserWarning, match="no arm 'averge'"):
        assert workdirs.read_experiment(tmp_path).rows == []


def test_a_folder_of_a_call_killed_at_its_first_breath_is_taken_up(tmp_path):
    (tmp_path / 'w').mkdir()
    killed_while_writing(tmp_path / 'w' / 'plan.json')
    workdirs.WorkDir(tmp_path / 'w', 'experiment')
    assert [path.name for path in (tmp_path / 'w').iterdir()] == ['plan.json']
    (tmp_path / 'w' / 'plan.json').write_text('')  # the machine stopped
    (tmp_path / 'w' / 'points').mkdir()
    workdirs.WorkDir(tmp_path / 'w', 'experiment')
    assert json.loads((tmp_path / 'w' / 'plan.json').read_text()) == {'experiment': 'experiment'}


@pytest.mark.parametrize('name', ['figure.png', 'plan.txt', '.part', '.plan.json.part'])
def test_a_folder_of_other_files_is_left_alone(tmp_path, name):
    (tmp_path / name).write_text('')
    with pytest.raises(UserError, match=f'no experiment of ours ..{name}'):
        workdirs.WorkDir(tmp_path, 'experiment')
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_killed_writes_left_in_the_folders_of_runs_is_swept(tmp_path):
    made = workdirs.WorkDir(tmp_path, 'experiment')
    made.write('points/0123456789ab/config.json', '{}')
    left = killed_while_writing(tmp_path / 'points/0123456789ab/weights.msgpack')
    workdirs.WorkDir(tmp_path, 'experiment')
    assert not left.exists()


@pytest.mark.parametrize('name', ['a\x1b[31m', 'two\nlines', '\udcff'])
def test_a_work_directory_whose_name_cannot_be_printed_is_refused_before_the_plan(
    tmp_path, root, capsys, name
):
    words = ['--config', 'configs/base.py', '--workdir', str(tmp_path / name)]
    assert run.main(words) == 2
    out, err = capsys.readouterr()
    assert out == '' and 'its name must be text without control characters' in err
    assert err.count('\n') == 1 and name not in err and not any(tmp_path.iterdir())


def test_a_folder_that_holds_only_the_logs_of_workers_is_a_new_work_directory(tmp_path):
    for name in ('logs', 'diary'):
        (tmp_path / name / 'jobs').mkdir(parents=True)
    workdirs.WorkDir(tmp_path / 'logs', 'mine')
    (tmp_path / 'diary' / 'diary.txt').write_text('mine')
    with pytest.raises(UserError, match=r"holds no experiment of ours \('diary.txt'\)"):
        workdirs.WorkDir(tmp_path / 'diary', 'mine')
