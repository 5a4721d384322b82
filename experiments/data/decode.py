"""Decodes the bytes of an image file into uint8 pixels of the wanted shape."""

import contextlib
import io
import os
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# What image files are read as, whatever their names: Pillow knows more, and runs a program for some
# (Ghostscript for EPS). GIF, since published sets have some named .jpg (Oxford-IIIT Pet).
FORMATS = ('JPEG', 'PNG', 'BMP', 'WEBP', 'PPM', 'TIFF', 'GIF')
LARGEST = 2**28  # pixels of an image; decoded, in colour, they take 0.8 GB

# Pillow's own limit refuses less, as damaged. It is only raised: for a user who took it away it
# stays away.
if Image.MAX_IMAGE_PIXELS is not None:
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, LARGEST)

# A reading of all records gathers its warnings and names their files (`said`); others repeat them
warnings.filterwarnings('ignore', module=r'PIL\.')

_DRAFT = 2  # a JPEG may be decoded at 1/2, 1/4 or 1/8 while it stays this many times too large
_GAP = 3.0  # other images are averaged over whole pixels while they stay this many times too large
_TURNED = (5, 6, 7, 8)  # EXIF orientations that make the height the width

# Interpolations of `cut`; antialiased, but for the third
WAYS = (
    Image.Resampling.BILINEAR,
    Image.Resampling.BOX,
    Image.Resampling.NEAREST,
    Image.Resampling.BICUBIC,
)
BILINEAR = 0  # its place there
Region = tuple[float, float, float, float]  # top, left, height, width, in pixels


class Unfit(ValueError):
    """An image that decodes but differs in kind from the other images of its set."""


class Decoding(NamedTuple):
    """How images are decoded; part of every fingerprint."""

    channels: int  # 1 or 3
    resize: int = 0  # pixels; the centre square, scaled to this; 0: as they are
    side: int = 0  # pixels; a border of zeros up to this; 0: none
    upright: bool = False  # turn photographs as their EXIF orientation says
    grey_only: bool = False  # with one channel: refuse colour instead of turning it into grey

    def __call__(self, raw: bytes | np.ndarray, index: int) -> np.ndarray:
        """`decode`, of the record at any place."""
        return decode(raw, self)


def decode(raw: bytes | np.ndarray, how: Decoding) -> np.ndarray:
    """bytes of a file, or uint8 [h, w, 1 or 3] -> uint8 [H, W, how.channels].

    Palettes, CMYK, 16 bits of grey and bi-level images become plain grey or colour; transparency is
    dropped. Grey from colour is 0.299 R + 0.587 G + 0.114 B (ITU-R 601). Resizing is bilinear, with
    the filter widened to the scale (antialiased). A JPEG is decoded at 1/2, 1/4 or 1/8 of its size
    when its shorter side is then still at least twice `resize`, which is several times faster for
    photographs and leaves smaller ones as they are.

    Raises:
      Unfit: colour where `grey_only`, larger than `side`, more than LARGEST pixels, or an array
        that is not uint8.
      ValueError, OSError, SyntaxError and others of Pillow: the bytes are not an image it reads.
    """
    if isinstance(raw, np.ndarray):
        _check_array(raw)
        ready = raw.shape[-1] == how.channels and not how.resize
        array = raw if ready else _from_image(image_of(raw), how)
    else:
        array = _from_image(_opened(raw, how), how)
    if how.side and array.shape[:2] != (how.side, how.side):
        array = border(array, how.side)
    return array


def cut(
    raw: bytes | np.ndarray,
    how: Decoding,
    size: tuple[int, int],
    choose: Callable[[int, int], Sequence[tuple[Region, int]]],
) -> list[np.ndarray]:
    """Regions of the whole upright image, each scaled to `size`: k uint8 [h, w, how.channels].

    choose: (height, width) of the image -> k regions inside it, each with a place in WAYS. A JPEG
    is decoded at 1/2, 1/4 or 1/8 where every region is then still at least twice `size`; what is
    left is done by the interpolation, its filter widened to the scale. `how`: its channels, and
    whether photographs are turned; its sizes are not read. Raises as `decode` does.
    """
    if isinstance(raw, np.ndarray):
        _check_array(raw)
        image: Image.Image = image_of(raw)
    else:
        image = _open(raw)
    scalable = image.format in ('JPEG', 'MPO')  # before it is loaded, which takes its orientation
    if not scalable:
        turn_upright(image) if how.upright else image.load()
    sides = _upright_sides(image, how.upright and scalable)
    chosen = choose(*sides)
    factor = 1
    if scalable:
        spare = min(region[2 + axis] / size[axis] for region, _ in chosen for axis in (0, 1))
        factor = max(n for n in (1, 2, 4, 8) if n == 1 or n * _DRAFT <= spare)
        image.draft(None, (image.width // factor, image.height // factor))
        if how.upright:
            turn_upright(image)
    image = _coloured(image, how)
    found = []
    for (top, left, height, width), way in chosen:
        ends = min((left + width) / factor, image.width), min((top + height) / factor, image.height)
        box = (max(left, 0) / factor, max(top, 0) / factor, *ends)
        piece = image.resize(size[::-1], WAYS[way], box, reducing_gap=_GAP)
        found.append(np.asarray(piece).reshape(*size, how.channels))
    return found


def sides_of(raw: bytes | np.ndarray, upright: bool) -> tuple[int, int]:
    """Height and width of an image, turned as its EXIF orientation says; mostly from its header.

    Raises as `decode` does.
    """
    if isinstance(raw, np.ndarray):
        return raw.shape[0], raw.shape[1]
    image = _open(raw)
    if image.format == 'TIFF':  # whose size Pillow turns, but not its orientation, before it loads
        image.load()
    return _upright_sides(image, upright)


def _upright_sides(image, upright) -> tuple[int, int]:
    width, height = image.size
    if not upright:
        return height, width
    try:
        turned = image.getexif().get(0x0112) in _TURNED
    except Exception:  # damaged EXIF raises many kinds, and turns nothing
        turned = False
    return (width, height) if turned else (height, width)


def _check_array(raw: np.ndarray) -> None:
    if raw.dtype != np.uint8 or raw.ndim != 3 or raw.shape[-1] not in (1, 3):
        raise Unfit(
            f'is an array of {raw.dtype} {list(raw.shape)}, its source must give uint8 '
            '[h, w, 1 or 3]'
        )


def channels_of(raw: bytes) -> int:
    """1 for a grey image, 3 for any other; from its header alone."""
    return 1 if _is_grey(_open(raw)) else 3


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


def open_image(file: io.BytesIO | str | os.PathLike) -> Image.Image:
    """Opens an image of one of FORMATS: the only way that image files of users are opened.

    Raises:
      Unfit: more than LARGEST pixels.
      ValueError, OSError and others of Pillow: none of FORMATS; a path of no regular file, such as
        a pipe, that would be waited for.
    """
    if not isinstance(file, io.BytesIO) and not stat.S_ISREG(os.stat(file).st_mode):
        raise ValueError('no regular file')
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:  # its own words are the address of the bytes
        words = f'none of {", ".join(FORMATS)}, the kinds of images that are read'
        raise ValueError(words) from error
    except Image.DecompressionBombError as error:
        raise Unfit(f'has more than {LARGEST:,} pixels. Scale it down') from error
    if image.width * image.height > LARGEST:
        raise Unfit(f'is {image.height}x{image.width}, more than {LARGEST:,} pixels. Scale it down')
    return image


@contextlib.contextmanager
def said() -> Iterator[list[str]]:
    """Gathers what Pillow warns of inside, in place of printing it without the file's name.

    For one thread at a time.
    """
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        try:
            yield texts
        finally:
            # an image above LARGEST is an error, which needs no warning
            kept = [one for one in caught if one.category is not Image.DecompressionBombWarning]
            texts += dict.fromkeys(' '.join(str(one.message).split()) for one in kept)


def _open(raw: bytes):
    if not raw:
        raise ValueError('no bytes')
    return open_image(io.BytesIO(raw))


def _opened(raw: bytes, how: Decoding):
    image = _open(raw)
    if how.resize:
        image.draft(None, (_DRAFT * how.resize, _DRAFT * how.resize))
    if how.upright:
        turn_upright(image)
    return image


def turn_upright(image: Image.Image) -> None:
    """Turns an opened image as its EXIF orientation says, in place."""
    image.load()  # which turns a TIFF by itself, and takes its orientation away
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # damaged EXIF raises many kinds; the pixels may be fine
        pass


def image_of(array: np.ndarray) -> Image.Image:
    """The Pillow image of uint8 [h, w, 1 or 3]."""
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def _is_grey(image) -> bool:
    return image.mode in ('1', 'L', 'LA', 'La') or has_16_bits(image)


def has_16_bits(image: Image.Image) -> bool:
    """Whether these are 16 bits of grey: Pillow has no mode for those of a PGM, and scales them."""
    return image.mode.startswith('I;16') or image.mode == 'I' and image.format in ('PPM', 'PNG')


def plain(image: Image.Image) -> Image.Image:
    """The image in 8 bits, 'L' for grey and 'RGB' for all others; without its transparency.

    Raises ValueError: pixels of 32 bits, whose white is not known.
    """
    if has_16_bits(image):  # Pillow's own conversion would cut, not scale
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ('I', 'F'):
        words = 'its pixels have 32 bits, whose white is not known; save it with 8 or 16 bits'
        raise ValueError(words)
    if image.mode == 'P' and 'transparency' in image.info:
        image = image.convert('RGBA')  # else Pillow warns
    return _converted(image, 'L' if _is_grey(image) else 'RGB')


def _converted(image, mode):
    return image if image.mode == mode else image.convert(mode)


def _coloured(image, how: Decoding) -> Image.Image:
    image = plain(image)
    if how.channels == 1 and how.grey_only and image.mode != 'L':
        raise Unfit('is in colour, the first images are grey. Set data.channels to 1 or 3')
    return _converted(image, 'L' if how.channels == 1 else 'RGB')


def _from_image(image, how: Decoding) -> np.ndarray:
    image = _coloured(image, how)
    size = (how.resize, how.resize)
    if how.resize and image.size != size:
        width, height = image.size
        shorter = min(width, height)
        left, top = (width - shorter) / 2, (height - shorter) / 2
        box = (left, top, left + shorter, top + shorter)
        image = image.resize(size, Image.Resampling.BILINEAR, box)
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array
