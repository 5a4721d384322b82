"""How fast the nets train here, beside PyTorch on the same machine in the same minutes.

What is measured of each case (cases.py), in `--rounds` rounds of `--seconds`:

training       images/s of the whole step as experiments.run does it: the batch gathered, the
               images normalised, forward, backward, momentum SGD; metrics fetched at the end
inference      images/s of evaluation, in batches of the training's size
compilation    seconds to initialise, compile and do the first step, no cache
memory         MiB of the compiled step: arguments, outputs and temporaries
GFLOP/s        of convolutions and matrix products, beside the best of a large matrix product
input, host    shares of the time: waiting for a batch; calling a step that computes nothing

--against torch   the same step in PyTorch, in its own process: contiguous, channels_last and, in
                  another and where it works, torch.compile. A round measures ours and then each
                  of these, so that what else the machine does falls on all; the variant with the
                  highest median counts, and the ratio is that of each round.
--against plain   our nets with model.fields.fast=False, the plain operations
"""

import argparse
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from experiments.benchmark import cases, ours, pytorch, stored

_HOPELESS = 0.8  # of the best variant: what a variant must reach in the first round to stay
_SETTLE = 0.3  # seconds in which the threads of the side measured before stop spinning


def measure_case(
    name: str, case: cases.Case, args: argparse.Namespace, child: pytorch.Children | None = None
) -> dict[str, Any]:
    """All rounds of a case, as it is stored."""
    begin = time.perf_counter()
    work = cases.work_of(case)
    about = {
        'net': case.net,
        'fields': case.fields,
        'batch': case.batch,
        'classes': case.classes,
        'input': list(case.input),
    }
    entry: dict[str, Any] = about | {
        'parameters': work.parameters,
        'multiply_adds': work.macs,
        'flop_train': work.train,
        'flop_infer': work.infer,
        'sides': {},
    }
    # of each side a function of task, 'train' or 'infer', and seconds
    sides: dict[str, Callable[..., dict[str, Any]]] = {}
    for side, fast in (('ours', True), ('plain', False)):
        if fast or 'plain' in args.against:
            _say(f'{name}: {side} compiles')
            one = ours.Side(case, devices=args.devices or 0, dtype=args.dtype, fast=fast)
            sides[side] = one.measure
            entry['sides'][side] = {
                'compile_seconds': one.compile_seconds,
                'memory_mib': one.memory(),
                'host': one.host(min(args.seconds, 1.0)),
            }
            entry['devices'] = one.program.devices
    if child:
        for variant in pytorch.VARIANTS:
            wanted = {'all': True, 'none': False, 'small': case.small}[args.compile]
            if 'compile' not in variant or wanted:
                sides[f'torch {variant}'] = functools.partial(
                    child.ask, **about, dtype=args.dtype, variant=variant
                )
    for number in range(args.rounds):
        for side, measure in list(sides.items()):
            kept = entry['sides'].setdefault(side, {})
            time.sleep(_SETTLE)
            for task in ('train', 'infer'):
                answer = measure(task=task, seconds=args.seconds)
                if 'error' in answer:
                    kept['error'] = answer['error']
                    _say(f'{name}: {side} left out: {answer["error"]}')
                    sides.pop(side)
                    break
                kept.setdefault(task, []).append(answer)
            else:
                _say(
                    f'{name}: round {number + 1}/{args.rounds}  {side:28} '
                    f'{kept["train"][-1]["images_per_second"]:12,.1f} images/s, '
                    f'{kept["infer"][-1]["images_per_second"]:12,.1f} in inference'
                )
        if not number:
            for side in _hopeless(entry['sides']):
                entry['sides'][side]['dropped'] = 'slow in the first round'
                sides.pop(side, None)
    entry['seconds'] = time.perf_counter() - begin
    return entry


def _hopeless(sides: Mapping[str, dict]) -> list[str]:
    """The PyTorch variants that need no further rounds: slow in training and in inference."""
    found = {
        side: kept
        for side, kept in sides.items()
        if side.startswith('torch') and 'infer' in kept and 'error' not in kept
    }

    def slow(task: str) -> set[str]:
        rates = {side: kept[task][0]['images_per_second'] for side, kept in found.items()}
        return {side for side, rate in rates.items() if rate < _HOPELESS * max(rates.values())}

    return sorted(slow('train') & slow('infer'))


def _say(text: str) -> None:
    print(text, flush=True)


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """What tells one measurement from another."""
    names = ('devices', 'dtype', 'batch', 'rounds', 'seconds', 'compile')
    return {name: getattr(args, name) for name in names} | {'against': sorted(args.against)}


def run(args: argparse.Namespace) -> stored.Result:
    """Measures the cases that are not stored yet, and returns all of the result."""
    picked = cases.chosen(args.names, args.batch, args.devices)

    def measured(name, result, child):
        if 'peak_gflops' not in result:
            devices = args.devices or jax.local_device_count()
            result['peak_gflops'] = ours.matmul_peak(args.dtype, devices)
            _say(f'a large matrix product: {result["peak_gflops"]:,.0f} GFLOP/s')
        return measure_case(name, picked[name], args, child)

    torch = 'torch' in args.against
    return stored.completed(args, 'benchmark', settings(args), picked, cases.KNOWN, measured, torch)
