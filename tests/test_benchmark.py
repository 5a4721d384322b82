"""The benchmark's numbers follow from what is measured, and both sides measure the same nets."""

import json
import math
import os
import signal
import statistics
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cnns
from experiments.benchmark import measure as benchmark
from experiments.benchmark import ours as benchmark_ours
from experiments.benchmark import profile as benchmark_profile
from experiments.benchmark import pytorch as benchmark_torch
from experiments.benchmark import sizes as benchmark_sizes
from experiments.benchmark import tables as benchmark_show
from experiments.benchmark.cases import CASES, chosen, config_of, dataset_of, work_of
from experiments.errors import UserError
from experiments.models import description as models
from experiments.plan.checks import fields_of, resolve


@pytest.fixture
def main(monkeypatch, capsys):
    """benchmark.main without a hand on the devices and settings of the other tests."""
    monkeypatch.setattr(benchmark, '_start_devices', lambda count: None)

    def call(*words):
        code = benchmark.main([str(word) for word in words])
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


# --- cases -------------------------------------------------------------------------------------


def test_the_work_of_lenet5_is_that_of_its_table():
    first = 28 * 28 * 6 * 25
    macs = first + 10 * 10 * 16 * 150 + 120 * 400 + 120 * 84 + 84 * 10
    work = work_of(CASES['lenet5'])
    assert work.macs == macs and work.infer == 2 * macs
    # forward, weights, inputs; the input of the first layer is the image
    assert work.train == 2 * (macs + macs + macs - first)
    assert work.parameters == 61_706


@pytest.mark.parametrize('name', CASES)
def test_every_case_is_a_config_that_trains_and_full_batches_of_images(name):
    case = CASES[name]
    config = config_of(case, devices=1)
    resolve(config)
    assert fields_of(config) == case.fields
    assert fields_of(config_of(case, fast=False)) == case.fields | {'fast': False}
    small = case._replace(side=0)
    dataset = dataset_of(small)
    assert dataset.train.images.shape[1:] == case.input and len(dataset.classes) == case.classes
    assert len(dataset.train.labels) % case.batch == 0 and len(dataset.train.labels) >= case.batch


def test_cases_cover_the_poolings_of_the_four_layer_net():
    found = {
        (case.fields['pool'], case.fields['overlap'])
        for case in CASES.values()
        if 'pool' in case.fields
    }
    assert found == {(kind, overlap) for kind in ('average', 'max') for overlap in (False, True)}


def test_a_wrong_name_is_one_line_with_the_nearest(main):
    code, out, err = main('lenet')
    assert code == 2 and not out
    assert err.count('\n') == 1 and "'lenet'" in err and "'lenet5'" in err
    with pytest.raises(UserError, match='four_layer_batch'):
        chosen(['four_layer_batchnorm'])
    assert list(chosen(['resnet20', 'lenet5'], 7)) == ['lenet5', 'resnet20']
    assert chosen(['lenet5'], 7)['lenet5'].batch == 7


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
def test_mistakes_are_one_line_and_status_2(main, words, said):
    code, _, err = main(*words)
    assert code == 2 and err.startswith('error: ') and err.count('\n') == 1 and said in err


# --- numbers -----------------------------------------------------------------------------------


def times(*rates):
    return [
        {'images_per_second': rate, 'steps': 2, 'seconds': 1.0, 'input_share': 0.02, 'mib': 100.0}
        for rate in rates
    ]


def entry(ours, contiguous, last, plain=(), name='lenet5'):
    case = CASES[name]
    work = work_of(case)
    sides = {
        'ours': {
            'train': times(*ours),
            'infer': times(*[3 * rate for rate in ours]),
            'compile_seconds': 1.25,
            'memory_mib': {'step': 12.4},
            'host': {'seconds': 1e-4, 'step_seconds': 1e-2, 'share': 0.01},
        },
        'torch contiguous': {'train': times(*contiguous), 'infer': times(*contiguous)},
        'torch channels_last': {'train': times(*last), 'infer': times(*last)},
        'torch compile': {'error': 'no compiler'},
    }
    if plain:
        sides['plain'] = {'train': times(*plain), 'infer': times(*plain)}
    return {
        'net': case.net,
        'fields': case.fields,
        'batch': case.batch,
        'classes': 10,
        'input': list(case.input),
        'parameters': work.parameters,
        'multiply_adds': work.macs,
        'flop_train': work.train,
        'flop_infer': work.infer,
        'sides': sides,
        'seconds': 1.0,
    }


def result(cases, **settings):
    return {
        'kind': 'benchmark',
        'peak_gflops': 200.0,
        'cases': cases,
        'settings': {'devices': None, 'dtype': 'float32', 'batch': None} | settings,
        'environment': {
            'date': '2020-01-02',
            'python': '3.13.0',
            'cpu': 'a CPU',
            'cores': 2,
            'load': [0.5, 0, 0],
            'versions': {'jax': '0.12.0'},
            'device': 'cpu',
            'platform': 'cpu',
            'devices': 1,
            'torch': {'torch': '2.9', 'threads': 2},
        },
    }


TWO = result(
    {
        'lenet5': entry([100, 300, 200], [90], [100, 150, 50], [50, 100, 100]),
        'resnet20': entry([80, 80], [40, 40], [20, 20], name='resnet20'),
    }
)


def test_a_ratio_is_that_of_the_rounds_to_the_best_variant_of_all_rounds():
    lenet, resnet = TWO['cases'].values()
    # contiguous was dropped after one round, though its median of one is not the lowest
    assert benchmark_show.best(lenet) == 'torch channels_last'
    assert benchmark_show.best(resnet) == 'torch contiguous'
    assert benchmark_show.ratio(lenet, 'torch channels_last') == (2.0, 1.0, 4.0)
    assert benchmark_show.ratio(lenet, 'plain') == (2.0, 2.0, 3.0)
    assert benchmark_show.ratio(resnet, 'plain') is None
    assert benchmark_show.best(entry([1], [], [])) is None


def test_the_geometric_mean_is_over_the_nets_that_have_a_ratio():
    assert benchmark_show.geometric_mean(TWO) == (2.0, 2)  # of 2 and 2
    mean, count = benchmark_show.geometric_mean(TWO, task='infer')
    assert count == 2
    ratios = [statistics.median([300 / 100, 900 / 150, 600 / 50]), 240 / 40]
    assert mean == pytest.approx(math.prod(ratios) ** 0.5)
    assert benchmark_show.geometric_mean(TWO, 'plain') == (2.0, 1)
    assert benchmark_show.geometric_mean(result({})) == (None, 0)


def test_the_markdown_table_says_what_the_file_holds(main, tmp_path):
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(TWO))
    code, out, _ = main('--markdown', path)
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
    assert main('--show', path)[0] == 0


def clipped(figure):
    """By how many inches what is drawn leaves the figure."""
    figure.canvas.draw()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return max(0, -drawn.x0, -drawn.y0, drawn.x1 - width, drawn.y1 - height)


ALL = result(
    {
        name: entry([50 + 20 * i, 60 + 20 * i], [100, 110], [100, 90], [30, 40], name)
        for i, name in enumerate(CASES)
    }
)
ONE = result({'lenet5': entry([100], [50], [80])})


@pytest.mark.parametrize(
    'found', [[ONE], [ALL], [ALL, result(ONE['cases'], devices=2, dtype='bfloat16')]]
)
def test_the_figure_shows_every_case_and_clips_no_label(found):
    figure = benchmark_show.render(found)
    labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert labels == [name.replace('_', ' ') for name in found[0]['cases']]
    assert not clipped(figure)
    low, high = figure.axes[0].get_xlim()
    assert low < 1 < high
    shown = {tick.get_text() for tick in figure.axes[0].get_xticklabels()}
    assert '1' in shown and len(shown) >= 2


def test_the_figure_is_written_and_its_mistakes_named(main, tmp_path):
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(TWO))
    assert main('--figure', tmp_path / 'a.png', path)[0] == 0
    assert (tmp_path / 'a.png').read_bytes().startswith(b'\x89PNG')
    assert '.svg' in main('--figure', tmp_path / 'a.gif', path)[2]
    path.write_text(json.dumps(result({})))
    assert 'against torch' in main('--figure', tmp_path / 'a.png', path)[2]
    path.write_text('{}')
    assert 'no benchmark' in main('--figure', tmp_path / 'a.png', path)[2]
    path.write_text('{"kind": "benchmark"}')
    assert 'not what --out writes' in main('--show', path)[2]


# --- PyTorch's side ----------------------------------------------------------------------------


def fake_python(tmp_path, answers):
    """An interpreter whose every process says hello and then gives these answers.

    None of them can compile.
    """
    lines = [json.dumps({'torch': '0', 'threads': 1, 'device': 'cpu'}), *answers]
    path = tmp_path / 'python'
    path.write_text(
        textwrap.dedent(f"""\
        #!{sys.executable}
        import sys
        answers = {lines!r}
        print(answers[0], flush=True)
        for answer, line in zip(answers[1:], sys.stdin):
            print('{{"error": "no compiler"}}' if 'compile' in line else answer, flush=True)
        """)
    )
    path.chmod(0o755)
    return str(path)


def answer(rate):
    return json.dumps(
        {'images_per_second': rate, 'steps': 2, 'seconds': 1.0, 'warm_up': 0.0, 'mib': 1.0}
    )


def test_a_child_that_dies_or_babbles_is_named_and_started_anew(tmp_path):
    child = benchmark_torch.Child(fake_python(tmp_path, [answer(7.0), 'not JSON']), limit=60)
    assert child.about == {'torch': '0', 'threads': 1, 'device': 'cpu'}
    for _ in range(2):
        assert child.ask(task='train')['images_per_second'] == 7.0
        assert 'not JSON' in child.ask(task='train')['error']
    assert child.ask(task='train')['images_per_second'] == 7.0
    child.close()


def test_an_answer_that_takes_too_long_is_left_out(tmp_path):
    path = tmp_path / 'python'
    path.write_text(f'#!{sys.executable}\nimport time\nprint("{{}}", flush=True)\ntime.sleep(60)\n')
    path.chmod(0o755)
    child = benchmark_torch.Child(str(path), limit=0.2)
    assert child.ask(task='train')['error'] == 'no answer within 0.2 s'
    child.close()


def test_pytorchs_side_needs_nothing_of_ours():
    code = (
        'import sys, experiments.benchmark.pytorch; '
        'print([name for name in ("jax", "flax", "cnns", "scipy") if name in sys.modules])'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'


@pytest.fixture
def torch_nets():
    pytest.importorskip('torch', reason='needs PyTorch, to compare with')
    from experiments.benchmark import torch_nets

    return torch_nets


@pytest.mark.parametrize('name', CASES)
def test_both_sides_train_a_net_of_the_same_size_and_output(torch_nets, name):
    import torch

    case = CASES[name]
    there = torch_nets.build(
        case.net, 'meta', torch_nets.BENCHMARKED, classes=case.classes, **case.fields
    )
    assert sum(p.numel() for p in there.parameters()) == work_of(case).parameters
    height, width, channels = case.input
    images = torch.zeros(2, channels, height, width, device='meta')
    assert there(images).shape == (2, case.classes)
    assert len(there.train()(images)) == (3 if name == 'googlenet' else 2)  # with its two heads


def copied(torch_nets, there, net, input):
    """Our variables with the weights of a PyTorch net whose layers come in the same order."""
    import torch

    modules = [(name, module) for name, module in there.named_modules() if 'aux' not in name]
    weighted = [
        module for _, module in modules if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear))
    ]
    norms = iter([module for _, module in modules if isinstance(module, torch.nn.BatchNorm2d)])
    rows = models.trace(net.clone(fast=False), input).rows
    before = dict(zip(rows[1:], rows))
    shapes = jax.eval_shape(
        lambda: net.init(jax.random.key(0), jnp.zeros((1, *input)), train=False)
    )
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), dict(shapes))
    for row, module in zip([row for row in rows if row.macs], weighted, strict=True):
        place, stats = variables['params'], variables.get('batch_stats')
        for part in row.layer.split('/'):
            place, stats = place[part], stats and stats.get(part)
        weight = module.weight.detach().numpy()
        if isinstance(module, torch.nn.Conv2d):
            layer = place['conv']
            layer['kernel'] = weight.transpose(2, 3, 1, 0)
        else:
            layer = place
            if len(before[row].output) == 3:  # the channel comes first there, last here
                high, wide, maps = before[row].output
                weight = weight.reshape(-1, maps, high, wide).transpose(0, 2, 3, 1)
            layer['kernel'] = weight.reshape(len(weight), -1).T
        if module.bias is not None:
            layer['bias'] = module.bias.detach().numpy()
        if 'norm' in place:
            norm = next(norms)
            place['norm'] = {
                'scale': norm.weight.detach().numpy(),
                'bias': norm.bias.detach().numpy(),
            }
            stats['norm'] = {'mean': norm.running_mean.numpy(), 'var': norm.running_var.numpy()}
    return variables


@pytest.mark.parametrize('name', [name for name in CASES if name not in ('vgg11', 'resnet18')])
def test_both_sides_compute_the_same_logits(torch_nets, name):
    import torch  # vgg11 and resnet18 are those of test_convert.py

    case = CASES[name]._replace(classes=10)
    there = torch_nets.randomise(
        torch_nets.build(case.net, nets=torch_nets.BENCHMARKED, classes=10, **case.fields)
    )
    net = cnns.build(case.net, classes=10, fast=False, **case.fields)
    images = np.random.default_rng(1).normal(size=(1, *case.input)).astype(np.float32)
    with torch.no_grad():
        expected = there(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    variables = copied(torch_nets, there, net, case.input)
    quick = {'xla_backend_optimization_level': 0}
    got = jax.jit(
        lambda variables: net.apply(variables, images, train=False), compiler_options=quick
    )(variables)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4 * abs(expected).max())


def test_a_real_child_measures_and_says_what_it_cannot(torch_nets):
    child = benchmark_torch.Child(sys.executable)
    assert child.about['torch']
    case = CASES['lenet5']
    request = dict(
        net=case.net,
        fields={},
        batch=8,
        input=case.input,
        classes=10,
        dtype='float32',
        seconds=0.01,
    )
    for variant in ('contiguous', 'channels_last'):
        for task in ('train', 'infer'):
            found = child.ask(**request, variant=variant, task=task)
            assert found['steps'] >= 2
            assert found['images_per_second'] == pytest.approx(
                8 * found['steps'] / found['seconds']
            )
    found = child.ask(**request | {'net': 'no_such'}, variant='contiguous', task='train')
    assert found == {'error': "KeyError: 'no_such'"}
    child.close()


# --- the command -------------------------------------------------------------------------------


def test_the_command_measures_stores_and_goes_on_where_it_stopped(main, tmp_path):
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
    code, out, err = main(*words)
    assert code == 0, err
    stored = json.loads((tmp_path / 'a/b.json').read_text())
    sides = stored['cases']['lenet5']['sides']
    assert [one['images_per_second'] for one in sides['torch contiguous']['train']] == [10, 10]
    assert sides['torch channels_last']['dropped']  # 4 of 10 images/s, and 9 of 20
    assert len(sides['torch channels_last']['train']) == 1
    assert sides['torch compile']['error'] == 'no compiler'
    ours = sides['ours']
    assert len(ours['train']) == len(ours['infer']) == 2
    for one in ours['train']:
        assert one['steps'] >= 2 and 0 <= one['input_share'] < 1
        assert one['images_per_second'] == pytest.approx(8 * one['steps'] / one['seconds'])
    assert ours['compile_seconds'] > 0 and 0 < ours['host']['share'] <= 1
    memory = ours['memory_mib']
    weights = 61_706 * 4 / 2**20
    assert memory['argument'] > 2 * weights  # parameters and their velocities
    assert memory['step'] == pytest.approx(
        memory['argument'] + memory['output'] - memory['alias'] + memory['temp']
    )
    assert {'jax', 'jaxlib', 'flax'} < set(stored['environment']['versions'])
    assert stored['environment']['torch']['torch'] == '0' and stored['peak_gflops'] > 0
    assert f'{benchmark_show.ratio(stored["cases"]["lenet5"], "torch contiguous")}' in out

    code, out, _ = main(*words)
    assert code == 0 and 'kept from' in out and 'compiles' not in out
    assert json.loads((tmp_path / 'a/b.json').read_text())['cases'] == stored['cases']
    for others in (['--dtype', 'bfloat16'], ['--rounds', 3], ['--against', 'torch', 'plain']):
        code, _, err = main(*words, *others)
        assert code == 2 and '--again' in err


def stored_file(tmp_path, monkeypatch, **environment):
    """A file of two cases that the command takes for its own, and what it measures anew."""
    measured, path = [], tmp_path / 'a.json'
    monkeypatch.setattr(
        benchmark,
        'measure',
        lambda name, case, args, child: (measured.append(name), TWO['cases']['lenet5'])[1],
    )
    monkeypatch.setattr(benchmark_ours, 'matmul_peak', lambda dtype, devices: 1.0)
    args = benchmark._parser().parse_args([])
    path.write_text(
        json.dumps(
            TWO
            | {
                'settings': benchmark._settings(args),
                'peak_gflops': 7.0,
                'environment': benchmark.environment() | environment,
            }
        )
    )
    return measured, path


def test_again_measures_the_named_cases_and_keeps_the_others(main, tmp_path, monkeypatch):
    measured, path = stored_file(tmp_path, monkeypatch)
    code, out, err = main('resnet20', '--again', '--out', path)
    assert code == 0 and measured == ['resnet20'], err
    found = json.loads(path.read_text())
    assert list(found['cases']) == ['lenet5', 'resnet20'] and found['peak_gflops'] == 7.0
    assert found['cases']['resnet20']['net'] == 'lenet5'  # what was measured now


def test_numbers_of_another_machine_or_version_are_not_mixed(main, tmp_path, monkeypatch):
    measured, path = stored_file(tmp_path, monkeypatch, cpu='another CPU', python='2.7')
    before = path.read_text()
    code, _, err = main('alexnet', '--out', path)
    assert code == 2 and 'another cpu and python (another CPU)' in err and not measured
    assert path.read_text() == before
    assert main('lenet5', 'resnet20', '--again', '--out', path)[0] == 0  # nothing is left to mix
    assert json.loads(path.read_text())['peak_gflops'] == 1.0  # of this machine


def test_again_never_wipes_what_it_does_not_name(main, tmp_path, monkeypatch):
    measured, path = stored_file(tmp_path, monkeypatch)
    before = path.read_text()
    for words in (['resnet20', '--rounds', 1], ['lenet5', '--profile'], ['--sizes', 'devices']):
        code, _, err = main(*words, '--again', '--out', path)
        assert code == 2 and '--out' in err and path.read_text() == before
    path.write_text('{"kind": "benchmark"}')
    code, _, err = main('lenet5', '--out', path)
    assert code == 2 and 'not what --out writes' in err and not measured


def test_what_is_eager_never_runs_where_something_was_compiled(tmp_path):
    children = benchmark_torch.Children(fake_python(tmp_path, [answer(1.0), answer(2.0)]))
    rates = [
        children.ask(variant=variant, task='train')
        for variant in ('contiguous', 'compile', 'channels_last')
    ]
    assert [one.get('images_per_second') for one in rates] == [1.0, None, 2.0]
    assert children._eager._process.pid != children._compiling._process.pid
    children.close()


def test_an_interrupt_keeps_the_finished_cases_and_says_so(main, tmp_path, monkeypatch):
    def measure(name, case, args, child):
        if name == 'resnet20':
            os.kill(os.getpid(), signal.SIGINT)
        return TWO['cases']['lenet5']

    monkeypatch.setattr(benchmark, 'measure', measure)
    monkeypatch.setattr(benchmark_ours, 'matmul_peak', lambda dtype, devices: 1.0)
    # a suite run by `&` has it ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code, _, err = main('lenet5', 'resnet20', '--out', tmp_path / 'a.json')
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == 130 and '1 of 2' in err and 'Traceback' not in err
    assert 'the same command again to go on' in err
    assert list(json.loads((tmp_path / 'a.json').read_text())['cases']) == ['lenet5']


def test_an_interrupted_again_goes_on_without_again(main, tmp_path, monkeypatch):
    def measure(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark, 'measure', measure)
    monkeypatch.setattr(benchmark_ours, 'matmul_peak', lambda dtype, devices: 1.0)
    code, _, err = main('lenet5', '--again', '--out', tmp_path / 'a.json')
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
def test_a_file_that_no_command_wrote_is_one_line(main, tmp_path, change):
    (tmp_path / 'a.json').write_text(json.dumps(TWO | change))
    for words in (['--show'], ['--markdown'], ['--figure', tmp_path / 'a.png']):
        code, _, err = main(*words, tmp_path / 'a.json')
        assert code == 2 and err.startswith('error: ') and err.count('\n') == 1


# --- profile -----------------------------------------------------------------------------------

PROGRAM = """\
HloModule jit_step, entry_computation_layout={(f32[2]{0})->f32[2]{0}}

%add.1 (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%moves (p: f32[2,3]) -> f32[3,2] {
  %p = f32[2,3]{1,0} parameter(0)
  ROOT %t = f32[3,2]{1,0} transpose(%p), dimensions={1,0}
}

%inside (p: f32[2,3]) -> f32[3,2] {
  %p.1 = f32[2,3]{1,0} parameter(0)
  %c.1 = f32[3,2]{1,0} convolution(%p.1, %p.1), window={size=3}, dim_labels=b01f_01io->b01f
  ROOT %m.1 = f32[3,2]{1,0} maximum(%c.1, %c.1)
}

%pooled (p: f32[4]) -> f32[2] {
  %p.2 = f32[4]{0} parameter(0)
  %s.2 = f32[2]{0} slice(%p.2), slice={[0:2]}, metadata={op_name="jit(f)/jvp(Net)/pool1/slice"}
  ROOT %m.2 = f32[2]{0} maximum(%s.2, %s.2), metadata={op_name="jit(f)/jvp(Net)/pool1/max"}
}

%normed (p: f32[4]) -> f32[4] {
  %p.3 = f32[4]{0} parameter(0)
  %r.3 = f32[4]{0} rsqrt(%p.3), metadata={op_name="jit(f)/jvp(Net)/conv1/norm/rsqrt"}
  %q.3 = f32[4]{0} multiply(%r.3, %p.3), metadata={op_name="jit(f)/jvp(Net)/conv1/norm/mul"}
  ROOT %m.3 = f32[4]{0} maximum(%q.3, %q.3), metadata={op_name="jit(f)/jvp(Net)/conv1/max"}
}

%dropped (p: u32[4]) -> u32[4] {
  %p.4 = u32[4]{0} parameter(0)
  ROOT %x.4 = u32[4]{0} xor(%p.4, %p.4), metadata={op_name="jit(f)/Dropout_0/threefry2x32"}
}

ENTRY %main.9 (a: f32[2], b: f32[2]) -> f32[2] {
  %a = f32[2]{0} parameter(0)
  %moved = f32[3,2]{1,0} fusion(%a), kind=kLoop, calls=%moves
  %convolved = f32[3,2]{1,0} fusion(%a), kind=kCustom, calls=%inside
  %small = f32[3,2]{1,0} dot(%a, %a), metadata={op_name="jit(f)/Net/c2/conv_general_dilated"}
  %matrix = f32[3,2]{1,0} dot(%a, %a), metadata={op_name="jit(f)/jvp(Net)/fc10/dot_general"}
  %banded = f32[3,2]{1,0} dot(%a, %a), metadata={op_name="jit(f)/jvp(Net)/norm1/dot_general"}
  %best = f32[2]{0} fusion(%a), kind=kLoop, calls=%pooled
  %means = f32[2]{0} reduce-window(%a, %a), to_apply=%add.1, metadata={op_name="jit(f)/aux/sum"}
  %mean2 = f32[2]{0} divide(%a, %a), metadata={op_name="jit(f)/transpose(jvp(Net))/S2/div"}
  %scaled = f32[4]{0} fusion(%a), kind=kLoop, calls=%normed
  %mask = u32[4]{0} fusion(%a), kind=kLoop, calls=%dropped
  %together = (f32[2]{0}, f32[3]{0}) all-reduce(%a, %a), to_apply=%add.1
  %loss = f32[2]{0} exponential(%a), metadata={op_name="jit(f)/jvp()/exp"}
  %drawn = f32[2]{0} add(%a, %a), metadata={op_name="jit(f)/jvp()/normalise"}
  %loop = f32[2]{0} while(%a), condition=%add.1, body=%moves
  ROOT %out = f32[2]{0} custom-call(%a), custom_call_target="__cudnn$convForward"
}
"""


def test_operations_are_classified_by_what_they_hold_and_where_they_come_from():
    found = benchmark_profile.kinds(PROGRAM, pools=['S2'])
    assert {
        name: found[name]
        for name in (
            'moved',
            'convolved',
            'small',
            'matrix',
            'banded',
            'best',
            'means',
            'mean2',
            'scaled',
            'mask',
            'together',
            'loss',
            'drawn',
            'loop',
            'out',
        )
    } == {
        'moved': 'transpose, copy',
        'convolved': 'convolution',
        'small': 'convolution',
        'matrix': 'matrix product',
        'banded': 'norm',
        'best': 'pooling',
        'means': 'pooling',
        'mean2': 'pooling',
        'scaled': 'norm',
        'mask': 'random numbers',
        'together': 'collectives',
        'loss': 'elementwise',
        'drawn': 'elementwise',
        'loop': 'container',
        'out': 'convolution',
    }


def test_shares_of_a_made_up_trace_are_those_of_its_instants():
    event = benchmark_profile.Event
    named = {'c': 'convolution', 'n': 'norm', 'w': 'container'}
    found = benchmark_profile.shares(
        [
            event('c', 10, 30),  # alone to 20, half of 20 to 30
            event('n', 20, 40),  # alone 30 to 40
            event('w', 20, 50),  # a loop: 40 to 50 is nothing it names
            event('x', 50, 60),  # not in the program's text
            event('c', 60, 62, done=70),
        ],  # left to other threads until 70
        [event('wait', 0, 15), event('wait', 80, 90)],
        named,
        0,
        100,
        threads=2,
    )
    assert found == pytest.approx(
        dict.fromkeys(benchmark_profile.KINDS, 0)
        | {'input': 0.20, 'convolution': 0.25, 'norm': 0.15, 'unknown': 0.20, 'idle': 0.20}
    )
    # what has been left to the pool gets the threads that nothing else runs on
    both = [event('c', 0, 1, done=100), event('n', 1, 100)]
    assert benchmark_profile.shares(both, [], named, 1, 100, threads=2)['norm'] == 0.5
    assert benchmark_profile.shares(both, [], named, 1, 100, threads=1)['norm'] == 1
    assert sum(benchmark_profile.shares([], [], {}, 0, 1).values()) == 1


def test_the_profile_of_a_real_step_finds_its_operations(main, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark_profile, '_SECONDS', 0.02)
    code, out, err = main(
        'lenet5', '--profile', '--batch', 8, '--devices', 1, '--out', tmp_path / 'a.json'
    )
    assert code == 0, err
    stored = json.loads((tmp_path / 'a.json').read_text())
    profile = stored['cases']['lenet5']
    shares = profile['shares']
    assert set(shares) == set(benchmark_profile.KINDS)
    assert sum(shares.values()) == pytest.approx(1) and min(shares.values()) >= 0
    for kind in ('convolution', 'pooling', 'elementwise'):
        assert shares[kind] > 0, kind
    assert shares['norm'] == 0  # LeNet-5 has none
    assert shares['unknown'] < 0.05
    assert 'convolution' in out and 'ms a step' in out
    assert main('--show', tmp_path / 'a.json')[0] == 0
    code, table, _ = main('--markdown', tmp_path / 'a.json')
    assert code == 0
    heads, _, row = [
        [cell.strip() for cell in line.strip('|').split('|')] for line in table.splitlines()[:3]
    ]
    assert 'norm, %' not in heads and row[0] == 'lenet5'
    assert float(row[heads.index('convolution, %')]) == round(100 * shares['convolution'], 1)
    assert not clipped(benchmark_profile.render(stored))
    assert main('--figure', tmp_path / 'p.png', tmp_path / 'a.json')[0] == 0
    code, _, err = main('lenet5', '--out', tmp_path / 'a.json')  # rates are another kind
    assert code == 2 and 'kind profile' in err


# --- sizes -------------------------------------------------------------------------------------


def test_a_power_law_is_found_exactly_and_its_error_is_that_of_regression():
    sizes = [16, 32, 64, 128]
    exact = benchmark_sizes.fit(sizes, [3 * size**1.5 for size in sizes])
    assert exact.exponent == pytest.approx(1.5) and exact.factor == pytest.approx(3)
    assert exact.error == pytest.approx(0, abs=1e-7)
    scipy = pytest.importorskip('scipy.stats')
    noisy = [1.0, 2.3, 3.9, 9.0]
    expected = scipy.linregress(np.log(sizes), np.log(noisy))
    found = benchmark_sizes.fit(sizes, noisy)
    assert found.exponent == pytest.approx(expected.slope)
    assert found.error == pytest.approx(expected.stderr)
    assert math.isnan(benchmark_sizes.fit([1, 2], [1, 2]).error)


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
        for name, one in benchmark_sizes.SERIES.items()
    }
    devices = {
        net: {
            str(n): {'seconds': [0.1 / n, 0.12 / n], 'all_reduce': [0.001 * n]}
            for n in benchmark_sizes.DEVICES
        }
        for net in benchmark_sizes.SCALED
    }
    return {
        'kind': 'sizes',
        'settings': {'dtype': 'float32', 'devices': None},
        'environment': TWO['environment'],
        'series': series,
        'devices': devices,
    }


def test_sizes_are_printed_and_drawn_with_their_exponents(main, tmp_path):
    made = sizes_file()
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(made))
    code, out, _ = main('--markdown', path)
    assert code == 0
    assert '- resnet: time ~ depth^1.00 ± 0.00' in out
    assert '| lenet5 | batch 16 | 16.9 |' in out  # the median of 16 and 17.8
    assert '| four_layer | 4 | 27.5 | 4.00 | 14.5 |' in out
    figure = benchmark_sizes.render(made)
    assert not clipped(figure) and len(figure.axes) == 4
    assert main('--figure', tmp_path / 'a.png', path)[0] == 0
    made['series'], made['devices'] = {'lenet5_batch': made['series']['lenet5_batch']}, {}
    assert not clipped(benchmark_sizes.render(made))


def test_sizes_are_measured_once_and_the_all_reduce_beside_the_step(main, tmp_path, monkeypatch):
    tiny = CASES['lenet5']._replace(batch=4)
    monkeypatch.setattr(
        benchmark_sizes, 'SERIES', {'lenet5_batch': benchmark_sizes.Series('batch', {4: tiny})}
    )
    monkeypatch.setitem(benchmark_sizes.CASES, 'lenet5', tiny)
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
    assert main(*words)[0] == 0
    stored = json.loads((tmp_path / 'a.json').read_text())
    assert len(stored['series']['lenet5_batch']['points']['4']['seconds']) == 1
    monkeypatch.setattr(benchmark_ours, 'Side', None)  # not asked for again
    assert main(*words)[0] == 0


def test_the_all_reduce_is_timed_on_each_number_of_devices(monkeypatch):
    monkeypatch.setitem(benchmark_sizes.CASES, 'lenet5', CASES['lenet5']._replace(batch=4))
    found = benchmark_sizes.scaled('lenet5', 2, 2, 0.01, 'float32')
    assert len(found['seconds']) == len(found['all_reduce']) == 2
    assert min(found['seconds'] + found['all_reduce']) > 0
