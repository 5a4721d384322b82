"""What the files of a work directory may hold: one schema for everything that is read back.

    fault(row, ROW)            'learning_rate is "fast", it must be a positive number', or ''

A file that was cut off, edited or damaged must not end a command with a traceback. Whoever reads
a file names what does not fit and leaves it out. Rows and plans also carry a digest
(files.sealed), so that a changed number is noticed; those of older code have none.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from experiments import bits
from experiments.errors import shown

STATUSES = ('done', 'diverged', 'failed')
PHASES = ('select', 'final')


class Kind(NamedTuple):
    """The values that a field may have: a test, and the words for them in a message."""

    fits: Callable[[Any], bool]
    words: str


_LARGEST = 2**53  # of whole numbers: what a float holds exactly


def _number(value) -> bool:
    if type(value) is int:
        return abs(value) < _LARGEST
    return type(value) is float and math.isfinite(value)


def one_of(*values) -> Kind:
    return Kind(
        lambda value: value in values if isinstance(value, str) else False,
        'one of ' + ', '.join(values),
    )


def or_none(kind: Kind) -> Kind:
    return Kind(lambda value: value is None or kind.fits(value), f'{kind.words}, or null')


def list_of(kind: Kind, least: int = 0) -> Kind:
    return Kind(
        lambda value: (
            isinstance(value, list) and len(value) >= least and all(map(kind.fits, value))
        ),
        f'a list, each {kind.words}' + (f', at least {least}' if least else ''),
    )


def dict_of(kind: Kind) -> Kind:
    return Kind(
        lambda value: isinstance(value, dict) and all(map(kind.fits, value.values())),
        f'an object, each value {kind.words}',
    )


ANY = Kind(lambda value: True, 'anything')
TEXT = Kind(lambda value: isinstance(value, str), 'text')
# Control characters would reach the terminal, the figure and the page
LINE = Kind(
    lambda value: isinstance(value, str) and value.isprintable() and value.strip() != '',
    'a line of text',
)
NAME = Kind(
    lambda value: isinstance(value, str) and re.fullmatch('[0-9a-f]{12}', value) is not None,
    'twelve hexadecimal digits',
)
COUNT = Kind(lambda value: type(value) is int and 0 <= value < _LARGEST, 'a whole number from 0')
NUMBER = Kind(_number, 'a finite number')
POSITIVE = Kind(lambda value: _number(value) and value > 0, 'a positive number')
FRACTION = Kind(lambda value: _number(value) and 0 <= value <= 1, 'a fraction from 0 to 1')
SECONDS = Kind(lambda value: _number(value) and value >= 0, 'a number of seconds')
OBJECT = Kind(lambda value: isinstance(value, dict), 'an object')
POINT = Kind(
    lambda value: isinstance(value, list) and len(value) == 2 and all(map(_number, value)),
    'a pair of numbers',
)

# Metrics are named 'split/metric'. A loss may be null: JSON has no infinity.
METRICS = {
    'loss': or_none(NUMBER),
    'error': FRACTION,
    'error5': FRACTION,
    'centre_error': FRACTION,
    'count': COUNT,
    'right': TEXT,  # bits.pack of the images classified correctly
    'curve': list_of(POINT),
}


class Schema(NamedTuple):
    """Fields that an object must have, fields that it may have; others are left alone, but for
    metrics."""

    needed: Mapping[str, Kind]
    known: Mapping[str, Kind] = {}


ROW = Schema(
    {
        'point': NAME,
        'arm': LINE,
        'phase': one_of(*PHASES),
        'seed': COUNT,
        'status': one_of(*STATUSES),
        'learning_rate': or_none(POSITIVE),
    },
    {
        'experiment': TEXT,
        'overrides': OBJECT,
        'reason': TEXT,
        'dataset': TEXT,
        'data_found': TEXT,
        'git_revision': or_none(TEXT),
        'code': TEXT,
        'deterministic': TEXT,  # flags of XLA
        'model': TEXT,
        'weights': TEXT,  # digest of the file of weights
        'epochs': COUNT,
        'steps': COUNT,
        'devices': COUNT,
        'parameters': COUNT,
        'measures': dict_of(dict_of(dict_of(ANY))),
        'evaluation': OBJECT,  # of weights, without a training
    },
)
CURVE = Schema(
    {'epoch': Kind(lambda value: COUNT.fits(value) and value > 0, 'a whole number from 1')},
    {'step': COUNT, 'rate': or_none(NUMBER), 'seconds': SECONDS},
)
PLAN = Schema(
    {
        'title': LINE,
        'dataset_note': TEXT,
        'arms': list_of(LINE, least=1),
        'seeds': list_of(COUNT),
        'rates': list_of(POSITIVE),
        'level': Kind(lambda value: _number(value) and 0 < value < 1, 'a number between 0 and 1'),
        'points': list_of(NAME),
    },
    {
        'experiment': TEXT,
        'command': TEXT,
        'dataset': TEXT,
        'model': TEXT,
        'epochs': COUNT,
        'arm_seeds': dict_of(list_of(COUNT)),
        'comparisons': list_of(list_of(LINE, least=2)),
        'criterion': TEXT,
        'threshold': FRACTION,
        'arm_rates': dict_of(list_of(POSITIVE)),
        'runs': dict_of(OBJECT),
        'drawn': COUNT,  # bytes of results.jsonl that table and figures are of
        'digest': TEXT,
    },
)
# What plan.json says of each run; a row is of the run that its name says, whatever else it holds
RUN = Schema(
    {
        'arm': LINE,
        'phase': one_of(*PHASES),
        'seed': COUNT,
        'learning_rate': or_none(POSITIVE),
        'overrides': OBJECT,
    }
)


def fault(value: Any, schema: Schema) -> str:
    """What does not fit in an object that was read back, in one line; '' if all does."""
    if not isinstance(value, dict):
        return f'{shown(value)} is no object'
    missing = [name for name in schema.needed if name not in value]
    if missing:
        return f'it lacks {", ".join(missing)}'
    kinds = {**schema.known, **schema.needed}
    for name, given in value.items():
        kind = kinds.get(name)
        if kind is None and '/' in name:
            kind = METRICS.get(name.partition('/')[2], or_none(NUMBER))
        if kind is not None and not kind.fits(given):
            return f'{name} is {shown(given)}, it must be {kind.words}'
    return ''


def row_fault(row: Any) -> str:
    """`fault` of a row, and fields that contradict each other."""
    found = fault(row, ROW)
    if found:
        return found
    if row['status'] == 'done':
        needed = ['train/error', 'validation/error']
        if 'evaluation' in row:
            return '' if _evaluated(row) else 'it is an evaluation without an error that fits'
        needed.append('test/error' if row['phase'] == 'final' else 'validation/loss')
        missing = [name for name in needed if row.get(name) is None]
        if missing:
            return f'it is done, but lacks {", ".join(missing)}'
        if 'test/right' in row and not _bits_fit(row):
            return 'test/right does not fit test/error and test/count'
    elif 'reason' not in row:
        return f'it is {row["status"]}, but lacks reason'
    if row['learning_rate'] is None and (row['status'] == 'done' or row['phase'] == 'select'):
        state = 'done' if row['status'] == 'done' else 'a trial'
        return f'it is {state}, but learning_rate is null'
    return ''


def _evaluated(row: dict[str, Any]) -> bool:
    """Whether the row of an evaluation has an error, and the bits of test images that give it."""
    errors = [f'{split}/error' in row for split in ('train', 'validation', 'test')]
    return any(errors) and ('test/right' not in row or _bits_fit(row))


def _bits_fit(row: dict[str, Any]) -> bool:
    """Whether the bits of the test images are as many as the images, and give the error."""
    try:
        right = bits.unpack(row['test/right'], row['test/count'])
        return math.isclose(1 - right.mean(), row['test/error'], abs_tol=1e-6)
    except (ValueError, KeyError):
        return False


def plan_fault(plan: Any) -> str:
    """`fault` of a plan, and fields that contradict each other."""
    found = fault(plan, PLAN)
    if found:
        return found
    for name in ('arms', 'points', 'seeds', 'rates'):
        if len(set(plan[name])) != len(plan[name]):
            return f'{name} names something twice'
    for name in ('arm_seeds', 'arm_rates'):
        strange = set(plan.get(name, plan['arms'])) ^ set(plan['arms'])
        if strange:
            return f'{name} and arms differ in {shown(sorted(strange)[0])}'
    for pair in plan.get('comparisons', ()):
        if len(pair) != 2 or not {*pair} <= {*plan['arms']}:
            return f'comparisons has {shown(pair)}, which are not two arms'
    if 'runs' in plan and set(plan['runs']) != set(plan['points']):
        return 'runs and points differ'
    for name, run in plan.get('runs', {}).items():
        found = fault(run, RUN)
        if found or run['arm'] not in plan['arms']:
            return f'run {name}: ' + (found or f'no arm {shown(run["arm"])}')
    return ''


def parse(text: bytes | str) -> Any:
    """JSON without nan and infinity, of any depth.

    Raises:
      ValueError: it is none.
    """

    def refuse(constant):
        raise ValueError(f'{constant} is no number of JSON')

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError('not complete JSON') from error
