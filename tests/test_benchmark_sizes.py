"""Time against size: power laws, tables, figure, and the all-reduce on several devices."""

import json
import math

import numpy as np
import pytest
import scipy.stats
from speeds import TWO, clipped

from experiments.benchmark import ours, sizes
from experiments.benchmark.cases import CASES


def test_a_power_law_is_found_exactly_and_its_error_is_that_of_regression():
    numbers = [16, 32, 64, 128]
    exact = sizes.fit(numbers, [3 * size**1.5 for size in numbers])
    assert exact.exponent == pytest.approx(1.5) and exact.factor == pytest.approx(3)
    assert exact.error == pytest.approx(0, abs=1e-7)
    noisy = [1.0, 2.3, 3.9, 9.0]
    expected = scipy.stats.linregress(np.log(numbers), np.log(noisy))
    found = sizes.fit(numbers, noisy)
    assert found.exponent == pytest.approx(expected.slope)
    assert found.error == pytest.approx(expected.stderr)
    assert math.isnan(sizes.fit([1, 2], [1, 2]).error)


def sizes_file():
    series = {
        name: {
            'size': one.size,
            'points': {
                str(n): {
                    'seconds': [n / 1000, n / 900],
                    'batch': case.batch,
                    'compile_seconds': 1.0,
                }
                for n, case in one.cases.items()
            },
        }
        for name, one in sizes.SERIES.items()
    }
    devices = {
        net: {
            str(n): {'seconds': [0.1 / n, 0.12 / n], 'all_reduce': [0.001 * n]}
            for n in sizes.DEVICES
        }
        for net in sizes.SCALED
    }
    return {
        'kind': 'sizes',
        'settings': {'dtype': 'float32', 'devices': None},
        'environment': TWO['environment'],
        'series': series,
        'devices': devices,
    }


def test_sizes_are_printed_and_drawn_with_their_exponents(benchmark, tmp_path):
    made = sizes_file()
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(made))
    code, out, _ = benchmark('--markdown', path)
    assert code == 0
    assert '- resnet: time ~ depth^1.00 ± 0.00' in out
    assert '| lenet5 | batch 16 | 16.9 |' in out  # the median of 16 and 17.8
    assert '| four_layer | 4 | 27.5 | 4.00 | 14.5 |' in out
    figure = sizes.render([made])
    assert not clipped(figure) and len(figure.axes) == 4
    assert benchmark('--figure', tmp_path / 'a.png', path)[0] == 0
    made['series'], made['devices'] = {'lenet5_batch': made['series']['lenet5_batch']}, {}
    assert not clipped(sizes.render([made]))


def test_sizes_are_measured_once_and_the_all_reduce_beside_the_step(
    benchmark, tmp_path, monkeypatch
):
    tiny = CASES['lenet5']._replace(batch=4)
    monkeypatch.setattr(sizes, 'SERIES', {'lenet5_batch': sizes.Series('batch', {4: tiny})})
    monkeypatch.setitem(sizes.CASES, 'lenet5', tiny)
    words = [
        '--sizes',
        'lenet5_batch',
        '--rounds',
        1,
        '--seconds',
        0.01,
        '--out',
        tmp_path / 'a.json',
    ]
    assert benchmark(*words)[0] == 0
    stored = json.loads((tmp_path / 'a.json').read_text())
    assert len(stored['series']['lenet5_batch']['points']['4']['seconds']) == 1
    monkeypatch.setattr(ours, 'Side', None)  # not asked for again
    assert benchmark(*words)[0] == 0


def test_the_all_reduce_is_timed_on_each_number_of_devices(monkeypatch):
    monkeypatch.setitem(sizes.CASES, 'lenet5', CASES['lenet5']._replace(batch=4))
    found = sizes.scaled('lenet5', 2, 2, 0.01, 'float32')
    assert len(found['seconds']) == len(found['all_reduce']) == 2
    assert min(found['seconds'] + found['all_reduce']) > 0
