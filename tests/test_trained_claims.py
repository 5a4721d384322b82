"""Claims that rows judge: made-up experiments with a known answer, and what is stored."""

import itertools

import numpy as np
import pytest

from experiments.claims import ledger, page, trained
from experiments.claims import words as texts
from experiments.claims.words import effect
from experiments.workdir import Experiment


def experiment(arms, comparisons=(), **more):
    """arms: {label: (test error in percent, other columns)}; five seeds with a little noise."""
    rows = []
    for arm, (error, columns) in arms.items():
        for seed, noise in enumerate((-0.02, 0.03, 0.0, -0.03, 0.02)):
            row = dict(arm=arm, phase='final', seed=seed, status='done', learning_rate=0.1)
            row['point'] = f'{len(rows):012x}'
            row |= {'test/error': (error + noise) / 100, 'train/error': (error / 2 + noise) / 100}
            rows.append(row | columns)
    plan = dict(arms=list(arms), seeds=list(range(5)), level=0.95, rates=[0.1], dataset='mnist')
    plan['dataset_note'] = 'mnist, the first 10 images'
    return Experiment(plan | {'comparisons': list(comparisons)} | more, rows, {})


def judged(name, made, monkeypatch):
    monkeypatch.setattr(trained, 'stored', lambda config: None)
    return trained.RULES[name](ledger.CLAIMS[name], made)


def shifts(error):
    return {'measures': {'shift_errors': {'6': {'0': 0.01, '2': error}}}}


def test_a_convolutional_net_must_win_against_both_and_under_shifts(monkeypatch):
    arms = {'lenet5': (1.0, shifts(0.05)), 'mlp_300': (3.0, shifts(0.2))}
    arms['mlp_300_100'] = (2.5, shifts(0.2))
    found = judged('L1', experiment(arms), monkeypatch)
    assert found.verdict == 'supported' and found.effect == pytest.approx(2.0)
    assert 'shifted by 2 pixels: mlp_300 minus lenet5: +15.00' in found.text
    arms['lenet5'] = (1.0, shifts(0.3))
    assert judged('L1', experiment(arms), monkeypatch).verdict == 'contradicted'
    # against the second net alone it does not win
    arms |= {'lenet5': (1.0, shifts(0.05)), 'mlp_300_100': (0.5, shifts(0.2))}
    found = judged('L1', experiment(arms), monkeypatch)
    assert found.verdict == 'contradicted' and found.effect == pytest.approx(-0.5)
    arms['mlp_300_100'] = (1.0, shifts(0.2))
    assert judged('L1', experiment(arms), monkeypatch).verdict == 'equivalent'
    found = judged('L1', wide(experiment(arms), 'lenet5'), monkeypatch)
    assert found.verdict == 'not resolved'
    arms['mlp_300_100'] = (2.5, shifts(0.2))
    mixed = {'lenet5': (3.3, {}), 'mlp_300': (3.0, {})}
    stored = {'lenet_shift.py:small': arms, 'lenet_shift.py:small_permuted': mixed}
    monkeypatch.setattr(trained, 'stored', lambda config: experiment(stored[config]))
    found = ledger.verdict(ledger.CLAIMS['L1'])
    assert 'With permuted pixels: mlp_300 minus lenet5: -0.30' in found.text


def outcome(name, arms, monkeypatch, trouble=None):
    """The verdict on a claim; trouble: (arm, change of its rows), None: the last one is missing."""
    made = experiment(arms)
    if trouble:
        arm, change = trouble
        own = [row for row in made.rows if row['arm'] == arm]
        if change is None:
            made.rows.remove(own[-1])
        else:
            own[-1].update(change)
    return judged(name, made, monkeypatch)


DIVERGED = {'status': 'diverged'}


def test_a_run_that_is_missing_or_diverged_leaves_a_claim_open(monkeypatch):
    arms = {'trainable': (1.5, {}), 'average': (2.5, {}), 'max': (1.5, {})}
    for change, words in (
        (None, '4 of 5 runs of average have finished'),
        (DIVERGED, '1 of 5 runs of average diverged'),
    ):
        found = outcome('L5', arms, monkeypatch, ('average', change))
        assert found.verdict == 'not resolved' and words in found.text
    # what is said beside the claim does not decide
    assert outcome('L5', arms, monkeypatch, ('max', None)).verdict == 'contradicted'


def wide(made, arm):
    """The experiment with a noise of the seeds of this arm that no margin is above."""
    for row in made.rows:
        if row['arm'] == arm and row['phase'] == 'final':
            row['test/error'] += (row['seed'] - 2) / 100
    return made


@pytest.mark.parametrize(
    'tanh, verdict', [(1.5, 'equivalent'), (2.5, 'contradicted'), (0.7, 'contradicted')]
)
def test_plain_tanh_is_judged_against_scaled_tanh_and_the_rest_is_said(tanh, verdict, monkeypatch):
    arms = {'scaled_tanh': (1.5, {}), 'tanh': (tanh, {}), 'relu': (3.5, {})}
    arms |= {f'{arm}, linear output': (1.4, {}) for arm in arms}
    found = outcome('L3', arms, monkeypatch)
    assert (found.verdict, found.effect) == (verdict, pytest.approx(tanh - 1.5))
    assert 'relu minus scaled_tanh: +2.00' in found.text
    assert 'tanh, linear output minus scaled_tanh, linear output: +0.00' in found.text
    assert 'scaled_tanh, linear output minus scaled_tanh: -0.10' in found.text
    found = judged('L3', wide(experiment(arms), 'tanh'), monkeypatch)
    assert found.verdict == 'not resolved' or tanh == 2.5 and found.low > 0


@pytest.mark.parametrize(
    'average, verdict', [(1.5, 'equivalent'), (2.5, 'contradicted'), (0.5, 'contradicted')]
)
def test_subsampling_is_judged_by_plain_average_pooling(average, verdict, monkeypatch):
    arms = {'trainable': (1.5, {}), 'average': (average, {}), 'max': (1.0, {})}
    found = outcome('L5', arms, monkeypatch)
    assert (found.verdict, found.effect) == (verdict, pytest.approx(average - 1.5))
    assert 'max minus trainable: -0.50' in found.text
    made = wide(experiment(arms), 'average')
    assert judged('L5', made, monkeypatch).verdict == 'not resolved'


def alike(value):
    return {'measures': {'channel_correlations': {'4': {'C1': 0.9, 'C3': value}}}}


@pytest.mark.parametrize(
    'table, verdict', [(2.0, 'equivalent'), (1.0, 'contradicted'), (3.0, 'contradicted')]
)
def test_the_links_of_table_i_are_judged_by_the_error_and_the_maps_said(
    table, verdict, monkeypatch
):
    arms = {'all links': (2.0, alike(0.3)), 'links of Table I': (table, alike(0.2))}
    found = outcome('L6', arms, monkeypatch)
    assert (found.verdict, found.effect) == (verdict, pytest.approx(table - 2.0))
    assert 'two maps of C3: links of Table I minus all links: -0.10 of correlation' in found.text
    made = wide(experiment(arms), 'all links')
    assert judged('L6', made, monkeypatch).verdict == 'not resolved'


def sizes(few, some, many, distorted=0.5):
    errors = {'15,000 images': few, '30,000 images': some, '54,000 images': many}
    return {name: (error, {}) for name, error in errors.items()} | {
        '54,000 images, distorted': (distorted, {})
    }


@pytest.mark.parametrize(
    'errors, verdict',
    [
        ((1.6, 1.2, 0.9), 'supported'),
        ((0.9, 0.9, 0.9), 'equivalent'),
        ((1, 1.1, 1.6), 'contradicted'),
        ((1.6, 2.9, 0.9), 'contradicted'),  # from 15,000 to 30,000 images it rises
        ((1.6, 1.2, 0.9, 0.9), 'equivalent'),  # distortions change nothing
    ],
)
def test_the_error_falls_with_the_number_of_images(errors, verdict, monkeypatch):
    found = judged('L9', experiment(sizes(*errors)), monkeypatch)
    assert found.verdict == verdict
    assert f'54,000 images: {errors[2]:.2f} % test error, [' in found.text


def curve(steps):
    """Falls by the thresholds of A1 at these multiples of `steps`."""
    points = zip((0.5, 0.4, 0.3, 0.25, 0.1), (1, 2, 3, 4, 8))
    return {'train/curve': [[steps * times, error] for error, times in points], 'epochs': 5}


@pytest.mark.parametrize(
    'tanh, verdict', [(60, 'supported'), (11, 'equivalent'), (4, 'contradicted')]
)
def test_the_speed_of_relu_is_a_ratio_of_steps_at_every_threshold(tanh, verdict, monkeypatch):
    made = experiment({'relu': (20, curve(10)), 'tanh': (20, curve(tanh))})
    found = judged('A1', made, monkeypatch)
    assert found.verdict == verdict and found.effect == pytest.approx(tanh / 10)
    for threshold in (50, 40, 30, 25, 10):
        assert f'To {threshold} % training error: tanh takes' in found.text


NORMS = ('norm none', 'norm lrn', 'norm batch', 'norm batch+lrn')


def norms(errors, steps=(10, 10, 10, 10), trials=()):
    made = experiment(
        {arm: (error, curve(own)) for arm, error, own in zip(NORMS, errors, steps, strict=True)}
    )
    for arm, rate, error in trials:
        row = dict(arm=arm, phase='select', seed=1000, status='done', learning_rate=rate)
        row |= {'validation/error': error} if error else {'status': 'diverged'}
        made.rows.append(row)
    return made


def never(made, arm):
    """The experiment with runs of this arm that never get below 50 % training error."""
    for row in made.rows:
        if row['arm'] == arm:
            row['train/curve'] = row['train/curve'][:1]
    return made


@pytest.mark.parametrize(
    'none, verdict', [(20, 'supported'), (11, 'equivalent'), (5, 'contradicted')]
)
def test_the_speed_of_lrn_is_a_ratio_of_steps_without_and_with_it(none, verdict, monkeypatch):
    made = norms((25, 24, 20, 20), (none, 10, 6, 6))
    found = judged('A4b', made, monkeypatch)
    assert found.verdict == verdict and found.effect == pytest.approx(none / 10)
    assert 'With batch norm, to 40 %: norm batch takes 1.00 times as long' in found.text
    for row in made.rows:  # the first to 40 % is not the first to 30 %
        if row['arm'] == 'norm none':
            row['train/curve'][2][0] *= 9
    found = judged('A4b', made, monkeypatch)
    assert found.verdict == verdict and found.effect == pytest.approx(none / 10)
    assert 'the paper claims: norm none minus norm lrn: +1.00' in found.text


def test_what_never_gets_to_40_percent_counts_as_longer(monkeypatch):
    found = judged('A4b', never(norms((25, 24, 20, 20)), 'norm none'), monkeypatch)
    assert found.verdict == 'supported' and '5 of 5 runs of norm none never got' in found.text
    made = never(never(norms((25, 24, 20, 20)), 'norm none'), 'norm lrn')
    found = judged('A4b', made, monkeypatch)
    assert found.verdict == 'not resolved' and found.effect is None
    made = norms((25, 24, 20, 20))
    made.rows.remove(made.rows[0])
    found = judged('A4b', made, monkeypatch)
    assert found.verdict == 'not resolved' and '4 of 5 runs of norm none' in found.text


@pytest.mark.parametrize(
    'lrn, verdict', [(24, 'supported'), (20.1, 'equivalent'), (18, 'contradicted')]
)
def test_batch_norm_is_judged_against_lrn_and_the_rest_is_said(lrn, verdict, monkeypatch):
    trials = [('norm lrn', 0.03, 0.26), ('norm lrn', 0.1, 0.24), ('norm lrn', 0.3, None)]
    trials += [('norm batch', rate, 0.2) for rate in (0.03, 0.1, 0.3)]
    made = norms((25, lrn, 20, 20), (20, 10, 6, 6), trials)
    found = judged('A4c', made, monkeypatch)
    assert found.verdict == verdict and found.effect == pytest.approx(lrn - 20)
    assert 'norm none minus norm batch: +5.00' in found.text
    assert 'norm batch+lrn minus norm batch: +0.00' in found.text
    assert 'To 40 % training error: norm lrn takes 1.67 times as long' in found.text
    assert (
        'norm lrn: learning rates within 2 points of the lowest validation error: 0.03 to 0.1.'
        in found.text
    )
    assert (
        'norm batch: learning rates within 2 points of the lowest validation error: 0.03 to 0.3.'
        in found.text
    )
    if verdict == 'equivalent':
        assert judged('A4c', wide(made, 'norm lrn'), monkeypatch).verdict == 'not resolved'


def test_the_mnist_net_has_its_say_on_batch_norm_whether_or_not_lrn_was_trained(monkeypatch):
    mnist = experiment({'norm none': (2.5, curve(10)), 'norm batch': (2.0, curve(10))})
    lrn = norms((25, 24, 20, 20))
    stored = {'batchnorm_mnist.py:full': mnist, 'ablate_normalization.py:small': lrn}
    monkeypatch.setattr(trained, 'stored', stored.get)
    words = 'MNIST net, which never had LRN: norm none minus norm batch: +0.50'
    found = ledger.verdict(ledger.CLAIMS['A4c'])
    assert found.verdict == 'supported' and words in found.text
    del stored['ablate_normalization.py:small']
    found = ledger.verdict(ledger.CLAIMS['A4c'])
    assert found.verdict == 'not resolved' and found.effect is None
    assert words in found.text and 'Not run yet' in found.text


@pytest.mark.parametrize('claim', ['A4b', 'A4c'])
def test_standardised_images_have_a_say_on_norms_and_no_verdict(claim, monkeypatch):
    made = norms((25, 24, 20, 20))
    for row in made.rows:
        row |= {'epochs': 4, 'steps': 80}
    monkeypatch.setattr(trained, 'stored', {trained.STANDARDISED: made}.get)
    found = ledger.verdict(ledger.CLAIMS[claim])
    assert found.verdict == 'not resolved' and found.text.startswith('On standardised images')
    (picture,) = page.pictures(ledger.CLAIMS[claim], found, None)
    assert ' On standardised images.' in picture[0]
    assert '20 runs in experiments/stored/ablate_normalization-small_standardised' in page.html(
        [(ledger.CLAIMS[claim], found)]
    )


def test_the_papers_initialisation_has_a_say_on_the_speed_of_relu_and_no_verdict(monkeypatch):
    arms = {'relu': 10, 'tanh': 60, 'scaled_tanh': 20, 'sigmoid': 80}
    made = experiment({arm: (20, curve(steps) | {'steps': 900}) for arm, steps in arms.items()})
    monkeypatch.setattr(trained, 'stored', {'ablate_activation.py:small_paper': made}.get)
    found = ledger.verdict(ledger.CLAIMS['A1'])
    assert found.verdict == 'not resolved' and found.effect is None
    assert found.text.startswith("With cuda-convnet's initialisation, on pixels from 0 to 255")
    assert 'To 25 % training error: tanh takes 6.00 times as long as relu' in found.text
    (picture,) = page.pictures(ledger.CLAIMS['A1'], found, None)
    assert " With cuda-convnet's initialisation." in picture[0]


def test_a_factorial_has_its_say_on_each_of_its_fields(monkeypatch):
    rng = np.random.default_rng(5)
    axes = {
        'activation': ('tanh', 'relu'),
        'pool': ('average', 'max'),
        'overlap': (False, True),
        'norm': ('none', 'lrn'),
    }
    made = {}
    for own in itertools.product(*axes.values()):
        error = 20 - 2 * (own[0] == 'relu') - (own[1] == 'max')
        made[str(own)] = (error, {'overrides': {f'model.{k}': v for k, v in zip(axes, own)}})
    made = experiment(made)
    for one in made.rows:
        one['test/error'] += rng.normal(0, 1e-4)
    monkeypatch.setattr(trained, 'stored', {'ablate_all.py:small': made}.get)
    for claim, words in {
        'A1': 'activation relu - tanh: -2.0',
        'A3b': 'pool max - average: -1.0',
        'A3d': 'overlap True - False: ',
        'A4c': 'norm lrn - none: ',
    }.items():
        found = ledger.verdict(ledger.CLAIMS[claim])
        assert words in found.text and found.verdict == 'not resolved', found.text
        (picture,) = page.pictures(ledger.CLAIMS[claim], found, None)
        assert picture[0].startswith(f'Effects of {words.split()[0]}, over')
    # arms of the sigmoid that learn nothing hide no effect of the others
    rows = list(made.rows)
    for row in made.rows:
        if row['overrides']['model.activation'] == 'relu':
            more = {'test/error': 0.9 if row['seed'] else 0.3, 'point': f'{len(rows):012x}'}
            more['overrides'] = {**row['overrides'], 'model.activation': 'sigmoid'}
            rows.append(row | more | {'arm': row['arm'].replace('relu', 'sigmoid')})
    arms = list(dict.fromkeys(row['arm'] for row in rows))
    made = made._replace(rows=rows, plan=made.plan | {'arms': arms})
    monkeypatch.setattr(trained, 'stored', {'ablate_all.py:small': made}.get)
    found = ledger.verdict(ledger.CLAIMS['A3b'])
    assert 'with tanh and ReLU: ' in found.text and 'pool max - average: -1.0' in found.text
    (picture,) = page.pictures(ledger.CLAIMS['A3b'], found, None)
    assert ', without the sigmoid.' in picture[0]
    # an arm has no row, so that there are no effects
    lacking = made._replace(rows=made.rows[5:])
    monkeypatch.setattr(trained, 'stored', {'ablate_all.py:small': lacking}.get)
    for claim in ('A1', 'A3b', 'A3d', 'A4c'):
        assert 'In LeNet-5' not in ledger.verdict(ledger.CLAIMS[claim]).text


def poolings(overlap, maximum):
    found = {}
    for pool, over in itertools.product(('average', 'max'), (False, True)):
        error = 25 - maximum * (pool == 'max') - overlap * over
        found[f'{"" if over else "non-"}overlapping {pool} pooling'] = (error, {})
    return experiment(found)


@pytest.mark.parametrize(
    'overlap, verdict', [(0.6, 'supported'), (0.0, 'equivalent'), (-0.6, 'contradicted')]
)
def test_overlap_is_judged_in_max_pooling(overlap, verdict, monkeypatch):
    found = judged('A3d', poolings(overlap, 1), monkeypatch)
    assert found.verdict == verdict and found.effect == pytest.approx(overlap)
    assert judged('A3b', poolings(overlap, 1), monkeypatch).verdict == 'supported'
    assert judged('A3b', poolings(overlap, -1), monkeypatch).verdict == 'contradicted'
    one = poolings(overlap, 1)  # better with overlap, worse without
    for row in one.rows:
        if row['arm'] == 'non-overlapping max pooling':
            row['test/error'] += 0.05
    assert judged('A3b', one, monkeypatch).verdict == 'contradicted'


@pytest.mark.parametrize(
    'gaps, verdict', [((16, 6), 'supported'), ((6, 6), 'equivalent'), ((6, 16), 'contradicted')]
)
def test_augmentation_is_judged_by_the_gap_of_test_and_training_error(gaps, verdict, monkeypatch):
    none, both = ({'train/error': (20 - gap) / 100} for gap in gaps)
    arms = {'none': (20, none), 'flip and crop': (20, both), 'flip': (20, {}), 'crop': (20, {})}
    arms['flip, crop and colour'] = (19, {})
    found = judged('A5a', experiment(arms), monkeypatch)
    assert found.verdict == verdict and found.effect == pytest.approx(gaps[0] - gaps[1])
    assert found.text.startswith('Gap of test and training error: none minus flip and crop')
    assert 'flip and crop minus flip, crop and colour: +1.00' in found.text


def deviations(value):
    layers = {'conv1': 9.0, 'conv2_1/conv1': value, 'conv2_1/conv2': 3 * value, 'fc': 9.0}
    return {'measures': {'response_deviations': {'0': {}, '20': layers}}}


def test_depth_is_judged_by_training_error_for_plain_and_test_error_for_residual(monkeypatch):
    errors = {'plain-20': 30, 'plain-56': 40, 'resnet-20': 28, 'resnet-56': 25}
    arms = {
        name: (error, deviations((1 + ('plain' in name)) / (1 + ('56' in name))))
        for name, error in errors.items()
    }
    made = experiment(arms)
    found = judged('R1', made, monkeypatch)
    assert found.verdict == 'supported' and found.effect == pytest.approx(5)  # half of the test's
    assert found.text.startswith('Training error: plain-56 minus plain-20: +5.00')
    found = judged('R2', made, monkeypatch)
    assert found.verdict == 'supported' and found.effect == pytest.approx(3)
    assert found.text.startswith('Test error: resnet-20 minus resnet-56: +3.00')
    found = judged('R4', made, monkeypatch)
    assert found.verdict == 'supported' and found.effect == pytest.approx(2)


@pytest.mark.parametrize(
    'name, arm, value, verdict',
    [
        ('R1', 'plain-56', 30.2, 'equivalent'),
        ('R1', 'plain-56', 26.0, 'contradicted'),
        ('R2', 'resnet-56', 27.9, 'equivalent'),
        ('R2', 'resnet-56', 31.0, 'contradicted'),
        ('R4', 'plain-20', 0.52, 'equivalent'),
        ('R4', 'plain-20', 0.3, 'contradicted'),
    ],
)
def test_every_outcome_of_depth(name, arm, value, verdict, monkeypatch):
    errors = {'plain-20': 30, 'plain-56': 40, 'resnet-20': 28, 'resnet-56': 25}
    arms = {arm: (error, deviations(0.5)) for arm, error in errors.items()}
    if name == 'R4':
        deep = {'plain-56': 0.5, 'resnet-56': 0.25}
        arms |= {net: (30, deviations(own)) for net, own in deep.items()}
    arms[arm] = (30, deviations(value)) if name == 'R4' else (value, deviations(0.5))
    assert judged(name, experiment(arms), monkeypatch).verdict == verdict
    for trouble in (None, DIVERGED):
        found = outcome(name, arms, monkeypatch, (arm, trouble))
        assert found.verdict == 'not resolved'
    if name == 'R2':
        made = wide(experiment(arms | {arm: (28, {})}), arm)
        assert judged(name, made, monkeypatch).verdict == 'not resolved'


def test_the_worst_shortcut_must_beat_none(monkeypatch):
    errors = {'none': 30, 'A': 27, 'B': 26.9, 'C': 26.8}
    made = experiment({f'shortcut {kind}': (error, {}) for kind, error in errors.items()})
    found = judged('R5', made, monkeypatch)
    assert found.verdict == 'supported' and found.effect == pytest.approx(3)
    assert 'shortcut C minus shortcut A: -0.20' in found.text
    # C alone is far better than none: the three do not differ little
    one = experiment({f'shortcut {kind}': (error, {}) for kind, error in errors.items()})
    for row in one.rows:
        row['test/error'] -= 0.02 * (row['arm'] == 'shortcut C')
    assert judged('R5', one, monkeypatch).verdict == 'contradicted'
    for worst, verdict in ((30.1, 'equivalent'), (33, 'contradicted')):
        arms = {f'shortcut {kind}': (worst, {}) for kind in 'ABC'}
        arms['shortcut none'] = (30, {})
        assert outcome('R5', arms, monkeypatch).verdict == verdict
        for trouble in (None, DIVERGED):
            found = outcome('R5', arms, monkeypatch, ('shortcut none', trouble))
            assert found.verdict == 'not resolved'
    arms |= {f'shortcut {kind}': (30.1, {}) for kind in 'ABC'}
    made = wide(experiment(arms), 'shortcut none')
    assert judged('R5', made, monkeypatch).verdict == 'not resolved'


def test_a_comparison_declared_the_other_way_round_is_of_the_same_family(monkeypatch):
    pairs = [('non-overlapping max pooling', 'overlapping max pooling')]
    pairs += [('overlapping average pooling', 'overlapping max pooling')] * 1
    made = poolings(0.6, 1)
    alone = judged('A3d', made, monkeypatch)
    made.plan['comparisons'] = pairs
    family = judged('A3d', made, monkeypatch)
    assert family.effect == alone.effect and family.high >= alone.high


# Claims that one difference of two arms decides: the arms, a first, and those said beside it.
# 'b minus a' is what the claim says is above zero.
DIFFERENCES = {
    'V1c': ('3x3 pairs', '5x5', ['5x5, equal parameters']),
    'V2': ('3x3 pairs', '3x3 pairs, linear', ['5x5', 'column C', 'column D']),
    'V6': (
        'VGG-19, batch norm',
        'VGG-11, batch norm',
        ['VGG-16, batch norm', 'VGG-19, no norm', 'VGG-11, no norm'],
    ),
    'G6': ('auxiliary classifiers', 'no auxiliary classifiers', []),
    'G7': ('global average', 'fully connected', []),
}


@pytest.mark.parametrize(
    'change, verdict', [(2.0, 'supported'), (0.1, 'equivalent'), (-2.0, 'contradicted')]
)
@pytest.mark.parametrize('name', DIFFERENCES)
def test_the_difference_of_two_arms_decides_a_claim(name, change, verdict, monkeypatch):
    a, b, others = DIFFERENCES[name]
    arms = {a: (30, {'parameters': 10}), b: (30 + change, {'parameters': 2000})}
    arms |= {other: (40, {}) for other in others}
    found = outcome(name, arms, monkeypatch)
    assert (found.verdict, found.effect) == (verdict, pytest.approx(change))
    for other in others:
        assert other in found.text
    if verdict == 'equivalent':
        assert judged(name, wide(experiment(arms), a), monkeypatch).verdict == 'not resolved'
        for trouble in (None, DIVERGED):
            assert outcome(name, arms, monkeypatch, (b, trouble)).verdict == 'not resolved'


def test_the_training_errors_of_vgg_are_said_beside_the_test_errors(monkeypatch):
    a, b, others = DIFFERENCES['V6']
    arms = {a: (30, {'train/error': 0.2}), b: (25, {'train/error': 0.08})}
    found = outcome('V6', arms | {other: (40, {}) for other in others}, monkeypatch)
    assert found.text.startswith(f'Test error: {b} minus {a}: -5.00')
    assert f'Training error: {b} minus {a}: -12.00' in found.text


def test_the_sizes_of_the_trained_nets_of_vgg_are_said(monkeypatch):
    a, b, others = DIFFERENCES['V6']
    sizes = {b: 1_000, a: 20_000} | {other: 300 for other in others}
    arms = {arm: (30, {'parameters': size}) for arm, size in sizes.items()}
    said = outcome('V6', arms, monkeypatch).text
    assert all(f'{arm} {size:,}' in said for arm, size in sizes.items())


@pytest.mark.parametrize(
    'name, arms',
    [
        ('R1', ('plain-20', 'plain-56')),
        ('R2', ('resnet-20', 'resnet-56')),
        ('R5', ('shortcut none', 'shortcut A', 'shortcut B', 'shortcut C')),
    ],
)
def test_the_sizes_of_the_trained_nets_of_he_are_said(name, arms, monkeypatch):
    sizes = {arm: 1_000 + place for place, arm in enumerate(arms)}
    rows = {arm: (30, {'parameters': n, 'train/error': 0.2}) for arm, n in sizes.items()}
    said = outcome(name, rows, monkeypatch).text
    assert all(f'{arm} {size:,}' in said for arm, size in sizes.items())


def test_the_sizes_of_the_two_heads_are_said(monkeypatch):
    arms = {
        'global average': (30, {'parameters': 10}),
        'fully connected': (31, {'parameters': 2000}),
    }
    words = 'Parameters: global average 10; fully connected 2,000.'
    assert outcome('G7', arms, monkeypatch).text.endswith(words)


@pytest.mark.parametrize(
    'gaps, verdict', [((30, 20), 'supported'), ((20, 20), 'equivalent'), ((20, 30), 'contradicted')]
)
@pytest.mark.parametrize('name', ['A2a', 'V5'])
def test_dropout_is_judged_by_the_gap_and_its_steps_are_said(name, gaps, verdict, monkeypatch):
    none, half = ({'train/error': (40 - gap) / 100} for gap in gaps)
    arms = {'no dropout': (40, none | curve(10)), 'dropout 0.5': (40, half | curve(20))}
    found = outcome(name, arms, monkeypatch)
    assert (found.verdict, found.effect) == (verdict, pytest.approx(gaps[0] - gaps[1]))
    assert found.text.startswith('Gap of test and training error: no dropout minus dropout 0.5')
    assert 'dropped: dropout 0.5 takes 2.00 times as long as no dropout' in found.text
    arms['dropout 0.5'] = (40, half | {'train/curve': [[20, 0.9], [40, 0.8]], 'epochs': 2})
    assert '5 of 5 runs of dropout 0.5 never got there' in outcome(name, arms, monkeypatch).text
    for trouble in (None, DIVERGED):
        found = outcome(name, arms, monkeypatch, ('no dropout', trouble))
        assert found.verdict == 'not resolved'


@pytest.mark.parametrize(
    'cold, verdict', [(20, 'supported'), (11, 'equivalent'), (5, 'contradicted')]
)
def test_the_warm_up_is_judged_by_the_steps_to_80_percent(cold, verdict, monkeypatch):
    line = lambda steps: {'train/curve': [[steps, 0.85], [2 * steps, 0.79]], 'epochs': 2}
    arms = {'no warm-up': (50, line(cold)), 'warm-up': (50, line(10))}
    found = outcome('R7', arms, monkeypatch)
    assert (found.verdict, found.effect) == (verdict, pytest.approx(cold / 10))
    assert 'calls similar: no warm-up minus warm-up: +0.00' in found.text
    arms['no warm-up'] = (90, {'train/curve': [[10, 0.9], [20, 0.9]], 'epochs': 2})
    found = outcome('R7', arms, monkeypatch)
    assert found.verdict == 'supported' and found.effect is None
    assert '5 of 5 runs of no warm-up never got there' in found.text
    arms['no warm-up'] = (90, line(20))
    some = outcome('R7', arms, monkeypatch, ('no warm-up', {'train/curve': [[10, 0.9]]}))
    assert '[2.00, no upper bound]' in some.text
    claim = ledger.CLAIMS['R7']
    assert effect(claim, some) == '2 [2, no upper bound] times'
    assert effect(claim, some._replace(low=0.0, high=3.0)) == '2 [no lower bound, 3] times'
    assert effect(claim, found._replace(low=3.2)) == 'at least 3.2 times'
    assert effect(claim, found) == ''  # none ever got there
    found = outcome('R7', arms, monkeypatch, ('warm-up', None))
    assert found.verdict == 'not resolved'


def branches(*costs, jitter=0.0):
    """The measure of a run: errors with a branch of each of two blocks at zero."""
    names = ('1x1', '3x3', '5x5', 'pool_proj')
    errors = {f'{block}/{n}': 0.3 + c / 100 for block in 'ab' for n, c in zip(names, costs)}
    errors['a/3x3'] += jitter
    norms = {f'{block}/{n}': size for block, size in zip('ab', (0.1, 0.3)) for n in names}
    return {
        'measures': {
            'branch_errors': {'0': {}, '10': {'whole': 0.3} | errors},
            'branch_gradient_norms': {'0': {}, '10': norms | {'b/5x5': 0.5}},
        }
    }


@pytest.mark.parametrize(
    'costs, verdict', [((1, 9, 4, 2), 'supported'), ((5.0, 5.2, 5.0, 5.0), 'equivalent')]
)
def test_branches_are_judged_by_the_most_and_the_least_important_one(costs, verdict, monkeypatch):
    made = experiment({'GoogLeNet': (30, {})})
    for row in made.rows:
        row |= branches(*costs, jitter=0.001 * row['seed'])
    found = judged('G4', made, monkeypatch)
    # a seed's own jitter is in one of two blocks
    assert found.effect == pytest.approx(
        max(costs) - min(costs) + 0.5 * np.mean([0, 1, 2, 3, 4]) / 10
    )
    assert (found.verdict, found.seeds, found.covers) == (verdict, 5, 'seeds')
    assert '1x1 +' in found.text
    assert 'its gradient: 1x1 0.200, 3x3 0.200, 5x5 0.300, pool_proj 0.200.' in found.text
    made.rows[0]['status'] = 'diverged'
    found = judged('G4', made, monkeypatch)
    assert found.verdict == 'not resolved' and '1 of 5 runs of GoogLeNet diverged' in found.text
    made.rows[0]['status'] = 'done'
    for lacks in ('branch_errors', 'branch_gradient_norms'):
        kept = made.rows[0]['measures'].pop(lacks)
        found = judged('G4', made, monkeypatch)
        assert found.verdict == 'not resolved' and '1 run of GoogLeNet' in found.text, found.text
        made.rows[0]['measures'][lacks] = kept
    made = made._replace(rows=made.rows[:2])
    assert judged('G4', made, monkeypatch).verdict == 'not resolved'


def test_branches_that_differ_by_chance_alone_are_not_called_different(monkeypatch):
    rng, verdicts = np.random.default_rng(0), []
    for _ in range(60):
        made = experiment({'GoogLeNet': (30, {})})
        for row in made.rows:
            row |= branches(*rng.normal(5, 3, 4))
        verdicts.append(judged('G4', made, monkeypatch).verdict)
    assert verdicts.count('supported') <= 6  # 2.5 % of them on average
    assert 'takes about' in judged('G4', made, monkeypatch).text or verdicts[-1] != 'not resolved'


def colours(first, second):
    found = {'colour_index': {'10': {'conv1': [first] * 3 + [second] * 3}}}
    filters = [[[[0.0, 0.5, 1.0]] * 2] * 2] * 6
    return {'measures': found | {'first_filters': {'10': {'conv1': filters}}}}


def test_columns_are_compared_at_each_size_and_by_the_colour_of_their_halves(monkeypatch):
    sizes = {'equal width': 29, 'equal parameters': 30.2, 'half the width': 32}
    arms = {f'one column, {size}': (error, colours(0.4, 0.5)) for size, error in sizes.items()}
    arms['two columns'] = (30, colours(0.1, 0.6))
    found = outcome('A6', arms, monkeypatch)
    for words in (
        'equal width minus two columns: -1.00',
        'half the width minus two columns: +2.00',
    ):
        assert words in found.text
    assert 'two columns minus one column, equal width: +0.40 of colour' in found.text
    found = outcome('A6', arms, monkeypatch, ('two columns', DIVERGED))
    assert '1 of 5 runs of two columns diverged' in found.text


def test_blocks_without_reductions_are_compared_by_their_error(monkeypatch):
    found = outcome('G2', {'reduced': (30, {}), 'naive': (28, {})}, monkeypatch)
    assert 'Test error: naive minus reduced: -2.00' in found.text


def norms_of(*values, names):
    return {'measures': {'gradient_norms': {'0': dict(zip(names, values, strict=True))}}}


def test_the_gradient_of_a_layer_is_read_in_the_order_of_the_layers(monkeypatch):
    names = [f'fc{number}' for number in range(1, 13)]
    falling = [100.0, *(0.5 ** (10 - place) for place in range(11))]
    given = dict(sorted(norms_of(*falling, names=names)['measures']['gradient_norms']['0'].items()))
    assert list(given)[1] == 'fc10' and trained.in_order(given) == names
    own = {'measures': {'gradient_norms': {'0': given}}}
    flat = norms_of(*[1.0] * 12, names=names)
    arms = {
        f'30 layers, {activation}, {initialiser}, norm {norm}': (
            90,
            own if norm == 'none' else flat,
        )
        for activation in ('sigmoid', 'tanh', 'relu')
        for initialiser in ('gaussian_0.01', 'glorot', 'he')
        for norm in ('none', 'batch')
    }
    # of the hidden layers but the first: fc2 to fc11
    words = 'in 30 layers sigmoid, gaussian_0.01 1e-03 to 5e-01, 1e+00 to 1e+00; sigmoid, glorot'
    assert words in outcome('V3', arms, monkeypatch).text
    names = ['conv1', 'conv2_1/conv1', 'conv2_1/conv2', 'conv10_1/conv1', 'fc']
    arms = {'plain56, norm batch': (90, norms_of(9, 0.1, 2, 4, 7, names=names))}
    assert 'that of the last: 0.025 (plain56, norm batch).' in outcome('R3', arms, monkeypatch).text
    other = {'plain56, norm batch': (90, {'measures': {'dead_units': {'0': {'fc': 0.1}}}})}
    assert 'unknown (plain56, norm batch: no run with' in outcome('R3', other, monkeypatch).text
    assert 'no finished run' in outcome('R3', {}, monkeypatch).text
    assert 'no finished run' in outcome('V3', {}, monkeypatch).text


def test_a_claim_at_the_full_scale_quotes_no_small_rows(monkeypatch):
    made = norms((25, 24, 20, 20))
    monkeypatch.setattr(trained, 'stored', lambda config: made)
    claim = ledger.CLAIMS['A4c']
    assert trained.STANDARDISED in trained.parts(claim)
    full = trained.parts(claim._replace(config='ablate_normalization.py:full'))
    assert list(full) == [trained.BATCHNORM]  # which has the full scale itself


def test_rows_of_other_configs_that_are_not_there_are_named(monkeypatch):
    monkeypatch.setattr(trained, 'stored', lambda config: None)
    claim = ledger.CLAIMS['R4']
    words = 'Not run yet: responses.py:small, 5 arms with 5 seeds each, 25 runs of'
    assert words in trained.beside(claim)
    lines = texts.full(claim, ledger.Verdict('not resolved', ''), None)
    command = 'python -m experiments.run --config configs/responses.py:small'
    assert ('beside', f'{command}; not run yet') in lines


def test_every_rule_is_of_a_claim_that_names_its_config():
    for name in trained.RULES:
        assert ledger.CLAIMS[name].config and trained.exists(ledger.CLAIMS[name].config)
    assert [*trained.RULES] == [name for name, claim in ledger.CLAIMS.items() if claim.config]


def test_what_is_trained_beside_a_computed_claim_is_said_and_does_not_decide(monkeypatch):
    made = experiment({'reduced': (30, {}), 'naive': (28, {})})
    claim = ledger.CLAIMS['G2']._replace(compute=lambda: ledger.Verdict('corrected', 'Cost.', 9.0))
    monkeypatch.setattr(trained, 'stored', lambda config: made)
    found = ledger.verdict(claim)
    assert (found.verdict, found.effect) == ('corrected', 9.0)
    assert found.text.startswith('Cost. Test error: naive minus reduced: -2.00')
    assert found.data == 'mnist, the first 10 images'


def test_the_verdict_of_a_claim_comes_from_its_stored_rows(monkeypatch):
    made = poolings(0.6, 1)
    monkeypatch.setattr(trained, 'stored', lambda config: made)
    found = ledger.verdict(ledger.CLAIMS['A3d'])
    assert (found.verdict, found.seeds, found.data) == (
        'supported',
        5,
        'mnist, the first 10 images',
    )
    monkeypatch.setattr(trained, 'stored', lambda config: None)
    found = ledger.verdict(ledger.CLAIMS['A3d'])
    assert found.verdict == 'not resolved' and 'Not run yet' in found.text


@pytest.mark.parametrize(
    'error, words', [(33, 'falls too.'), (27, 'rises.'), (30, None), (30.3, None)]
)
def test_whether_the_test_error_falls_with_the_gap_is_said(error, words, monkeypatch):
    arms = {name: (30, {}) for name in ('flip and crop', 'flip', 'crop', 'flip, crop and colour')}
    found = judged('A5a', experiment(arms | {'none': (error, {})}), monkeypatch)
    assert found.text.count('The test error ') == bool(words)
    assert not words or f'The test error {words} none minus flip: ' in found.text


def test_overlap_is_judged_by_its_top_5_error_too(monkeypatch):
    made = poolings(0.6, 1)
    for row in made.rows:
        row['test/error5'] = row['test/error'] / 10
    words = 'Top-5 error: non-overlapping max pooling minus overlapping max pooling: +0.06'
    assert words in judged('A3d', made, monkeypatch).text


def test_epochs_to_a_validation_error_are_read_off_the_curves(monkeypatch):
    made = experiment({'norm none': (2.5, curve(10)), 'norm batch': (2.0, curve(10))})
    falling = {'norm none': (0.05, 0.03, 0.026, 0.02), 'norm batch': (0.05, 0.02, 0.03, 0.01)}
    lines = lambda errors: [{'epoch': n, 'validation/error': e} for n, e in enumerate(errors, 1)]
    made = made._replace(curves={row['point']: lines(falling[row['arm']]) for row in made.rows})
    monkeypatch.setattr(trained, 'stored', {trained.BATCHNORM: made}.get)
    found = ledger.verdict(ledger.CLAIMS['A4c']).text
    assert 'Epochs to 2.5 % validation error: norm none takes 2.00 times as long' in found


def test_the_table_says_the_data_and_the_steps_of_the_shortest_and_the_longest_run(monkeypatch):
    made = experiment({'relu': (20, {'steps': 900, 'epochs': 3})})
    monkeypatch.setattr(trained, 'stored', lambda config: made)
    assert texts.measured_on(ledger.CLAIMS['A1']) == 'mnist, 900 steps'
    made.rows[0]['steps'] = 1200
    assert texts.measured_on(ledger.CLAIMS['A1']) == 'mnist, 900 to 1,200 steps'
    first = 'mnist 3.0.1, images stored as JPEG; only the first 10 of 60 train images'
    made.plan['dataset_note'] = first
    words = 'mnist as JPEG, 10 images, 900 to 1,200 steps'
    assert texts.measured_on(ledger.CLAIMS['A1']) == words
    made.plan['dataset_note'] = f'{first}; mnist 3.0.1, images stored as JPEG'
    assert 'JPEG, 10 to all images,' in texts.measured_on(ledger.CLAIMS['A1'])
    assert texts.measured_on(ledger.CLAIMS['L3']) == 'computed'
    monkeypatch.setattr(trained, 'stored', lambda config: None)
    assert texts.measured_on(ledger.CLAIMS['A1']) == ''
