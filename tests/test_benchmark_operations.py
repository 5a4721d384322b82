"""Operations beside PyTorch's: what is called, what is counted, what is shown."""

import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmark import operations, pytorch

TINY = {
    'conv': operations.Operation('conv', (2, 6, 5, 3), 3, 4),
    'max': operations.Operation('max', (2, 6, 6, 3), 3),
    'average': operations.Operation('average', (2, 6, 6, 3), 3),
    'norm': operations.Operation('norm', (2, 4, 4, 3)),
}


def test_the_parts_of_a_convolution_are_those_of_a_plain_loop():
    own = operations.functions(TINY['conv'])
    x, kernel = map(np.float64, own['layer'][1])
    gradient = np.float64(own['input gradient'][1][2])
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y, of_x, of_kernel = np.zeros((2, 6, 5, 4)), np.zeros_like(padded), np.zeros_like(kernel)
    for row, column, i, j in np.ndindex(6, 5, 3, 3):
        y[:, row, column] += padded[:, row + i, column + j] @ kernel[i, j]
        of_x[:, row + i, column + j] += gradient[:, row, column] @ kernel[i, j].T
        of_kernel[i, j] += padded[:, row + i, column + j].T @ gradient[:, row, column]
    # the same arrays in all parts
    assert own['weight gradient'][1][2] is own['input gradient'][1][2]
    found = {part: function(*arrays) for part, (function, arrays) in own.items()}
    np.testing.assert_allclose(found['layer'], y, atol=1e-4)
    np.testing.assert_allclose(found['input gradient'][0], of_x[:, 1:-1, 1:-1], atol=1e-4)
    np.testing.assert_allclose(found['weight gradient'][0], of_kernel, atol=1e-4)


@pytest.mark.parametrize('kind', ['max', 'average', 'norm'])
def test_a_layer_is_measured_with_its_gradient(kind):
    ((function, arrays),) = operations.functions(TINY[kind]).values()
    value, (of_x, *_) = function(*arrays)
    assert of_x.shape == arrays[0].shape and bool(jnp.any(of_x != 0))
    assert value.shape[1] == (4 if kind == 'norm' else 3)


def test_operations_of_the_first_layer_are_counted_by_hand():
    assert operations.OPERATIONS['four_layer_conv1'].flop == 2 * 128 * 32 * 32 * 75 * 32
    assert operations.OPERATIONS['resnet20_norm'].flop == 0


def stored():
    part = {'ours': [0.004, 0.002], 'torch': [0.002, 0.002]}
    return {
        'kind': 'operations',
        'settings': {'dtype': 'float32'},
        'environment': {
            'date': 'today',
            'python': '3',
            'cpu': 'a CPU',
            'cores': 2,
            'load': [0.5],
            'versions': {'jax': '1'},
            'platform': 'cpu',
        },
        'operations': {'four_layer_conv1': {'layer': part}},
    }


def test_a_ratio_below_one_is_ours_being_slower(benchmark, tmp_path):
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(stored()))
    code, printed, err = benchmark('--markdown', str(path))
    assert code == 0
    # 0.63 GFLOP in 3 and in 2 ms
    assert '| four_layer_conv1 | layer | 3.00 | 2.00 | 0.75 [0.50, 1.00] | 210 | 315 |' in printed
    code, printed, err = benchmark('--figure', str(tmp_path / 'a.png'), str(path))
    assert code == 2
    assert '--markdown' in err


def test_a_wrong_name_is_one_line(benchmark):
    code, _, err = benchmark('--operations', 'four_layer_conv9')
    assert code == 2
    assert err.count('\n') == 1 and 'four_layer_conv' in err


def test_an_interrupt_keeps_the_finished_operations_and_says_so(benchmark, tmp_path, monkeypatch):
    closed = []

    class Children:
        about = {}

        def __init__(self, python):
            self.close = lambda: closed.append(python)

    def measure(operation, args, child):
        if operation.kind == 'max':
            raise KeyboardInterrupt
        return stored()['operations']['four_layer_conv1']

    monkeypatch.setattr(pytorch, 'Children', Children)
    monkeypatch.setattr(operations, '_measure', measure)
    out = tmp_path / 'a.json'
    code, _, err = benchmark('--operations', '--out', str(out))
    assert code == 130
    assert '3 of 9 operations' in err and len(closed) == 1
    assert len(json.loads(out.read_text())['operations']) == 3


@pytest.mark.parametrize('kind', TINY)
def test_both_sides_compute_the_same(kind):
    torch = pytest.importorskip('torch', reason='PyTorch is not installed')
    for part, (function, arrays) in operations.functions(TINY[kind]).items():
        # a feature map's channels come first there, a kernel's output and input channels
        there = [
            torch.tensor(
                np.array(array).transpose((3, 2, 0, 1) if array is arrays[1] else (0, 3, 1, 2))
                if array.ndim == 4
                else np.array(array)
            )
            for array in arrays
        ]
        if part == 'layer' and kind == 'conv':
            there.append(torch.zeros(2, 4, 6, 5))  # drawn, and not used
        request = dict(TINY[kind]._asdict(), part=part)
        theirs = pytorch.operation(torch, request, lambda *shape, there=there: there.pop(0))()
        ours = function(*arrays)
        if kind == 'conv':
            ours, theirs = ours if isinstance(ours, tuple) else (ours,), (theirs,)
        else:
            ours = ours[0], *ours[1][: 3 if kind == 'norm' else 1]
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            other = other.detach().numpy()
            if other.ndim == 4:
                other = other.transpose((2, 3, 1, 0) if part == 'weight gradient' else (0, 2, 3, 1))
            np.testing.assert_allclose(one, other, atol=1e-4, err_msg=part)


def test_a_real_pytorch_measures_every_part(benchmark, monkeypatch, tmp_path):
    pytest.importorskip('torch', reason='PyTorch is not installed')
    monkeypatch.setattr(operations, 'OPERATIONS', TINY)
    out = tmp_path / 'a.json'
    words = [
        '--operations',
        '--rounds',
        '1',
        '--seconds',
        '0.01',
        '--torch_python',
        sys.executable,
        '--out',
        str(out),
    ]
    assert benchmark(*words)[0] == 0
    found = json.loads(out.read_text())['operations']
    assert [len(parts) for parts in found.values()] == [3, 1, 1, 1]
    assert all(
        sides['ours'][0] > 0 and sides['torch'][0] > 0
        for parts in found.values()
        for sides in parts.values()
    )
    monkeypatch.setattr(pytorch, 'Children', None)  # nothing is left to ask it
    assert benchmark(*words)[0] == 0
