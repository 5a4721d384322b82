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
    assert both.fields == ('pool', 'overlap') and len(found) == 3


def test_p_values_are_corrected_over_all_effects():
    found = made(POOLS, lambda pool, overlap: 20 - 0.8 * (pool == 'max'), noise=0.2)
    done = {arm: finished(found, arm) for arm in found.plan['arms']}
    rows = [
        {'pool': own['overrides']['model.pool'], 'overlap': own['overrides']['model.overlap']}
        | {'value': own['test/error'], 'seed': seed}
        for seeds in done.values()
        for seed, own in seeds.items()
    ]
    raw = statistics.factorial(rows, {'pool': ('average', 'max'), 'overlap': (False, True)})
    smallest = min(one.p for one in raw)
    effects = factorial.effects(done, 0.95)
    assert min(one.p for one in effects) == pytest.approx(3 * smallest)
    # so is an interval of each: it excludes zero where p is below 5 %, and only there
    for one in effects:
        low, high = one.corrected
        assert low < one.low < one.high < high or one.p == pytest.approx(max(o.p for o in effects))
        assert (low > 0 or high < 0) == (one.p < 0.05)
    assert {one.p < 0.05 for one in effects} == {True, False}


def test_of_null_factorials_at_most_five_percent_call_an_effect():
    rng, errors = np.random.default_rng(7), 0
    levels = {'pool': ('average', 'max'), 'overlap': (False, True), 'norm': ('none', 'lrn')}
    for _ in range(200):
        rows = [
            dict(zip(levels, values, strict=True)) | {'value': rng.normal(), 'seed': seed}
            for values in itertools.product(*levels.values())
            for seed in range(5)
        ]
        found = statistics.factorial(rows, levels)
        errors += min(statistics.holm([one.p for one in found])[0]) < 0.05
    assert errors <= 200 * 0.05 + 2 * (200 * 0.05 * 0.95) ** 0.5


@pytest.mark.parametrize('apart', [0, 0.15, 1])
def test_of_null_factorials_whose_arms_differ_by_chance_few_call_an_effect(apart):
    """The noise of seeds is 0.3: of means of 5 seeds 0.13."""
    rng, errors = np.random.default_rng(8), 0
    levels = {name: (False, True) for name in ('pool', 'overlap', 'norm', 'groups')}
    for _ in range(150):
        rows = []
        for values in itertools.product(*levels.values()):
            arm = apart * rng.normal()  # a learning rate that was better or worse by chance
            rows += [
                dict(zip(levels, values)) | {'value': arm + rng.normal(0, 0.3), 'seed': seed}
                for seed in range(5)
            ]
        found = statistics.factorial(rows, levels)
        assert found[0].units == 'arms' and found[0].freedom == 16 - 11
        errors += min(statistics.holm([one.p for one in found])[0]) < 0.05
    assert errors <= 150 * 0.05 + 2 * (150 * 0.05 * 0.95) ** 0.5


def test_a_run_that_is_missing_changes_neither_the_units_nor_the_effects_of_seeds():
    levels = {name: (False, True) for name in ('pool', 'overlap', 'norm', 'groups')}
    rows = [
        dict(zip(levels, values)) | {'value': 3.0 * values[0] + 10 * seed, 'seed': seed}
        for values in itertools.product(*levels.values())
        for seed in range(5)
    ]
    for own, noise in zip(rows, np.random.default_rng(2).normal(0, 1e-3, len(rows))):
        own['value'] += noise
    found = statistics.factorial(rows[1:], levels)  # without it the mean of its arm is 5 higher
    assert found[0].units == 'arms' and found[0].effect == pytest.approx(3, abs=1e-2)
    assert all(abs(one.effect) < 0.01 for one in found[1:])


def test_what_the_intervals_of_effects_are_over_is_said():
    fields = POOLS | {'model.activation': ('tanh', 'relu'), 'model.norm': ('none', 'lrn')}
    for own, words in (
        (fields, '(least squares over the means of arms, the seed as a block)'),
        (POOLS, '(least squares, the seed as a block)'),
    ):
        lines = sentences.sentences(summarise(made(own, lambda *_: 20, noise=0.05)))
        assert words in next(line for line in lines if line.startswith('Effects'))


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
    few = made(POOLS, lambda pool, overlap: 20 - overlap, seeds=(0, 1), noise=0.1)
    assert [heading for heading, _ in figures.panels(few)][-1] == 'Effects'


def test_a_field_has_its_own_effects_alone():
    error = lambda pool, overlap, activation, norm: 20 - (norm == 'batch') * (pool == 'max')
    found = made(FOUR, error, seeds=(0, 1), noise=0.05)
    lines = factorial.lines(summarise(found)[0]['effects'], 0.95, 'norm')
    assert 'over 30 effects' in lines[0]
    assert [line.partition(':')[0] for line in lines[1:4]] == [
        'norm lrn - none', 'norm batch - none', 'norm batch - lrn',
    ]  # fmt: skip
    assert lines[4].startswith('pool max - average x norm batch - none: -1.0')


def test_effects_are_those_of_rows_without_overrides_lists_and_any_name_of_a_field():
    """A row of older code has no overrides; a value may be a list, or hold the words of a name."""
    fields = {'data.seed': ([1, 2], [3]), 'model.value': ('p', 'q x r - s')}
    made_ = made(fields, lambda one, other: 20 + (one == [3]), noise=0.05)
    for own in made_.rows:
        own['overrides']['data.classes'] = ['a', 'b']  # the same in all arms
    del made_.rows[1]['overrides']
    found = of(made_)
    assert 100 * found['data.seed [3] - [1, 2]'].effect == pytest.approx(1, abs=0.1)
    both = found['data.seed [3] - [1, 2] x model.value q x r - s - p']
    assert both.fields == ('data.seed', 'model.value')
    assert [one.fields for one in found.values()].count(('model.value',)) == 1


def seeds_of_arms(*seeds):
    """Four arms, each with some of the seeds: max pooling is better by 1 percentage point."""
    whole = made(POOLS, lambda pool, overlap: 20 - (pool == 'max'), range(6), noise=0.1)
    kept = dict(zip(whole.plan['arms'], seeds, strict=True))
    return whole._replace(rows=[own for own in whole.rows if own['seed'] in kept[own['arm']]])


@pytest.mark.filterwarnings('error')
def test_seeds_of_their_own_give_no_effects_for_they_would_be_those_of_the_seeds():
    assert of(seeds_of_arms((0, 1, 2), (0, 1, 2), (3, 4, 5), (3, 4, 5))) == {}
    assert of(seeds_of_arms((0, 1), (0,), (0,), (0,))) == {}  # 5 rows: 2 seeds, 3 effects
    found = of(seeds_of_arms((0, 1, 2), (1, 2, 3), (2, 3, 4), (0, 4)))['pool max - average']
    assert found.low < -0.01 < found.high < 0


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('gap', [0, 0.3])
def test_rows_without_spread_have_no_effects(gap):
    assert of(made(POOLS, lambda pool, overlap: 20 - gap * (pool == 'max'))) == {}


def test_arms_of_several_experiments_have_no_effects():
    """They may differ in their data, their epochs or anything else."""
    made_ = made(POOLS, lambda *_: 20, noise=0.1)
    assert of(made_)
    origin = {arm: {'name': arm[:3], 'data': 'd', 'images': 'i'} for arm in made_.plan['arms']}
    assert of(made_._replace(plan=made_.plan | {'origin': origin})) == {}


def test_of_hundreds_of_effects_the_largest_are_drawn_and_the_surest_told():
    many = {'model.one': tuple(range(8)), 'model.two': tuple(range(9))}
    found = made(many, lambda one, two: 20 + 5 * (two == 8), seeds=(0, 1), noise=0.1)
    lines = sentences.sentences(summarise(found))
    assert len(of(found)) == 28 + 36 + 28 * 36
    assert len(lines) <= 43 and lines[-1].endswith(' more effects, of no lower p: not shown')
    assert sum(line.startswith('two 8 - ') for line in lines) == 8
    figure = figures.render(found)
    assert len(figure.axes[0].get_yticklabels()) == 40 and figure.get_figheight() < 20
    assert 'the 40 largest of 1,072 effects' in figure.axes[0].get_xlabel()


@pytest.mark.filterwarnings('error')  # of a layout that has no room
@pytest.mark.parametrize('panel', [False, True])
def test_long_names_are_inside_the_figure(panel):
    values = ('the average of all in the window', 'the maximum of all in the window')
    long = {'model.first.pool': values, 'model.second.pool': values}
    if not panel:
        long['model.width'] = tuple(range(8))
    found = made(long, lambda first, *_: 20 - (first == values[1]), seeds=(0, 1), noise=0.1)
    figure = dict(figures.panels(found))['Effects'] if panel else figures.render(found)
    (axes,) = figure.axes
    texts = axes.texts if panel else axes.get_yticklabels()
    boxes = [text.get_window_extent() for text in texts]
    assert min(box.x0 for box in boxes) >= 0
    assert max(box.x1 for box in boxes) <= figure.bbox.width
    ends = sorted((box.y0, box.y1) for box in boxes)
    assert all(one[1] <= two[0] for one, two in itertools.pairwise(ends))
    assert axes.bbox.width > figure.bbox.width / 3


def test_effects_have_no_colour_of_an_arm():
    found = made(POOLS, lambda *_: 20, noise=0.1)
    figure = dict(figures.panels(found))['Effects']
    used = {text.get_color() for text in figure.axes[0].texts}
    assert len(used) == 2 and not used & set(figures.colours_of(found).values())
