"""Decodes the bytes of an image file into uint8 pixels of the wanted shape."""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

_DRAFT = 2  # a JPEG may be decoded at 1/2, 1/4 or 1/8 while it stays this many times too large


class Unfit(ValueError):
    """An image that decodes but differs in kind from the other images of its set."""


class Decoding(NamedTuple):
    """How images are decoded; part of every fingerprint."""

    channels: int  # 1 or 3
    resize: int = 0  # pixels; the centre square, scaled to this; 0: as they are
    side: int = 0  # pixels; a border of zeros up to this; 0: none
    upright: bool = False  # turn photographs as their EXIF orientation says
    grey_only: bool = False  # with one channel: refuse colour instead of turning it into grey


def decode(raw: bytes | np.ndarray, how: Decoding) -> np.ndarray:
    """bytes of a file, or uint8 [h, w, 1 or 3] -> uint8 [H, W, how.channels].

    Palettes, CMYK, 16 bits of grey and bi-level images become plain grey or colour; transparency is
    dropped. Grey from colour is 0.299 R + 0.587 G + 0.114 B (ITU-R 601). Resizing is bilinear, with
    the filter widened to the scale (antialiased). A JPEG is decoded at 1/2, 1/4 or 1/8 of its size
    when its shorter side is then still at least twice `resize`, which is several times faster for
    photographs and leaves smaller ones as they are.

    Raises:
      Unfit: colour where `grey_only`, larger than `side`, or an array that is not uint8.
      ValueError, OSError, SyntaxError and others of Pillow: the bytes are not an image it reads.
    """
    if isinstance(raw, np.ndarray):
        if raw.dtype != np.uint8 or raw.ndim != 3 or raw.shape[-1] not in (1, 3):
            raise Unfit(
                f'is an array of {raw.dtype} {list(raw.shape)}, its source must give uint8 '
                '[h, w, 1 or 3]'
            )
        ready = raw.shape[-1] == how.channels and not how.resize
        array = raw if ready else _from_image(image_of(raw), how)
    else:
        array = _from_image(_opened(raw, how), how)
    if how.side and array.shape[:2] != (how.side, how.side):
        array = border(array, how.side)
    return array


def channels_of(raw: bytes) -> int:
    """1 for a grey image, 3 for any other; from its header alone."""
    return 1 if _is_grey(_open(raw).mode) else 3


def border(image: np.ndarray, side: int) -> np.ndarray:
    """[h, w, C] -> [side, side, C], zeros around it; Unfit when it is larger."""
    height, width = image.shape[:2]
    if max(height, width) > side:
        raise Unfit(
            f'is {height}x{width}, larger than data.side={side}. Set data.side to 0 or at '
            f'least {max(height, width)}, or data.resize'
        )
    top, left = (side - height) // 2, (side - width) // 2
    return np.pad(image, ((top, side - height - top), (left, side - width - left), (0, 0)))


def _open(raw: bytes):
    try:
        return Image.open(io.BytesIO(raw))
    except UnidentifiedImageError as error:  # its own words are the address of the bytes
        raise ValueError('no kind of image that Pillow reads' if raw else 'no bytes') from error


def _opened(raw: bytes, how: Decoding):
    image = _open(raw)
    if how.resize:
        image.draft(None, (_DRAFT * how.resize, _DRAFT * how.resize))
    if how.upright:
        image.load()
        try:
            ImageOps.exif_transpose(image, in_place=True)
        except Exception:  # damaged EXIF raises many kinds; the pixels may be fine
            pass
    return image


def image_of(array: np.ndarray) -> Image.Image:
    """The Pillow image of uint8 [h, w, 1 or 3]."""
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def _is_grey(mode: str) -> bool:
    return mode in ('1', 'L', 'LA', 'La') or mode.startswith('I;16')


def _from_image(image, how: Decoding) -> np.ndarray:
    if image.mode.startswith('I;16'):  # Pillow's own conversion would cut, not scale
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ('I', 'F'):
        raise ValueError(f'pixels of {image.mode!r}, 32 bits, have no known range')
    if how.channels == 1:
        if how.grey_only and not _is_grey(image.mode):
            raise Unfit('is in colour, the first images are grey. Set data.channels to 1 or 3')
        image = image if _is_grey(image.mode) else image.convert('RGB')
        image = image.convert('L')
    else:
        image = image.convert('RGB')
    size = (how.resize, how.resize)
    if how.resize and image.size != size:
        width, height = image.size
        shorter = min(width, height)
        left, top = (width - shorter) / 2, (height - shorter) / 2
        box = (left, top, left + shorter, top + shorter)
        image = image.resize(size, Image.Resampling.BILINEAR, box)
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array
