"""Regions of whole images, each scaled to one size: drawn in a training, or the views of a test.

A region is top, left, height and width in pixels of the upright image; sides are height and width.
What decodes them is a function of (bytes of a record, its place), as decode.Decoding is.
"""

import math
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from experiments.data.decode import BILINEAR, WAYS, Decoding, Region, cut

AREA = (0.08, 1.0)  # of the image (Szegedy et al. 2014, Sec. 6)
ASPECT = (3 / 4, 4 / 3)  # width / height, the same place
# `area_region` of one image: NumPy is slower for single numbers
_NUMBERS = SimpleNamespace(
    log=math.log, exp=math.exp, sqrt=math.sqrt, maximum=max, minimum=min, stack=tuple
)
_STEP = 32  # pixels of the input for one of a feature map, in the nets of ImageNet
_LONGEST = 3  # times its shorter side of an image that is seen whole; of longer ones the middle


def area_region(
    uniform: Sequence[Any] | np.ndarray, height: float, width: float, xp: Any = _NUMBERS
) -> tuple[Any, Any]:
    """(area, [top, left, height, width]) of a crop of 8 to 100 % of the area, all as likely.

    The logarithm of the aspect is uniform over what fits at the drawn area, between 3/4 and 4/3, so
    that upright and lying crops are as likely; every place is. In an image longer than 4:3 no crop
    of such an aspect has the whole area; there the area ends at the largest that fits.

    uniform: four numbers of [0, 1): for area, aspect, top and left; xp: jax.numpy for
    traced ones. The area is a fraction (Szegedy et al. 2014, Sec. 6).
    """
    whole = width / height
    largest = min(AREA[1], ASPECT[1] / whole, whole / ASPECT[0])
    smallest = min(AREA[0], largest)
    area = smallest + (largest - smallest) * uniform[0]
    low = xp.log(xp.maximum(ASPECT[0], whole * area))
    high = xp.log(xp.minimum(ASPECT[1], whole / area))
    aspect = xp.exp(low + (high - low) * uniform[1])
    pixels = area * height * width
    h = xp.minimum(xp.sqrt(pixels / aspect), height)
    w = xp.minimum(xp.sqrt(pixels * aspect), width)
    return area, xp.stack([uniform[2] * (height - h), uniform[3] * (width - w), h, w])


def scaled_sides(sides: Sequence[int], scale: int) -> tuple[int, int]:
    """The sides of an image that is scaled to a shorter side of `scale`."""
    height, width = (side * scale // min(sides) for side in sides)
    return height, width


class Crop(NamedTuple):
    """How a training image is cut out of the whole one, anew in every epoch.

    kind 'scale': the image is scaled to a shorter side drawn from scales[0] to scales[1], and a
    crop of `size` taken at any place, all as likely (Simonyan & Zisserman 2014, Sec. 3.1). 'area':
    that of `area_region`, with interpolation 'random' by one of decode.WAYS, all as likely.
    """

    kind: str
    size: tuple[int, int]
    scales: tuple[int, ...] = ()
    interpolation: str = 'bilinear'

    @property
    def title(self) -> str:
        """Its words on a contact sheet."""
        size = 'x'.join(map(str, self.size))
        if self.kind == 'area':
            by = ' by one of four interpolations' if self.interpolation == 'random' else ''
            return f"a crop of 8 to 100 % of the whole image's area, scaled to {size}{by}"
        low, high = self.scales
        sides = f'{low}' if low == high else f'{low} to {high}'
        return f'a crop of {size} of the whole image scaled to a shorter side of {sides}'

    def draw(self, rng: np.random.Generator, height: int, width: int) -> tuple[Region, int]:
        """A region of an image of these sides, and the place in WAYS of its interpolation."""
        if self.kind == 'area':
            _, region = area_region(rng.random(4).tolist(), height, width)
            way = int(rng.integers(len(WAYS))) if self.interpolation == 'random' else BILINEAR
            return region, way
        scale = int(rng.integers(self.scales[0], self.scales[1], endpoint=True))
        room = (n - m for n, m in zip(scaled_sides((height, width), scale), self.size))
        corner = [int(rng.integers(most, endpoint=True)) for most in room]
        return _at_scale((*corner, *self.size), (height, width), scale), BILINEAR


class Drawn(NamedTuple):
    """Decodes a record as one crop: uint8 [h, w, C], a function of (seed, epoch, place) alone."""

    how: Decoding
    crop: Crop
    seed: int
    epoch: int

    def __call__(self, raw: bytes | np.ndarray, index: int) -> np.ndarray:
        # without the 1, the record 0 would draw from the numbers that order the epoch
        rng = np.random.default_rng((self.seed, self.epoch, index, 1))
        draw = lambda height, width: [self.crop.draw(rng, height, width)]
        return cut(raw, self.how, self.crop.size, draw)[0]


# --- evaluation --------------------------------------------------------------------------------


def middle(sides: tuple[int, int], size: tuple[int, int]) -> list[Region]:
    """The middle of an image; the far edge loses an odd pixel."""
    top, left = ((n - m) // 2 for n, m in zip(sides, size))
    return [(top, left, *size)]


def corners(sides: tuple[int, int], size: tuple[int, int]) -> list[Region]:
    """The four corners and the middle (Krizhevsky et al. 2012, Sec. 4.1)."""
    down, right = (n - m for n, m in zip(sides, size))
    found = [(0, 0), (0, right), (down, 0), (down, right)]
    return [*((*corner, *size) for corner in found), *middle(sides, size)]


def squares(sides: tuple[int, int], size: tuple[int, int]) -> Iterator[Region]:
    """Of the left, middle and right square, or top, middle and bottom, the corners, the middle and
    all of it (Szegedy et al. 2014, Sec. 7)."""
    side = min(sides)
    for third in range(3):
        top, left = ((n - side) * third // 2 for n in sides)
        for down, right, high, wide in (*corners((side, side), size), (0, 0, side, side)):
            yield top + down, left + right, high, wide


def grid(sides: tuple[int, int], size: tuple[int, int]) -> list[Region]:
    """5x5 places from edge to edge (Simonyan & Zisserman 2014, Sec. 3.2)."""
    down, right = (n - m for n, m in zip(sides, size))
    return [(down * i // 4, right * j // 4, *size) for i in range(5) for j in range(5)]


PLACES = {'centre': middle, 'ten': corners, '144': squares, '150': grid}


class Cut(NamedTuple):
    """Decodes a record as views of the whole image: uint8 [k, h, w, C].

    name: of PLACES; scales: shorter sides that the image is scaled to, in pixels.
    """

    how: Decoding
    name: str
    size: tuple[int, int]
    scales: tuple[int, ...]

    @property
    def views(self) -> int:
        """How many there are of an image, k; the same for all."""
        return len(self.regions(*self.size))

    def regions(self, height: int, width: int) -> list[tuple[Region, int]]:
        """Those of an image of these sides."""
        sides = height, width
        return [
            (_at_scale(place, sides, scale), BILINEAR)
            for scale in self.scales
            for place in PLACES[self.name](scaled_sides(sides, scale), self.size)
        ]

    def __call__(self, raw: bytes | np.ndarray, index: int) -> np.ndarray:
        return np.stack(cut(raw, self.how, self.size, self.regions))


class Whole(NamedTuple):
    """Decodes a record as the largest middle part of these sides' proportions: uint8 [H, W, C]."""

    how: Decoding
    sides: tuple[int, int]

    def region(self, height: int, width: int) -> list[tuple[Region, int]]:
        """That part of an image of these sides."""
        factor = min(n / m for n, m in zip((height, width), self.sides))
        h, w = (m * factor for m in self.sides)
        return [(((height - h) / 2, (width - w) / 2, h, w), BILINEAR)]

    def __call__(self, raw: bytes | np.ndarray, index: int) -> np.ndarray:
        return cut(raw, self.how, self.sides, self.region)[0]


def whole_sides(height: int, width: int, short: int) -> tuple[int, int]:
    """The sides with a shorter one of `short` that an image of these is seen whole at.

    The longer one is cut to a multiple of 32 pixels, the stride of the nets, and to three times the
    shorter, so that batches have few shapes.
    """
    sides = scaled_sides((height, width), short)
    long = min(max(sides) // _STEP * _STEP, _LONGEST * short)
    high, wide = (max(short, min(side, long)) for side in sides)
    return high, wide


def _at_scale(place, sides: tuple[int, int], scale: int) -> Region:
    """From pixels of the scaled image to those of the image."""
    top, left, height, width = (number * (min(sides) / scale) for number in place)
    return top, left, height, width
