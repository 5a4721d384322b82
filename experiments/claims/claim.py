"""What a claim is, and what a verdict on it is."""

from collections.abc import Callable
from typing import Any, NamedTuple

SUPPORTED, CONTRADICTED, EQUIVALENT, NOT_RESOLVED, CORRECTED = VERDICTS = (
    'supported',
    'contradicted',
    'equivalent',  # the interval of the effect lies inside the margin
    'not resolved',  # neither; the text says what it would take
    'corrected',  # the notes err, and the corrected sentence holds
)


class Verdict(NamedTuple):
    """A verdict on a claim, with the effect that it is based on."""

    verdict: str  # one of VERDICTS
    text: str  # what was found, by how much, on what; the comparison that decides comes first
    effect: float | None = None  # in the unit of the claim; None where it is no number
    low: float | None = None  # of the interval; None for what is computed exactly
    high: float | None = None
    seeds: int = 0  # of each arm, the fewest; 0 where nothing was trained
    data: str = ''  # which data the runs are of; '' where nothing was trained
    covers: str = ''  # what the interval covers: 'seeds', 'seeds and test images'
    pair: str = ''  # what was compared, 'resnet-56 minus resnet-20'
    other: bool = False  # whether that is another part of the claim than its measure names first


class Claim(NamedTuple):
    """One sentence of the notes, and how it is judged.

    What can be computed has `compute`; what has to be trained has `config`, and a rule in
    trained.py. Some claims have a computed half, which decides, and a trained one.
    """

    id: str  # 'A1', as in the ledger of the notes
    sentence: str  # what the notes claim, as a proposition
    source: str  # paper, section, figure or table
    measure: str  # the effect, in words
    unit: str  # of the effect: 'percentage points', 'times', 'parameters'
    paper: str  # the paper's own value, or 'no value'
    margin: float | None = None  # below which what was trained counts as nothing, set beforehand
    direction: int = 0  # +1: the claim says the effect is above zero (or 1 of a ratio); -1: below
    config: str = ''  # the config that measures it, 'ablate_pooling.py:small'; '' if none trains
    compute: Callable[[], Verdict] | None = None  # for what is computed
    facts: Callable[[], str] | None = None  # what is computed beside a trained claim, a sentence
    correction: str = ''  # what the notes have wrong, said beside the sentence
    value: float | None = None  # the paper's own, in the unit of the effect, if it has one


def unit_of(number: str, unit: str) -> str:
    """The unit behind a number: 'percentage point' behind '1', but 'times' behind any."""
    return unit.removesuffix('s') if number == '1' and unit != 'times' else unit


def settle(
    sentence: Any, text: str, effect: Any = None, correction: Any = False, data: str = ''
) -> Verdict:
    """The verdict on what is computed.

    sentence: whether the notes' sentence holds; correction: whether the corrected one does. A
    sentence that holds is supported, otherwise corrected, or contradicted if neither holds.
    """
    verdict = SUPPORTED if sentence else CORRECTED if correction else CONTRADICTED
    return Verdict(verdict, text, None if effect is None else float(effect), data=data)
