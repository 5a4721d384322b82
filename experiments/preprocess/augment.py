"""What the net sees of a training image, drawn again every time: the papers' augmentations.

    augment = augmentation((32, 32, 3), statistics, crop='pad', flip=True)
    images = augment(key, batch['image'])    # uint8 [n, H, W, C] -> float32 [n, h, w, C]

All of it runs on the device, inside the compiled step. Each kind of augmentation is a `Kind`: its
draws for one image, a function of a key, and what they do to the image, a function without chance.
Image i of a batch draws from fold_in(key, first + i), so a batch cut over devices or micro-batches
draws what the whole batch would, if each slice says where it starts.

The order is fixed, whatever is switched on, and each kind draws from a key of its own: switching
one off changes nothing that the others draw.

    1  photometric distortions
    2  pixels / 255, minus the mean of the train split, per channel or per pixel
    3  affine distortion
    4  crop
    5  flip
    6  colour
    7  divided by the standard deviation ('channel_std'), or times `white`
    8  with `permute`, all pixels in another order, the same for every image

The mean is subtracted before the crop, so that the zeros around a padded image are the mean and not
black, and so that a mean per pixel belongs to the place in the image and not to the place in the
crop: this is the order of the papers that have it (Krizhevsky et al. 2012, Sec. 2; He et al. 2015,
Sec. 4.2).

With config.data.whole, crops of 'scale' and 'area' are drawn and cut out where the image is decoded
(experiments/data/crops.py), before all of these. A mean image is then scaled to the crop.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs import base
from experiments.data import Components, Crop, Dataset, Statistics, statistics_of
from experiments.data.crops import area_region
from experiments.errors import UserError, one_of, shown
from experiments.preprocess import photometric, resample

ORDER = ('photometric', 'affine', 'crop', 'flip', 'colour')
# Each kind's key is fold_in(key, its number): numbers stay when kinds are added
KEYS = {'affine': 0, 'crop': 1, 'flip': 2, 'colour': 3, 'photometric': 4}

# LeCun et al. 1998 give no ranges; these are ours. A few digits of MNIST then touch the edge of
# 32x32 pixels, where they may be cut.
SHIFT = 2 / 28  # of the image's height and width
SCALE = 0.15  # enlarged or shrunk by at most this factor
SQUEEZE = 0.15  # width times up to this factor, height divided by it, or the reverse
SHEAR = 0.3  # pixels to the side for each pixel of height
UNDISTORTED = 0.1  # 60,000 of their 600,000 images were the undistorted ones


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of augmentation.

    draw: key -> the draws of one image, a dict of scalars and small arrays.
    apply: (image [H, W, C], draws) -> image [h, w, C]. Nothing outside the image is ever read.
    title: its words on a contact sheet.
    """

    name: str
    title: str
    draw: Callable
    apply: Callable

    def draws(self, key: jax.Array, n: int, first: int | jax.Array = 0) -> dict[str, jax.Array]:
        """The draws of images first, ..., first + n - 1: `draw`'s dict, each value [n, ...]."""
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(n))
        return jax.vmap(self.draw)(keys)

    def __call__(self, key, images, first=0):
        """[n, H, W, C] -> [n, h, w, C]; `first`: place of images[0] in the global batch."""
        return jax.vmap(self.apply)(images, self.draws(key, len(images), first))


# --- kinds -----------------------------------------------------------------------------------


def mirror() -> Kind:
    """Every second image mirrored, at random: left becomes right (Krizhevsky 2012, Sec. 4.1).

    Draws: mirrored, bool. The dtype is kept.
    """

    draw = lambda key: {'mirrored': jax.random.bernoulli(key)}
    apply = lambda image, draws: jnp.where(draws['mirrored'], image[:, ::-1], image)
    return Kind('flip', 'mirrored or not', draw, apply)


def random_crop(shape: Sequence[int], size: tuple[int, int], pad: int = 0) -> Kind:
    """A crop of `size` (h, w) at one of (H - h + 1) (W - w + 1) places, all as likely.

    224 or 227 of 256x256 for AlexNet (Krizhevsky et al. 2012, Sec. 4.1: with the mirror images
    33 x 33 x 2 views, where the paper counts 32 x 32 x 2 = 2048), 24 of 32x32 for cuda-convnet.
    With `pad` pixels of zeros on every edge before, it is He et al. 2015, Sec. 4.2: 4 pixels
    around 32x32, a crop of 32x32.

    Draws: box, int32 [4]: top, left, height, width in pixels of the image, the first two negative
    where the crop starts in the padding. The dtype is kept.
    """

    def draw(key):
        corner = (
            jax.random.randint(own, (), -pad, shape[axis] + pad - size[axis] + 1)
            for axis, own in enumerate(jax.random.split(key))
        )
        return {'box': jnp.stack([*corner, *size])}

    def apply(image, draws):
        image = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)))
        top, left = draws['box'][:2] + pad
        return jax.lax.dynamic_slice(image, (top, left, 0), (*size, image.shape[-1]))

    around = f'{pad} zeros around {times(shape)}, then ' if pad else ''
    of = '' if pad else f' of {times(shape)}'
    return Kind('crop', f'{around}a crop of {times(size)}{of}', draw, apply)


def scale_jitter(shape: Sequence[int], size: tuple[int, int], scales: Sequence[int]) -> Kind:
    """The image scaled to a shorter side S, a whole number from scales[0] to scales[1], then a
    crop of `size` (h, w) at any place of it (Simonyan & Zisserman 2014, Sec. 3.1: S from 256 to
    512, crops of 224; He et al. 2015, Sec. 3.4: S from 256 to 480).

    Scaling and crop are one linear interpolation, with the filter widened where it shrinks; the
    filter sees the pixels next to the crop too, as it would if the whole image were scaled.

    Draws: S, int32; box, float32 [4]: top, left, height, width in pixels of the image.
    """
    short = min(shape[:2])

    def draw(key):
        keys = jax.random.split(key, 3)
        s = jax.random.randint(keys[0], (), scales[0], scales[1] + 1)
        ends = [jnp.floor_divide(shape[axis] * s, short) - size[axis] + 1 for axis in (0, 1)]
        corner = [jax.random.randint(keys[axis + 1], (), 0, ends[axis]) for axis in (0, 1)]
        return {'S': s, 'box': jnp.stack([*corner, *size]).astype(jnp.float32) * (short / s)}

    words = f'{scales[0]}' if scales[0] == scales[1] else f'{scales[0]} to {scales[1]}'
    title = f'a crop of {times(size)} of the image scaled to a shorter side of {words}'
    return Kind('crop', title, draw, lambda image, draws: resize_box(image, draws['box'], size))


def area_crop(shape: Sequence[int], size: tuple[int, int], interpolation: str = 'bilinear') -> Kind:
    """A crop of 8 to 100 % of the image's area (`data.crops.area_region`), scaled to `size` (h, w)
    (Szegedy et al. 2014, Sec. 6).

    Linear interpolation, the filter widened where it shrinks, or with 'random' one of
    resample.WAYS, all as likely (the same place).

    Draws: area, float32, a fraction; box, float32 [4]: top, left, height, width in pixels; with
    'random' way, int32, a place in resample.WAYS.
    """

    def draw(key):
        uniform = [jax.random.uniform(own) for own in jax.random.split(key, 4)]
        area, box = area_region(uniform, shape[0], shape[1], jnp)
        draws = {'area': area, 'box': box}
        if interpolation == 'random':  # a key apart, so that the crop is the same without it
            draws['way'] = jax.random.randint(jax.random.fold_in(key, 1), (), 0, len(resample.WAYS))
        return draws

    def apply(image, draws):
        if interpolation == 'random':
            return resample.resize_box(image, draws['box'], size, draws['way'])
        return resize_box(image, draws['box'], size)

    by = ' by one of four interpolations' if interpolation == 'random' else ''
    title = f'a crop of 8 to 100 % of the area, scaled to {times(size)}{by}'
    return Kind('crop', title, draw, apply)


def resize_box(image: jax.Array, box: jax.Array | np.ndarray, size: tuple[int, int]) -> jax.Array:
    """The region `box` of an image scaled to `size`: [H, W, C] -> float32 [h, w, C].

    box: top, left, height, width, float32 in pixels, inside the image; the values may be traced,
    the size not. Linear interpolation between the centres of pixels; where it shrinks, the filter
    is as wide as a pixel of the result, so that nothing aliases.
    """
    image, shape = image.astype(jnp.float32), (*size, image.shape[-1])
    scale = jnp.array(size, jnp.float32) / box[2:]
    return jax.image.scale_and_translate(image, shape, (0, 1), scale, -box[:2] * scale, 'linear')


def pca_colour(components: Components, std: float) -> Kind:
    """sum_i a_i l_i p_i added to every pixel of an image, a_i ~ N(0, std^2) drawn once an image,
    with the eigenvalues l_i and vectors p_i of the pixels' covariance (Krizhevsky et al. 2012,
    Sec. 4.1, std 0.1).

    The formula depends on the scale, for l_i is a variance: pixels are on [0, 1] here, where it
    moves them by about 0.02. On 0 to 255 the same formula would move them by over a thousand.
    Nothing is clipped.

    Draws: alpha, float32 [C]. uint8 images are divided by 255; float ones must be on [0, 1], or
    that minus a mean.
    """
    steps = jnp.asarray(components.vectors * components.values, jnp.float32)

    def apply(image, draws):
        if image.dtype == jnp.uint8:
            image = image.astype(jnp.float32) / 255
        return image + jnp.dot(steps, draws['alpha'], precision='highest')

    draw = lambda key: {'alpha': std * jax.random.normal(key, components.values.shape)}
    title = f'colour along the principal components, deviation {std:g}'
    return Kind('colour', title, draw, apply)


def affine_distortion(shape: Sequence[int]) -> Kind:
    """Shift, scale, squeeze and horizontal shear together, each uniform in its range, about the
    centre (LeCun et al. 1998, Sec. III-B; the ranges SHIFT, SCALE, SQUEEZE, SHEAR are ours). One
    image in ten stays as it is, as in their training set.

    Where the distorted image does not reach, the edge is repeated: zeros would be grey bars on a
    mean-free digit. Linear interpolation.

    Draws: shift, float32 [2], pixels down and right; scale, squeeze, shear, float32 scalars: a
    pixel at (y, x) from the centre goes to (y scale / squeeze, (x + shear y) scale squeeze).
    """
    height, width = shape[:2]

    def draw(key):
        keys = jax.random.split(key, 5)
        distorted = ~jax.random.bernoulli(keys[0], UNDISTORTED)
        uniform = lambda key, shape=(): distorted * jax.random.uniform(key, shape, minval=-1)
        return {
            'shift': uniform(keys[1], (2,)) * SHIFT * jnp.array([height, width]),
            'scale': (1 + SCALE) ** uniform(keys[2]),
            'squeeze': (1 + SQUEEZE) ** uniform(keys[3]),
            'shear': SHEAR * uniform(keys[4]),
        }

    def apply(image, draws):
        centre = jnp.array([height - 1, width - 1]) / 2
        y, x = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing='ij')
        y, x = y - centre[0] - draws['shift'][0], x - centre[1] - draws['shift'][1]
        y = y * draws['squeeze'] / draws['scale']
        x = x / (draws['squeeze'] * draws['scale']) - draws['shear'] * y
        places = [y + centre[0], x + centre[1]]
        moved = functools.partial(
            jax.scipy.ndimage.map_coordinates, coordinates=places, order=1, mode='nearest'
        )
        return jax.vmap(moved, in_axes=-1, out_axes=-1)(image.astype(jnp.float32))

    return Kind('affine', 'shift, scale, squeeze and shear', draw, apply)


def photometric_distortion() -> Kind:
    """Brightness, contrast and colour, each by a factor from 0.5 to 1.5 and in a random order
    (Howard 2013, Some improvements on deep convolutional neural network based image
    classification; used by Szegedy et al. 2014, Sec. 6).

    Images are on 0 to 255, uint8 or float; the result is float32 on 0 to 255, not rounded.

    Draws: factors, float32 [3], of photometric.NAMES; order, int32, a place in photometric.ORDERS.
    """

    count, low, high = len(photometric.NAMES), photometric.LOW, photometric.HIGH

    def draw(key):
        keys = jax.random.split(key)
        factors = jax.random.uniform(keys[0], (count,), minval=low, maxval=high)
        order = jax.random.randint(keys[1], (), 0, len(photometric.ORDERS))
        return {'factors': factors, 'order': order}

    def apply(image, draws):
        return photometric.distort(image.astype(jnp.float32), draws['factors'], draws['order'])

    title = 'brightness, contrast and colour by 0.5 to 1.5, in any order'
    return Kind('photometric', title, draw, apply)


# --- all of them -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Augmentation:
    """What the net sees of training images of one shape: function(key, images, first=0).

    images: uint8 [n, H, W, C] -> float32 [n, h, w, C], ready for the net. first: the place of
    images[0] in the global batch, axis_index * n where devices share it.
    """

    kinds: tuple[Kind, ...]  # in their order; without the crop where the feed gives crops
    shape: tuple[int, ...]  # (H, W, C) of the images
    size: tuple[int, int]  # (h, w) that the net sees
    scales: tuple[int, ...]  # lowest and highest shorter side that the images are scaled to
    prepare: Callable  # images [n, H, W, C] on 0 to 255 -> images / 255 minus the mean: step 2
    finish: Callable  # steps 7 and 8
    cut: Crop | None = None  # of the whole images, which the feed draws and cuts out

    def __call__(self, key, images, first=0):
        def drawn(kind, images):
            return kind(jax.random.fold_in(key, KEYS[kind.name]), images, first)

        first_kinds = [kind for kind in self.kinds if kind.name == 'photometric']
        for kind in first_kinds:
            images = drawn(kind, images)
        images = self.prepare(images)
        for kind in self.kinds[len(first_kinds) :]:
            images = drawn(kind, images)
        return self.finish(centre_crop(images, self.size))  # cuts nothing off after another crop


def augmentation(
    shape: tuple[int, ...],
    statistics: Statistics,
    *,
    whole: bool = False,
    crop: str = 'none',
    size: int = 0,
    pad: int = 4,
    scales: Sequence[int] = (256, 512),
    interpolation: str = 'bilinear',
    photometric: bool = False,
    flip: bool = False,
    colour: float = 0.0,
    affine: bool = False,
    subtract: str = 'channel_std',
    white: float = 1.0,
    permute: bool = False,
) -> Augmentation:
    """The augmentation of images [H, W, C]; the values are the fields of config.augment.

    statistics: of the train split, with the fields that `needs` names. whole: config.data.whole;
    what is given are then crops of the size that the net sees, as the feed cuts them out (`cut`).

    Raises:
      UserError: values that are unknown or do not fit the images.
    """
    _check(shape, crop, size, pad, scales, interpolation, colour, subtract, whole)
    height, width, _ = shape
    short = min(height, width)
    seen = (size, size) if size else (short, short) if crop == 'scale' else (height, width)
    kinds, cut = [], None
    if whole and crop in base.OF_WHOLE:
        cut = Crop(crop, seen, tuple(scales) if crop == 'scale' else (), interpolation)
    if photometric:
        kinds.append(photometric_distortion())
    if affine:
        kinds.append(affine_distortion(seen if cut else shape))
    if cut:
        pass
    elif crop in ('pad', 'random'):
        kinds.append(random_crop(shape, seen, pad if crop == 'pad' else 0))
    elif crop == 'scale':
        kinds.append(scale_jitter(shape, seen, tuple(scales)))
    elif crop == 'area':
        kinds.append(area_crop(shape, seen, interpolation))
    if flip:
        kinds.append(mirror())
    if colour:
        kinds.append(pca_colour(needed(statistics, 'components'), colour))
    mean = np.asarray(needed(statistics, 'mean_image' if subtract == 'pixel' else 'mean'))
    mean = mean.astype(np.float32)
    std = np.asarray(statistics.std, np.float32)

    def prepare(images):
        own: Any = mean
        if mean.ndim == 3 and images.shape[1:3] != mean.shape[:2]:  # crops of whole images
            box = np.array([0, 0, *mean.shape[:2]])
            own = resize_box(jnp.asarray(mean), box, images.shape[1:3])
        return images.astype(jnp.float32) / 255 - own

    def finish(images):
        if subtract == 'channel_std':
            images = images / std
        elif white != 1:
            images = images * white
        return permuted(images) if permute else images

    return Augmentation(
        tuple(kinds),
        tuple(shape),
        seen,
        tuple(scales) if crop == 'scale' else (short, short),
        prepare,
        finish,
        cut,
    )


def of_config(config: Any, dataset: Dataset) -> Augmentation:
    """The augmentation of a config's training on a data set.

    Raises:
      UserError: as `augmentation` does, before any statistics are computed.
    """
    given = dict(config.augment, whole=config.data.whole)
    statistics = statistics_of(dataset, needs(dataset.shape, **given))
    return augmentation(dataset.shape, statistics, **given)


def needs(shape: tuple[int, ...], *, colour: float, subtract: str, **others: Any) -> set[str]:
    """The fields of Statistics that an augmentation with these values needs beside mean and std.

    Raises:
      UserError: as `augmentation` does, before any statistics are computed.
    """
    _check(shape, colour=colour, subtract=subtract, **others)
    found = {'components'} if colour else set()
    return found | {'mean_image'} if subtract == 'pixel' else found


def permuted(images: jax.Array) -> jax.Array:
    """Images [n, H, W, C] with all pixels in another order, one and the same for every size.

    What is known of an image stays, but no pixel's neighbours are its own (a test of what a
    convolution gains by them).
    """
    pixels = images.reshape(len(images), -1, images.shape[-1])
    order = np.random.default_rng(0).permutation(pixels.shape[1])
    return pixels[:, order].reshape(images.shape)


def centre_crop(images: jax.Array, size: tuple[int, int]) -> jax.Array:
    """The middle: [..., H, W, C] -> [..., h, w, C]; the far edge loses an odd pixel."""
    top, left = ((n - m) // 2 for n, m in zip(images.shape[-3:-1], size))
    return images[..., top : top + size[0], left : left + size[1], :]


def needed(statistics: Statistics, name: str) -> Any:
    """A field of Statistics. ValueError where it was not computed."""
    value = getattr(statistics, name)
    if value is None:
        raise ValueError(f'these statistics have no {name}: ask for what `needs` names')
    return value


def _check(
    shape, crop, size, pad, scales, interpolation, colour, subtract, whole=False, **others
) -> None:
    """UserError for values that are unknown or do not fit the images; `others` need no check."""
    allowed = base.CROPS, base.SUBTRACT, base.INTERPOLATIONS
    given = {'crop': crop, 'subtract': subtract, 'interpolation': interpolation}
    for (name, value), names in zip(given.items(), allowed):
        if value not in names:
            raise one_of(f'value of augment.{name}', value, names)
    for name, number in (('size', size), ('pad', pad), ('colour', colour)):
        if not number >= 0:
            raise UserError(f'augment.{name} is {number}, it must be a number from 0.')
    if interpolation == 'random' and crop != 'area':
        raise UserError(
            f"augment.interpolation='random' belongs to augment.crop='area'; the crop "
            f"is {crop!r}. Set the interpolation to 'bilinear'."
        )
    height, width, _ = shape
    short, room = min(height, width), 2 * pad if crop == 'pad' else 0
    most = short + room
    words = f'images of {times((height, width))}' + (f' with {pad} zeros around' if room else '')
    if crop in ('none', 'pad', 'random') and size > most:
        raise UserError(
            f'augment.size: a crop of {times((size, size))} does not fit into {words}. Set it to '
            f'at most {most}, or data.resize to at least {size - room}.'
        )
    everything = not size or (size, size) == (height + room, width + room)
    if crop in ('pad', 'random') and everything and not (crop == 'pad' and pad and not size):
        other = ', augment.pad above 0' if crop == 'pad' else ''
        raise UserError(
            f'augment.crop={crop!r} has one place only for {times((size, size))} in {words}. Set '
            f"augment.size below {most}{other} or augment.crop to 'none'."
        )
    if crop == 'scale':
        scales = tuple(scales)
        if len(scales) != 2 or not all(type(s) is int for s in scales) or scales[0] > scales[1]:
            raise UserError(
                f'augment.scales is {shown(scales)}, it must be the lowest and the '
                'highest number of pixels of the shorter side, such as 256,512.'
            )
        if scales[0] < (size or short):
            raise UserError(
                f'augment.scales starts at a shorter side of {scales[0]}, smaller than the crop of '
                f'{size or short}. Raise it or lower augment.size.'
            )


def times(shape: Sequence[int]) -> str:
    """'224x224'."""
    return f'{shape[0]}x{shape[1]}'
