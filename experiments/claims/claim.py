"""What a claim is, and what a verdict on it is."""

from collections.abc import Callable
from typing import NamedTuple

SUPPORTED, CONTRADICTED, EQUIVALENT, NOT_RESOLVED, CORRECTED = VERDICTS = (
    'supported',
    'contradicted',
    'equivalent',  # the interval of the effect lies inside the margin
    'not resolved',  # neither; the text says what it would take
    'corrected',  # the notes err: computed on the spot
)


class Verdict(NamedTuple):
    """A verdict on a claim, with the effect that it is based on."""

    verdict: str  # one of VERDICTS
    text: str  # one or two short sentences: what was found, by how much, on what
    effect: float | None = None  # in the unit of the claim; None where it is no number
    low: float | None = None  # of the interval; None for what is computed exactly
    high: float | None = None
    seeds: int = 0  # of each arm, the fewest; 0 for what is computed
    data: str = ''  # which data the numbers come from; '' for what is computed
    covers: str = ''  # what the interval covers: 'seeds', 'seeds and test images'


class Claim(NamedTuple):
    """One sentence of the notes, and how it is judged."""

    id: str  # 'A1', as in the ledger of the notes
    sentence: str  # what the notes claim, as a proposition
    source: str  # paper, section, figure or table
    measure: str  # the effect, in words
    unit: str  # of the effect: 'percentage points', 'times', 'parameters'
    paper: str  # the paper's own value, or 'no value'
    margin: float | None = None  # below which the effect counts as nothing, declared beforehand
    direction: int = 0  # +1: the claim says the effect is above zero (or 1 of a ratio); -1: below
    config: str = ''  # the config that measures it, 'ablate_pooling.py:small'; '' if it is computed
    compute: Callable[[], Verdict] | None = None  # for what is computed
    judge: Callable | None = None  # rows of the experiment -> Verdict, for what is trained
    correction: str = ''  # what the notes have wrong, said beside the sentence
