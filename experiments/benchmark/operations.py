"""Single operations beside PyTorch's: where a net that is slower loses its time.

    python -m experiments.benchmark --operations [NAME ...] [--torch_python PATH] [--out FILE.json]

Each operation of OPERATIONS is measured alone, in rounds, ours and then PyTorch's in channels_last.
A convolution is measured as a layer, and so are its gradients of the input and of the weights;
pooling and batch norm are measured together with their gradient. An operation alone finds its
arrays in another state of the caches than within a step, so the sum of these times is not that of
a step.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnns import fast, layers
from experiments import machine
from experiments.benchmark import pytorch, stored
from experiments.benchmark.meters import seconds_of
from experiments.benchmark.tables import spread, where
from experiments.errors import UserError, one_of
from experiments.tables import Table

HEADINGS = ('operation', 'of it', 'ms', 'PyTorch, ms', 'ratio', 'GFLOP/s', 'PyTorch, GFLOP/s')


class Operation(NamedTuple):
    """One layer on a batch; `kernel` is a window for pooling, which has stride 2."""

    kind: str  # 'conv', 'max', 'average' (overlapping, divided by the pixels that exist) or 'norm'
    input: tuple[int, int, int, int]  # N, H, W, C
    kernel: int = 0
    features: int = 0

    @property
    def flop(self) -> int:
        """Of each part of a convolution with stride 1 and feature maps of the same size; else 0."""
        return 2 * int(np.prod(self.input)) * self.kernel**2 * self.features


OPERATIONS = {
    'four_layer_conv1': Operation('conv', (128, 32, 32, 3), 5, 32),
    'four_layer_conv2': Operation('conv', (128, 16, 16, 32), 5, 32),
    'four_layer_conv3': Operation('conv', (128, 8, 8, 32), 5, 64),
    'four_layer_max': Operation('max', (128, 32, 32, 32), 3),
    'four_layer_average': Operation('average', (128, 32, 32, 32), 3),
    'resnet20_stage1': Operation('conv', (128, 32, 32, 16), 3, 16),
    'resnet20_stage2': Operation('conv', (128, 16, 16, 32), 3, 32),
    'resnet20_stage3': Operation('conv', (128, 8, 8, 64), 3, 64),
    'resnet20_norm': Operation('norm', (128, 32, 32, 16)),
}


def run(args: argparse.Namespace) -> stored.Result:
    """Measures the operations that are not stored yet, and returns all of the result."""
    for name in args.names:
        if name not in OPERATIONS:
            raise one_of('operation', name, OPERATIONS)
    picked = [name for name in OPERATIONS if not args.names or name in args.names]
    settings = {name: getattr(args, name) for name in ('dtype', 'rounds', 'seconds')}

    def measured(name, _, child):
        found = _measure(OPERATIONS[name], args, child)
        print(f'{name}: measured', flush=True)
        return found

    return stored.completed(args, 'operations', settings, picked, OPERATIONS, measured, torch=True)


def _measure(
    operation: Operation, args: argparse.Namespace, child: pytorch.Children
) -> dict[str, dict[str, list[float]]]:
    """{part: {'ours': [seconds], 'torch': [seconds]}}, a number for each round."""
    own = functions(operation, args.dtype)
    found: dict[str, dict[str, list[float]]] = {part: {'ours': [], 'torch': []} for part in own}
    for _ in range(args.rounds):
        for part, (function, arrays) in own.items():
            call = partial(_finished, function, arrays)
            found[part]['ours'].append(seconds_of(call, args.seconds / 4))
            time.sleep(0.1)
            answer = child.ask(
                task='operation',
                part=part,
                seconds=args.seconds / 4,
                dtype=args.dtype,
                variant='channels_last',
                **operation._asdict(),
            )
            if 'error' in answer:
                raise UserError(f'PyTorch cannot measure {operation.kind}: {answer["error"]}')
            found[part]['torch'].append(answer['seconds'])
    return found


def _finished(function: Callable[..., Any], arrays: tuple[jax.Array, ...]) -> None:
    """Calls a compiled function and waits for its result."""
    jax.block_until_ready(function(*arrays))


def functions(
    operation: Operation, dtype: str = 'float32'
) -> dict[str, tuple[Callable[..., Any], tuple[jax.Array, ...]]]:
    """{part: (compiled function, its arrays)} of our side."""
    numbers = np.random.default_rng(0)

    def drawn(*shape):
        return jnp.asarray(numbers.normal(size=shape), dtype)

    x, low = drawn(*operation.input), operation.kernel // 2
    if operation.kind == 'conv':
        kernel = drawn(operation.kernel, operation.kernel, x.shape[3], operation.features)

        def layer(x, kernel):
            padding, axes = ((low, low), (low, low)), ('NHWC', 'HWIO', 'NHWC')
            return fast.conv(x, kernel, (1, 1), padding, dimension_numbers=axes)

        def of_input(x, kernel, y):
            return jax.vjp(lambda x: layer(x, kernel), x)[1](y)

        def of_weight(x, kernel, y):
            return jax.vjp(lambda kernel: layer(x, kernel), kernel)[1](y)

        y = drawn(*x.shape[:3], operation.features)
        made: dict[str, tuple[Callable, tuple]] = {
            'layer': (layer, (x, kernel)),
            'input gradient': (of_input, (x, kernel, y)),
            'weight gradient': (of_weight, (x, kernel, y)),
        }
    else:
        scale, bias = drawn(x.shape[3]), drawn(x.shape[3])

        def other(x, scale, bias):
            if operation.kind == 'norm':
                # in float32, as layers.BatchNorm
                exact, scale, bias = (array.astype(jnp.float32) for array in (x, scale, bias))
                return fast.batch_norm(exact, scale, bias, 1e-5)[0].astype(x.dtype)
            return layers.pool(x, operation.kind, True)

        def both(x, scale, bias, y):
            value, back = jax.vjp(other, x, scale, bias)
            return value, back(y)

        y = drawn(*jax.eval_shape(other, x, scale, bias).shape)
        made = {'layer and gradient': (both, (x, scale, bias, y))}
    return {
        part: (machine.compiled(jax.jit(function).lower(*arrays), machine.options()), arrays)
        for part, (function, arrays) in made.items()
    }


# --- showing -----------------------------------------------------------------------------------


def tables_of(result: dict) -> list[Table]:
    """A line per part in the order of HEADINGS; times are medians, the ratio theirs / ours."""
    lines: list[tuple[str, ...]] = []
    for name, parts in result['operations'].items():
        flop = OPERATIONS[name].flop / 1e9
        for part, sides in parts.items():
            times = [float(np.median(sides[side])) for side in ('ours', 'torch')]
            pairs = [b / a for a, b in zip(sides['ours'], sides['torch'], strict=True)]
            milliseconds = (f'{1000 * time:.2f}' for time in times)
            rates = (f'{flop / time:,.0f}' if flop else '' for time in times)
            lines.append((name, part, *milliseconds, str(spread(pairs)), *rates))
    return [(HEADINGS, lines)]


def notes(result: dict) -> list[str]:
    """The machine, the versions and the date."""
    return [where(result)]
