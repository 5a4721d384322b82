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
    assert images.by_image(one, rows('max', (0.7, 0.7)), paired=False).error > 0
    assert images.by_image(one, rows('max', (0.7, 0.7), count=399), False) is None
    other = rows('max', (0.7, 0.7))
    other[0]['dataset'] = 'mnist'
    assert images.by_image(one, other, paired=True) is None
    lacking = rows('max', (0.7, 0.7))
    del lacking[1]['test/right']
    assert images.by_image(one, lacking, True) is None and images.by_image(one, {}, True) is None


def test_seeds_of_one_arm_alone_have_no_say_where_seeds_are_paired():
    one, two = rows('average', (0.8, 0.8)), rows('max', (0.7, 0.7, 0.7))
    both = images.by_image(one, {seed: two[seed] for seed in one}, paired=True)
    del two[2]['test/right']
    assert images.by_image(one, two, paired=True) == both
    found = images.by_image({0: one[0]}, two, paired=True)
    assert found.only_a > 0 and found.p < 1  # two nets, of one seed


@pytest.mark.filterwarnings('error')
def test_a_single_image_has_no_error():
    one, two = rows('average', (1, 1), count=1), rows('max', (0, 0), count=1)
    assert images.by_image(one, two, paired=True) is None


def agreeing(nets, apart):
    """A summary of two arms whose seeds have the images of one net right: images are the noise.

    apart: test error of the second arm minus that of the first, of each seed.
    """
    made = [row(net['arm'], seed, 0.1, dataset='digits') for net in nets for seed in range(3)]
    for place, own in enumerate(made):
        own |= {key: nets[place // 3][key] for key in ('test/right', 'test/count')}
        own['test/error'] = 0.5 + (apart[place % 3] if place > 2 else 0)
    return summarise(experiment(made))


def test_an_end_near_zero_is_not_rounded_to_zero():
    """What the sentence says of the test images hangs on its sign."""
    scatter = np.array((0, 1e-3, -1e-3))
    nets = net_of('average', 0, 0.79), net_of('max', 0, 0.8)
    first, second = agreeing(nets, scatter)
    image = images.by_image(first['finished'], second['finished'], paired=True)
    high = image.widened(*second['difference'][1:3], 0.95)[1]
    (line,) = sentences(agreeing(nets, scatter - high - 2e-4))
    assert line.endswith(' to -0.02): lower test error than average'), line


def test_two_nets_are_compared_image_by_image():
    one, two = rows('average', (0.8,)), rows('max', (0.7,))
    right = [bits.unpack(own[0]['test/right'], 400) for own in (one, two)]
    only_one, only_two = (int((a & ~b).sum()) for a, b in (right, right[::-1]))
    found = images.by_image(one, two, paired=True)
    assert (found.only_a, found.only_b) == (only_one, only_two) and only_one > only_two > 0
    p = scipy.stats.binomtest(only_two, only_one + only_two).pvalue
    assert found.p == pytest.approx(p)
    (line,) = sentences(summarise(experiment([one[0], two[0]], seeds=(0,))))
    assert f'{only_two} test images are right by the first alone and {only_one} by' in line
    assert 'no conclusion beyond these two nets' in line
    nets = [dict(own[0], evaluation={}) for own in (one, two)]  # perhaps one net in two views
    (line,) = sentences(summarise(experiment(nets, seeds=(0,))))
    assert 'no conclusion beyond these two evaluations' in line


@pytest.mark.parametrize('rate, words', [(0.5, ': lower test error than average'), (0.79, '')])
def test_a_sentence_says_when_other_test_images_could_turn_a_difference_round(rate, words):
    nets = net_of('average', 0, rate), net_of('max', 0, 0.8)
    apart = 0.2 - (1 - rate) + np.array((0, 5e-5, 1e-4))
    (line,) = sentences(agreeing(nets, apart))
    assert '(over seeds and test images -' in line
    ending = words or ': lower test error than average on these test images'
    assert line.endswith(ending), line


def test_rows_without_bits_are_told_by_seeds_alone():
    (line,) = sentences(compared({0: 0.2, 1: 0.21, 2: 0.22}, {0: 0.1, 1: 0.12, 2: 0.13}))
    assert 'test images' not in line
