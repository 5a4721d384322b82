"""Decoding: every kind of image file becomes the uint8 pixels that a person would expect."""

import importlib.util
import io
import os
import struct
import subprocess
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from experiments.data import decode as decoding
from experiments.data.decode import Decoding, Unfit, border, channels_of, decode, open_image, said

RNG = np.random.default_rng(0)
SMOOTH = np.stack(
    [*np.meshgrid(np.linspace(0, 255, 40), np.linspace(0, 255, 30)), np.full((30, 40), 90.0)], -1
).astype(np.uint8)


def saved(image, kind='PNG', **options) -> bytes:
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, kind, **options)
    return file.getvalue()


def test_png_is_read_pixel_for_pixel():
    assert (decode(saved(SMOOTH), Decoding(3)) == SMOOTH).all()
    assert (decode(saved(SMOOTH[..., 0]), Decoding(1)) == SMOOTH[..., :1]).all()


def test_jpeg_is_read_nearly():
    got = decode(saved(SMOOTH, 'JPEG', quality=95), Decoding(3))
    assert np.abs(got.astype(int) - SMOOTH).mean() < 2


def test_grey_is_repeated_in_three_channels():
    assert (decode(saved(SMOOTH[..., 0]), Decoding(3)) == SMOOTH[..., :1]).all()


def test_colour_becomes_the_grey_of_itu_r_601():
    got = decode(saved(SMOOTH), Decoding(1))
    assert np.abs(got[..., 0] - SMOOTH @ [0.299, 0.587, 0.114]).max() <= 1


def test_a_palette_is_looked_up():
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), 'P')
    image.putpalette([255, 0, 0, 0, 255, 0, 10, 20, 30])
    want = [[[255, 0, 0], [0, 255, 0]], [[10, 20, 30], [0, 255, 0]]]
    assert decode(saved(image), Decoding(3)).tolist() == want
    # 0.299, 0.587 and 0.114 of each
    assert np.abs(decode(saved(image), Decoding(1))[..., 0] - [[76, 150], [18, 150]]).max() <= 1


def test_transparency_is_dropped():
    pixels = RNG.integers(0, 256, (3, 4, 4), np.uint8)
    assert (decode(saved(pixels), Decoding(3)) == pixels[..., :3]).all()
    raw = saved(np.ascontiguousarray(pixels[..., :2]))
    assert (decode(raw, Decoding(1)) == pixels[..., :1]).all()


def test_cmyk_photographs_keep_their_colours():
    # without black ink, red is 255 - cyan: white paper, no light of cyan's kind comes back
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[:, :8] = [0, 255, 255, 0]  # magenta and yellow: red
    inks[:, 8:] = [0, 0, 0, 255]  # black
    got = decode(saved(Image.fromarray(inks, 'CMYK'), 'JPEG', quality=100), Decoding(3)).astype(int)
    assert np.abs(got[8, 3] - [255, 0, 0]).max() < 12 and got[8, 12].max() < 12


def test_sixteen_bits_of_grey_are_scaled_not_cut():
    pixels = np.array([[0, 255, 256, 65535]], np.uint16)
    assert decode(saved(pixels), Decoding(1))[..., 0].tolist() == [[0, 0, 1, 255]]


@pytest.mark.parametrize('form', ['P5\n4 1\n65535\n', 'P5\n4 1\n1023\n', 'P2\n4 1\n65535\n'])
def test_a_portable_grey_map_of_16_bits_is_scaled_by_its_white(form):
    white = int(form.split()[-1])
    values = [0, white // 4, white // 2, white]
    if form.startswith('P2'):
        raw = (form + ' '.join(map(str, values)) + '\n').encode()
    else:
        raw = form.encode() + np.array(values, '>u2').tobytes()
    got = decode(raw, Decoding(1, upright=True))[0, :, 0].astype(int)
    assert np.abs(got - 255 * np.array(values) / white).max() <= 1 and got[-1] == 255
    assert channels_of(raw) == 1 and (decode(raw, Decoding(3))[0, :, 1] == got).all()


def test_bilevel_is_black_and_white():
    image = Image.fromarray(np.array([[0, 255]], np.uint8)).convert('1')
    assert decode(saved(image), Decoding(1))[..., 0].tolist() == [[0, 255]]


@pytest.mark.parametrize('kind', ['PNG', 'TIFF'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_photographs_are_turned_as_their_exif_says(orientation, kind):
    """The stored image is made from the upright one by the inverse of what the tag asks for."""
    upright = RNG.integers(0, 256, (3, 5), np.uint8)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = saved(np.ascontiguousarray(stored), kind, exif=exif)
    assert (decode(raw, Decoding(1, upright=True))[..., 0] == upright).all()
    if kind == 'PNG':  # Pillow turns a TIFF in any case
        assert (decode(raw, Decoding(1))[..., 0] == stored).all()


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'TIFF', 'WEBP', 'BMP', 'PPM'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_every_format_is_turned_as_pillow_turns_it(orientation, kind):
    """Formats without a place for the tag stay as they are stored."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    given = {} if kind in ('BMP', 'PPM') else {'exif': exif}
    raw = saved(RNG.integers(0, 256, (8, 16, 3), np.uint8), kind, **given)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(raw)))
    np.testing.assert_array_equal(decode(raw, Decoding(3, upright=True)), np.asarray(turned))
    wide = kind in ('BMP', 'PPM') or orientation < 5
    assert turned.size == ((16, 8) if wide else (8, 16))


def test_damaged_exif_leaves_the_pixels():
    raw = saved(SMOOTH, 'JPEG', exif=b'Exif\0\0' + b'II*\0' + b'\xff' * 20)
    assert decode(raw, Decoding(3, upright=True)).shape == (30, 40, 3)


@pytest.mark.parametrize(
    'shape, square',
    [
        ((30, 40), np.s_[:, 5:35]),
        ((40, 30), np.s_[5:35]),
        ((31, 40), np.s_[:, 4:35]),
        ((30, 30), np.s_[:]),
    ],
)
def test_resizing_takes_the_centre_square(shape, square):
    pixels = RNG.integers(0, 256, (*shape, 3), np.uint8)
    side = min(shape)
    got = decode(saved(pixels), Decoding(3, resize=side))
    if (shape[0] - shape[1]) % 2 == 0:
        assert (got == pixels[square]).all()
    else:  # the centre lies between two pixels
        both = pixels[:, 4:36].astype(float)
        assert np.abs(got - (both[:, :-1] + both[:, 1:]) / 2).max() <= 1


def test_shrinking_averages_and_does_not_skip():
    """By 4, a triangle filter of 8 pixels a side, in floating point."""
    pixels = RNG.integers(0, 256, (32, 32), np.uint8)
    got = decode(saved(pixels), Decoding(1, resize=8))[..., 0]
    centres = (np.arange(8) + 0.5) * 4
    weights = np.maximum(0, 1 - np.abs(np.arange(32) + 0.5 - centres[:, None]) / 4)
    weights /= weights.sum(1, keepdims=True)
    np.testing.assert_allclose(got, weights @ pixels @ weights.T, atol=1.5)


def test_large_jpegs_are_decoded_smaller_and_look_the_same(monkeypatch):
    fine = np.asarray(Image.fromarray(SMOOTH).resize((1600, 1200), Image.Resampling.BICUBIC))
    raw = saved(fine, 'JPEG', quality=95)
    sizes = []
    resize = Image.Image.resize
    monkeypatch.setattr(
        Image.Image,
        'resize',
        lambda self, *args, **rest: (sizes.append(self.size), resize(self, *args, **rest))[1],
    )
    got = decode(raw, Decoding(3, resize=100))
    assert sizes == [(400, 300)]  # a quarter: an eighth would be under twice 100
    want = resize(
        Image.fromarray(fine), (100, 100), Image.Resampling.BILINEAR, box=(200, 0, 1400, 1200)
    )
    assert np.abs(got.astype(int) - np.asarray(want)).max() <= 4
    decode(raw, Decoding(3, resize=301))
    assert sizes[1] == (1600, 1200)  # half would be under twice 301


def test_arrays_pass_through_or_are_resized_and_converted():
    assert decode(SMOOTH, Decoding(3)) is SMOOTH
    assert decode(SMOOTH, Decoding(1, resize=10)).shape == (10, 10, 1)
    assert decode(SMOOTH[..., :1], Decoding(3)).shape == (30, 40, 3)


def test_a_border_of_zeros_and_no_cutting():
    got = border(SMOOTH, 45)
    assert (got[7:37, 2:42] == SMOOTH).all() and got.sum() == SMOOTH.sum()
    with pytest.raises(Unfit, match='30x40, larger than data.side=39.*at least 40'):
        border(SMOOTH, 39)


@pytest.mark.parametrize(
    'image, channels',
    [
        (SMOOTH, 3),
        (SMOOTH[..., 0], 1),
        (SMOOTH[..., :2], 1),
        (Image.fromarray(SMOOTH).convert('P'), 3),
        (Image.fromarray(SMOOTH).convert('1'), 1),
        (np.zeros((3, 3), np.uint16), 1),
    ],
)
def test_a_header_tells_grey_from_colour(image, channels):
    raw = saved(np.ascontiguousarray(image) if isinstance(image, np.ndarray) else image)
    assert channels_of(raw) == channels


def test_colour_among_grey_images_is_refused():
    assert decode(saved(SMOOTH[..., 0]), Decoding(1, grey_only=True)).shape == (30, 40, 1)
    fractions = b'Pf\n2 2\n-1.0\n' + bytes(16)  # grey, but of an unknown white
    with pytest.raises(ValueError, match='32 bits, whose white is not known'):
        decode(fractions, Decoding(1, grey_only=True))
    with pytest.raises(Unfit, match='is in colour, the first images are grey. Set data.channels'):
        decode(saved(SMOOTH), Decoding(1, grey_only=True))


@pytest.mark.parametrize(
    'raw',
    [
        b'',
        b'no image',
        saved(SMOOTH)[:90],
        saved(SMOOTH, 'JPEG')[:400],
        saved(Image.new('F', (3, 3)), 'TIFF'),
    ],
)
def test_what_is_no_image_raises(raw):
    with pytest.raises(Exception) as caught:
        decode(raw, Decoding(3))
    assert isinstance(caught.value, (OSError, ValueError, SyntaxError))
    assert ' at 0x' not in str(caught.value)  # no address of ours, which nobody can use


EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 9 9
%%EndComments
showpage
%%EOF
"""


@pytest.mark.parametrize('kind', [None, 'ICO', 'TGA', 'PCX'])
def test_only_the_listed_kinds_are_read_whatever_the_name_and_no_program_is_run(
    tmp_path, monkeypatch, kind
):
    ran = []
    monkeypatch.setattr(subprocess, 'check_call', lambda *words, **_: ran.append(words))
    raw = saved(SMOOTH, kind) if kind else EPS
    (tmp_path / 'photograph.jpg').write_bytes(raw)
    for read in (
        lambda: decode(raw, Decoding(3)),
        lambda: channels_of(raw),
        lambda: open_image(tmp_path / 'photograph.jpg').load(),
    ):
        with pytest.raises(ValueError, match='none of JPEG, PNG, .* the kinds of images that are'):
            read()
    assert not ran
    Image.init()  # some other code may have made all kinds known to Pillow
    with pytest.raises(ValueError, match='none of JPEG'):
        decode(raw, Decoding(3))
    assert not ran


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'x.png')
    with pytest.raises(ValueError, match='no regular file'):
        open_image(tmp_path / 'x.png')


def test_a_sound_image_of_200_million_pixels_is_read_in_silence_and_more_is_not_called_broken():
    raw = saved(Image.new('1', (20_000, 10_000), 1))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert (decode(raw, Decoding(1, resize=4)) == 255).all()
    small = saved(Image.new('1', (9, 9)))
    for side in (16_385, 40_000):  # just more, and more than twice as much
        header = b'IHDR' + struct.pack('>II', side, side) + small[24:29]
        large = small[:12] + header + struct.pack('>I', zlib.crc32(header)) + small[33:]
        message = 'more than 268,435,456 pixels. Scale it down'
        with said() as texts, pytest.raises(Unfit, match=message):
            decode(large, Decoding(1, resize=4))
        assert texts == []


def test_a_limit_that_the_user_took_away_stays_away(monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', None)
    again = importlib.util.spec_from_file_location('again', decoding.__file__)
    again.loader.exec_module(importlib.util.module_from_spec(again))
    assert Image.MAX_IMAGE_PIXELS is None


def test_a_transparent_palette_is_read_in_silence():
    image = Image.new('P', (2, 2), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    with said() as texts:
        got = decode(saved(image, transparency=bytes([255, 0])), Decoding(3))
    assert (got == (10, 20, 30)).all() and texts == []
