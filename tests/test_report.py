"""The report is one file that loads nothing, escapes everything and hides no failure."""

import html.parser
import json
import re

import pytest

from experiments import files
from experiments.report import page as report
from experiments.report import result_table
from experiments.workdir import read_experiment

ARMS = ('average <pooling> & "more"', 'max pooling')


def store(folder, rows, arms=ARMS, seeds=(0, 1, 2), rates=(0.03, 0.1), curves=True, **plan):
    folder.mkdir(exist_ok=True)
    (folder / 'plan.json').write_text(
        json.dumps(
            {
                'title': 'A <b>title</b>',
                'dataset_note': 'note <script>alert(1)</script>',
                'dataset': 'digits',
                'model': 'lenet5',
                'command': 'python -m experiments.run --only "a<b"',
                'arms': list(arms),
                'seeds': list(seeds),
                'rates': list(rates),
                'level': 0.95,
                'points': [row['point'] for row in rows],
            }
            | plan
        )
    )
    for row in rows:
        files.append(folder / 'results.jsonl', row)
        points = folder / 'points' / row['point']
        points.mkdir(parents=True)
        (points / 'config.json').write_text(json.dumps({'train.momentum': 0.9, 'title': '<i>'}))
        (points / 'environment.json').write_text(json.dumps({'jax': '0.10.0', 'backend': 'cpu'}))
        if curves:
            files.append(
                points / 'metrics.jsonl',
                {'epoch': 1, 'train/error': 0.5, 'validation/error': 0.4, 'seconds': 1.0},
            )
    return folder


def row(index, arm, seed, test=None, status='done', phase='final', rate=0.1, reason=''):
    made = {
        'point': files.digest(index)[:12],
        'arm': arm,
        'seed': seed,
        'phase': phase,
        'status': status,
        'learning_rate': rate,
        'reason': reason,
    }
    if status == 'done':
        made |= {'train/error': test, 'validation/error': test, 'parameters': 61706}
        made['validation/loss'] = 2 * test
        made |= {'test/error': test} if phase == 'final' else {}
    return made


def complete():
    rows = [
        row(
            f'{arm}{phase}{seed}{rate}',
            ARMS[arm],
            seed,
            0.1 + arm / 50 + seed / 1e4 + rate / 10,
            phase=phase,
            rate=rate,
        )
        for arm in (0, 1)
        for phase, seed, rate in (
            ('select', 7, 0.03),
            ('select', 7, 0.1),
            ('final', 0, 0.03),
            ('final', 1, 0.03),
            ('final', 2, 0.03),
        )
    ]
    return rows


class Page(html.parser.HTMLParser):
    """Tags with their attributes, and the words a reader sees."""

    void = {'meta', 'br', 'link', 'img'}

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(text)
        self.close()
        self.words = ' '.join(' '.join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {'style', 'svg'} & set(self.open):
            self.words.append(data)


@pytest.fixture(scope='module')
def page(tmp_path_factory):
    folder = store(tmp_path_factory.mktemp('report') / 'w', complete())
    return report.write(folder).read_text()


def test_the_page_loads_nothing_and_runs_nothing(page):
    made = Page(page)
    names = {tag for tag, _ in made.tags}
    assert 'svg' in names and not names & {
        'script',
        'link',
        'img',
        'iframe',
        'object',
        'embed',
        'base',
    }
    for tag, attributes in made.tags:
        for name, value in attributes.items():
            assert not name.startswith('on'), (tag, name)
            if name in ('src', 'href', 'xlink:href', 'data', 'action'):
                assert value.startswith('#'), (tag, name, value)
    assert 'http' not in page and '@import' not in page
    assert page.replace('url(#', '').count('url(') == 0


def test_on_a_phone_each_cell_stands_below_the_last_with_its_heading(page):
    cells = [attributes['data-heading'] for tag, attributes in Page(page).tags if tag == 'td']
    assert cells[:6] == list(result_table.HEADINGS[1:])
    narrow = page[page.index('@media (max-width') :]
    assert 'content: attr(data-heading)' in narrow and 'display: none' in narrow
    assert not re.search(r'svg {[^}]*min-width', page)


def test_the_page_has_a_dark_form_of_each_of_its_colours(page):
    assert 'prefers-color-scheme: dark' in page and 'white;' not in page
    used = set(re.findall(r'var\((--c\w+)\)', page))
    assert len(used) >= 5
    for name in used:
        assert page.count(f'{name}: ') == 2, name


def test_every_tag_is_closed_in_its_place(page):
    assert not Page(page).open


def test_labels_are_escaped_and_read_as_they_were_written(page):
    words = Page(page).words
    for text in (ARMS[0], 'A <b>title</b>', 'note <script>alert(1)</script>', '--only "a<b"'):
        assert text in words
    assert '<b>' not in page and '<script' not in page and '"title": "<i>"' in words


def test_the_page_holds_finding_table_protocol_environment_and_config(page):
    words = Page(page).words
    # +2.0 percentage points for every seed: no spread, so no conclusion
    assert (
        f'max pooling: +2.0 percentage points against {ARMS[0]} with every one of 3 seeds' in words
    )
    for text in (
        *result_table.HEADINGS,
        'not corrected for several comparisons',
        'lenet5, 61,706 parameters',
        'rate 0.03 rate 0.1',
        'training (seed: 7)',
        'read once',
        'Final runs that have ended: 6 of 6',
        'jax 0.10.0',
        '"train.momentum": 0.9',
    ):
        assert text in words, text


def test_the_table_of_learning_rates_marks_the_chosen_one(page):
    words = Page(page).words
    # validation errors as stored: 0.1 + 7/1e4 + rate / 10 and 0.02 more for max
    assert f'{ARMS[0]} 10.37 (chosen) 11.07 max pooling 12.37 (chosen) 13.07' in words


def test_learning_rates_chosen_by_steps_are_shown_with_their_steps(tmp_path):
    rows = complete()
    for one in rows:
        reached = 0.2 if one['learning_rate'] == 0.03 else 0.5
        one |= {'train/curve': [[40, 0.6], [80, reached]], 'steps': 80, 'epochs': 2}
    own = dict(criterion='steps_to_error', threshold=0.25)
    words = Page(report.write(store(tmp_path / 'w', rows, **own)).read_text()).words
    assert 'by its steps to 25 % training error (seed: 7)' in words
    assert f'{ARMS[0]} 55 (chosen) never' in words and 'by its validation error' not in words

    # beside an experiment that chose otherwise, and with trials of code that kept no curve
    for one in rows[:4]:
        del one['train/curve']
    store(tmp_path / 'c', rows, **own)
    store(tmp_path / 'v', complete())
    words = Page(report.write([tmp_path / 'c', tmp_path / 'v'], tmp_path).read_text()).words
    steps, _, error = words.partition('each of these arms by its validation error')
    assert 'each of these arms by its steps to 25 % training error' in steps
    assert f'{ARMS[1]} (c) ' in steps.partition('by its steps')[2]
    assert f'{ARMS[1]} (v) 12.37 (chosen) 13.07' in error


def test_when_and_on_what_the_runs_were_trained(tmp_path):
    folder = store(tmp_path / 'w', complete())
    own = {'backend': 'cpu', 'cpu': 'A processor', 'cpu_count': 1, 'jax': '0.12.0'}
    dates = ['2026-11-27T01:02:03+00:00', '2026-11-25', *['2026-11-26'] * 8]
    for path, date in zip(sorted(folder.glob('points/*')), dates, strict=True):
        (path / 'environment.json').write_text(json.dumps(own | {'date': date}))
    made = report.made_on(folder, read_experiment(folder))
    assert made == '2026-11-25 to 2026-11-27; A processor, 1 core; jax 0.12.0'
    for path in folder.glob('points/*'):
        (path / 'environment.json').write_text('{"backend": "gpu", "device_kind": "A \\u001b[0m"}')
    assert report.made_on(folder, read_experiment(folder)) == r'A \x1b[0m; jax ?'


CASES = {
    'no rows': dict(rows=[]),
    'no grid': dict(rows=[row(i, ARMS[0], i, 0.1) for i in range(3)], rates=()),
    'one rate': dict(rows=[row(i, ARMS[0], i, 0.1) for i in range(3)], rates=(0.1,)),
    'one arm': dict(rows=[row(i, 'net', i, 0.1 + i / 100) for i in range(3)], arms=['net']),
    'only selection': dict(
        rows=[
            row(0, ARMS[0], 7, 0.1, phase='select'),
            row(1, ARMS[1], 7, status='failed', phase='select', reason='no <room>'),
        ]
    ),
    'no curves': dict(rows=complete(), curves=False),
    'diverged arm': dict(
        rows=[
            row(0, ARMS[0], 0, 0.1),
            row(1, ARMS[1], 0, status='diverged', reason='the loss is nan at step 7'),
        ]
    ),
    'no rate trained': dict(
        rows=[
            row(0, ARMS[0], 7, status='diverged', phase='select', reason='nan'),
            row(1, ARMS[0], 0, status='failed', rate=None, reason='none trained'),
        ]
    ),
}


@pytest.mark.parametrize('name', CASES)
def test_a_report_is_written_from_whatever_there_is(tmp_path, name):
    given = CASES[name]
    text = report.write(store(tmp_path, **given)).read_text()
    made = Page(text)
    assert (
        not made.open
        and '<svg' in text
        and 'nan' not in Page(text).words.replace(' nan at', '').replace('diverged: nan', '')
    )
    for one in given['rows']:
        assert one['reason'] in made.words
    if not any(one['status'] in ('diverged', 'failed') for one in given['rows']):
        assert 'Failures None.' in made.words


def test_text_that_is_not_utf8_or_not_printable_is_escaped(tmp_path):
    bad = dict(dataset_note='a\x1b[31m\ud800', command='--workdir \udcff', dataset='d\x00')
    text = report.write(store(tmp_path, complete(), **bad)).read_text()
    for words in (r'a\x1b[31m\ud800', r'--workdir \udcff', r'd\x00'):
        assert words in text


def test_each_damaged_file_is_named_in_one_line(tmp_path, capsys):
    folder = store(tmp_path / 'w', complete())
    with open(folder / 'results.jsonl', 'a') as file:
        file.write('{"point": \n' + json.dumps(row('x', ['a'], 0, 0.1)) + '\n')
    final = complete()[2]['point']
    (folder / 'points' / final / 'metrics.jsonl').write_text('{"epoch": 1, "seconds": "\x1b[2J"}\n')
    (folder / 'points' / final / 'environment.json').write_text('{')
    assert report.main([str(folder)]) == 0
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 4 and all(line.startswith(f'note: {folder}/') for line in notes), notes
    for name in ('results.jsonl, line 11', 'results.jsonl: a row', 'metrics.jsonl', 'environment'):
        assert sum(name in line for line in notes) == 1, notes


def test_without_a_grid_the_page_says_that_no_learning_rate_was_selected(tmp_path):
    words = Page(report.write(store(tmp_path, **CASES['no grid'])).read_text()).words
    assert 'none was selected' in words and '0.1' in words


def test_the_command_line_writes_the_page_or_says_what_is_missing(tmp_path, capsys):
    assert report.main([str(store(tmp_path / 'w', complete()))]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / 'w' / 'report.html')
    assert report.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith('error: no plan.json')


def test_every_stored_experiment_is_quoted_as_the_command_prints_it(root, capsys):
    text = (root / 'experiments/stored/README.md').read_text()
    folders = sorted(path.parent for path in (root / 'experiments/stored').rglob('plan.json'))
    assert len(folders) >= 3
    for folder in folders:
        assert report.main([str(folder), '--markdown']) == 0
        assert capsys.readouterr().out.strip() in text, folder
        assert json.loads((folder / 'plan.json').read_text())['command'] in text, folder


@pytest.mark.parametrize('folder', ['experiments/stored', 'experiments/benchmark'])
def test_every_link_of_the_readmes_leads_to_a_file(root, folder):
    links = re.findall(r'\]\(([^)#]+)\)', (root / folder / 'README.md').read_text())
    assert links
    for link in links:
        assert (root / folder / link).exists(), link


@pytest.mark.parametrize('net', ['resnet20', 'resnet32', 'resnet44', 'resnet56'])
def test_the_errors_of_published_weights_are_those_of_the_stored_rows(root, net):
    (row,) = files.read(root / f'experiments/stored/evaluate_cifar10-{net}/results.jsonl')
    low, high = row['evaluation']['interval']
    words = f'{row["test/error"]:.2%} [{low:.2%}, {high:.2%}]'.replace('%', '')
    text = (root / 'experiments/stored/README.md').read_text()
    assert (
        row['test/count'] == 10_000
        and f' | {words} |' in text.split(f'\n| {net} |')[1].splitlines()[0]
    )
