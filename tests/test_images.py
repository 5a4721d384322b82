"""What single test images say of two arms: an interval over both, or McNemar's test of two nets."""

import numpy as np
import pytest
import scipy.stats
from rows import compared, experiment, row

from experiments import bits
from experiments.report import images
from experiments.report.sentences import sentences
from experiments.report.summary import summarise

RNG = np.random.default_rng(0)


def net_of(arm, seed, rate, count=400, **more):
    """A row of a net that has each image right with this probability."""
    right = RNG.random(count) < rate
    error = float(1 - right.mean())
    own = {'test/right': bits.pack(right), 'test/count': count}
    return row(arm, seed, error, **own, dataset='digits', **more)


def rows(arm, rates, **more):
    return {seed: net_of(arm, seed, rate, **more) for seed, rate in enumerate(rates)}


def test_bits_of_other_images_or_none_are_not_compared():
    one = rows('average', (0.8, 0.8))
    assert images.by_image(one, rows('max', (0.7, 0.7))).error > 0
    assert images.by_image(one, rows('max', (0.7, 0.7), count=399)) is None
    other = rows('max', (0.7, 0.7))
    other[0]['dataset'] = 'mnist'
    assert images.by_image(one, other) is None
    lacking = rows('max', (0.7, 0.7))
    del lacking[1]['test/right']
    assert images.by_image(one, lacking) is None and images.by_image(one, {}) is None


def test_two_nets_are_compared_image_by_image():
    one, two = rows('average', (0.8,)), rows('max', (0.7,))
    right = [bits.unpack(own[0]['test/right'], 400) for own in (one, two)]
    only_one, only_two = (int((a & ~b).sum()) for a, b in (right, right[::-1]))
    found = images.by_image(one, two)
    assert (found.only_a, found.only_b) == (only_one, only_two) and only_one > only_two > 0
    p = scipy.stats.binomtest(only_two, only_one + only_two).pvalue
    assert found.p == pytest.approx(p)
    (line,) = sentences(summarise(experiment([one[0], two[0]], seeds=(0,))))
    assert f'{only_two} test images are right by the first alone and {only_one} by' in line
    assert 'no conclusion beyond these two nets' in line


@pytest.mark.parametrize('rate, words', [(0.5, ': lower test error than average'), (0.79, '')])
def test_a_sentence_says_when_other_test_images_could_turn_a_difference_round(rate, words):
    same = np.linspace(0, 1, 3)  # seeds that agree, so that images alone are the noise
    made = [net_of('average', seed, rate) for seed in range(3)]
    made += [net_of('max', seed, 0.8) for seed in range(3)]
    for place, own in enumerate(made):
        mean = {'average': 1 - rate, 'max': 0.2}[own['arm']]
        own['test/error'] = mean + 1e-4 * same[place % 3] * (own['arm'] == 'max')
    (line,) = sentences(summarise(experiment(made)))
    assert '(over seeds and test images -' in line
    ending = words or ': lower test error than average on these test images'
    assert line.endswith(ending), line


def test_rows_without_bits_are_told_by_seeds_alone():
    (line,) = sentences(compared({0: 0.2, 1: 0.21, 2: 0.22}, {0: 0.1, 1: 0.12, 2: 0.13}))
    assert 'test images' not in line
