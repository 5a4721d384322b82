"""How fast the nets train here, beside PyTorch on the same machine in the same minutes.

    python -m experiments.benchmark                                   every case of CASES
    python -m experiments.benchmark lenet5 resnet20 --against torch --out runs/speed.json
    python -m experiments.benchmark lenet5 --profile                  where the step's time goes
    python -m experiments.benchmark --sizes --out runs/sizes.json     time against size and devices
    python -m experiments.benchmark --operations                      operations beside PyTorch's
    python -m experiments.benchmark --ablation                        an ablation before and after
    python -m experiments.benchmark --show FILE.json                  the table again
    python -m experiments.benchmark --markdown FILE.json              as README has it
    python -m experiments.benchmark --figure OUT.png FILE.json [FILE2.json ...]

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

With --out, each finished case is stored at once, and the same command again goes on from there;
--again measures the named cases anew.
"""

import argparse
import importlib
import json
import math
import os
import sys
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import jax

from experiments import machine, style
from experiments.benchmark import cases, ours
from experiments.benchmark import pytorch as benchmark_torch
from experiments.data import speed as data_speed
from experiments.errors import UserError
from experiments.files import write_whole

_HOPELESS = 0.8  # of the best variant: what a variant must reach in the first round to stay
_SETTLE = 0.3  # seconds in which the threads of the side measured before stop spinning


# --- measuring a case --------------------------------------------------------------------------


class TorchSide:
    """A variant of the PyTorch process, with the two calls of ours.Side."""

    def __init__(self, child, case: cases.Case, variant: str, dtype: str):
        self.child = child
        self.request = dict(
            net=case.net,
            fields=case.fields,
            batch=case.batch,
            input=case.input,
            classes=case.classes,
            dtype=dtype,
            variant=variant,
        )

    def train(self, seconds):
        return self.child.ask(**self.request, task='train', seconds=seconds)

    def infer(self, seconds):
        return self.child.ask(**self.request, task='infer', seconds=seconds)


def measure(name: str, case: cases.Case, args, child=None) -> dict:
    """All rounds of a case, as it is stored."""
    begin = time.perf_counter()
    work = cases.work_of(case)
    entry = {
        'net': case.net,
        'fields': case.fields,
        'batch': case.batch,
        'classes': case.classes,
        'input': list(case.input),
        'parameters': work.parameters,
        'multiply_adds': work.macs,
        'flop_train': work.train,
        'flop_infer': work.infer,
        'sides': {},
    }
    sides = {}
    for side, fast in (('ours', True), ('plain', False)):
        if fast or 'plain' in args.against:
            _say(f'{name}: {side} compiles')
            one = sides[side] = ours.Side(
                case, devices=args.devices or 0, dtype=args.dtype, fast=fast
            )
            entry['sides'][side] = {
                'compile_seconds': one.compile_seconds,
                'memory_mib': one.memory(),
                'host': one.host(min(args.seconds, 1.0)),
            }
            entry['devices'] = one.program.devices
    if child:
        for variant in benchmark_torch.VARIANTS:
            wanted = {'all': True, 'none': False, 'small': case.small}[args.compile]
            if 'compile' not in variant or wanted:
                sides[f'torch {variant}'] = TorchSide(child, case, variant, args.dtype)
    for number in range(args.rounds):
        for side, one in list(sides.items()):
            stored = entry['sides'].setdefault(side, {})
            time.sleep(_SETTLE)
            for task in ('train', 'infer'):
                answer = getattr(one, task)(args.seconds)
                if 'error' in answer:
                    stored['error'] = answer['error']
                    _say(f'{name}: {side} left out: {answer["error"]}')
                    sides.pop(side)
                    break
                stored.setdefault(task, []).append(answer)
            else:
                _say(
                    f'{name}: round {number + 1}/{args.rounds}  {side:28} '
                    f'{stored["train"][-1]["images_per_second"]:12,.1f} images/s, '
                    f'{stored["infer"][-1]["images_per_second"]:12,.1f} in inference'
                )
        if not number:
            for side in _hopeless(entry['sides']):
                entry['sides'][side]['dropped'] = 'slow in the first round'
                sides.pop(side, None)
    entry['seconds'] = time.perf_counter() - begin
    return entry


def _hopeless(sides) -> list[str]:
    """The PyTorch variants that need no further rounds: slow in training and in inference."""
    found = {
        side: stored
        for side, stored in sides.items()
        if side.startswith('torch') and 'infer' in stored and 'error' not in stored
    }

    def slow(task):
        rates = {side: stored[task][0]['images_per_second'] for side, stored in found.items()}
        return {side for side, rate in rates.items() if rate < _HOPELESS * max(rates.values())}

    return sorted(slow('train') & slow('infer'))


def _say(text):
    print(text, flush=True)


# --- all of them -------------------------------------------------------------------------------


def environment(child=None) -> dict:
    """What the numbers depend on, read before anything is measured."""
    found = data_speed.environment()
    found['versions'] |= {name: metadata.version(name) for name in ('jaxlib', 'flax', 'optax')}
    devices = jax.local_devices()
    found['device'] = devices[0].device_kind
    found['platform'] = devices[0].platform
    found['devices'] = len(devices)
    if child:
        found['torch'] = child.about
    return found


def _settings(args) -> dict:
    """What tells one measurement from another; profiles have no rounds."""
    names = ('devices', 'dtype', 'batch')
    if args.profile:
        return {name: getattr(args, name) for name in names}
    return {name: getattr(args, name) for name in (*names, 'rounds', 'seconds', 'compile')} | {
        'against': sorted(args.against)
    }


def read(path) -> dict:
    """A stored benchmark of whatever kind. Raises UserError where the file is none."""
    try:
        found = json.loads(Path(path).read_text())
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror}.') from error
    except ValueError as error:
        raise UserError(f'{path} is not JSON: {error}.') from error
    if not isinstance(found, dict) or found.get('kind') not in _SHOWN:
        raise UserError(f'{path} holds no benchmark: give a file that --out has written.')
    return found


def begun(args, kind: str, settings: dict, parts: str, names=()) -> dict:
    """What --out holds already and the command goes on from, or an empty result.

    result[parts] holds the finished parts by name; with --again it goes on without those of
    `names`, and may then have been measured with other settings, if nothing else is in it.

    Raises UserError where it is of another kind, or its parts were measured otherwise.
    """
    new = {'kind': kind, 'settings': settings, parts: {}}
    if not args.out or not os.path.exists(args.out):
        return new
    found = read(args.out)
    if found['kind'] != kind:
        raise UserError(
            f'{args.out} holds a measurement of kind {found["kind"]}, not {kind}: '
            'name another file for --out.'
        )
    if not isinstance(found.get('settings'), dict) or not isinstance(found.get(parts), dict):
        raise UserError(f'{args.out} is not what --out writes: name another file for --out.')
    if args.again:
        found[parts] = {name: part for name, part in found[parts].items() if name not in names}
    if found['settings'] == settings:
        return found
    if args.again and not found[parts]:
        return new
    raise UserError(
        f'{args.out} was measured with {found["settings"]}, not with {settings}: name '
        'another file for --out, or measure all of it anew with --again.'
    )


def go_on(result: dict, parts: Iterable[str], environment: dict) -> None:
    """Puts the environment into a result that goes on; parts: names of what it may hold.

    Raises UserError where its finished parts were measured on another machine or other versions.
    """
    known = result.get('environment')
    if not any(result[part] for part in parts):
        result.pop('peak_gflops', None)  # of the machine of old
    elif known:
        apart = [
            name
            for name in ('cpu', 'cores', 'python', 'versions', 'device', 'devices', 'torch')
            if known.get(name) != environment.get(name)
        ]
        if apart:
            raise UserError(
                f'the stored numbers were measured with another {" and ".join(apart)} '
                f'({known.get(apart[0])}): name another file for --out.'
            )
    result['environment'] = environment


def store(result: dict, out: str | None) -> None:
    """Writes a result, whole, if there is a place for it."""
    if out:
        write_whole(out, json.dumps(result, indent=1) + '\n')


def interrupted(args, done: str) -> int:
    """Says what --out keeps, and how to go on; returns the exit status."""
    same = 'the same command without --again' if args.again else 'the same command again'
    kept = (
        f'{args.out} keeps {done}; run {same} to go on'
        if args.out
        else 'nothing is kept without --out'
    )
    print(f'interrupted; {kept}', file=sys.stderr)
    return 130


def run(args) -> int:
    """Measures, or profiles, the cases that are not stored yet, and prints the table."""
    picked = cases.chosen(args.names, args.batch)
    for name, case in picked.items():
        if case.batch % (args.devices or 1):
            raise UserError(
                f'{args.devices} devices cannot share the {case.batch} images of a '
                f'step of {name} equally: name another --devices, or --batch.'
            )
    result = begun(
        args, 'profile' if args.profile else 'benchmark', _settings(args), 'cases', picked
    )
    left = [name for name in picked if name not in result['cases']]
    for name in picked:
        if name not in left:
            _say(f'{name}: kept from {args.out}')
    child = None
    try:
        if 'torch' in args.against and left:
            child = benchmark_torch.Children(args.torch_python)
        if left:
            go_on(result, ('cases',), environment(child))
        if left and not args.profile and 'peak_gflops' not in result:
            result['peak_gflops'] = ours.matmul_peak(
                args.dtype, args.devices or jax.local_device_count()
            )
            _say(f'a large matrix product: {result["peak_gflops"]:,.0f} GFLOP/s')
        for name in left:
            if args.profile:
                from experiments.benchmark import profile as benchmark_profile

                side = ours.Side(picked[name], devices=args.devices or 0, dtype=args.dtype)
                result['cases'][name] = benchmark_profile.measure(side)
            else:
                result['cases'][name] = measure(name, picked[name], args, child)
            result['cases'] = {
                known: result['cases'][known] for known in cases.CASES if known in result['cases']
            }
            store(result, args.out)
    except KeyboardInterrupt:
        done = [name for name in picked if name in result['cases']]
        return interrupted(args, f'{len(done)} of {len(picked)} cases')
    finally:
        if child:
            child.close()
    _module(result['kind']).print_tables(result)
    if args.out:
        print(f'stored in {args.out}')
    return 0


def _parser():
    parser = argparse.ArgumentParser(
        prog='python -m experiments.benchmark',
        allow_abbrev=False,
        description='Measures how fast the nets train, beside PyTorch.',
        epilog=f'Cases: {", ".join(cases.CASES)}.',
    )
    parser.add_argument(
        'names',
        nargs='*',
        metavar='NAME',
        help='cases (default: all); with --show, --markdown and --figure: stored files',
    )
    parser.add_argument(
        '--against',
        nargs='+',
        default=[],
        choices=('torch', 'plain'),
        help='measure these beside ours',
    )
    parser.add_argument(
        '--torch_python',
        default=sys.executable,
        metavar='PATH',
        help='interpreter with PyTorch (default: this one)',
    )
    parser.add_argument(
        '--compile',
        default='small',
        choices=('none', 'small', 'all'),
        help='cases that torch.compile is tried on (default: the small nets)',
    )
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument(
        '--seconds',
        type=float,
        default=3.0,
        help='length of each measurement (of single operations: a quarter of it)',
    )
    parser.add_argument(
        '--devices',
        type=int,
        help='devices that share a batch; on a CPU so many '
        'virtual ones are made (default: all there are)',
    )
    parser.add_argument(
        '--dtype', default='float32', choices=('float32', 'bfloat16'), help='of the computation'
    )
    parser.add_argument('--batch', type=int, help="images a step (default: the case's own)")
    parser.add_argument('--out', metavar='FILE.json', help='where the numbers are stored')
    parser.add_argument('--again', action='store_true', help='measure what --out holds anew')
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        '--profile',
        action='store_true',
        help="print where the step's time goes, by kind of operation",
    )
    what.add_argument(
        '--sizes',
        action='store_true',
        help='measure time against batch, image '
        'side and depth, and the all-reduce on 1, 2 and 4 virtual devices',
    )
    what.add_argument(
        '--operations', action='store_true', help="measure single operations beside PyTorch's"
    )
    what.add_argument(
        '--ablation',
        action='store_true',
        help='run a whole ablation with plain and '
        'with fast operations, and started again; NAME is its config',
    )
    what.add_argument('--show', action='store_true', help='print stored numbers')
    what.add_argument('--markdown', action='store_true', help='the same as a GitHub table')
    what.add_argument('--figure', metavar='OUT.png', help='draw stored numbers')
    return parser


def _stored(args) -> int:
    """--show, --markdown and --figure."""
    if not args.names:
        raise UserError('name the stored FILE.json.')
    found = [read(path) for path in args.names]
    if len({one['kind'] for one in found}) > 1:
        raise UserError('the files are of several kinds: draw or print each kind by itself.')
    module = _module(found[0]['kind'])
    try:
        if args.figure:
            style.check_ending(args.figure)
            Path(args.figure).parent.mkdir(parents=True, exist_ok=True)
            module.draw(found, args.figure)
            print(args.figure)
        for one in [] if args.figure else found:
            if args.markdown:
                print(module.markdown(one), end='')
            else:
                module.print_tables(one)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise UserError(
            f'{", ".join(args.names)}: not what --out writes ({error!r}). Measure anew.'
        ) from error
    return 0


# Kinds of stored results, and the module that shows them
_SHOWN = {'benchmark': 'tables'} | {
    kind: kind for kind in ('profile', 'operations', 'sizes', 'ablation')
}


def _module(kind):
    """The module that shows what is stored of a kind, and measures all kinds but the first two."""
    return importlib.import_module(f'experiments.benchmark.{_SHOWN[kind]}')


# What is done, and the options that it takes; the plain benchmark takes all
_OPTIONS = {
    'profile': ('devices', 'dtype', 'batch', 'out', 'again'),
    'sizes': ('dtype', 'rounds', 'seconds', 'out', 'again'),
    'operations': ('torch_python', 'dtype', 'rounds', 'seconds', 'out', 'again'),
    'ablation': ('out', 'again'),
    'show': (),
    'markdown': (),
    'figure': (),
}


def _check(args):
    for name, value, low in (
        ('rounds', args.rounds, 1),
        ('batch', args.batch, 1),
        ('devices', args.devices, 1),
    ):
        if value is not None and value < low:
            raise UserError(f'--{name} is {value}, it must be at least {low}.')
    if not 0 < args.seconds < math.inf:
        raise UserError(f'--seconds is {args.seconds:g}, it must be positive and finite.')
    shows = args.show or args.markdown or args.figure
    for name in args.names:
        if name.endswith('.json') and not shows:
            raise UserError(f'{name} is a stored file: add --show, --markdown or --figure OUT.png.')
    for what, useful in _OPTIONS.items():
        for name, default in vars(_parser().parse_args([])).items() if getattr(args, what) else ():
            if getattr(args, name) != default and name not in (what, 'names', *useful):
                raise UserError(f'--{what} has no use for --{name}: leave it out.')
    plain = not any(getattr(args, what) for what in _OPTIONS)
    for name, default in (('torch_python', sys.executable), ('compile', 'small')):
        if plain and 'torch' not in args.against and getattr(args, name) != default:
            raise UserError(
                f'--{name} has no use without --against torch: add that, or leave it out.'
            )
    if args.again and not args.out:
        raise UserError('--again measures anew what --out FILE.json holds: name the file.')
    if args.out:
        folder = Path(args.out).parent
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise UserError(f'{folder} cannot be written to: name another place for --out.')


def _start_devices(count):
    """Makes so many virtual devices of a CPU, unless devices have been touched already."""
    machine.prepare()
    jax.config.update('jax_enable_compilation_cache', False)  # compilation is measured
    if count:
        try:
            jax.config.update('jax_num_cpu_devices', count)
        except RuntimeError:  # the devices exist: train.device_count says if they are too few
            pass


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    args = _parser().parse_args(argv)
    try:
        _check(args)
        if args.show or args.markdown or args.figure:
            return _stored(args)
        _start_devices(args.devices)
        for kind in ('sizes', 'operations', 'ablation'):
            if getattr(args, kind):
                return _module(kind).run(args)
        return run(args)
    except (UserError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130


if __name__ == '__main__':
    sys.exit(main())
