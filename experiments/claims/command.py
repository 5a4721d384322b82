"""The command that shows the claims of the notes and the verdicts on them.

python -m experiments.claims [--json]       one line per claim
python -m experiments.claims ID [--json]    one claim in full
python -m experiments.claims ID --run       trains what the claim asks for, by experiments.run
python -m experiments.claims --page DIR     all of them as a page with figures, and as Markdown
"""

import collections
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from experiments import tables
from experiments.claims.claim import VERDICTS, Claim, Verdict
from experiments.claims.ledger import CLAIMS, verdict
from experiments.errors import UserError, check_writable, command, one_of
from experiments.options import Parser
from experiments.progress import note

HEADINGS = ('claim', 'verdict', 'effect', 'the notes say')
SCALES = ('small', 'full')  # 2 CPU cores; one large accelerator
_QUIET = 5.0  # seconds without a line of progress


def parser() -> Parser:
    """The parser of the command line."""
    made = Parser(
        prog='python -m experiments.claims',
        description='The claims of the notes and the verdicts on them. What needs no training is '
        'computed on the spot.',
    )
    made.add_argument('id', nargs='?', metavar='ID', help='one claim in full, such as V1b')
    made.add_argument('--json', action='store_true', help='the same as JSON')
    made.add_argument('--run', action='store_true', help='train the runs of the claim')
    made.add_argument('--scale', choices=SCALES, help='of --run (default: small)')
    made.add_argument('--page', metavar='DIR', help='write claims.html and claims.md there')
    return made


def find(given: str) -> Claim:
    """The claim of this id, in capitals or not. Raises UserError with the nearest one."""
    given = given.capitalize()
    if given in CLAIMS:
        return CLAIMS[given]
    of_paper = [name for name in CLAIMS if name[0] == given[:1]]
    raise one_of('claim', given, of_paper or list(CLAIMS))


def judged(claims: Iterable[Claim]) -> Iterator[tuple[Claim, Verdict]]:
    """Each claim with its verdict; a note of progress every few seconds."""
    claims = list(claims)
    printed = time.perf_counter()
    for place, claim in enumerate(claims):
        yield claim, verdict(claim)
        if time.perf_counter() - printed > _QUIET and place + 1 < len(claims):
            printed = time.perf_counter()
            note(f'{place + 1} of {len(claims)} claims')


def plain(claim: Claim, found: Verdict) -> dict[str, Any]:
    """One claim as JSON has it."""
    return {
        'id': claim.id,
        'verdict': found.verdict,
        'effect': found.effect,
        'low': found.low,
        'high': found.high,
        'unit': claim.unit,
        'seeds': found.seeds,
        'config': claim.config,
        'data': found.data,
        'text': found.text,
    }


def effect(claim: Claim, found: Verdict) -> str:
    """'60,000 parameters', '+0.43 [+0.2, +0.66] percentage points'; '' where there is none."""
    if found.effect is None:
        return ''
    interval = ''
    if found.low is not None and found.high is not None:
        interval = f' [{_number(found.low)}, {_number(found.high)}]'
    unit = claim.unit.removesuffix('s') if found.effect == 1 else claim.unit
    return f'{_number(found.effect)}{interval} {unit}'


def _number(value: float) -> str:
    return f'{value:,.0f}' if value == round(value) or abs(value) >= 1000 else f'{value:.3g}'


def table(pairs: list[tuple[Claim, Verdict]]) -> list[tuple[str, ...]]:
    """The lines of the table of all claims, in the order of HEADINGS."""
    return [(one.id, found.verdict, effect(one, found), one.sentence) for one, found in pairs]


def full(claim: Claim, found: Verdict) -> list[tuple[str, str]]:
    """The lines of one claim: what it says, what is found, and how."""
    margin = 'none: computed' if claim.margin is None else f'{claim.margin:g} {claim.unit}'
    seeds = f'{found.seeds} seeds of each arm; covers {found.covers}' if found.seeds else ''
    lines = [
        (claim.id, claim.sentence),
        ('correction', claim.correction),
        ('verdict', found.verdict),
        ('found', found.text),
        ('effect', effect(claim, found)),
        ('paper', claim.paper),
        ('measure', claim.measure),
        ('margin', margin),
        ('source', claim.source),
        ('config', claim.config),
        ('data', found.data),
        ('seeds', seeds),
    ]
    return [line for line in lines if line[1]]


def run(given: str | None, scale: str) -> int:
    """Trains the config of a claim at this scale; returns the status of experiments.run.

    Raises:
      UserError: no claim is named, or one that needs no training.
    """
    if given is None:
        raise UserError('--run trains one claim: name it, as in A1 --run.')
    claim = find(given)
    if not claim.config:
        raise UserError(f'{claim.id} is computed, it trains nothing: leave --run out.')
    config, _, argument = claim.config.partition(':')
    argument = '_'.join([scale, *argument.split('_')[1:]])
    words = ['--config', f'configs/{config}:{argument}']
    print(f'python -m experiments.run {" ".join(words)}', flush=True)
    return subprocess.call([sys.executable, '-m', 'experiments.run', *words])


@command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    args = parser().parse_args(argv)
    if args.run:
        return run(args.id, args.scale or SCALES[0])
    if args.scale:
        raise UserError(f'--scale {args.scale} is of --run: add that.')
    if args.page is not None:
        from experiments.claims import page  # it imports this module

        if args.id is not None:
            raise UserError(f'the page holds all claims: leave {args.id!r} out.')
        check_writable(Path(args.page) / 'claims.html')
        print(page.write(args.page, list(judged(CLAIMS.values()))))
        return 0
    pairs = list(judged([find(args.id)] if args.id is not None else CLAIMS.values()))
    if args.json:
        objects = [plain(*pair) for pair in pairs]
        print(json.dumps(objects if args.id is None else objects[0], indent=2))
    elif args.id is not None:
        tables.show(tables.Terminal(HEADINGS[::3], full(*pairs[0])))
    else:
        counts = collections.Counter(found.verdict for _, found in pairs)
        kinds = ', '.join(f'{counts[kind]} {kind}' for kind in VERDICTS if counts[kind])
        title = f'{len(pairs)} claims: {kinds}'
        tables.show(tables.Terminal(HEADINGS, table(pairs), title))
        print('python -m experiments.claims ID shows one in full.', file=sys.stderr)
    return 0
