"""All combinations of some fields are told from other sweeps; effects are those planted."""

import itertools

import numpy as np
import pytest
from rows import experiment, row

from experiments.report import factorial, figures, sentences, statistics
from experiments.report.summary import MANY, finished, summarise

POOLS = {'model.pool': ('average', 'max'), 'model.overlap': (False, True)}


def made(fields, error, seeds=range(3), noise=0.0):
    """An experiment of all combinations; error: of what an arm sets, in percent."""
    rng, rows, arms = np.random.default_rng(3), [], []
    for values in itertools.product(*fields.values()):
        overrides = dict(zip(fields, values, strict=True))
        arms.append(', '.join(map(str, values)))
        for seed in seeds:
            own = (error(*values) + 0.2 * seed + rng.normal(0, noise)) / 100
            rows.append(row(arms[-1], seed, own, overrides=overrides))
    return experiment(rows, arms=arms, seeds=list(seeds))


def of(found):
    return {one.name: one for one in summarise(found)[0]['effects']}


def test_all_combinations_are_a_factorial_and_anything_else_is_not():
    arms = [dict(zip(POOLS, values)) for values in itertools.product(*POOLS.values())]
    assert factorial.factors(arms) == {field: list(values) for field, values in POOLS.items()}
    assert factorial.factors([arm | {'seed': 0} for arm in arms]) == factorial.factors(arms)
    assert factorial.factors(arms[:3]) == {}  # one is missing
    assert factorial.factors([*arms, arms[0]]) == {}  # one is there twice
    assert factorial.factors(arms[:2]) == {}  # one field
    assert factorial.factors([*arms[:3], {'model.pool': 'max'}]) == {}
    assert factorial.factors([]) == {}


def test_effects_come_from_what_the_arms_set():
    error = lambda pool, overlap: 20 - (pool == 'max') - 0.5 * overlap * (pool == 'max')
    found = of(made(POOLS, error, noise=1e-4))
    assert 100 * found['pool max - average'].effect == pytest.approx(-1.25, abs=1e-3)
    assert 100 * found['overlap True - False'].effect == pytest.approx(-0.25, abs=1e-3)
    both = found['pool max - average x overlap True - False']
    assert 100 * both.effect == pytest.approx(-0.5, abs=1e-3)
    assert both.fields == ['pool', 'overlap'] and len(found) == 3


def test_p_values_are_corrected_over_all_effects():
    found = made(POOLS, lambda pool, overlap: 20 - 0.3 * (pool == 'max'), noise=0.2)
    done = {arm: finished(found, arm) for arm in found.plan['arms']}
    rows = [
        {'pool': own['overrides']['model.pool'], 'overlap': own['overrides']['model.overlap']}
        | {'value': own['test/error'], 'seed': seed}
        for seeds in done.values()
        for seed, own in seeds.items()
    ]
    raw = statistics.factorial(rows, {'pool': ('average', 'max'), 'overlap': (False, True)})
    smallest = min(one.p for one in raw)
    assert min(one.p for one in factorial.effects(done, 0.95)) == pytest.approx(3 * smallest)


@pytest.mark.parametrize('lacking', ['an arm', 'seeds'])
def test_there_are_no_effects_before_every_arm_has_a_row_and_one_has_two(lacking):
    found = made(POOLS, lambda *_: 20, seeds=(0,) if lacking == 'seeds' else (0, 1))
    kept = [own for own in found.rows if lacking == 'seeds' or own['arm'] != 'max, False']
    assert summarise(found._replace(rows=kept))[0]['effects'] == []
    assert factorial.lines([], 0.95) == []


def test_sentences_have_all_main_effects_and_the_interactions_that_hold():
    found = made(POOLS, lambda pool, overlap: 20 - 2 * (pool == 'max') * overlap, noise=0.05)
    lines = sentences.sentences(summarise(found))
    place = next(index for index, line in enumerate(lines) if line.startswith('Effects'))
    assert place == 5  # three arms against the first, two more pairs one field apart
    names = [line.partition(':')[0] for line in lines[place + 1 :]]
    both = 'pool max - average x overlap True - False'
    assert names == ['pool max - average', 'overlap True - False', both]
    none = made(POOLS, lambda pool, overlap: 20 - 2 * (pool == 'max'), noise=0.05)
    assert sentences.sentences(summarise(none))[-1] == '1 interaction: p of 0.05 or more'


FOUR = POOLS | {
    'model.activation': ('tanh', 'relu', 'sigmoid'),
    'model.norm': ('none', 'lrn', 'batch'),
}


def test_many_arms_are_told_and_drawn_by_their_effects():
    error = lambda pool, overlap, activation, norm: 20 - (pool == 'max') + 3 * (norm == 'none')
    found = made(FOUR, error, seeds=(0, 1), noise=0.1)
    assert len(found.plan['arms']) == 36 > MANY
    lines = sentences.sentences(summarise(found))
    assert lines[0].startswith('Effects on the test error') and len(lines) < 15
    axes = figures.render(found).axes
    assert len(axes) == 1
    names = [label.get_text() for label in axes[0].get_yticklabels()]
    # 1 + 1 + 3 + 3 main effects; interactions 1, 3, 3, 3, 3, 9
    assert len(names) == 8 + 22 and names[2] == 'pool max - average'
    assert {*names[:2]} == {'norm lrn - none', 'norm batch - none'}
    assert [heading for heading, _ in figures.panels(found)][0] == 'Effects'


def test_a_field_has_its_own_effects_alone():
    error = lambda pool, overlap, activation, norm: 20 - (norm == 'batch') * (pool == 'max')
    found = made(FOUR, error, seeds=(0, 1), noise=0.05)
    lines = factorial.lines(summarise(found)[0]['effects'], 0.95, 'norm')
    assert 'over 30 effects' in lines[0]
    assert [line.partition(':')[0] for line in lines[1:4]] == [
        'norm lrn - none', 'norm batch - none', 'norm batch - lrn',
    ]  # fmt: skip
    assert lines[4].startswith('pool max - average x norm batch - none: -1.0')
