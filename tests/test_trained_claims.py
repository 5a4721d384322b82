"""Claims that rows judge: made-up experiments with a known answer, and what is stored."""

import itertools

import pytest

from experiments.claims import ledger, trained
from experiments.workdir import Experiment


def experiment(arms, comparisons=(), **more):
    """arms: {label: (test error in percent, other columns)}; five seeds with a little noise."""
    rows = []
    for arm, (error, columns) in arms.items():
        for seed, noise in enumerate((-0.02, 0.03, 0.0, -0.03, 0.02)):
            row = dict(arm=arm, phase='final', seed=seed, status='done', learning_rate=0.1)
            row |= {'test/error': (error + noise) / 100, 'train/error': (error / 2 + noise) / 100}
            rows.append(row | columns)
    plan = dict(arms=list(arms), seeds=list(range(5)), level=0.95, rates=[0.1], dataset='mnist')
    return Experiment(plan | {'comparisons': list(comparisons)} | more, rows, {})


def judged(name, made, monkeypatch, stored=lambda config: None):
    monkeypatch.setattr(trained, 'stored', stored)
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
    mixed = {'lenet5': (3.3, {}), 'mlp_300': (3.0, {})}
    found = judged('L1', experiment(arms), monkeypatch, lambda config: experiment(mixed))
    assert 'With permuted pixels: mlp_300 minus lenet5: -0.30' in found.text


def sizes(few, some, many):
    errors = {'15,000 images': few, '30,000 images': some, '54,000 images': many}
    return {name: (error, {}) for name, error in errors.items()} | {
        '54,000 images, distorted': (0.7, {})
    }


@pytest.mark.parametrize(
    'errors, verdict',
    [
        ((1.6, 1.1, 0.9), 'supported'),
        ((0.9, 0.9, 0.9), 'equivalent'),
        ((1, 1.1, 1.6), 'contradicted'),
    ],
)
def test_the_error_falls_with_the_number_of_images(errors, verdict, monkeypatch):
    found = judged('L9', experiment(sizes(*errors)), monkeypatch)
    assert found.verdict == verdict
    assert f'54,000 images: {errors[2]:.2f} % test error' in found.text


def curve(steps):
    """Falls by the thresholds of A1 at these multiples of `steps`."""
    points = zip((0.5, 0.4, 0.3, 0.25, 0.1), (1, 2, 3, 4, 8))
    return {'train/curve': [[steps * times, error] for error, times in points]}


@pytest.mark.parametrize(
    'tanh, verdict', [(60, 'supported'), (11, 'equivalent'), (4, 'contradicted')]
)
def test_the_speed_of_relu_is_a_ratio_of_steps_at_every_threshold(tanh, verdict, monkeypatch):
    made = experiment({'relu': (20, curve(10)), 'tanh': (20, curve(tanh))})
    found = judged('A1', made, monkeypatch)
    assert found.verdict == verdict and found.effect == pytest.approx(tanh / 10)
    for threshold in (50, 40, 30, 25, 10):
        assert f'To {threshold} % training error tanh takes' in found.text


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


@pytest.mark.parametrize(
    'gaps, verdict', [((16, 6), 'supported'), ((6, 6), 'equivalent'), ((6, 16), 'contradicted')]
)
def test_augmentation_is_judged_by_the_gap_of_test_and_training_error(gaps, verdict, monkeypatch):
    none, both = ({'train/error': (20 - gap) / 100} for gap in gaps)
    arms = {'none': (20, none), 'flip and crop': (20, both), 'flip': (20, {}), 'crop': (20, {})}
    arms['flip, crop and colour'] = (19, {})
    found = judged('A5a', experiment(arms), monkeypatch)
    assert found.verdict == verdict and found.effect == pytest.approx(gaps[0] - gaps[1])
    assert 'flip and crop minus flip, crop and colour: +1.00' in found.text


def deviations(value):
    layers = {'conv1': 9.0, 'conv2_1/conv1': value, 'conv2_1/conv2': 3 * value, 'fc': 9.0}
    return {'measures': {'response_deviations': {'0': {}, '20': layers}}}


def test_depth_is_judged_by_training_error_for_plain_and_test_error_for_residual(monkeypatch):
    errors = {'plain-20': 30, 'plain-56': 40, 'resnet-20': 28, 'resnet-56': 25}
    arms = {
        name: (error, deviations(0.5 + 0.5 * ('plain' in name))) for name, error in errors.items()
    }
    made = experiment(arms)
    found = judged('R1', made, monkeypatch)
    assert found.verdict == 'supported' and found.effect == pytest.approx(5)  # half of the test's
    found = judged('R2', made, monkeypatch)
    assert found.verdict == 'supported' and found.effect == pytest.approx(3)
    found = judged('R4', made, monkeypatch)
    assert found.verdict == 'supported' and found.effect == pytest.approx(2)


def test_the_worst_shortcut_must_beat_none(monkeypatch):
    errors = {'none': 30, 'A': 27, 'B': 26, 'C': 25}
    made = experiment({f'shortcut {kind}': (error, {}) for kind, error in errors.items()})
    found = judged('R5', made, monkeypatch)
    assert found.verdict == 'supported' and found.effect == pytest.approx(3)
    assert 'shortcut B minus shortcut A: -1.00' in found.text


def test_a_comparison_declared_the_other_way_round_is_of_the_same_family(monkeypatch):
    pairs = [('non-overlapping max pooling', 'overlapping max pooling')]
    pairs += [('overlapping average pooling', 'overlapping max pooling')] * 1
    made = poolings(0.6, 1)
    alone = judged('A3d', made, monkeypatch)
    made.plan['comparisons'] = pairs
    family = judged('A3d', made, monkeypatch)
    assert family.effect == alone.effect and family.high >= alone.high


def test_every_rule_is_of_a_claim_that_names_its_config():
    for name in trained.RULES:
        assert ledger.CLAIMS[name].config and ledger.CLAIMS[name].compute is None


def test_the_verdict_of_a_claim_comes_from_its_stored_rows(monkeypatch):
    made = poolings(0.6, 1)
    monkeypatch.setattr(trained, 'stored', lambda config: made)
    found = ledger.verdict(ledger.CLAIMS['A3d'])
    assert (found.verdict, found.seeds, found.data) == ('supported', 5, 'mnist')
    monkeypatch.setattr(trained, 'stored', lambda config: None)
    found = ledger.verdict(ledger.CLAIMS['A3d'])
    assert found.verdict == 'not resolved' and 'Not run yet' in found.text
