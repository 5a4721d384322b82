"""Figures of the computed claims: they show what a hand, a plain loop or the papers give."""

import functools
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import cnns
from experiments import style
from experiments.claims import drawings, ledger, page
from experiments.claims.claim import Verdict
from experiments.claims.computed import alexnet, gradients, lenet, reading, vgg

SLOW = ('R3', 'V3')  # they have made-up norms here


@functools.cache
def drawn(name):
    return drawings.DRAWINGS[name][1]()


def bars(axes):
    return [bar.get_width() for bar in axes.patches]


def points(axes):
    """{label: its points} of the lines of a panel."""
    return {line.get_label(): line.get_xydata() for line in axes.get_lines()}


def test_every_computed_claim_has_a_figure_and_no_other_claim():
    computed = {claim.id for claim in ledger.CLAIMS.values() if claim.compute}
    assert set(drawings.DRAWINGS) == computed


@pytest.mark.parametrize('name', [name for name in drawings.DRAWINGS if name not in SLOW])
def test_the_axes_of_each_figure_have_names(name):
    assert all(axes.get_xlabel() or axes.get_ylabel() for axes in drawn(name).axes)


@pytest.mark.parametrize('name', ['A4a', 'V4'])
def test_a_map_of_many_values_is_a_small_svg(name):
    text = style.inline(drawn(name))
    ElementTree.fromstring(text.replace('xlink:', ''))
    assert len(text) < 100_000


def test_a_computed_claim_shows_its_figure_first_with_rows_or_without():
    ((caption, figure),) = page.pictures(ledger.CLAIMS['V1b'], Verdict('corrected', ''), None)
    assert caption.startswith('Where five 3x3') and figure.axes


def test_bars_of_lenet_are_the_parameters_of_the_paper():
    (axes,) = drawn('L2').axes
    assert bars(axes) == [156, 12, 1516, 32, 48_120, 10_164, 0]
    np.testing.assert_array_equal(
        points(axes)['the paper'][:, 0], [156, 12, 1516, 32, 48120, 10164]
    )
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[:2] == ['C1 28x28x6', 'S2 14x14x6'] and labels[-1] == 'OUT 10'


@pytest.mark.parametrize('name, layer', [('L4', 'C1'), ('L8', 'F6')])
def test_the_layer_of_a_claim_alone_is_in_colour(name, layer):
    (axes,) = drawn(name).axes
    labels = [label.get_text().split()[0] for label in axes.get_yticklabels()]
    colours = {label: bar.get_facecolor() for label, bar in zip(labels, axes.patches)}
    assert list(colours.values()).count(colours[layer]) == 1


def test_lenet_sliding_gives_at_each_place_the_scores_of_that_crop():
    image = lenet.line_of_digits()
    shown = drawn('L7').axes[1].get_images()[0].get_array()
    net = cnns.build('lenet5', fast=False)
    variables = reading.drawn(net, 32)
    assert shown.shape == (10, (96 - 32) // 4 + 1)
    for place in (0, 5, 16):
        crop = image[None, :, 4 * place : 4 * place + 32, None]
        alone = reading.apply(net, variables, crop)[0]
        np.testing.assert_allclose(shown[:, place], alone, atol=1e-4)


def test_the_mean_over_masks_is_inference_behind_the_first_dropout_alone():
    (axes,) = drawn('A2b').axes
    fc6, scores = points(axes)['fc6, 256 units'], points(axes)['fc8, 10 scores']
    # a unit is doubled or 0, so its mean over n masks has a deviation of its value / sqrt(n)
    off = np.abs(fc6[:, 1] - fc6[:, 0]) / np.maximum(fc6[:, 0], 1e-9)
    assert off.max() < 5 / np.sqrt(alexnet.MASKS) and len(scores) == 10
    assert np.abs(scores[:, 1] - scores[:, 0]).max() > 0.1


def test_arrows_of_pools_run_from_the_larger_map_to_the_smaller():
    (axes,) = drawn('A3a').axes
    ends = [line.get_xdata().tolist() for line in axes.get_lines()]
    assert ends[:5] == [[28, 14], [10, 5], [55, 27], [27, 13], [13, 6]] and len(ends) == 10


def test_windows_of_three_pixels_at_stride_two_share_one():
    apart, overlapping = drawn('A3c').axes
    assert [(bar.get_x(), bar.get_width()) for bar in apart.patches] == [
        (0, 2), (2, 2), (4, 2), (6, 2),
    ]  # fmt: skip
    # the last window has two pixels: it would reach over the edge
    assert [(bar.get_x(), bar.get_width()) for bar in overlapping.patches] == [
        (0, 3), (2, 3), (4, 3), (6, 2),
    ]  # fmt: skip
    assert [text.get_text() for text in overlapping.texts] == list('11212121')
    assert overlapping.get_title().startswith('z = 3, s = 2')


def test_the_jacobian_is_drawn_where_channels_are_two_apart_at_most():
    shown = drawn('A4a').axes[0].get_images()[0].get_array()
    apart = np.abs(np.subtract.outer(np.arange(12), np.arange(12)))
    np.testing.assert_array_equal(shown.mask, apart > 2)
    assert (shown[(apart > 0) & (apart <= 2)] < 0).all() and (np.diag(shown) > 0).all()


def test_crops_begin_in_a_square_of_32_pixels_and_five_are_of_testing():
    image, *five, places = drawn('A5b').axes[0].patches
    assert image.get_width() == 256 and places.get_width() == places.get_height() == 256 - 224
    corners = [(0, 0), (32, 0), (0, 32), (32, 32), (16, 16)]
    assert [one.get_xy() for one in five] == corners and {one.get_width() for one in five} == {224}


def test_groups_halve_the_multiply_adds_of_three_layers():
    (axes,) = drawn('A6').axes
    two, one = np.split(np.array(bars(axes)), 2)
    np.testing.assert_allclose(two / one, [1, 0.5, 1, 0.5, 0.5, 1, 1, 1])
    assert one.sum() == pytest.approx(1135.256, rel=1e-5)


def test_sides_of_conv1_are_55_but_for_224_rounded_down():
    (axes,) = drawn('A7').axes
    paper, *sides = (line.get_xdata()[0] for line in axes.get_lines())
    assert (paper, sides) == (55, [55, 55, 55, 54])


def test_five_small_kernels_and_a_large_one_see_the_same_11_pixels():
    small, large, _ = drawn('V1a').axes
    for axes in (small, large):
        shown = axes.get_images()[0].get_array()
        assert (~shown.mask).sum() == 11 * 11 and (~shown.mask).any(0).sum() == 11
    # as many paths lead to a pixel as five throws of 1, 2, 3 have this sum
    paths = functools.reduce(np.convolve, [np.ones(3)] * 5)
    np.testing.assert_allclose(
        small.get_images()[0].get_array()[2:13, 2:13], np.outer(paths, paths) / paths.max() ** 2
    )


def test_the_region_ends_at_112_over_36():
    (axes,) = drawn('V1b').axes
    lines = points(axes)
    (_, (d, n)) = lines['N = 112/36 D = 3.11 D']
    assert n / d == pytest.approx(112 / 36)
    (_, (d, n)) = lines['N = 3.6 D, the notes']
    assert n / d == pytest.approx(3.6)
    np.testing.assert_array_equal(lines["AlexNet's conv1: D 3, N 96"], [[3, 96]])


def test_norms_are_lines_by_layer_and_end_where_float32_does(monkeypatch):
    def signal(depth, activation, initialiser):
        return (*(10.0**layer for layer in range(depth - 1)), 0.0)

    monkeypatch.setattr(gradients, 'signal', signal)
    (axes,) = drawings.v3().axes
    assert axes.get_yscale() == 'log' and len(points(axes)) == 9
    line = points(axes)['relu, he']
    assert line.shape == (30, 2) and line[2, 1] == 100 and np.isnan(line[-1, 1])
    monkeypatch.setattr(gradients, 'kernel_norms', lambda net, norm: (3.0, 2.0, 1.0))
    (axes,) = drawings.r3().axes
    np.testing.assert_array_equal(points(axes)['plain56, no norm'], [[1, 3], [2, 2], [3, 1]])


def test_both_heads_lie_on_the_diagonal_and_a_larger_image_has_a_map():
    left, right, _ = drawn('V4').axes
    pairs = left.get_lines()[0].get_xydata()
    np.testing.assert_allclose(pairs[:, 0], pairs[:, 1], atol=1e-5)
    assert len(pairs) == 1000 and np.ptp(pairs[:, 0]) > 0.5
    assert right.get_images()[0].get_array().shape == (384 // 32 - 6,) * 2
    np.testing.assert_array_equal(vgg.both_heads()[0], pairs[:, 0])


def test_branches_of_a_block_are_stacked_to_its_parameters():
    (axes,) = drawn('G1').axes
    first = axes.patches[:4]
    widths = [bar.get_width() for bar in first]
    np.testing.assert_allclose(widths, [12.352, 18.528 + 110.72, 3.088 + 12.832, 6.176])
    assert first[-1].get_x() + first[-1].get_width() == pytest.approx(163.696)
    assert len(axes.patches) == 9 * 4


def test_the_branch_of_5x5_has_9_7_times_fewer_weights_with_its_reduction():
    (axes,) = drawn('G2').axes
    reduced, naive = np.split(np.array(bars(axes)), 2)
    assert naive[2] / reduced[2] == pytest.approx(153_600 / 15_872)
    assert (reduced[0], naive[3]) == (naive[0], 0)


def test_nets_stand_at_their_parameters_and_the_errors_of_the_papers():
    (axes,) = drawn('G3').axes
    found = np.concatenate(
        [line.get_xydata() for line in axes.get_lines() if line.get_marker() == 'o']
    )
    np.testing.assert_allclose(
        found, [[60.965224, 18.2], [138.357544, 8.1], [6.998552, 9.15], [25.557032, 6.71]]
    )


def test_concatenation_is_additive_and_relu_is_not():
    lines = points(drawn('G5').axes[0])
    joined, bent = lines['concatenation'], lines['ReLU']
    np.testing.assert_array_equal(joined[:, 0], joined[:, 1])
    assert (bent[:, 1] >= bent[:, 0] - 1e-6).all() and (bent[:, 1] > bent[:, 0] + 0.1).any()


def test_a_bottleneck_costs_as_much_as_two_3x3_on_a_quarter_of_the_channels():
    blocks, nets = drawn('R6').axes
    expected = [2 * 256 * 64 + 9 * 64**2, 2 * 9 * 64**2, 2 * 9 * 256**2]
    np.testing.assert_allclose(bars(blocks), np.array(expected) / 1e3)
    np.testing.assert_allclose(bars(nets), [3.663761408, 3.857973248])


def test_bars_of_ilsvrc_are_the_errors_that_the_paper_cites():
    assert bars(drawn('A0').axes[0]) == [15.3, 16.4, 26.2, 18.2]
