"""Stored results: read, continued and written. A file holds one kind of measurement.

{'kind': one of KINDS, 'settings': {...}, 'environment': {...}, and the measured parts by name}
"""

import argparse
import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from experiments.benchmark.pytorch import Children
from experiments.data import speed as data_speed
from experiments.errors import UserError
from experiments.files import write_whole

KINDS = ('benchmark', 'profile', 'operations', 'sizes', 'ablation')

Result = dict[str, Any]


class Interrupted(Exception):
    """Ctrl-C ended a measurement; the message says what is kept and how to continue."""


def environment(child: Children | None = None) -> dict[str, Any]:
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


def read(path: str | os.PathLike) -> Result:
    """A stored result of any kind. Raises UserError where the file holds none."""
    try:
        found = json.loads(Path(path).read_text())
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror}.') from error
    except ValueError as error:
        raise UserError(f'{path} is not JSON: {error}.') from error
    if not isinstance(found, dict) or found.get('kind') not in KINDS:
        raise UserError(f'{path} holds no benchmark: give a file that --out has written.')
    return found


def begun(
    args: argparse.Namespace,
    kind: str,
    settings: dict[str, Any],
    parts: str,
    names: Iterable[str] = (),
) -> Result:
    """The result that --out holds and the command continues, or an empty one.

    result[parts] holds the finished parts by name. With --again those of `names` are left out; the
    others must have the same settings.

    Raises UserError where it is of another kind, or its parts were measured with other settings.
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
        'another file for --out, or measure all of it again with --again.'
    )


def go_on(result: Result, parts: Iterable[str], environment: dict[str, Any]) -> None:
    """Puts the environment into a result that is continued; parts: what it may hold, by name.

    Raises UserError where its finished parts were measured on another machine or other versions.
    """
    known = result.get('environment')
    if not any(result[part] for part in parts):
        result.pop('peak_gflops', None)  # of the earlier machine
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


def missing(result: Result, parts: str, names: Iterable[str], out: str | None) -> list[str]:
    """The names of the parts that are not stored yet; prints which ones are kept."""
    left = []
    for name in names:
        if name in result[parts]:
            print(f'{name}: kept from {out}', flush=True)
        else:
            left.append(name)
    return left


def measure_parts(
    result: Result,
    parts: str,
    names: Iterable[str],
    order: Iterable[str],
    out: str | None,
    measure: Callable[[str], Any],
) -> None:
    """Measures each of the names and stores it at once; result[parts] keeps the given order."""
    for name in names:
        found = result[parts] | {name: measure(name)}
        result[parts] = {known: found[known] for known in order if known in found}
        store(result, out)


def store(result: Result, out: str | None) -> None:
    """Writes a result, whole, if there is a place for it."""
    if out:
        write_whole(out, json.dumps(result, indent=1) + '\n')


@contextlib.contextmanager
def interruptible(
    args: argparse.Namespace, result: Result, parts: str, names: Sequence[str] = ()
) -> Iterator[None]:
    """Turns Ctrl-C into Interrupted, whose message counts the finished ones of `names`."""
    try:
        yield
    except KeyboardInterrupt:
        done = sum(name in result[parts] for name in names)
        count = f'{done} of {len(names)} {parts}' if names else 'what was measured'
        same = 'the same command without --again' if args.again else 'the same command again'
        kept = f'{args.out} keeps {count}; run {same} to continue'
        raise Interrupted(
            f'interrupted; {kept if args.out else "nothing is kept without --out"}'
        ) from None
