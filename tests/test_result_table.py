"""The result table on a terminal and as CSV."""

import csv
import re

import pytest
from rows import ARMS, experiment, row

from experiments.report import result_table
from experiments.report.summary import summarise


def test_the_table_fits_its_console_and_reads_labels_literally():
    from rich.console import Console

    arms = ('non-overlapping [bold]average[/] pooling', 'overlapping max pooling')
    rows = [row(arm, seed, 0.1 + seed / 100) for arm in arms for seed in range(3)]
    console = Console(width=120, record=True, file=open('/dev/null', 'w'))
    console.print(result_table.terminal(summarise(experiment(rows, arms=arms))))
    text = console.export_text()
    assert '[bold]' in text and '…' not in text
    for heading in result_table.HEADINGS:
        assert heading in text
    # 10, 11, 12 %: s = 1, half width 4.3027 / sqrt(3) = 2.484
    assert '11.00 ± 2.48' in text and '5.50 ± 1.24' in text


LONG = tuple(
    f'{one} {two} pooling'
    for one in ('non-overlapping', 'overlapping')
    for two in ('average', 'max')
)


@pytest.mark.parametrize('width', [60, 80, 100, 200])
def test_at_every_width_each_line_names_its_arm_and_no_number_is_cut(width):
    from rich.console import Console

    rows = [
        row(arm, seed, 0.1 + index / 50 + seed**2 / 100, rate=0.0003)
        for index, arm in enumerate(LONG)
        for seed in range(3)
    ]
    summary = summarise(experiment(rows, arms=LONG, rates=(0.0003, 0.1)))
    console = Console(width=width, record=True, file=open('/dev/null', 'w'))
    console.print(result_table.terminal(summary))
    text = console.export_text()
    assert '…' not in text and max(map(len, text.splitlines())) <= width
    words = ' '.join(text.split())
    for arm, cells in zip(LONG, result_table.cells(summary), strict=True):
        for word in arm.split():
            assert word in words
        # what belongs to an arm stands in a line that begins with a word of its label
        first = arm.split()[0]
        for cell in cells[1:]:
            assert any(
                cell in line and line.strip().startswith(first) for line in text.splitlines()
            )
    for heading in result_table.HEADINGS:
        for word in heading.split():
            assert word in words


BAD = '=1+1|\x1b[2J\x00\nmax\ud800'


def test_no_label_or_reason_acts_on_a_terminal_a_markdown_table_or_a_spreadsheet(tmp_path):
    from rich.console import Console

    rows = [row(BAD, 0, 0.1), row(BAD, 1, 0, 'failed', reason='no \x1b]0;\ud800room')]
    rows += [row(arm, 0, 0.1) for arm in ('@sum', '-2+3', ' +1')]
    summary = summarise(experiment(rows, arms=[BAD, '@sum', '-2+3', ' +1'], seeds=(0, 1)))
    console = Console(width=200, record=True, file=open('/dev/null', 'w'))
    console.print(result_table.terminal(summary))
    text = result_table.markdown(summary)
    for shown in (console.export_text(), text):
        assert not re.search('[\x00-\x08\x0b-\x1f\ud800]', shown)
        assert r'\x1b[2J\x00 max\ud800' in shown
    table = text.split('\n\n')[0].splitlines()
    assert len(table) == 6 and {len(re.findall(r'(?<!\\)\|', line)) for line in table} == {8}
    result_table.write_csv(tmp_path / 'r.csv', summary)
    with open(tmp_path / 'r.csv', newline='') as file:
        lines = list(csv.DictReader(file))
    assert [line['arm'] for line in lines] == [
        r"'=1+1|\x1b[2J\x00 max\ud800",
        "'@sum",
        "'-2+3",
        "' +1",
    ]
    assert lines[0]['failures'] == r'seed 1 failed: no \x1b]0;\ud800room'
    assert float(lines[1]['test_error_mean_percent']) == 10


def test_a_table_of_one_arm_has_no_column_of_differences():
    one, two = experiment([row('average', 0, 0.1)], arms=ARMS[:1]), experiment([])
    assert 'difference, points' not in result_table.markdown(summarise(one))
    assert 'baseline' not in result_table.markdown(summarise(one))
    assert 'difference, points' in result_table.markdown(summarise(two))


def test_the_csv_has_units_in_its_columns_and_nothing_for_the_unknown(tmp_path):
    rows = [
        row('average', 0, 0.10),
        row('average', 1, 0.12),
        row('max', 0, 0.09),
        row('max', 1, 0, 'diverged', reason='nan, "at" step 3'),
    ]
    result_table.write_csv(tmp_path / 'r.csv', summarise(experiment(rows, seeds=[0, 1])))
    with open(tmp_path / 'r.csv', newline='') as file:
        first, second = csv.DictReader(file)
    assert [first['arm'], second['arm']] == list(ARMS)
    assert float(first['test_error_mean_percent']) == pytest.approx(11)
    # half width 12.7062 x 1 percentage point
    assert float(first['test_error_high_percent']) == pytest.approx(11 + 12.7062, rel=1e-5)
    assert float(first['train_error_mean_percent']) == pytest.approx(5.5)
    assert first['difference_to_baseline_mean_points'] == '' == first['difference_pairs']
    assert float(second['difference_to_baseline_mean_points']) == pytest.approx(-1)
    assert second['difference_to_baseline_low_points'] == ''  # one pair: no interval
    assert [
        second[k] for k in ('seeds_finished', 'seeds_planned', 'difference_pairs', 'failures')
    ] == ['1', '2', '1', 'seed 1 diverged: nan, "at" step 3']
    assert 'nan' not in ','.join(first.values())


def test_a_metric_that_only_rows_know_is_a_column_of_table_and_csv(tmp_path):
    rows = [row('average', seed, 0.2, **{'test/confidence': 0.5 + seed / 10}) for seed in range(2)]
    summary = summarise(experiment(rows))
    headings, lines = result_table.table(summary)
    assert headings[-1] == 'test confidence' and [line[-1] for line in lines] == [
        '0.55 ± 0.64',
        '-',
    ]
    result_table.write_csv(tmp_path / 'r.csv', summary)
    head, first, second = (tmp_path / 'r.csv').read_text().splitlines()
    values = dict(zip(head.split(','), first.split(',')))
    assert float(values['test_confidence_mean']) == 0.55
    assert dict(zip(head.split(','), second.split(',')))['test_confidence_mean'] == ''


def test_table_and_markdown_say_which_images_and_how_many():
    note = 'mnist 3.0.1; only the first 500 of 54,000 train images'
    summary = summarise(experiment([row('average', 0, 0.1)], dataset_note=note))
    assert note in result_table.terminal(summary).caption
    assert f'- Data: {note}.' in result_table.markdown(summary).splitlines()
