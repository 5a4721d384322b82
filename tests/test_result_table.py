"""The result table on a terminal and as CSV."""

import csv

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
