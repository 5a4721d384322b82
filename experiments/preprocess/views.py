"""The views of an image that a net is evaluated on; their softmax is averaged.

    seen = views('ten', augmentation)
    logits = seen.logits(apply, batch['image'])    # uint8 [n, H, W, C] -> float32 [n, classes]

    'centre'      the middle                                                            1
    'ten'         4 corners and the middle, mirrored too                               10
                  (Krizhevsky et al. 2012, Sec. 4.1)
    'dense'       the whole image, mirrored too: fc6 slides over it                     2
                  (Simonyan & Zisserman 2014, Sec. 3.2)
    'multiscale'  the same at several scales                                   2 a scale
                  (the same, Sec. 4.2; He et al. 2015, Sec. 3.4)
    '144'         4 scales x 3 squares x (4 corners, the middle, the square scaled down)
                  x 2 mirrors (Szegedy et al. 2014, Sec. 7)                           144
    '150'         3 scales x 5x5 places x 2 mirrors                                   150
                  (Simonyan & Zisserman 2014, Sec. 3.2)

Views are made one at a time, so memory does not grow with their number, and a net is compiled once
for each size of a view. Where the feed delivers squares, GoogLeNet's three squares of a scale are
one and the same; equal views are computed once and counted as often as they occur.

With config.data.whole, test images are seen whole, whatever their shapes (`parts`): the views are
cut out while they are decoded, and 'dense' and 'multiscale' see images of one shape a batch. The
longer side is then cut to a multiple of 32 pixels, the stride of the nets, at both ends, and to
three times the shorter one.

Scales are shorter sides in pixels. Those not given are the papers': of training with a shorter side
from low to high, (low + high) / 2 and for 'multiscale' and '150' low, middle and high (Sec. 4.1 and
4.2 of VGG); of training with one shorter side that one, and for 'multiscale' and '150' 32 pixels
less and more (Sec. 4.2; below 256 pixels an eighth, which is ours); for '144' 8/7, 9/7, 10/7 and
11/7 of the side the net sees (256, 288, 320, 352 for 224).

Difference from the papers, without data.whole: images of several shapes reach the net as centre
squares (data.resize). 'dense' sees all of that square, where VGG saw all of the image.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from configs import base
from experiments.data import Streamed, crops
from experiments.errors import UserError, one_of, shown
from experiments.preprocess import augment
from experiments.preprocess.augment import Augmentation

DENSE = ('dense', 'multiscale')
MANY = {'multiscale', '144', '150'}  # those with several scales


class Group(NamedTuple):
    """Views of one size: regions of the image, in its own pixels."""

    size: tuple[int, int]
    boxes: np.ndarray  # float32 [k, 4]: top, left, height, width
    mirrored: np.ndarray  # bool [k]
    counts: np.ndarray  # int [k]: how often the view occurs


@dataclasses.dataclass(frozen=True, eq=False)
class Views:
    """The views that a net is evaluated on."""

    name: str
    groups: tuple[Group, ...]
    trained: Augmentation  # of the training, whose images and size they are of

    @property
    def count(self) -> int:
        """How many views there are; equal ones count as often as they occur."""
        return sum(int(group.counts.sum()) for group in self.groups)

    def __call__(self, images) -> list[jax.Array]:
        """All different views of images uint8 [n, H, W, C]: float32 [n, h, w, C], ready for the
        net. For looking and for tests: an evaluation never holds more than one."""
        images = self._prepared(images)
        return [
            self._view(images, group, box, mirrored)
            for group in self.groups
            for box, mirrored in zip(group.boxes, group.mirrored)
        ]

    def logits(self, apply: Callable, images: jax.Array | np.ndarray) -> jax.Array:
        """One score for each image and class: with one view `apply`'s own logits, with several
        the logarithm of their mean softmax.

        apply: float32 [n, h, w, C] -> logits [n, classes]. images: uint8 [n, H, W, C].
        """
        images = self._prepared(images)
        if self.count == 1:
            (group,) = self.groups
            return apply(self._view(images, group, group.boxes[0], group.mirrored[0]))
        total: jax.Array | float = -jnp.inf
        for group in self.groups:

            def scores(box, mirrored, group=group):
                return jax.nn.log_softmax(apply(self._view(images, group, box, mirrored)))

            def add(total, view):
                box, mirrored, count = view
                # in logarithms, so that a class that every view excludes has a finite score
                return jnp.logaddexp(total, scores(box, mirrored) + jnp.log(count)), None

            boxes = jnp.asarray(group.boxes)
            like = jax.eval_shape(scores, boxes[0], False)
            views = boxes, jnp.asarray(group.mirrored), jnp.asarray(group.counts, like.dtype)
            total = jnp.broadcast_to(total, like.shape).astype(like.dtype)
            total, _ = jax.lax.scan(add, total, views)
        return total - np.log(self.count)

    def _prepared(self, images):
        return self.trained.prepare(images)

    def _view(self, images, group, box, mirrored):
        if _exact(group):
            top, left = jnp.round(box[:2]).astype(jnp.int32)
            size = (len(images), *group.size, images.shape[-1])
            view = jax.lax.dynamic_slice(images, (0, top, left, 0), size)
        else:
            view = jax.vmap(lambda image: augment.resize_box(image, box, group.size))(images)
        return self.trained.finish(jnp.where(mirrored, view[:, :, ::-1], view))


class CutViews(Views):
    """Views that were cut out where the images were decoded: images are uint8 [n, k, h, w, C].

    The boxes of its group are places on the second axis.
    """

    def _prepared(self, images):
        return images  # all views of a batch in float32 would take four times its memory

    def _view(self, images, group, box, mirrored):
        view = self.trained.prepare(jax.lax.dynamic_index_in_dim(images, box, 1, keepdims=False))
        return self.trained.finish(jnp.where(mirrored, view[:, :, ::-1], view))


def _exact(group) -> bool:
    """Whether the views are pixels of the image as they are."""
    return bool((group.boxes[:, 2:] == group.size).all() and (group.boxes % 1 == 0).all())


# --- which views -----------------------------------------------------------------------------


def views(name: str, trained: Augmentation, scales: Sequence[int] = ()) -> Views:
    """The views of this name, of the images and the size that a net is trained on.

    name: one of configs.base.VIEWS. scales: shorter sides of the images, in pixels; (): the
    papers'.

    Raises:
      UserError: unknown views, scales that are no whole numbers or too small for a view, or too
        many scales.
    """
    if name not in base.VIEWS:
        raise one_of('value of evaluation.views', name, base.VIEWS)
    shape, size = trained.shape, trained.size
    scales = scales_of(name, trained, scales)
    if name not in DENSE:
        _check_fit(name, size, shape, scales)
    boxes = crops.PLACES.get(name, lambda sides, size: [(0, 0, *sides)])
    counts: dict[tuple, dict] = {}  # {size of a view: {(box, mirrored): how often}}
    for scale in scales:
        # the image's sides at this scale, and pixels of the image for one pixel there
        factor = min(shape[:2]) / scale
        sides = crops.scaled_sides(shape[:2], scale)
        own = counts.setdefault(sides if name in DENSE else size, {})
        for place in boxes(sides, size):
            box = tuple(np.asarray(place, np.float32) * np.float32(factor))
            if name in DENSE:
                box = (0.0, 0.0, *map(float, shape[:2]))
            for mirrored in (False, True)[: 1 if name == 'centre' else 2]:
                own[box, mirrored] = own.get((box, mirrored), 0) + 1
    groups = tuple(
        Group(
            view,
            np.asarray([box for box, _ in own], np.float32),
            np.array([mirrored for _, mirrored in own]),
            np.array(list(own.values())),
        )
        for view, own in counts.items()
    )
    return Views(name, groups, trained)


class Part(NamedTuple):
    """Images of a split that are evaluated in batches of one shape."""

    places: np.ndarray  # int64 [n], in the split
    split: Streamed
    seen: Views  # of its images


def parts(name: str, trained: Augmentation, scales: Sequence[int], split: Streamed) -> list[Part]:
    """Where the images of a streamed split are seen whole: its parts, and the views of each.

    Raises:
      UserError: as `views` does, or a record that cannot be read.
    """
    scales = scales_of(name, trained, scales)
    if name in DENSE:
        return [
            Part(places, part, views(name, dataclasses.replace(trained, shape=part.shape), scales))
            for places, part in split.seen_whole(max(scales))
        ]
    _check_fit(name, trained.size, trained.shape, scales)
    part = split.seen_as(name, trained.size, scales)
    count = part.shape[0]
    mirrors = 1 if name == 'centre' else 2
    group = Group(
        trained.size,
        np.repeat(np.arange(count), mirrors),
        np.tile(np.arange(mirrors) > 0, count),
        np.ones(count * mirrors, int),
    )
    return [Part(np.arange(len(split)), part, CutViews(name, (group,), trained))]


def _check_fit(name, size, shape, scales) -> None:
    """UserError unless views of `size` fit into the images at every scale."""
    sides = crops.scaled_sides(shape[:2], min(scales))
    if name == '144':  # views are taken of squares
        sides = (min(sides),) * 2
    if size[0] <= sides[0] and size[1] <= sides[1]:
        return
    short = min(shape[:2])
    least = max(
        max(size) if name == '144' else -(-size[axis] * short // shape[axis]) for axis in (0, 1)
    )
    raise UserError(
        f'evaluation.views={name!r}: views of {augment.times(size)} do not fit into images of '
        f'{augment.times(sides)}, whose shorter side is {min(scales)}. Set evaluation.scales to at '
        f'least {least}, or augment.size to at most {min(sides)}.'
    )


def scales_of(name: str, trained: Augmentation, given: Sequence[int] = ()) -> tuple[int, ...]:
    """The shorter sides, in pixels, at which the views show the images: `given`, or the papers'."""
    given = tuple(given)
    if given:
        if not all(type(scale) is int and scale > 0 for scale in given):
            raise UserError(f'evaluation.scales is {shown(given)}, it must hold numbers of pixels.')
        if len(set(given)) != len(given):
            raise UserError(f'evaluation.scales names a scale twice: {given}.')
        if name not in MANY and len(given) > 1:
            raise UserError(
                f'evaluation.views={name!r} looks at one scale, evaluation.scales has '
                f"{len(given)}. Give one, or use 'multiscale'."
            )
        return given
    low, high = trained.scales
    middle = (low + high) // 2
    if low == high:
        step = min(32, middle // 8)  # the papers' 32 pixels would leave nothing of small images
        low, high = middle - step, middle + step
    if name == '144':
        side = max(trained.size)
        return tuple(round(side * sevenths / 7) for sevenths in (8, 9, 10, 11))
    return (low, middle, high) if name in MANY else (middle,)


# --- the net that looks at them --------------------------------------------------------------


def net_for(seen: Views, net: nn.Module, name: str) -> nn.Module:
    """The net to evaluate with, whose variables are those of `net`: `net` itself, or for dense
    views of a net with a dense head the same net with head='convolutional'.

    name: that of the net, for messages.

    Raises:
      UserError: the net does not take images of the views' sizes.
    """
    if seen.name not in DENSE:
        return net
    if getattr(net, 'head', None) == 'dense':
        net = net.clone(head='convolutional')

    def parameters(size):
        images = jax.ShapeDtypeStruct((1, *size, seen.trained.shape[2]), jnp.float32)
        key = jax.ShapeDtypeStruct((2,), jnp.uint32)
        variables = jax.eval_shape(lambda key, x: net.init(key, x, train=False), key, images)
        return jax.tree.map(lambda leaf: leaf.shape, variables)

    trained = parameters(seen.trained.size)
    for group in seen.groups:
        try:
            fits, why = parameters(group.size) == trained, ''
        except ValueError as error:
            fits, why = False, f' ({error})'
        if not fits:
            raise UserError(
                f'evaluation.views={seen.name!r} shows the net whole images of '
                f'{group.size[0]}x{group.size[1]}; {name} cannot read them with '
                f'the weights it is trained with{why}. Use a net with a global average or VGG, or '
                "evaluation.views='ten'."
            )
    return net
