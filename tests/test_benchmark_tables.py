"""The benchmark's ratios, tables and figure follow from what is measured."""

import json
import math
import statistics

import pytest
from speeds import ONE, TWO, clipped, entry, result

from experiments.benchmark import figure, tables
from experiments.benchmark.cases import CASES


def test_a_ratio_is_that_of_the_rounds_to_the_best_variant_of_all_rounds():
    lenet, resnet = TWO['cases'].values()
    # contiguous was dropped after one round, though its median of one is not the lowest
    assert tables.best(lenet) == 'torch channels_last'
    assert tables.best(resnet) == 'torch contiguous'
    assert tables.ratio(lenet, 'torch channels_last') == (2.0, 1.0, 4.0)
    assert tables.ratio(lenet, 'plain') == (2.0, 2.0, 3.0)
    assert tables.ratio(resnet, 'plain') is None
    assert tables.best(entry([1], [], [])) is None


def test_the_geometric_mean_is_over_the_nets_that_have_a_ratio():
    assert tables.geometric_mean(TWO) == (2.0, 2)  # of 2 and 2
    mean, count = tables.geometric_mean(TWO, task='infer')
    assert count == 2
    ratios = [statistics.median([300 / 100, 900 / 150, 600 / 50]), 240 / 40]
    assert mean == pytest.approx(math.prod(ratios) ** 0.5)
    assert tables.geometric_mean(TWO, 'plain') == (2.0, 1)
    assert tables.geometric_mean(result({})) == (None, 0)


def test_the_markdown_table_says_what_the_file_holds(benchmark, tmp_path):
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(TWO))
    code, out, _ = benchmark('--markdown', path)
    assert code == 0
    rows = [
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in out.splitlines()
        if line.startswith('| ')
    ]
    speed = dict(zip(rows[0], rows[2], strict=True))
    assert speed['net'] == 'lenet5' and speed['images/s'] == '200' and speed['PyTorch'] == '100'
    assert speed['ratio'] == '2.00 [1.00, 4.00]' and speed['its form'] == 'channels_last'
    assert speed['ratio to plain'] == '2.00 [2.00, 3.00]'
    head = next(i for i, row in enumerate(rows) if 'compile, s' in row)
    cost = dict(zip(rows[head], rows[head + 2], strict=True))
    gflops = 200 * 2_263_920 / 1e9
    assert cost['GFLOP/s'] == f'{gflops:.1f}'
    assert cost['of the peak, %'] == f'{100 * gflops / 200:.1f}'
    assert cost['compile, s'] == '1.2' and cost['step, MiB'] == '12'
    assert cost['input, %'] == '2.0' and cost['host, %'] == '1.0'
    assert 'Geometric mean of the ratios to PyTorch over 2 nets: 2.00.' in out
    assert 'jax 0.12.0' in out and '2020-01-02' in out
    assert benchmark('--show', path)[0] == 0


ALL = result(
    {
        name: entry([50 + 20 * i, 60 + 20 * i], [100, 110], [100, 90], [30, 40], name)
        for i, name in enumerate(CASES)
    }
)


@pytest.mark.parametrize(
    'found', [[ONE], [ALL], [ALL, result(ONE['cases'], devices=2, dtype='bfloat16')]]
)
def test_the_figure_shows_every_case_and_clips_no_label(found):
    drawn = figure.render(found)
    labels = [tick.get_text() for tick in drawn.axes[0].get_yticklabels()]
    assert labels == [name.replace('_', ' ') for name in found[0]['cases']]
    assert not clipped(drawn)
    low, high = drawn.axes[0].get_xlim()
    assert low < 1 < high
    shown = {tick.get_text() for tick in drawn.axes[0].get_xticklabels()}
    assert '1' in shown and len(shown) >= 2


def test_the_figure_is_written_and_its_mistakes_named(benchmark, tmp_path):
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(TWO))
    assert benchmark('--figure', tmp_path / 'a.png', path)[0] == 0
    assert (tmp_path / 'a.png').read_bytes().startswith(b'\x89PNG')
    assert '.svg' in benchmark('--figure', tmp_path / 'a.gif', path)[2]
    path.write_text(json.dumps(result({})))
    assert 'against torch' in benchmark('--figure', tmp_path / 'a.png', path)[2]
    path.write_text('{}')
    assert 'no benchmark' in benchmark('--figure', tmp_path / 'a.png', path)[2]
    path.write_text('{"kind": "benchmark"}')
    assert 'not what --out writes' in benchmark('--show', path)[2]


def test_a_step_that_every_round_finds_slower_than_plain_is_named():
    slow = entry([10, 12], [], [], [40, 20])
    slow['sides']['plain']['infer'] = slow['sides']['ours']['infer']
    notes = tables.notes(result({'lenet5': slow, 'other': entry([10, 30], [], [], [20, 20])}))
    line = 'Slower than plain flax in every round: lenet5 in training (0.42 [0.25, 0.60]).'
    assert [note for note in notes if note.startswith('Slower')] == [line]
