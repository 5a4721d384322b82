"""Every augmentation against a plain loop with the same draws, and what the draws may be."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from PIL import Image

from configs import base
from experiments import data
from experiments.data import statistics
from experiments.errors import UserError
from experiments.preprocess import augment, photometric, views
from experiments.train.evaluate import normalise

KEY = jax.random.PRNGKey(3)
MANY = 40_000  # draws of a distribution


def pictures(n=4, height=12, width=10, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, channels), np.uint8)


def made(images, **values):
    """The augmentation with these values of these images."""
    return augment.augmentation(images.shape[1:], statistics.of_images(images), **values)


def draws_of(kind, n, first=0):
    """The draws as a list of plain dicts, one for each image."""
    draws = jax.device_get(jax.jit(kind.draws, static_argnums=(1, 2))(KEY, n, first))
    return [{name: value[i] for name, value in draws.items()} for i in range(n)]


def flip_loop(image, draws):
    return image[:, ::-1] if draws['mirrored'] else image


def crop_loop(image, draws, size):
    out = np.zeros((*size, image.shape[-1]), image.dtype)
    for y in range(size[0]):
        for x in range(size[1]):
            i, j = draws['box'][0] + y, draws['box'][1] + x
            if 0 <= i < image.shape[0] and 0 <= j < image.shape[1]:
                out[y, x] = image[i, j]
    return out


def weights_loop(start, length, size, n):
    """Triangle filter, wide as a pixel of the larger grid: float64 [size, n]."""
    step = length / size
    out = np.zeros((size, n))
    for i in range(size):
        centre = start + (i + 0.5) * step
        for j in range(n):
            out[i, j] = max(0, 1 - abs(centre - (j + 0.5)) / max(step, 1))
        out[i] /= out[i].sum()
    return out


def box_loop(image, box, size):
    top, left, height, width = map(float, box)
    rows = weights_loop(top, height, size[0], image.shape[0])
    columns = weights_loop(left, width, size[1], image.shape[1])
    return np.einsum('yi,xj,ijc->yxc', rows, columns, image.astype(np.float64))


def any_box_loop(image, draws, size):
    """By Pillow, in the way that was drawn."""
    way = ('BILINEAR', 'BOX', 'NEAREST', 'BICUBIC')[draws['way']]
    top, left, height, width = map(float, draws['box'])
    planes = [
        Image.fromarray(image[..., c].astype(np.float32)).resize(
            size[::-1], Image.Resampling[way], box=(left, top, left + width, top + height)
        )
        for c in range(image.shape[-1])
    ]
    return np.stack(planes, -1)


def photo_loop(image, draws):
    image = image.astype(np.float64)
    for which in photometric.ORDERS[draws['order']]:
        grey = image @ [0.299, 0.587, 0.114]
        base = [0, grey.mean(), grey[..., None]][which]
        image = np.clip(base + draws['factors'][which] * (image - base), 0, 255)
    return image


def affine_loop(image, draws):
    """The docstring's forward map, inverted by a linear solve, then four neighbours weighted."""
    height, width, _ = image.shape
    s, q, k = (float(draws[name]) for name in ('scale', 'squeeze', 'shear'))
    forward = np.array([[s / q, 0], [k * s * q, s * q]])
    centre = np.array([(height - 1) / 2, (width - 1) / 2])
    out = np.zeros(image.shape)
    for y in range(height):
        for x in range(width):
            i, j = np.linalg.solve(forward, np.array([y, x]) - centre - draws['shift']) + centre
            for a in (int(np.floor(i)), int(np.floor(i)) + 1):
                for b in (int(np.floor(j)), int(np.floor(j)) + 1):
                    weight = (1 - abs(i - a)) * (1 - abs(j - b))
                    out[y, x] += (
                        weight * image[min(max(a, 0), height - 1), min(max(b, 0), width - 1)]
                    )
    return out


SHAPE = (12, 10, 3)
COMPONENTS = statistics.of_images(pictures(20)).components
KINDS = {
    'flip': (augment.mirror(), flip_loop),
    'random': (augment.random_crop(SHAPE, (7, 6)), functools.partial(crop_loop, size=(7, 6))),
    'pad': (
        augment.random_crop(SHAPE, (12, 10), pad=4),
        functools.partial(crop_loop, size=(12, 10)),
    ),
    'scale': (
        augment.scale_jitter(SHAPE, (8, 8), (8, 24)),
        lambda image, draws: box_loop(image, draws['box'], (8, 8)),
    ),
    'area': (
        augment.area_crop(SHAPE, (8, 9)),
        lambda image, draws: box_loop(image, draws['box'], (8, 9)),
    ),
    'interpolation': (
        augment.area_crop(SHAPE, (8, 9), 'random'),
        functools.partial(any_box_loop, size=(8, 9)),
    ),
    'photometric': (augment.photometric_distortion(), photo_loop),
    'colour': (
        augment.pca_colour(COMPONENTS, 0.1),
        lambda image, draws: (
            image / 255
            + sum(
                draws['alpha'][i] * COMPONENTS.values[i] * COMPONENTS.vectors[:, i]
                for i in range(3)
            )
        ),
    ),
    'affine': (augment.affine_distortion(SHAPE), affine_loop),
}


COMPILED = {name: jax.jit(kind) for name, (kind, _) in KINDS.items()}


@pytest.mark.parametrize('name', KINDS)
def test_each_kind_equals_a_plain_loop_with_the_same_draws(name):
    kind, loop = KINDS[name]
    images = pictures(6)
    got = COMPILED[name](KEY, images)
    wanted = np.stack([loop(image, draws) for image, draws in zip(images, draws_of(kind, 6))])
    assert got.shape == wanted.shape
    if wanted.dtype == np.uint8:
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, wanted)
    else:
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, wanted, atol=2e-3 if name != 'colour' else 1e-6)


@pytest.mark.parametrize('name', KINDS)
def test_draws_differ_between_images_and_follow_from_the_key(name):
    images, apply = np.repeat(pictures(1), 6, 0), COMPILED[name]
    got = np.asarray(apply(KEY, images))
    assert len({image.tobytes() for image in got}) > 1
    np.testing.assert_array_equal(got, apply(KEY, images))
    assert not np.array_equal(got, apply(jax.random.PRNGKey(4), images))


@pytest.mark.parametrize('name', ['pad', 'scale', 'area', 'affine'])
def test_what_is_read_lies_in_the_image(name):
    """Of an even image every result is even, but for the zeros that 'pad' writes itself."""
    images = np.full((6, *SHAPE), 200, np.uint8)
    got = np.asarray(COMPILED[name](KEY, images))
    if name == 'pad':
        assert set(np.unique(got)) == {0, 200}
    else:
        np.testing.assert_allclose(got, 200, rtol=1e-5)


# --- distributions ---------------------------------------------------------------------------


def test_a_crop_of_224_from_256_reaches_every_place_of_the_paper_and_its_mirror():
    crops = draws_of_many(augment.random_crop((256, 256, 3), (224, 224)))
    mirrored = draws_of_many(augment.mirror())['mirrored']
    views = set(zip(*crops['box'][:, :2].T.tolist(), mirrored.tolist()))
    # the paper says 2048 = 32 x 32 x 2; an edge of 32 pixels has 33 places
    assert views == {(y, x, m) for y in range(33) for x in range(33) for m in (False, True)}
    assert len([view for view in views if view[0] < 32 and view[1] < 32]) == 2048
    assert abs(mirrored.mean() - 0.5) < 4 * 0.5 / MANY**0.5


def draws_of_many(kind):
    return jax.device_get(jax.jit(lambda key: kind.draws(key, MANY))(KEY))


def test_padding_by_4_reaches_all_81_places_as_often():
    crops = draws_of_many(augment.random_crop((32, 32, 3), (32, 32), pad=4))
    top, left = crops['box'][:, :2].T + 4
    counts = np.bincount(top * 9 + left, minlength=81)
    assert len(counts) == 81
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize('height, width', [(64, 64), (48, 64), (40, 120)])
def test_areas_are_even_and_aspects_bounded_and_every_box_fits(height, width):
    draws = draws_of_many(augment.area_crop((height, width, 3), (32, 32)))
    top, left, h, w = draws['box'].astype(np.float64).T
    area, aspect = h * w / (height * width), w / h
    np.testing.assert_allclose(area, draws['area'], rtol=1e-3)
    largest = 1 if width < 2 * height else 4 / 9  # 120x40: the largest of 4:3 is 53.3x40
    assert area.min() >= 0.08 * 0.999 and area.max() <= largest * 1.001
    assert scipy.stats.kstest(area, 'uniform', (0.08, largest - 0.08)).pvalue > 1e-3
    assert aspect.min() >= 0.75 * 0.999 and aspect.max() <= 4 / 3 * 1.001
    assert aspect.min() < 0.76 and aspect.max() > 1.32
    assert top.min() >= 0 and left.min() >= 0
    assert (top + h).max() <= height + 1e-3 and (left + w).max() <= width + 1e-3


def test_an_upright_and_a_lying_crop_of_a_square_are_as_likely():
    _, _, h, w = draws_of_many(augment.area_crop((64, 64, 3), (32, 32)))['box'].T
    assert abs(np.mean(w > h) - 0.5) < 4 * 0.5 / MANY**0.5


def test_the_jittered_side_is_every_number_of_the_range_and_boxes_fit():
    draws = draws_of_many(augment.scale_jitter((300, 256, 3), (224, 224), (256, 512)))
    assert set(draws['S'].tolist()) == set(range(256, 513))
    top, left, h, w = draws['box'].astype(np.float64).T
    np.testing.assert_allclose(h, 224 * 256 / draws['S'], rtol=1e-6)
    np.testing.assert_array_equal(h, w)
    assert min(top.min(), left.min()) == 0
    assert 298 < (top + h).max() <= 300.001 and 255 < (left + w).max() <= 256.001


def test_colour_moves_pixels_by_the_eigenvalue_times_a_tenth():
    kind = augment.pca_colour(COMPONENTS, 0.1)
    shifts = np.asarray(jax.jit(kind)(KEY, np.zeros((MANY, 1, 1, 3), np.uint8)))[:, 0, 0]
    wanted = (COMPONENTS.vectors * (0.1 * COMPONENTS.values) ** 2) @ COMPONENTS.vectors.T
    np.testing.assert_allclose(np.cov(shifts.T), wanted, atol=0.03 * np.trace(wanted))


def test_colour_of_grey_photographs_on_0_1_moves_them_by_hundredths():
    """Even grey pixels have the variance 3 / 12 along (1, 1, 1): l1 p1 a is 0.1 / 4 / sqrt(3)."""
    grey = np.repeat(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1), 3, -1)
    components = statistics.of_images(grey).components
    np.testing.assert_allclose(components.values, [0.25, 0, 0], atol=2e-3)
    np.testing.assert_allclose(components.vectors[:, 0], 3**-0.5, rtol=1e-5)
    shifts = augment.pca_colour(components, 0.1)(KEY, np.zeros((2000, 1, 1, 3), np.uint8))
    np.testing.assert_allclose(np.std(shifts), 0.1 / 4 / 3**0.5, rtol=0.1)


def test_affine_draws_keep_their_ranges_and_one_image_in_ten():
    draws = draws_of_many(augment.affine_distortion((28, 28, 1)))
    still = (
        (draws['shift'] == 0).all(1)
        & (draws['scale'] == 1)
        & (draws['squeeze'] == 1)
        & (draws['shear'] == 0)
    )
    assert abs(still.mean() - 0.1) < 4 * 0.3 / MANY**0.5
    for value, low, high in (
        (draws['shift'], -2, 2),
        (draws['scale'], 1 / 1.15, 1.15),
        (draws['squeeze'], 1 / 1.15, 1.15),
        (draws['shear'], -0.3, 0.3),
    ):
        assert low <= value.min() < low + 0.01 and high - 0.01 < value.max() <= high


def test_affine_with_no_distortion_gives_the_image_back():
    kind, image = augment.affine_distortion(SHAPE), pictures(1)[0]
    still = {'shift': jnp.zeros(2), 'scale': 1.0, 'squeeze': 1.0, 'shear': 0.0}
    np.testing.assert_array_equal(kind.apply(image, still), image)
    moved = kind.apply(image, still | {'shift': jnp.array([2.0, -1.0])})
    np.testing.assert_array_equal(moved[2:, :-1], image[:-2, 1:])


# --- statistics ------------------------------------------------------------------------------


# --- composition -----------------------------------------------------------------------------


def test_by_default_the_net_sees_what_it_saw_without_augmentation():
    got = made(pictures())(KEY, pictures(seed=1))
    np.testing.assert_array_equal(got, normalise(pictures(seed=1), *data.moments(pictures())))


def test_all_kinds_together_equal_a_plain_loop_in_the_documented_order():
    images = pictures(5)
    augmentation = made(
        images,
        crop='pad',
        pad=2,
        size=9,
        flip=True,
        colour=0.1,
        affine=True,
        photometric=True,
        subtract='pixel',
        white=255.0,
    )
    got = jax.jit(augmentation)(KEY, images)
    components = statistics.of_images(images).components
    draws = {
        kind.name: jax.device_get(kind.draws(jax.random.fold_in(KEY, augment.KEYS[kind.name]), 5))
        for kind in augmentation.kinds
    }
    assert list(draws) == list(augment.ORDER)
    mean = (images / 255).mean(0)
    for i, image in enumerate(images):
        own = {
            name: {key: value[i] for key, value in values.items()} for name, values in draws.items()
        }
        image = photo_loop(image, own['photometric']) / 255 - mean
        image = affine_loop(image, own['affine'])
        image = crop_loop(image, own['crop'], (9, 9))
        image = flip_loop(image, own['flip'])
        image = image + components.vectors @ (components.values * own['colour']['alpha'])
        np.testing.assert_allclose(got[i], 255 * image, atol=0.01)


def test_zeros_around_an_image_are_the_mean():
    images = pictures(3)
    got = made(images, crop='pad', pad=40)(KEY, images)
    assert float(jnp.mean(got == 0)) > 0.5


def test_switching_one_kind_off_changes_no_draw_of_the_others():
    images = pictures(6)
    crops = made(images, crop='random', size=7)(KEY, images)
    both = made(images, crop='random', size=7, flip=True)(KEY, images)
    mirrored = 0
    for one, other in zip(crops, both):
        same = np.array_equal(one, other)
        assert same or np.array_equal(one[:, ::-1], other)
        mirrored += not same
    assert 0 < mirrored < 6


def test_random_interpolation_takes_the_same_crops_in_all_ways_alike():
    plain, drawn = (
        augment.area_crop(SHAPE, (8, 9), way).draws(KEY, 2000) for way in base.INTERPOLATIONS
    )
    np.testing.assert_array_equal(plain['box'], drawn['box'])
    counts = np.bincount(drawn['way'], minlength=4)
    assert len(counts) == 4 and (abs(counts - 500) < 4 * np.sqrt(2000 * 3 / 16)).all()


def test_photometric_factors_fill_their_range_in_every_order():
    draws = jax.device_get(augment.photometric_distortion().draws(KEY, 3000))
    assert 0.5 <= draws['factors'].min() < 0.51 and 1.49 < draws['factors'].max() <= 1.5
    assert abs(draws['factors'].mean(0) - 1).max() < 0.03
    assert (abs(np.bincount(draws['order'], minlength=6) - 500) < 90).all()


def test_a_batch_cut_over_devices_draws_what_the_whole_batch_draws():
    images = pictures(8)
    function = made(images, crop='area', size=8, flip=True, colour=0.1)
    whole = np.asarray(jax.jit(function)(KEY, images))
    step = jax.pmap(lambda own: function(KEY, own, jax.lax.axis_index('d') * 2), 'd')
    np.testing.assert_allclose(np.concatenate(step(images.reshape(4, 2, *SHAPE))), whole, atol=1e-5)


def test_devices_with_keys_of_their_own_draw_as_vmap_does():
    images = np.repeat(pictures(2)[None], 4, 0)
    function = made(pictures(), crop='random', size=8, flip=True)

    def step(own):
        return function(jax.random.fold_in(KEY, jax.lax.axis_index('d')), own)

    over_devices = np.asarray(jax.pmap(step, 'd')(images))
    np.testing.assert_allclose(
        over_devices, jax.jit(jax.vmap(step, axis_name='d'))(images), atol=1e-5
    )
    assert not np.allclose(over_devices[0], over_devices[1])


@pytest.mark.parametrize(
    'fields, size',
    [
        ({}, (12, 10, 3)),
        ({'size': 9}, (9, 9, 3)),
        ({'crop': 'pad'}, (12, 10, 3)),
        ({'crop': 'random', 'size': 8}, (8, 8, 3)),
        ({'crop': 'area'}, (12, 10, 3)),
        ({'crop': 'area', 'size': 16}, (16, 16, 3)),
        ({'crop': 'scale'}, (10, 10, 3)),
        ({'crop': 'scale', 'size': 20, 'scales': (20, 30)}, (20, 20, 3)),
    ],
)
def test_size_is_the_size_that_comes_out(fields, size):
    augmentation = made(pictures(), **fields)
    assert augmentation.size == size[:2]
    out = jax.eval_shape(augmentation, KEY, pictures())
    assert out.shape == (4, *size) and out.dtype == np.float32


@pytest.mark.parametrize(
    'fields, words',
    [
        ({'crop': 'rendom'}, "unknown value of augment.crop 'rendom'. Did you mean 'random'"),
        ({'subtract': 'pixels'}, "Did you mean 'pixel'"),
        ({'crop': 'random', 'size': 11}, '11x11 does not fit into images of 12x10.* at most 10'),
        ({'size': 13}, '13x13 does not fit'),
        ({'crop': 'pad', 'pad': 1, 'size': 13}, '12x10 with 1 zeros around.* at most 12'),
        ({'crop': 'random'}, 'one place only'),
        ({'crop': 'pad', 'pad': 0}, 'one place only'),
        ({'crop': 'scale', 'size': 10, 'scales': (9, 20)}, 'shorter side of 9, smaller than'),
        ({'crop': 'scale', 'scales': (20, 10)}, 'lowest and the highest'),
        ({'interpolation': 'any'}, "unknown value of augment.interpolation 'any'"),
        ({'interpolation': 'random'}, "belongs to augment.crop='area'; the crop is 'none'"),
        ({'colour': -0.1}, 'augment.colour is -0.1'),
    ],
)
def test_fields_that_do_not_fit_are_named_with_the_remedy(fields, words):
    with pytest.raises(UserError, match=words):
        made(pictures(), **fields)
    with pytest.raises(UserError, match=words):  # before any statistics are computed
        augment.needs(SHAPE, **(base.get_config().augment.to_dict() | fields))


@pytest.mark.parametrize(
    'fields, wanted',
    [
        ({}, set()),
        ({'subtract': 'pixel'}, {'mean_image'}),
        ({'colour': 0.1}, {'components'}),
        ({'subtract': 'pixel', 'colour': 0.1}, {'mean_image', 'components'}),
    ],
)
def test_the_statistics_that_are_needed_are_named(fields, wanted):
    images = pictures()
    values = base.get_config().augment.to_dict() | fields
    assert augment.needs(SHAPE, **values) == wanted
    for name in wanted:
        lacking = statistics.of_images(images)._replace(**{name: None})
        with pytest.raises(ValueError, match=f'these statistics have no {name}'):
            augment.augmentation(SHAPE, lacking, **values)


def test_the_defaults_are_those_of_the_base_config():
    given = inspect.signature(augment.augmentation).parameters
    defaults = base.get_config().augment.to_dict()
    assert {name: given[name].default for name in defaults} == defaults


def test_permuted_images_have_their_pixels_in_one_other_order_in_training_and_test():
    rng = np.random.default_rng(0)
    images = rng.permutation(2 * 16 * 3).reshape(2, 4, 4, 3).astype(np.uint8)
    statistics = data.Statistics(np.zeros(3, np.float32), np.ones(3, np.float32))
    plain, other = (
        augment.augmentation((4, 4, 3), statistics, permute=permute) for permute in (False, True)
    )
    key = jax.random.PRNGKey(0)
    before, after = (np.asarray(one(key, images)).reshape(2, 16, 3) for one in (plain, other))
    order = [before[0].tolist().index(pixel.tolist()) for pixel in after[0]]
    assert sorted(order) == list(range(16)) and order != list(range(16))
    np.testing.assert_array_equal(after, before[:, order])
    (seen,) = views.views('centre', other, ())(images)
    np.testing.assert_array_equal(np.asarray(seen).reshape(2, 16, 3), after)
