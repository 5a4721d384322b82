"""Single operations beside PyTorch's: where a net that stays behind loses its time.

    python -m experiments.benchmark --operations [NAME ...] [--torch_python PATH] [--out FILE.json]

Each operation of OPERATIONS is measured alone, in rounds, ours and then PyTorch's in channels_last.
Of a convolution the layer, the gradient of its input and that of its weights; of pooling and batch
norm the layer with its gradient. Alone, an operation finds its arrays in another state of the
caches than within a step, so that the sum of these times is not that of a step.
"""

import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from cnns import fast, layers
from experiments import machine, tables
from experiments.benchmark import measure as benchmark
from experiments.benchmark import pytorch as benchmark_torch
from experiments.benchmark import tables as benchmark_show
from experiments.errors import UserError, one_of

HEADINGS = ('operation', 'of it', 'ms', 'PyTorch, ms', 'ratio', 'GFLOP/s', 'PyTorch, GFLOP/s')
PARTS = {'conv': ('layer', 'input gradient', 'weight gradient')}
BOTH = ('layer and gradient',)  # of all other kinds


class Operation(NamedTuple):
    """One layer on a batch; `kernel` is a window for pooling, which has stride 2."""

    kind: str  # 'conv', 'max', 'average' (overlapping, divided by the pixels that exist) or 'norm'
    input: tuple[int, int, int, int]  # N, H, W, C
    kernel: int = 0
    features: int = 0

    @property
    def parts(self) -> tuple[str, ...]:
        return PARTS.get(self.kind, BOTH)

    @property
    def flop(self) -> int:
        """Of each part of a convolution with stride 1 and maps of the same size; else 0."""
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


def run(args) -> int:
    """Measures the operations that are not stored yet, and prints the table."""
    for name in args.names:
        if name not in OPERATIONS:
            raise one_of('operation', name, OPERATIONS)
    picked = [name for name in OPERATIONS if not args.names or name in args.names]
    settings = {name: getattr(args, name) for name in ('dtype', 'rounds', 'seconds')}
    result = benchmark.begun(args, 'operations', settings, 'operations', picked)
    left = [name for name in picked if name not in result['operations']]
    if left:
        child = benchmark_torch.Children(args.torch_python)
        try:
            benchmark.go_on(result, ('operations',), benchmark.environment(child))
            for name in left:
                result['operations'][name] = _measure(OPERATIONS[name], args, child)
                result['operations'] = {
                    known: result['operations'][known]
                    for known in OPERATIONS
                    if known in result['operations']
                }
                benchmark.store(result, args.out)
                print(f'{name}: measured', flush=True)
        except KeyboardInterrupt:
            return benchmark.interrupted(args, f'{len(result["operations"])} operations')
        finally:
            child.close()
    print_tables(result)
    if args.out:
        print(f'stored in {args.out}')
    return 0


def _measure(operation, args, child) -> dict:
    """{part: {'ours': [seconds], 'torch': [seconds]}}, a number for each round."""
    own = functions(operation, args.dtype)
    found = {part: {'ours': [], 'torch': []} for part in operation.parts}
    for _ in range(args.rounds):
        for part, (function, arrays) in own.items():
            found[part]['ours'].append(
                seconds_of(lambda: jax.block_until_ready(function(*arrays)), args.seconds / 4)
            )
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


def seconds_of(call, seconds: float) -> float:
    """Of one call, the mean over about so many seconds, after one to warm up."""
    call()
    count, begin = 0, time.perf_counter()
    while count < 2 or time.perf_counter() - begin < seconds:
        call()
        count += 1
    return (time.perf_counter() - begin) / count


def functions(operation: Operation, dtype: str = 'float32') -> dict:
    """{part: (compiled function, its arrays)} of our side."""
    numbers = np.random.default_rng(0)

    def drawn(*shape):
        return jnp.asarray(numbers.normal(size=shape), dtype)

    x, low = drawn(*operation.input), operation.kernel // 2
    if operation.kind == 'conv':
        kernel = drawn(operation.kernel, operation.kernel, x.shape[3], operation.features)

        def layer(x, kernel):
            return fast.conv(
                x,
                kernel,
                (1, 1),
                ((low, low), (low, low)),
                dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
            )

        y = drawn(*x.shape[:3], operation.features)
        made = {
            'layer': (layer, (x, kernel)),
            'input gradient': (
                lambda x, kernel, y: jax.vjp(lambda x: layer(x, kernel), x)[1](y),
                (x, kernel, y),
            ),
            'weight gradient': (
                lambda x, kernel, y: jax.vjp(lambda kernel: layer(x, kernel), kernel)[1](y),
                (x, kernel, y),
            ),
        }
    else:
        scale, bias = drawn(x.shape[3]), drawn(x.shape[3])

        def layer(x, scale, bias):
            if operation.kind == 'norm':
                # in float32, as layers.BatchNorm
                return fast.batch_norm(
                    *(array.astype(jnp.float32) for array in (x, scale, bias)), 1e-5
                )[0].astype(x.dtype)
            return layers.pool(x, operation.kind, True)

        def both(x, scale, bias, y):
            value, back = jax.vjp(layer, x, scale, bias)
            return value, back(y)

        y = drawn(*jax.eval_shape(layer, x, scale, bias).shape)
        made = {'layer and gradient': (both, (x, scale, bias, y))}
    return {
        part: (machine.compiled(jax.jit(function).lower(*arrays), machine.options()), arrays)
        for part, (function, arrays) in made.items()
    }


# --- showing -----------------------------------------------------------------------------------


def cells(result: dict) -> list[tuple[str, ...]]:
    """One line per part in the order of HEADINGS; times are medians, the ratio theirs / ours."""
    lines = []
    for name, parts in result['operations'].items():
        for part, sides in parts.items():
            ours, theirs = (float(np.median(sides[side])) for side in ('ours', 'torch'))
            pairs = [b / a for a, b in zip(sides['ours'], sides['torch'], strict=True)]
            spread = benchmark_show.Ratio(float(np.median(pairs)), min(pairs), max(pairs))
            flop = OPERATIONS[name].flop / 1e9
            lines.append(
                (
                    name,
                    part,
                    f'{1000 * ours:.2f}',
                    f'{1000 * theirs:.2f}',
                    str(spread),
                    *(f'{flop / time:,.0f}' if flop else '' for time in (ours, theirs)),
                )
            )
    return lines


def markdown(result: dict) -> str:
    """README's table."""
    return tables.markdown(HEADINGS, cells(result)) + f'\n- {benchmark_show.where(result)}\n'


def print_tables(result: dict) -> None:
    """The same for a terminal."""
    Console(width=None if sys.stdout.isatty() else 120).print(tables.table(HEADINGS, cells(result)))
    print(benchmark_show.where(result))


def draw(found: list[dict], path: str) -> None:
    """Raises UserError: there is nothing to draw."""
    raise UserError('operations are a table: print it with --show or --markdown.')
