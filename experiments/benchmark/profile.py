"""Where a training step's time goes, by kind of operation, from JAX's own trace.

Each operation of the compiled program that the trace names is given a kind by what the program's
text says of it: what its fusion contains, and the layer it comes from. An instant in which several
operations run, on several threads or devices, is shared equally between them. What is left of the
time belongs to the input where the host waits for a batch, and is idle otherwise; so the shares of
a profile sum to 1.

    convolution       also where it is computed as a matrix product
    matrix product    of dense layers
    transpose, copy   nothing but moving: transposes, copies, padding, concatenation
    pooling, norm     whatever lies in a pooling layer, in batch norm or LRN
    elementwise       activations, biases, loss, update, normalising the images; their reductions
    collectives       between devices
    random numbers    dropout, augmentation
    unknown           operations that the program's text does not name
    input             the host gathers a batch and no device works
    idle              no device works: dispatch, and gaps between operations
"""

import argparse
import collections
import itertools
import os
import pathlib
import re
import tempfile
import time
import warnings
from collections.abc import Iterable
from typing import NamedTuple

import jax
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from experiments import style
from experiments.benchmark import cases, ours, stored
from experiments.benchmark.tables import label, where
from experiments.models.description import describe
from experiments.tables import Table

KINDS = (
    'convolution',
    'matrix product',
    'transpose, copy',
    'pooling',
    'norm',
    'elementwise',
    'collectives',
    'random numbers',
    'unknown',
    'input',
    'idle',
)
_INPUT = 'benchmark: next batch'  # names the host's wait in the trace
_SECONDS = 1.0  # of steps under the profiler, within limits

# --- kinds of the operations -------------------------------------------------------------------

_INSTRUCTION = re.compile(r'^\s*(?:ROOT )?%?([\w.-]+) = (?:\(.*?\)|\S+) ([\w-]+)\(')
_CALLED = re.compile(
    r'(?:calls|to_apply|body|condition|true_computation|false_computation)='
    r'%?([\w.-]+)'
)
_BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}')
_COLLECTIVES = ('all-reduce', 'all-gather', 'all-to-all', 'reduce-scatter', 'collective-')
_MOVES = (
    'transpose copy pad concatenate slice dynamic-slice reverse dynamic-update-slice gather'.split()
)
_NEUTRAL = """
    parameter constant bitcast broadcast iota tuple get-tuple-element reshape fusion call
    convert
""".split()
_CONTAINERS = ('while', 'conditional', 'call')  # their own operations are in the trace as well


class _Instruction(NamedTuple):
    name: str
    opcode: str
    scope: str  # of the source: 'jit(step)/jvp(Net)/conv1/conv/conv_general_dilated'
    target: str  # of a custom call
    called: tuple[str, ...]  # names of computations


def _computations(text: str) -> dict[str, list[_Instruction]]:
    """The instructions of each computation of a program's text."""
    found: dict[str, list[_Instruction]] = {}
    current = None
    for line in text.splitlines():
        if line.endswith('{') and ' = ' not in line.partition('(')[0]:
            name = re.match(r'(?:ENTRY )?%?([\w.-]+)', line)
            if name and not line.startswith('HloModule'):
                current = found.setdefault(name[1], [])
            continue
        match = _INSTRUCTION.match(line)
        if match and current is not None:
            called = _CALLED.findall(line)
            for names in _BRANCHES.findall(line):
                called += [name.strip().lstrip('%') for name in names.split(',')]
            scope, target = (
                (re.findall(rf'{word}="([^"]*)"', line) or [''])[0]
                for word in ('op_name', 'custom_call_target')
            )
            current.append(_Instruction(match[1], match[2], scope, target, tuple(called)))
    return found


_LIBRARY = r'__\w+\$\w+$'  # the trace adds the name of oneDNN's kernel to an operation


def kinds(text: str, pools: Iterable[str] = ()) -> dict[str, str]:
    """{operation: kind} of a compiled program's text; 'container' for loops and calls.

    pools: names of the layers that pool, beside those with 'pool' in their name.
    """
    computations = _computations(text)
    pools = frozenset(pools)

    def inside(instruction, seen):
        yield instruction
        for name in instruction.called:
            if name not in seen:
                for one in computations.get(name, ()):
                    yield from inside(one, {*seen, name})

    found = {}
    for instructions in computations.values():
        for one in instructions:
            container = one.opcode in _CONTAINERS
            found[one.name] = 'container' if container else _kind(inside(one, set()), pools)
    return found


def _kind(instructions, pools) -> str:
    """Of an instruction with all that it contains."""
    own = collections.Counter(_single(one, pools) for one in instructions)
    for kind in ('collectives', 'convolution', 'matrix product', 'random numbers'):
        if own[kind]:
            return kind
    ranked = [kind for kind, _ in own.most_common() if kind in ('pooling', 'norm', 'elementwise')]
    return ranked[0] if ranked else 'transpose, copy' if own['moves'] else 'elementwise'


def _single(one: _Instruction, pools) -> str | None:
    """Of an instruction alone; 'moves' for one that computes nothing, None for one that is free."""
    opcode, scope, target = one.opcode, one.scope, one.target.lower()
    if opcode.startswith(_COLLECTIVES):
        return 'collectives'
    if opcode == 'convolution' or 'conv' in target:
        return 'convolution'
    parts = scope.split('/')[:-1]
    layers = [re.sub(r'^(?:\w+\()*|\)*$', '', part) for part in parts]
    place = None
    if any(layer in pools or 'pool' in layer.lower() for layer in layers):
        place = 'pooling'
    elif any(re.search('norm|^lrn', name.lower()) and 'normal' not in name for name in layers):
        place = 'norm'
    if opcode == 'dot' or 'gemm' in target or 'matmul' in target:
        if scope.endswith('conv_general_dilated') or 'conv' in layers:
            return 'convolution'
        return place or 'matrix product'
    if opcode.startswith('rng') or re.search('threefry|random_|shuffle|_bernoulli', scope):
        return 'random numbers'
    if opcode.startswith(('reduce-window', 'select-and-scatter')):
        return place or 'pooling'
    if opcode in _NEUTRAL:
        return None
    if opcode in _MOVES:
        return place or 'moves'
    return place or 'elementwise'


# --- times -------------------------------------------------------------------------------------


class Event(NamedTuple):
    """Something that ran, in nanoseconds since the start of the trace.

    done: when its work was done, where it left that to other threads at its end.
    """

    name: str
    start: float
    end: float
    done: float = 0.0


def shares(
    events: list[Event],
    waits: list[Event],
    named: dict[str, str],
    begin: float,
    end: float,
    threads: int = 1,
) -> dict[str, float]:
    """{kind: share of the time from `begin` to `end`}, all of KINDS, which sum to 1.

    events: operations, of any number of threads and devices; waits: of the host for a batch;
    threads: of the pool that works on what has been left to it.
    """
    edges = [(end, 0, 0, '', False)]

    def add(first, last, kind, left=False):
        if last > first:
            index = len(edges)
            edges.extend([(first, 1, index, kind, left), (last, -1, index, kind, left)])

    for event in events:
        kind = named.get(event.name, 'unknown')
        add(event.start, event.end, kind)
        if kind != 'container':
            add(event.end, event.done, kind, left=True)
    for wait in waits:
        add(wait.start, wait.end, 'input')
    spent: collections.Counter[str] = collections.Counter()
    running: collections.Counter[str] = collections.Counter()
    left: collections.Counter[str] = collections.Counter()
    now = begin
    for moment, change, _, kind, is_left in sorted(edges, key=lambda edge: edge[:2]):
        moment = min(max(moment, begin), end)
        if moment > now:
            _share(spent, +running, +left, threads, moment - now)
            now = moment
        if change:
            (left if is_left else running)[kind] += change
    total = end - begin
    return {kind: spent[kind] / total for kind in KINDS}


def _share(spent, running, left, threads, time):
    """Adds the time to the kinds that run: operations before loops around them before waits."""
    waiting = running.pop('input', 0)
    containers = running.pop('container', 0)
    weights = collections.defaultdict(float, running)
    free = threads - running.total()
    if left and (free > 0 or not running):
        for kind, count in left.items():
            weights[kind] += max(free, 1) * count / left.total()
    if weights:
        for kind, weight in weights.items():
            spent[kind] += time * weight / sum(weights.values())
    else:
        spent['unknown' if containers else 'input' if waiting else 'idle'] += time


def _read(path, module: str):
    """(operations of the program, host's waits) of a trace."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)  # of the binding's own types
        planes = list(jax.profiler.ProfileData.from_file(str(path)).planes)
        found, waits, done = [], [], collections.defaultdict(list)
        for plane in planes:
            for event in itertools.chain.from_iterable(line.events for line in plane.lines):
                end = event.start_ns + event.duration_ns
                if event.name == _INPUT:
                    waits.append(Event(_INPUT, event.start_ns, end))
                elif event.name.startswith('end: '):
                    done[event.name.removeprefix('end: ')].append(event.start_ns)
                elif not event.name.startswith(('$', 'ThreadpoolListener')):
                    stats = dict(event.stats)
                    if 'hlo_op' in stats:
                        operation = re.sub(_LIBRARY, '', stats['hlo_op'])
                        ran = Event(operation, event.start_ns, end)
                        found.append((plane.name, stats.get('hlo_module'), ran))
    device = [one for one in found if one[0].startswith('/device:')]
    events = [event for _, name, event in device or found if name == module]
    events.sort(key=lambda event: event.start)
    return _until_done(events, done), waits


def _until_done(events, done):
    """The events with the times at which their work was done, where the trace has them."""
    counts = collections.Counter(event.name for event in events)
    times = {
        name: iter(sorted(done[name])) for name, count in counts.items() if len(done[name]) == count
    }
    return [
        event._replace(done=next(times[event.name])) if event.name in times else event
        for event in events
    ]


def measure(side: ours.Side) -> dict:
    """Runs steps under the profiler: {'seconds' a step, 'steps', 'shares', 'operations'}.

    'operations' are the ten that take longest, [name, kind, layer, share of their sum]. The trace
    itself slows a step down a little, most where its operations are small.
    """
    compiled = side.compiled()
    text = compiled.as_text()
    named = kinds(text, _pools(side.case))
    (module,) = re.findall(r'^HloModule ([\w.-]+)', text)
    side.run(1)
    steps = min(max(round(_SECONDS / side.run(1)[0]), 3), 50)
    with tempfile.TemporaryDirectory() as place:
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # it would slow the host down
        with jax.profiler.trace(place, profiler_options=options):
            side.run(1)
            seconds = _annotated(side, steps)
        (path,) = pathlib.Path(place).rglob('*.xplane.pb')
        events, waits = _read(path, module)
    begin = min(wait.start for wait in waits)
    return {
        'steps': steps,
        'seconds': seconds / steps,
        'shares': shares(events, waits, named, begin, begin + 1e9 * seconds, os.cpu_count() or 1),
        'operations': _longest([event for event in events if event.start >= begin], named, text),
    }


def _annotated(side, steps) -> float:
    """The loop of Side.run with its waits named in the trace; seconds."""
    metrics, begin = [], time.perf_counter()
    for _ in range(steps):
        with jax.profiler.TraceAnnotation(_INPUT):
            batch = next(side.batches)
        metrics.append(side.step(batch))
    jax.block_until_ready((side.state, metrics))
    return time.perf_counter() - begin


def _pools(case) -> list[str]:
    """The last names of the layers that pool, which a program's scopes have."""
    rows = describe(case.net, case.side or None, classes=case.classes, **case.fields)['rows']
    return [row['layer'].rpartition('/')[2] for row in rows if row['kind'].endswith('pool')]


def _longest(events, named, text, count=10):
    scopes = dict(re.findall(r'%?([\w.-]+) = .*op_name="([^"]*)"', text))
    spent: collections.Counter[str] = collections.Counter()
    for event in events:
        if named.get(event.name) != 'container':
            spent[event.name] += max(event.end, event.done) - event.start
    total = sum(spent.values()) or 1
    return [
        [name, named.get(name, 'unknown'), scopes.get(name, ''), round(taken / total, 4)]
        for name, taken in spent.most_common(count)
    ]


def run(args: argparse.Namespace) -> stored.Result:
    """Profiles the cases that are not stored yet, and returns all of the result."""
    picked = cases.chosen(args.names, args.batch, args.devices)
    settings = {name: getattr(args, name) for name in ('devices', 'dtype', 'batch')}

    def profiled(name, *_):
        return measure(ours.Side(picked[name], devices=args.devices or 0, dtype=args.dtype))

    return stored.completed(args, 'profile', settings, picked, cases.KNOWN, profiled)


# --- showing -----------------------------------------------------------------------------------


def _kinds(found) -> list[str]:
    """The kinds that some profile has, in the order of KINDS."""
    return [
        kind
        for kind in KINDS
        if any(profile['shares'][kind] >= 0.0005 for profile in found['cases'].values())
    ]


def tables_of(result: dict) -> list[Table]:
    """A line per case: net, ms a step, and the share of each kind in %."""
    kinds = _kinds(result)
    lines: list[tuple[str, ...]] = []
    for name, profile in result['cases'].items():
        shares = (f'{100 * profile["shares"][kind]:.1f}' for kind in kinds)
        lines.append((name, f'{1000 * profile["seconds"]:,.1f}', *shares))
    return [(('net', 'ms a step', *(f'{kind}, %' for kind in kinds)), lines)]


def notes(result: dict) -> list[str]:
    """The machine, the versions and the date."""
    return [where(result)]


def words(result: dict) -> str:
    """Every profile, kinds with the most time first, with its longest operations."""
    lines = []
    for name, profile in result['cases'].items():
        lines.append(f'{name}: {1000 * profile["seconds"]:,.1f} ms a step, under the profiler')
        for kind, share in sorted(profile['shares'].items(), key=lambda item: -item[1]):
            if share >= 0.0005:
                lines.append(f'  {kind:16} {100 * share:5.1f} %')
        lines.append('  the longest operations, as shares of all:')
        for operation, kind, scope, share in profile['operations']:
            lines.append(f'  {100 * share:5.1f} %  {kind:16} {operation}  {scope}')
    return '\n'.join(lines)


def render(stored_results: list[dict]) -> Figure:
    """A bar per case of the one result, cut by kind of operation."""
    (result,) = stored_results
    profiles = result['cases'].values()
    figure = style.canvas(9, 1.8 + 0.34 * len(profiles))
    axes = figure.add_subplot()
    before = np.zeros(len(profiles))
    for kind in _kinds(result):
        widths = np.array([100 * profile['shares'][kind] for profile in profiles])
        colour = matplotlib.colormaps['tab20'](KINDS.index(kind))
        axes.barh(range(len(profiles)), widths, left=before, color=colour, label=kind)
        before = before + widths
    labels = [
        f'{name.replace("_", " ")}, {1000 * profile["seconds"]:,.0f} ms'
        for name, profile in result['cases'].items()
    ]
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    style.frame_rows(axes)
    axes.set_xlabel('share of the step, %')
    axes.set_title(f"Where a training step's time goes, {label(result)}", loc='left', fontsize=11)
    figure.legend(loc='outside lower center', frameon=False, fontsize=8, ncols=6)
    return figure
