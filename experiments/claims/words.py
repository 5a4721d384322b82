"""Claims and verdicts as the lines of tables, for the terminal, the page and Markdown."""

from experiments.claims.claim import VERDICTS, Claim, Verdict
from experiments.claims.ledger import SECTIONS

HEADINGS = ('claim', 'verdict', 'effect', 'the notes say')


def effect(claim: Claim, found: Verdict) -> str:
    """'60,000 parameters', '+0.43 [+0.2, +0.66] percentage points'; '' where there is none.

    A ratio of times lacks a bound where too few runs of an arm got there.
    """
    times = claim.unit == 'times'
    if found.effect is None:
        return f'at least {_number(found.low)} {claim.unit}' if found.low else ''
    if times and not found.effect:
        return f'at most {_number(found.high)} {claim.unit}' if found.high else ''
    interval = ''
    if found.low is not None:
        high = 'no upper bound' if found.high is None else _number(found.high)
        low = 'no lower bound' if times and not found.low else _number(found.low)
        interval = f' [{low}, {high}]'
    unit = claim.unit.removesuffix('s') if found.effect == 1 and not times else claim.unit
    return f'{_number(found.effect)}{interval} {unit}'


def _number(value: float) -> str:
    return f'{value:,.0f}' if value == round(value) or abs(value) >= 1000 else f'{value:.3g}'


def table(pairs: list[tuple[Claim, Verdict]]) -> list[tuple[str, ...]]:
    """The lines of the table of all claims, in the order of HEADINGS."""
    return [(one.id, found.verdict, effect(one, found), one.sentence) for one, found in pairs]


def by_paper(pairs: list[tuple[Claim, Verdict]]) -> tuple[list[str], list[list[str]]]:
    """A table of one screen: for each paper, the claims of every verdict that was given."""
    found = {claim.id: one.verdict for claim, one in pairs}
    kinds = [kind for kind in VERDICTS if kind in found.values()]
    lines = [
        [paper, *(' '.join(c.id for c in claims if found.get(c.id) == kind) for kind in kinds)]
        for paper, claims in SECTIONS.items()
    ]
    return ['paper', *kinds], lines


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
