"""The command of the benchmark: what it measures, keeps, continues and refuses."""

import json
import os
import re
import shlex
import signal

import pytest
from speeds import TWO, answer, fake_python

from experiments.benchmark import command, measure, ours, stored, tables


@pytest.mark.parametrize(
    'words, said',
    [
        (['--seconds', '0'], 'positive'),
        (['--rounds', '0'], 'at least 1'),
        (['--show'], 'FILE.json'),
        (['--show', 'no/such.json'], 'no/such.json'),
        (['lenet5', '--against', 'torch', '--torch_python', 'no/such/python'], 'no/such/python'),
        (['lenet5', '--against', 'torch', '--torch_python', 'false'], 'PyTorch'),
        (['--sizes', 'lenet_batch'], 'lenet5_batch'),
        (['--seconds', 'nan'], 'finite'),
        (['--seconds', 'inf'], 'finite'),
        (['runs/a.json'], '--show'),
        (['--again'], '--out'),
        (['lenet5', '--devices', '3'], '--batch'),
        (['--sizes', '--against', 'torch'], '--against'),
        (['--profile', '--against', 'plain'], '--against'),
        (['--ablation', '--devices', '2'], '--devices'),
        (['--ablation', '--dtype', 'bfloat16'], '--dtype'),
        (['--sizes', '--compile', 'none'], '--compile'),
        (['--operations', '--batch', '2'], '--batch'),
        (['--profile', '--rounds', '2'], '--rounds'),
        (['--show', 'a.json', '--out', 'b.json'], '--out'),
        (['--markdown', 'a.json', '--again'], '--again'),
        (['lenet5', '--compile', 'all'], 'torch'),
    ],
)
def test_mistakes_are_one_line_and_status_2(benchmark, words, said):
    code, _, err = benchmark(*words)
    assert code == 2 and err.startswith('error: ') and err.count('\n') == 1 and said in err


def test_the_command_measures_stores_and_continues_where_it_stopped(benchmark, tmp_path):
    rates = [answer(rate) for rate in (10.0, 20.0, 4.0, 9.0, 10.0, 20.0)]
    fake = fake_python(tmp_path, rates)
    words = [
        'lenet5',
        '--rounds',
        2,
        '--seconds',
        0.02,
        '--batch',
        8,
        '--devices',
        1,
        '--against',
        'torch',
        '--torch_python',
        fake,
        '--out',
        tmp_path / 'a/b.json',
    ]
    code, out, err = benchmark(*words)
    assert code == 0, err
    found = json.loads((tmp_path / 'a/b.json').read_text())
    sides = found['cases']['lenet5']['sides']
    assert [one['images_per_second'] for one in sides['torch contiguous']['train']] == [10, 10]
    assert sides['torch channels_last']['dropped']  # 4 of 10 images/s, and 9 of 20
    assert len(sides['torch channels_last']['train']) == 1
    assert sides['torch compile']['error'] == 'no compiler'
    own = sides['ours']
    assert len(own['train']) == len(own['infer']) == 2
    for one in own['train']:
        assert one['steps'] >= 2 and 0 <= one['input_share'] < 1
        assert one['images_per_second'] == pytest.approx(8 * one['steps'] / one['seconds'])
    assert own['compile_seconds'] > 0 and 0 < own['host']['share'] <= 1
    memory = own['memory_mib']
    weights = 61_706 * 4 / 2**20
    assert memory['argument'] > 2 * weights  # parameters and their velocities
    assert memory['step'] == pytest.approx(
        memory['argument'] + memory['output'] - memory['alias'] + memory['temp']
    )
    assert {'jax', 'jaxlib', 'flax'} < set(found['environment']['versions'])
    assert found['environment']['torch']['torch'] == '0' and found['peak_gflops'] > 0
    assert f'{tables.ratio(found["cases"]["lenet5"], "torch contiguous")}' in out

    code, out, _ = benchmark(*words)
    assert code == 0 and 'kept from' in out and 'compiles' not in out
    assert json.loads((tmp_path / 'a/b.json').read_text())['cases'] == found['cases']
    for others in (['--dtype', 'bfloat16'], ['--rounds', 3], ['--against', 'torch', 'plain']):
        code, _, err = benchmark(*words, *others)
        assert code == 2 and '--again' in err


def stored_file(tmp_path, monkeypatch, **environment):
    """A file of two cases that the command takes for its own, and what it measures again."""
    measured, path = [], tmp_path / 'a.json'
    monkeypatch.setattr(
        measure,
        'measure_case',
        lambda name, case, args, child: (measured.append(name), TWO['cases']['lenet5'])[1],
    )
    monkeypatch.setattr(ours, 'matmul_peak', lambda dtype, devices: 1.0)
    args = command.parser().parse_args([])
    path.write_text(
        json.dumps(
            TWO
            | {
                'settings': measure.settings(args),
                'peak_gflops': 7.0,
                'environment': stored.environment() | environment,
            }
        )
    )
    return measured, path


def test_again_measures_the_named_cases_and_keeps_the_others(benchmark, tmp_path, monkeypatch):
    measured, path = stored_file(tmp_path, monkeypatch)
    code, out, err = benchmark('resnet20', '--again', '--out', path)
    assert code == 0 and measured == ['resnet20'], err
    found = json.loads(path.read_text())
    assert list(found['cases']) == ['lenet5', 'resnet20'] and found['peak_gflops'] == 7.0
    assert found['cases']['resnet20']['net'] == 'lenet5'  # what was measured now


def test_numbers_of_another_machine_or_version_are_not_mixed(benchmark, tmp_path, monkeypatch):
    measured, path = stored_file(tmp_path, monkeypatch, cpu='another CPU', python='2.7')
    before = path.read_text()
    code, _, err = benchmark('alexnet', '--out', path)
    assert code == 2 and 'another cpu and python (another CPU)' in err and not measured
    assert path.read_text() == before
    assert (
        benchmark('lenet5', 'resnet20', '--again', '--out', path)[0] == 0
    )  # nothing is left to mix
    assert json.loads(path.read_text())['peak_gflops'] == 1.0  # of this machine


def test_again_never_wipes_what_it_does_not_name(benchmark, tmp_path, monkeypatch):
    measured, path = stored_file(tmp_path, monkeypatch)
    before = path.read_text()
    for words in (['resnet20', '--rounds', 1], ['lenet5', '--profile'], ['--sizes', 'devices']):
        code, _, err = benchmark(*words, '--again', '--out', path)
        assert code == 2 and '--out' in err and path.read_text() == before
    path.write_text('{"kind": "benchmark"}')
    code, _, err = benchmark('lenet5', '--out', path)
    assert code == 2 and 'not what --out writes' in err and not measured


def test_an_interrupt_keeps_the_finished_cases_and_says_so(benchmark, tmp_path, monkeypatch):
    def measured(name, case, args, child):
        if name == 'resnet20':
            os.kill(os.getpid(), signal.SIGINT)
        return TWO['cases']['lenet5']

    monkeypatch.setattr(measure, 'measure_case', measured)
    monkeypatch.setattr(ours, 'matmul_peak', lambda dtype, devices: 1.0)
    # a suite run with `&` ignores it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code, _, err = benchmark('lenet5', 'resnet20', '--out', tmp_path / 'a.json')
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == 130 and '1 of 2' in err and 'Traceback' not in err
    assert 'the same command again to continue' in err
    assert list(json.loads((tmp_path / 'a.json').read_text())['cases']) == ['lenet5']


def test_an_interrupted_again_continues_without_again(benchmark, tmp_path, monkeypatch):
    def measured(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(measure, 'measure_case', measured)
    monkeypatch.setattr(ours, 'matmul_peak', lambda dtype, devices: 1.0)
    code, _, err = benchmark('lenet5', '--again', '--out', tmp_path / 'a.json')
    assert code == 130 and 'without --again' in err


@pytest.mark.parametrize(
    'change',
    [
        {'cases': []},
        {'cases': {'lenet5': 3}},
        {'settings': 'none'},
        {'cases': {'lenet5': {'sides': {}}}},
        {'environment': None},
    ],
)
def test_a_file_that_no_command_wrote_is_one_line(benchmark, tmp_path, change):
    (tmp_path / 'a.json').write_text(json.dumps(TWO | change))
    for words in (['--show'], ['--markdown'], ['--figure', tmp_path / 'a.png']):
        code, _, err = benchmark(*words, tmp_path / 'a.json')
        assert code == 2 and err.startswith('error: ') and err.count('\n') == 1


def test_the_stored_benchmarks_are_quoted_as_the_command_prints_them(root, benchmark):
    files = sorted((root / 'experiments/stored/benchmark').glob('*.json'))
    text = (root / 'experiments/benchmark/README.md').read_text()
    assert files
    for path in files:
        status, out, _ = benchmark('--markdown', path)
        assert status == 0 and out.strip() in text, path


def test_every_command_of_the_readme_is_one_that_the_program_takes(root, benchmark, tmp_path):
    text = (root / 'experiments/benchmark/README.md').read_text()
    lines = re.findall(r'^python -m experiments.benchmark(.*)', text, re.M)
    assert len(lines) >= 6
    for line in lines:
        words = shlex.split(line.split('#')[0].replace('runs/', f'{tmp_path}/'))
        if '--figure' in words:
            assert benchmark(*words)[0] == 0
        else:  # minutes
            command.check(command.parser().parse_args(words))
