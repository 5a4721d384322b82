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
from experiments.claims import page, trained
from experiments.claims.claim import VERDICTS, Claim, Verdict
from experiments.claims.ledger import CLAIMS, verdict
from experiments.claims.words import HEADINGS, by_paper, full, table
from experiments.errors import UserError, check_writable, command, one_of
from experiments.options import Parser
from experiments.progress import note

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
    if not trained.exists(claim.config):
        raise UserError(f'{claim.config}, which would measure {claim.id}, is not written yet.')
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
        tables.show(tables.Terminal(*by_paper(pairs)))
        print('python -m experiments.claims ID shows one in full.', file=sys.stderr)
    return 0
