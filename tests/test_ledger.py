"""The ledger: all claims of the notes, once and in order, each with a way to a verdict."""

import pathlib
import re

import pytest

from experiments.claims import ledger, trained
from experiments.claims.claim import NOT_RESOLVED

ROOT = pathlib.Path(__file__).parent.parent
# In the order of the notes
IDS = """
    L1 L2 L3 L4 L5 L6 L7 L8 L9
    A0 A1 A2a A2b A3a A3b A3c A3d A4a A4b A4c A5a A5b A6 A7 A8
    V1a V1b V1c V2 V3 V4 V5 V6
    G1 G2 G3 G4 G5 G6 G7
    R1 R2 R3 R4 R5 R6 R7
""".split()
CLAIMS = list(ledger.CLAIMS.values())


def test_the_47_claims_are_there_once_and_in_order():
    listed = [claim.id for claims in ledger.SECTIONS.values() for claim in claims]
    assert listed == IDS == list(ledger.CLAIMS)
    assert len(set(listed)) == 47


@pytest.mark.parametrize('claim', CLAIMS, ids=lambda claim: claim.id)
def test_a_claim_says_what_it_is_and_how_it_is_judged(claim):
    for words in (claim.sentence, claim.source, claim.measure, claim.unit, claim.paper):
        assert words.strip() and '  ' not in words and words == words.strip()
    assert claim.sentence.endswith('.')
    assert claim.compute or claim.config, 'nothing leads to a verdict'
    assert claim.facts is None or claim.compute is None


def test_the_value_of_a_paper_is_the_one_that_its_words_say():
    marked = [claim for claim in CLAIMS if claim.value is not None]
    assert [claim.id for claim in marked] == 'L1 L9 A1 A3d V1c V6 G7 R2 R5'.split()
    for claim in marked:
        first = re.findall(r'[\d.]+', claim.paper.rsplit('= ', 1)[-1])[0]
        assert float(first) == claim.value and claim.config


@pytest.mark.parametrize('claim', CLAIMS, ids=lambda claim: claim.id)
def test_a_trained_claim_has_a_margin_and_a_direction_of_its_unit(claim):
    if claim.compute:
        assert claim.direction == 0  # a margin is of the trained half, in points
        assert claim.margin is None or claim.id in ('L3', 'L5', 'L6', 'A6', 'G2')
        return
    assert claim.unit in (ledger.POINTS, 'times')
    # a ratio is nothing below its margin above 1
    assert claim.margin > (1 if claim.unit == 'times' else 0)
    assert claim.direction in (-1, 0, 1)


@pytest.mark.parametrize('claim', CLAIMS, ids=lambda claim: claim.id)
def test_a_claim_without_rows_says_what_it_takes(claim):
    if not claim.config:
        return
    name, _, argument = claim.config.partition(':')
    assert pathlib.Path(name).suffix == '.py' and argument.partition('_')[0] in (
        '',
        'small',
        'full',
    )
    computed = (lambda: ledger.Verdict('supported', 'Yes.')) if claim.compute else None
    quick = claim._replace(compute=computed, facts=None)
    text = ledger.verdict(quick).text
    if not (ROOT / 'configs' / name).exists():
        assert text.endswith(f'Not measured: {claim.config} is not written yet.')
    elif claim.id not in trained.RULES or not trained.stored(claim.config):
        words = f'Not run yet: python -m experiments.claims {claim.id} --run ({claim.config}), '
        assert words in text and re.search(r', \d+ runs of \d+ (epochs|steps)\.$', text)


def test_what_has_no_rows_yet_is_not_resolved(monkeypatch):
    monkeypatch.setattr(trained, 'stored', lambda config: None)
    claim = ledger.CLAIMS['A1']
    found = ledger.verdict(claim)
    assert found == ledger.Verdict(NOT_RESOLVED, found.text)
    assert found.text.startswith('Not run yet: ablate_activation.py:small_paper, 4 arms')
    assert found.text.endswith(
        'Not run yet: python -m experiments.claims A1 --run (ablate_activation.py:small), '
        '4 arms with 5 seeds each, 32 runs of 20 epochs.'
    )
    claim = claim._replace(facts=lambda: 'Both have 3 layers.')
    assert ledger.verdict(claim).text.endswith(' epochs. Both have 3 layers.')


def test_a_computed_half_decides_and_the_trained_one_is_named():
    claim = ledger.CLAIMS['A6']._replace(
        compute=lambda: ledger.Verdict('supported', 'Yes.', 2.0), config='ablate_more.py'
    )
    found = ledger.verdict(claim)
    assert (found.verdict, found.effect) == ('supported', 2.0)
    assert found.text == 'Yes. Not measured: ablate_more.py is not written yet.'


def test_every_error_of_the_notes_has_its_correction():
    wrong = 'L3 L5 L6 A1 A3c A4b A5b A7 A8 V1b V3 V4 G2 G5'.split()
    assert [claim.id for claim in CLAIMS if claim.correction] == wrong
