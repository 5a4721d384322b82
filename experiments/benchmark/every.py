"""One command that measures all there is to measure here, in a given time.

    python -m experiments.benchmark --all --out runs/benchmark

writes these files to the folder, each of which --show, --markdown and --figure read:

float32.json, bfloat16.json    every net, beside PyTorch where it is installed, torch.compile and
                               channels_last included
together.json                  many seeds of a net trained at once, beside one by one

The nets of the paper's table come first. Nothing new is begun after --budget seconds; what was
measured is kept, and the same command goes on from there.
"""

import argparse
import importlib.util
import itertools
import math
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import data, train
from experiments.benchmark import cases, measure, stored
from experiments.benchmark.meters import timed
from experiments.errors import UserError
from experiments.tables import Table
from experiments.train.program import stacked

TOGETHER = 8  # seeds that are trained at once
_DTYPES = ('float32', 'bfloat16')
FILES = (*_DTYPES, 'together')


def run(args: argparse.Namespace) -> list[stored.Result]:
    """Measures what the files in the folder --out lack, for --budget seconds; returns them all."""
    until = time.monotonic() + args.budget
    folder = Path(args.out)
    if folder.suffix == '.json' or folder.is_file():
        raise UserError(f'--out {args.out} is a file: --all writes several, name a folder.')
    folder.mkdir(parents=True, exist_ok=True)
    torch = importlib.util.find_spec('torch') or args.torch_python != sys.executable
    against = ['torch'] if torch else []
    if not against:
        print('PyTorch is not installed here: it is left out (or name --torch_python)', flush=True)
    common = vars(args) | {'against': against, 'compile': 'all' if against else 'small'}
    known = cases.chosen(args.names or ['nets'], args.batch, args.devices)
    first = [name for name in known if name in cases.CASES]
    found: dict[str, stored.Result] = {}
    # a share of the time that is left for each, so that a short budget has something of each
    steps = [(dtype, first) for dtype in _DTYPES if first] + [('together', [*known])]
    steps += [(dtype, [*known]) for dtype in _DTYPES]
    for place, (what, names) in enumerate(steps):
        now = time.monotonic()
        share = (until - now) / (len(steps) - place)
        own = common | {'names': names, 'out': str(folder / f'{what}.json'), 'until': now + share}
        if what == 'together':
            found[what] = together(argparse.Namespace(**own))
        else:
            found[what] = measure.run(argparse.Namespace(**own | {'dtype': what}))
    left = {what: [name for name in known if name not in found[what]['cases']] for what in FILES}
    if count := sum(map(len, left.values())):
        print(f'{count} of {3 * len(known)} left after {args.budget:g} s: the same command goes on')
    return [found[what] for what in FILES if found[what]['cases']]


def together(args: argparse.Namespace) -> stored.Result:
    """Measures the cases that are not stored yet, and returns all of the result."""
    known = cases.chosen(args.names, args.batch, args.devices)

    def measured(name, result, child):
        print(f'{name}: {TOGETHER} seeds at once, and one', flush=True)
        return measure_together(known[name], args)

    settings = {name: getattr(args, name) for name in ('devices', 'batch', 'rounds', 'seconds')}
    settings |= {'models': TOGETHER}
    return stored.completed(args, 'together', settings, args.names, cases.KNOWN, measured)


def measure_together(case: cases.Case, args: argparse.Namespace) -> dict[str, Any]:
    """Images/s, over all seeds, of TOGETHER of them at once and of one, in each round.

    {'batch': images of a seed's step, 'one', 'together': [images/s], 'error' where it does not fit}
    """
    runs = {}
    try:
        for what, models in (('one', 1), ('together', TOGETHER)):
            runs[what] = _stepper(case, args, models), models * case.batch
        rates: dict[str, list[float]] = {what: [] for what in runs}
        for _ in range(args.rounds):
            for what, (step, images) in runs.items():
                rates[what].append(timed(step, images, args.seconds)[1]['images_per_second'])
        return {'batch': case.batch, **rates}
    except jax.errors.JaxRuntimeError as error:  # no memory for so many
        return {'batch': case.batch, 'error': str(error).splitlines()[0][:200]}


def _stepper(case: cases.Case, args: argparse.Namespace, models: int) -> Any:
    """steps -> seconds, of the compiled step of so many models, batches and all."""
    config = cases.config_of(case, devices=args.devices or 0)
    config.train.together = models
    dataset = cases.dataset_of(case)
    program = train.program_of(config, dataset, models)
    state = program.init(*range(models))
    rates = np.full(program.shape, cases.RATE, np.float32)
    feeds = [_batches(dataset, case.batch, program.shared, seed) for seed in range(models)]

    def run(steps: int) -> float:
        nonlocal state
        begin = time.perf_counter()
        for _ in range(steps):
            own = [next(feed) for feed in feeds]
            if program.shape:
                flat = [jax.tree.map(lambda leaf: leaf[0], batch) for batch in own]
                own = [stacked(flat, program.shape)]
            state, values = program.step(state, own[0], rates)
        jax.block_until_ready((state, values))
        return time.perf_counter() - begin

    return run


def _batches(dataset: data.Dataset, batch: int, devices: int, seed: int) -> Any:
    for epoch in itertools.count():
        yield from data.train_batches(dataset.train, batch, devices, seed, epoch)


# --- what is shown of together.json --------------------------------------------------------------


def tables_of(result: stored.Result) -> list[Table]:
    """Medians over the rounds."""
    lines = []
    for name, entry in result['cases'].items():
        one, many = (float(np.median(entry.get(what) or math.nan)) for what in ('one', 'together'))
        cells = [f'{value:,.0f}' if math.isfinite(value) else '-' for value in (one, many)]
        ratio = f'{many / one:.2f}' if math.isfinite(many / one) else entry.get('error', '-')
        lines.append((name, str(entry['batch']), *cells, ratio))
    models = result['settings']['models']
    return [(('net', 'batch', 'images/s', f'images/s of {models} seeds', 'ratio'), lines)]


def notes(result: stored.Result) -> list[str]:
    """Where it was measured."""
    about = result.get('environment', {})
    where = f'{about.get("devices", "?")} x {about.get("device", "?")}'
    return [f'{result["settings"]["models"]} seeds trained at once on {where}, float32.']
