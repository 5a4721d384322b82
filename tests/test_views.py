"""Evaluation views: how many, which pixels, and that their softmax is what is averaged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cnns
from configs import base
from experiments import data
from experiments.errors import UserError
from experiments.preprocess import augment, views
from experiments.train.evaluate import normalise

MEAN, STD = np.float32([0.4, 0.5, 0.6]), np.float32([0.2, 0.25, 0.3])


def pictures(n=2, height=16, width=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), np.uint8)


def trained(height=16, width=16, **values):
    """The augmentation that a net is trained with, on images of this size."""
    return augment.augmentation((height, width, 3), data.Statistics(MEAN, STD), **values)


def made(name, height=16, width=16, at=(), **values):
    """The views at the scales `at`."""
    return views.views(name, trained(height, width, **values), at)


@pytest.mark.parametrize(
    'name, count',
    [('centre', 1), ('ten', 10), ('dense', 2), ('144', 4 * 3 * 6 * 2), ('150', 3 * 50)],
)
def test_the_papers_numbers_of_views(name, count):
    got = made(
        name, 256, 340, (256, 384, 512)[: 3 if name == '150' else 0], crop='random', size=224
    )
    assert got.count == count
    assert sum(group.counts.sum() for group in got.groups) == count


def test_googlenets_scales_and_squares():
    training = trained(256, 340, crop='random', size=224)
    assert views.scales_of('144', training) == (256, 288, 320, 352)
    lying, square = (
        made('144', 256, 340, crop='random', size=224),
        made('144', 256, 256, crop='random', size=224),
    )
    # of a square image the three squares are one, and the whole one is the same at every scale
    assert len(square.groups[0].boxes) == (4 * 5 + 1) * 2 and square.count == 144
    whole = square.groups[0].boxes[:, 2] == 256
    np.testing.assert_array_equal(square.groups[0].counts[whole], [12, 12])
    lefts = sorted(set(lying.groups[0].boxes[lying.groups[0].boxes[:, 2] == 256, 1].tolist()))
    np.testing.assert_allclose([lefts[0], lefts[len(lefts) // 2], lefts[-1]], [0, 42, 84], atol=1)


def test_ten_views_are_the_corners_and_the_middle_and_their_mirrors():
    images = pictures()
    got = made('ten', crop='random', size=12)(images)
    whole = np.asarray(normalise(images, MEAN, STD))
    wanted = []
    for top, left in ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2)):
        crop = whole[:, top : top + 12, left : left + 12]
        wanted += [crop, crop[:, :, ::-1]]
    assert len(got) == 10
    for crop in wanted:
        assert sum(np.allclose(crop, view, atol=1e-6) for view in got) == 1


def test_the_middle_view_of_all_the_image_is_the_image_as_it_is():
    images = pictures()
    (view,) = made('centre')(images)
    np.testing.assert_allclose(view, normalise(images, MEAN, STD), atol=1e-6)


def test_a_larger_scale_shows_the_middle_enlarged():
    """At twice the image's side, 16 of 32 pixels are its middle 8."""
    column = np.arange(0, 160, 10, dtype=np.uint8)
    images = np.broadcast_to(column[None, None, :, None], (1, 16, 16, 3))
    (view,) = made('centre', at=(32,), subtract='channel')(images)
    grey = 255 * (np.asarray(view) + MEAN)
    # pixel x of the view has its centre at 4 + (x + 1/2) / 2 of the image, whose pixel c ends at
    # c + 1 and has the value 10 c
    wanted = 10 * (4 + (np.arange(16) + 0.5) / 2 - 0.5)
    np.testing.assert_allclose(grey[0, 3, :, 1], wanted, atol=1e-3)


def test_every_view_lies_in_the_image():
    for name in base.VIEWS:
        for height, width in ((16, 16), (17, 23), (40, 16)):
            for group in made(name, height, width, crop='random', size=14).groups:
                top, left, h, w = group.boxes.T
                assert min(top.min(), left.min()) >= 0
                assert (top + h).max() <= height * 1.00001 and (left + w).max() <= width * 1.00001


@pytest.mark.parametrize(
    'crop, scales, name, wanted',
    [
        ('none', (256, 512), 'centre', (256,)),
        ('scale', (256, 512), 'centre', (384,)),
        ('scale', (256, 512), 'dense', (384,)),
        ('scale', (256, 512), 'multiscale', (256, 384, 512)),
        ('scale', (384, 384), 'multiscale', (352, 384, 416)),
        ('scale', (256, 256), 'multiscale', (224, 256, 288)),
        ('none', (256, 512), 'multiscale', (224, 256, 288)),
    ],
)
def test_scales_left_open_are_the_papers(crop, scales, name, wanted):
    training = trained(256, 300, crop=crop, size=224, scales=scales)
    assert views.scales_of(name, training) == wanted


def test_the_150_views_are_a_grid_of_places_at_three_scales():
    seen = made('150', 256, 256, (224, 256, 288), crop='random', size=224)
    (group,) = seen.groups
    for scale in (224, 256, 288):
        side = 224 * 256 / scale
        boxes = group.boxes[np.isclose(group.boxes[:, 2], side, atol=1e-3)]
        places = {tuple(np.round(box[:2] * scale / 256).astype(int)) for box in boxes}
        room = [(scale - 224) * step // 4 for step in range(5)]
        assert places == {(top, left) for top in room for left in room}


@pytest.mark.parametrize('height, width', [(48, 32), (32, 48), (33, 90)])
@pytest.mark.parametrize('name', ['centre', 'ten'])
def test_images_that_are_not_square_are_seen_whole(name, height, width):
    seen = made(name, height, width)
    assert [group.size for group in seen.groups] == [(height, width)]
    view, mirror = (seen(pictures(2, height, width))[index] for index in (0, -1))
    whole = normalise(pictures(2, height, width), MEAN, STD)
    np.testing.assert_allclose(view, whole, atol=1e-5)
    np.testing.assert_allclose(mirror, whole if name == 'centre' else whole[:, :, ::-1], atol=1e-5)


@pytest.mark.parametrize(
    'height, width, size, scales, fits',
    [(48, 32, 30, (20,), False), (48, 32, 30, (30,), True), (48, 32, 30, (29,), False)],
)
def test_views_fit_by_both_sides(height, width, size, scales, fits):
    given = dict(at=scales, crop='random', size=size)
    if fits:
        assert made('ten', height, width, **given).count == 10
        return
    with pytest.raises(UserError, match='evaluation.scales to at least 30'):
        made('ten', height, width, **given)


def linear(images):
    """Stands in for a net: five scores from the mean and the corner of a view."""
    mean, corner = images.mean((1, 2, 3))[:, None], images[:, 0, 0, :1]
    return mean * jnp.arange(5.0) + corner * jnp.array([1.0, -1, 0, 2, 0])


@pytest.mark.parametrize('name', ['ten', 'multiscale', '144'])
def test_the_score_is_the_logarithm_of_the_mean_softmax(name):
    images, got = pictures(3, 16, 20), made(name, 16, 20, crop='random', size=14)
    counts = np.concatenate([group.counts for group in got.groups])
    softmax = []
    for view in jax.jit(lambda x: got(x))(images):
        scores = np.exp(np.asarray(linear(view), np.float64))
        softmax.append(scores / scores.sum(1, keepdims=True))
    wanted = np.log(np.average(softmax, 0, counts))
    np.testing.assert_allclose(jax.jit(lambda x: got.logits(linear, x))(images), wanted, atol=1e-4)


def test_a_single_view_gives_the_nets_own_logits():
    images = pictures()
    got = made('centre').logits(linear, images)
    np.testing.assert_allclose(got, linear(normalise(images, MEAN, STD)), rtol=1e-5)


def test_a_class_that_every_view_excludes_has_a_finite_score():
    got = made('ten', crop='random', size=12).logits(
        lambda x: jnp.zeros((len(x), 2)).at[:, 1].set(-200.0), pictures()
    )
    np.testing.assert_allclose(got, [[0, -200]] * 2, atol=1e-4)


@pytest.mark.parametrize('name, groups', [('ten', 1), ('144', 1), ('multiscale', 3)])
def test_the_net_is_traced_by_sizes_and_not_by_views(name, groups):
    sizes = []

    def apply(images):
        sizes.append(images.shape)
        return linear(images)

    got = made(name, 16, 20, crop='random', size=14)
    jax.eval_shape(lambda x: got.logits(apply, x), pictures(2, 16, 20))
    assert len(set(sizes)) == groups and len(sizes) <= 3 * groups


def test_dense_views_slide_the_dense_head_over_the_whole_image():
    """VGG at 256x256: 2x2 places of its 224-pixel window's map, averaged, then with the mirror."""
    fields = dict(column='A', widths=(1,) * 5, units=2, classes=3)
    own = cnns.build('vgg11', **fields)
    seen = made('dense', 256, 256, crop='random', size=224)
    net = views.net_for(seen, own, 'vgg11')
    images = pictures(1, 256, 256)
    variables = jax.jit(lambda key: own.init(key, jnp.zeros((1, 224, 224, 3)), train=False))(
        jax.random.PRNGKey(0)
    )

    @jax.jit
    def both(variables, images):
        whole = normalise(images, MEAN, STD)
        maps = [
            net.apply(variables, x, train=False, features='fc8') for x in (whole, whole[:, :, ::-1])
        ]
        ours = seen.logits(lambda x: net.apply(variables, x, train=False), images)
        return maps, ours

    maps, ours = both(variables, images)
    assert maps[0].shape == (1, 2, 2, 3)
    softmax = []
    for scores in maps:
        scores = np.exp(np.asarray(scores, np.float64).mean((1, 2)))
        softmax.append(scores / scores.sum(1, keepdims=True))
    np.testing.assert_allclose(ours, np.log(np.mean(softmax, 0)), atol=1e-5)


@pytest.mark.parametrize('name', ['resnet20', 'vgg11_32px', 'googlenet_32px'])
def test_nets_with_a_global_average_take_dense_views_as_they_are(name):
    net = cnns.build(name)
    seen = made('multiscale', 40, 44, crop='random', size=32)
    assert views.net_for(seen, net, name) is net


@pytest.mark.parametrize(
    'name, side',
    [('lenet5', 32), ('mlp_300', 28), ('cuda_convnet_13pct', 24), ('alexnet_32px', 32)],
)
def test_a_net_that_cannot_read_larger_images_is_refused_for_dense_views(name, side):
    seen = made('dense', 50, 60, crop='random', size=side)
    with pytest.raises(UserError, match=f"whole images of 50x60; {name} cannot.*views='ten'"):
        views.net_for(seen, cnns.build(name, channels=3), name)


def test_other_views_leave_the_net_alone():
    net = cnns.build('vgg11')
    assert views.net_for(made('ten'), net, 'vgg11') is net


@pytest.mark.parametrize(
    'name, scales, fields, words',
    [
        ('tenn', (), {}, "unknown value of evaluation.views 'tenn'. Did you mean 'ten'"),
        ('ten', (12,), {'size': 14}, '14x14 do not fit.*shorter side is 12.*at least 14'),
        ('ten', (16, 20), {}, "one scale.*use 'multiscale'"),
        ('multiscale', (16, 16), {}, 'names a scale twice'),
        ('144', (16.5,), {}, 'numbers of pixels'),
        (
            'centre',
            (),
            {'crop': 'area', 'size': 20},
            '20x20 do not fit into images of 16x16.*at least 20, or augment.size to at most 16',
        ),
    ],
)
def test_views_that_do_not_fit_are_named_with_the_remedy(name, scales, fields, words):
    with pytest.raises(UserError, match=words):
        made(name, at=scales, **fields)


def test_views_cut_out_where_images_are_decoded_are_averaged_with_their_mirrors():
    """Images come as three views each; a mean image is scaled to them."""
    mean_image = np.random.default_rng(1).random((14, 14, 3)).astype(np.float32)
    for subtract in ('channel_std', 'pixel'):
        training = augment.augmentation(
            (14, 14, 3),
            data.Statistics(MEAN, STD, mean_image),
            whole=True,
            crop='area',
            size=7,
            subtract=subtract,
        )
        given = pictures(6, 7, 7).reshape(2, 3, 7, 7, 3)
        group = views.Group((7, 7), np.repeat(np.arange(3), 2), np.arange(6) % 2 > 0, np.ones(6))
        seen = views.CutViews('ten', (group,), training)
        small = np.asarray(augment.resize_box(mean_image, np.array([0, 0, 14, 14]), (7, 7)))
        softmax = []
        for view in np.moveaxis(given, 1, 0):
            whole = normalise(view, MEAN, STD) if subtract != 'pixel' else view / 255 - small
            for mirror in (whole, whole[:, :, ::-1]):
                scores = np.exp(np.asarray(linear(mirror), np.float64))
                softmax.append(scores / scores.sum(1, keepdims=True))
        got = jax.jit(lambda x, seen=seen: seen.logits(linear, x))(given)
        np.testing.assert_allclose(got, np.log(np.mean(softmax, 0)), atol=1e-4)
        assert len(seen(given)) == seen.count == 6


def test_crops_of_whole_images_are_not_cropped_again_on_the_device():
    training = trained(16, 20, whole=True, crop='area', size=9, flip=True, affine=True)
    assert [kind.name for kind in training.kinds] == ['affine', 'flip']
    assert training.cut == data.Crop('area', (9, 9)) and training.size == (9, 9)
    assert trained(16, 20, crop='area', size=9).cut is None
    assert trained(16, 20, whole=True, crop='random', size=9).cut is None
    assert training(jax.random.PRNGKey(0), pictures(2, 9, 9)).shape == (2, 9, 9, 3)
