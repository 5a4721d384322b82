"""Everything in a given time: what is measured, kept, gone on with and left."""

import argparse
import json

import jax
import pytest

from experiments.benchmark import cases, every


@pytest.mark.parametrize(
    'words, said',
    [
        (['--all'], '--out'),
        (['--all', '--out', 'a.json'], 'folder'),
        (['--all', '--out', 'a', '--budget', '0'], '--budget'),
        (['--all', '--out', 'a', '--dtype', 'bfloat16'], '--dtype'),
        (['--all', '--out', 'a', '--again'], '--again'),
        (['lenet5', '--budget', '5'], '--all'),
    ],
)
def test_mistakes_are_one_line_and_status_2(benchmark, elsewhere, words, said):
    code, _, err = benchmark(*words)
    assert code == 2 and err.startswith('error: ') and err.count('\n') == 1 and said in err


def test_everything_is_measured_until_the_time_is_over_and_then_gone_on_with(
    benchmark, tmp_path, monkeypatch
):
    monkeypatch.setattr(every, 'TOGETHER', 2)
    monkeypatch.setattr(every.importlib.util, 'find_spec', lambda name: None)  # no PyTorch
    monkeypatch.setitem(cases.CASES, 'mlp_300', cases.KNOWN['mlp_300'])  # of those that come first
    out = tmp_path / 'all'
    few = ['mlp_300', '--all', '--out', out, '--rounds', 1, '--seconds', 0.01]
    few += ['--batch', 8, '--devices', 1]
    code, said, err = benchmark(*few, '--budget', 1e-6)
    assert code == 0, err
    assert '3 of 3 left after 1e-06 s: the same command goes on' in said
    code, said, err = benchmark(*few)
    assert code == 0, err
    assert ' left after ' not in said
    found = {name: json.loads((out / f'{name}.json').read_text()) for name in every.FILES}
    for name, result in found.items():
        assert list(result['cases']) == ['mlp_300'], name
    for dtype in ('float32', 'bfloat16'):
        assert found[dtype]['settings']['dtype'] == dtype
        assert found[dtype]['cases']['mlp_300']['sides']['ours']['train'][0]['steps'] >= 2
    both = found['together']['cases']['mlp_300']
    assert both['one'][0] > 0 and both['together'][0] > 0
    code, said, _ = benchmark(*few)
    assert code == 0 and said.count('kept from') >= 3
    code, said, _ = benchmark('--show', out / 'together.json')
    assert code == 0 and 'images/s of 2 seeds' in said


def test_the_images_of_all_seeds_are_counted_and_too_little_memory_is_stored(monkeypatch):
    args = argparse.Namespace(rounds=2, seconds=1.0)
    monkeypatch.setattr(every, '_stepper', lambda case, args, models: models)
    timed = lambda step, images, seconds: (None, {'images_per_second': images / step})
    monkeypatch.setattr(every, 'timed', timed)
    case = cases.KNOWN['mlp_300']
    expected = [float(case.batch)] * 2  # as many images of each seed
    found = every.measure_together(case, args)
    assert found == {'batch': case.batch, 'one': expected, 'together': expected}

    def full(*_):
        raise jax.errors.JaxRuntimeError('no room\nand more')

    monkeypatch.setattr(every, '_stepper', full)
    assert every.measure_together(case, args) == {'batch': case.batch, 'error': 'no room'}
