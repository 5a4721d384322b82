"""PyTorch's side of the benchmark measures the same nets, and its failures are named."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from speeds import answer, fake_python

import cnns
from experiments.benchmark import pytorch
from experiments.benchmark.cases import CASES, work_of
from experiments.models import tracing


def test_a_child_that_dies_or_babbles_is_named_and_started_anew(tmp_path):
    child = pytorch.Child(fake_python(tmp_path, [answer(7.0), 'not JSON']), limit=60)
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
    child = pytorch.Child(str(path), limit=0.2)
    assert child.ask(task='train')['error'] == 'no answer within 0.2 s'
    child.close()


def test_pytorchs_side_needs_nothing_of_ours():
    code = (
        'import sys, experiments.benchmark.pytorch; '
        'print([name for name in ("jax", "flax", "cnns", "scipy") if name in sys.modules])'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'


def test_what_is_eager_never_runs_where_something_was_compiled(tmp_path):
    children = pytorch.Children(fake_python(tmp_path, [answer(1.0), answer(2.0)]))
    rates = [
        children.ask(variant=variant, task='train')
        for variant in ('contiguous', 'compile', 'channels_last')
    ]
    assert [one.get('images_per_second') for one in rates] == [1.0, None, 2.0]
    assert children._eager._process.pid != children._compiling._process.pid
    children.close()


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
    rows = tracing.trace(net.clone(fast=False), input).rows
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
                high, wide, channels = before[row].output
                weight = weight.reshape(-1, channels, high, wide).transpose(0, 2, 3, 1)
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
    child = pytorch.Child(sys.executable)
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
