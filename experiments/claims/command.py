"""The command that shows the claims of the notes and the verdicts on them.

python -m experiments.claims [--json]       one line per claim
python -m experiments.claims ID [--json]    one claim in full
python -m experiments.claims ID --run       trains what the claim asks for, by experiments.run
python -m experiments.claims ID --scale full    the same of the runs at the full scale
python -m experiments.claims --page DIR     all of them as a page with figures, and as Markdown
python -m experiments.claims ID --page DIR    the same of one claim, and its figures as PNG and SVG

Rows are read from experiments/stored, else from the folder that experiments.run writes by default.
"""

import collections
import functools
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from experiments import tables
from experiments.claims import page, parallel, trained
from experiments.claims.claim import VERDICTS, Claim, Verdict
from experiments.claims.ledger import CLAIMS, verdict
from experiments.claims.words import HEADINGS, by_paper, full, table
from experiments.errors import UserError, check_writable, command, one_of
from experiments.options import Parser
from experiments.progress import note
from experiments.workdir import default_folder

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
    made.add_argument('--scale', choices=SCALES, help='of the runs of one claim (default: small)')
    one = made.add_mutually_exclusive_group()
    one.add_argument('--json', action='store_true', help='a list of objects as JSON')
    one.add_argument('--run', action='store_true', help='train the runs of a claim, then judge it')
    one.add_argument(
        '--page',
        metavar='DIR',
        help='write claims.html and claims.md there, and the figures of one claim',
    )
    return made


def find(given: str) -> Claim:
    """The claim of this id, in capitals or not. Raises UserError with the nearest one."""
    given = given.capitalize()
    if given in CLAIMS:
        return CLAIMS[given]
    of_paper = [name for name in CLAIMS if name[0] == given[:1]]
    raise one_of('claim', given, of_paper or list(CLAIMS))


def judged(claims: Iterable[Claim], drawn: bool = False) -> list[tuple[Claim, Verdict, str]]:
    """Each claim, its verdict and, if asked, its section of the page.

    Prints a note of progress every few seconds.
    """
    claims = list(claims)
    printed = time.perf_counter()
    found = {}
    for place, one in parallel.each(functools.partial(_judge, drawn=drawn), claims):
        found[place] = one
        if time.perf_counter() - printed > _QUIET and len(found) < len(claims):
            printed = time.perf_counter()
            note(f'{len(found)} of {len(claims)} claims')
    return [(claim, *found[place]) for place, claim in enumerate(claims)]


def _judge(claim: Claim, drawn: bool) -> tuple[Verdict, str]:
    found = verdict(claim)
    return found, page.section(claim, found) if drawn else ''


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
        'pair': found.pair,
        'text': found.text,
    }


def at_scale(claim: Claim, scale: str | None, option: str) -> Claim:
    """A claim that trains, with its config at this scale; option: what asks for it.

    Raises:
      UserError: it needs no training, or its config is not written.
    """
    if not claim.config:
        raise UserError(f'{claim.id} is computed, it trains nothing: leave {option} out.')
    if not trained.exists(claim.config):
        raise UserError(f'{claim.config}, which would measure {claim.id}, is not written yet.')
    config, _, argument = claim.config.partition(':')
    own, *kind = argument.split('_')
    return claim._replace(config=f'{config}:{"_".join([scale or own, *kind])}')


def run(config: str) -> int:
    """Trains a config; returns the status of experiments.run."""
    words = ['--config', f'configs/{config}']
    print(f'python -m experiments.run {" ".join(words)}', flush=True)
    status = subprocess.call([sys.executable, '-m', 'experiments.run', *words])
    place, default = trained.place_of(config), default_folder(trained.folder_of(config).name)
    if not status and place != str(default):
        note(f'the verdict is of the rows in {place}, not of those in {default}')
    return status


@command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    args = parser().parse_args(argv)
    scale = f'--scale {args.scale}' if args.scale else ''
    asked = '--run' if args.run else scale
    if asked and args.id is None:
        raise UserError(f'{asked} is of one claim: name it, as in A1 {asked}.')
    claims = [find(args.id)] if args.id is not None else list(CLAIMS.values())
    if asked:
        claims = [at_scale(claims[0], args.scale, asked)]
    if args.page is not None:
        return _page(args.page, claims, args.id is not None)
    if args.run and (status := run(claims[0].config)):
        return status
    pairs = [(claim, found) for claim, found, _ in judged(claims)]
    if args.json:
        print(json.dumps([plain(*pair) for pair in pairs], indent=2))
    elif args.id is not None:
        experiment = trained.stored(claims[0].config)
        tables.show(tables.Terminal(HEADINGS[:: len(HEADINGS) - 1], full(*pairs[0], experiment)))
    else:
        counts = collections.Counter(found.verdict for _, found in pairs)
        kinds = ', '.join(f'{counts[kind]} {kind}' for kind in VERDICTS if counts[kind])
        title = f'{len(pairs)} claims: {kinds}'
        tables.show(tables.Terminal(HEADINGS, table(pairs), title))
        tables.show(tables.Terminal(*by_paper(pairs)))
        print('python -m experiments.claims ID shows one in full.', file=sys.stderr)
    return 0


def _page(folder: str, claims: list[Claim], figures: bool) -> int:
    """Writes the page of these claims; figures: and their figures as files, ID-1.png, ID-1.svg, ...

    Raises:
      UserError: the folder has no name or cannot be written.
    """
    if not folder:
        raise UserError("--page '' names no folder: give one such as --page runs/claims.")
    check_writable(Path(folder) / 'claims.html', '--page')
    found = judged(claims, drawn=True)
    pairs = [(claim, verdict) for claim, verdict, _ in found]
    print(page.write(folder, pairs, [section for *_, section in found]))
    for path in page.write_figures(folder, pairs) if figures else ():
        print(path)
    return 0
