"""Stored results: read, continued and written. A file holds one kind of measurement.

{'kind': a key of PARTS, 'settings': {...}, 'environment': {...}, and the measured parts by name,
under the key that PARTS has for the kind}
"""

import argparse
import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from experiments.benchmark import pytorch
from experiments.environment import measured_on
from experiments.errors import UserError
from experiments.files import write_whole

PARTS = {
    'benchmark': 'cases',
    'together': 'cases',
    'profile': 'cases',
    'operations': 'operations',
    'sizes': 'series',
    'ablation': 'runs',
}

Result = dict[str, Any]


class Interrupted(Exception):
    """Ctrl-C ended a measurement; the message says what is kept and how to continue."""


def environment(child: pytorch.Children | None = None) -> dict[str, Any]:
    """What the numbers depend on, read before anything is measured."""
    found = measured_on()
    found['versions'] |= {name: metadata.version(name) for name in ('jaxlib', 'flax', 'optax')}
    devices = jax.local_devices()
    found['device'] = devices[0].device_kind
    found['platform'] = devices[0].platform
    found['devices'] = len(devices)
    if child:
        found['torch'] = child.about
    return found


def read(path: str | os.PathLike) -> Result:
    """A stored result of any kind. Raises UserError where the file holds none."""
    try:
        found = json.loads(Path(path).read_text())
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror}.') from error
    except ValueError as error:
        raise UserError(f'{path} is not JSON: {error}.') from error
    if not isinstance(found, dict) or found.get('kind') not in PARTS:
        raise UserError(f'{path} holds no benchmark: give a file that --out has written.')
    return found


def begun(
    args: argparse.Namespace, kind: str, settings: dict[str, Any], names: Iterable[str]
) -> Result:
    """The result that --out holds and the command continues, or an empty one.

    With --again the parts of these names are left out; the others must have the same settings.

    Raises UserError where it is of another kind, or its parts were measured with other settings.
    """
    parts = PARTS[kind]
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
        'another file for --out, or measure all of it again with --again.'
    )


def go_on(result: Result, child: pytorch.Children | None = None) -> None:
    """Puts the environment into a result that is continued.

    Raises UserError where its finished parts were measured on another machine or other versions.
    """
    known, now = result.get('environment'), environment(child)
    if not result[PARTS[result['kind']]] and not result.get('devices'):
        result.pop('peak_gflops', None)  # of the earlier machine
    elif known:
        apart = [
            name
            for name in ('cpu', 'cores', 'python', 'versions', 'device', 'devices', 'torch')
            if known.get(name) != now.get(name)
        ]
        if apart:
            raise UserError(
                f'the stored numbers were measured with another {" and ".join(apart)} '
                f'({known.get(apart[0])}): name another file for --out.'
            )
    result['environment'] = now


def completed(
    args: argparse.Namespace,
    kind: str,
    settings: dict[str, Any],
    names: Collection[str],
    order: Iterable[str],
    measure: Callable[[str, Result, pytorch.Children | None], Any],
    torch: bool = False,
) -> Result:
    """The result with all parts of these names: measures those that --out does not hold.

    Each is stored as soon as it is measured; the result keeps its parts in the given order. None
    is begun after `args.until`, where there is one, in seconds of time.monotonic().

    measure: takes a name, the result so far and, with `torch`, PyTorch's processes.
    """
    result = begun(args, kind, settings, names)
    parts = PARTS[kind]
    left = [name for name in names if name not in result[parts]]
    for name in names:
        if name not in left:
            print(f'{name}: kept from {args.out}', flush=True)
    if not left:
        return result
    with interruptible(args, result, names), contextlib.ExitStack() as stack:
        child = None
        if torch:
            child = stack.enter_context(contextlib.closing(pytorch.Children(args.torch_python)))
        go_on(result, child)
        for name in left:
            if time.monotonic() > getattr(args, 'until', math.inf):
                break
            found = result[parts] | {name: measure(name, result, child)}
            result[parts] = {known: found[known] for known in order if known in found}
            store(result, args.out)
    return result


def store(result: Result, out: str | None) -> None:
    """Writes a result, whole, if there is a place for it."""
    if out:
        write_whole(out, json.dumps(result, indent=1) + '\n')


@contextlib.contextmanager
def interruptible(
    args: argparse.Namespace, result: Result, names: Collection[str] = ()
) -> Iterator[None]:
    """Turns Ctrl-C into Interrupted, whose message counts the finished ones of `names`."""
    try:
        yield
    except KeyboardInterrupt:
        parts = PARTS[result['kind']]
        done = sum(name in result[parts] for name in names)
        count = f'{done} of {len(names)} {parts}' if names else 'what was measured'
        same = 'the same command without --again' if args.again else 'the same command again'
        kept = f'{args.out} keeps {count}; run {same} to continue'
        raise Interrupted(
            f'interrupted; {kept if args.out else "nothing is kept without --out"}'
        ) from None
