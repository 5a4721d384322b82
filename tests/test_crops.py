"""Crops of whole images: their distribution and pixels, and that every feed gives the same."""

import io
import itertools
import pickle

import jax
import numpy as np
import pytest
import scipy.stats
from PIL import Image, ImageOps

import cnns
from configs import base
from experiments import bits, data, train
from experiments.data import crops, readahead
from experiments.data.batch_plan import BatchPlan
from experiments.data.batches import Steps
from experiments.data.crops import Crop, Cut, Drawn, Whole
from experiments.data.decode import WAYS, Decoding, cut, sides_of
from experiments.data.sources import fields_of

RNG = np.random.default_rng(0)
HOW = Decoding(3)
PILLOW = ('BILINEAR', 'BOX', 'NEAREST', 'BICUBIC')


@pytest.fixture(autouse=True)
def close(monkeypatch):
    monkeypatch.setattr(readahead, 'FEW', 0)
    yield
    readahead.close()


def noise(height, width, channels=3):
    return RNG.integers(0, 256, (height, width, channels), np.uint8)


def saved(image, kind='PNG', **options) -> bytes:
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, kind, **options)
    return file.getvalue()


def draws(crop, height, width, count=3000):
    """(boxes float64 [count, 4], interpolations) of an image of these sides, one a record."""
    found = [crop.draw(np.random.default_rng((1, 2, n, 1)), height, width) for n in range(count)]
    return np.array([box for box, _ in found]), np.array([way for _, way in found])


def uniform(values, low=0.0, high=1.0):
    return scipy.stats.kstest(values, scipy.stats.uniform(low, high - low).cdf).pvalue > 1e-3


# --- the distribution of the papers ------------------------------------------------------------


@pytest.mark.parametrize('height, width', [(375, 500), (500, 375), (300, 300), (100, 400)])
def test_areas_aspects_and_places_are_as_likely_as_googlenets(height, width):
    boxes, _ = draws(Crop('area', (224, 224)), height, width)
    top, left, h, w = boxes.T
    largest = min(1, 4 / 3 * height / width, 4 / 3 * width / height)
    area, aspect = h * w / (height * width), w / h
    assert uniform(area, 0.08, largest)
    assert (0.75 - 1e-9 <= aspect).all() and (aspect <= 4 / 3 + 1e-9).all()
    assert (top + h <= height + 1e-9).all() and (left + w <= width + 1e-9).all()
    assert min(top.min(), left.min()) >= 0
    # small crops fit at every aspect: their logarithms are even
    small = area < 0.15
    assert uniform(np.log(aspect[small]), np.log(0.75), np.log(4 / 3))
    assert uniform(left[small] / (width - w[small]))


def test_the_shorter_side_and_the_place_of_a_scaled_crop_are_even():
    boxes, ways = draws(Crop('scale', (3, 3), (4, 6)), 8, 12, 6000)
    scales = 3 * 8 / boxes[:, 2]
    counts = np.unique(np.round(scales, 6), return_counts=True)
    assert counts[0].tolist() == [4, 5, 6] and scipy.stats.chisquare(counts[1]).pvalue > 1e-3
    assert not ways.any()  # linear
    corners = np.round(boxes[scales > 5.9][:, :2] * 6 / 8, 6)  # in 6x9 pixels
    places, counts = np.unique(corners, axis=0, return_counts=True)
    assert places.tolist() == [[y, x] for y in range(4) for x in range(7)]
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_a_crop_of_an_image_of_the_papers_size_reaches_all_of_its_edges():
    """VGG's 224 of a shorter side of 256: 33 x 118 places of 256x341, not 33 x 33 of a square."""
    boxes, _ = draws(Crop('scale', (224, 224), (256, 256)), 375, 500)
    lefts = np.unique(np.round(boxes[:, 1] * 256 / 375).astype(int))
    assert (lefts[0], lefts[-1]) == (0, 341 - 224) and len(lefts) == 118


def test_interpolations_are_drawn_alike():
    boxes, ways = draws(Crop('area', (8, 8), interpolation='random'), 30, 40)
    assert scipy.stats.chisquare(np.bincount(ways, minlength=4)).pvalue > 1e-3
    assert (boxes == draws(Crop('area', (8, 8)), 30, 40)[0]).all()
    assert [way.name for way in WAYS] == list(PILLOW)


def test_draws_follow_from_seed_epoch_and_record_alone():
    raw, crop = saved(noise(40, 60)), Crop('area', (16, 16))
    made = lambda *given: Drawn(HOW, crop, *given[:2])(raw, given[2])
    one = made(3, 4, 5)
    assert (one == made(3, 4, 5)).all() and one.shape == (16, 16, 3)
    for other in ((2, 4, 5), (3, 5, 5), (3, 4, 6), (4, 3, 5), (3, 4, 0)):
        assert (one != made(*other)).any()


# --- pixels ------------------------------------------------------------------------------------


def by_pillow(image, region, size, way=0):
    """A region of an upright Pillow image, from all of its pixels."""
    top, left, height, width = region
    box = (left, top, left + width, top + height)
    return np.asarray(image.resize(size[::-1], Image.Resampling[PILLOW[way]], box=box))


@pytest.mark.parametrize('kind, options', [('PNG', {}), ('JPEG', {'quality': 90}), ('WEBP', {})])
@pytest.mark.parametrize('way', range(4))
def test_pixels_are_those_of_pillow(kind, options, way):
    raw = saved(noise(61, 97), kind, **options)
    region = (3.3, 20.1, 44.4, 50.7)
    (got,) = cut(raw, HOW, (24, 26), lambda height, width: [(region, way)])
    want = by_pillow(Image.open(io.BytesIO(raw)).convert('RGB'), region, (24, 26), way)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'TIFF'])
def test_a_photograph_is_turned_before_its_crop(orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = saved(noise(30, 44), kind, exif=exif)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(raw)))
    how, crop = Decoding(3, upright=True), Crop('area', (12, 12))
    region, _ = crop.draw(np.random.default_rng((0, 1, 7, 1)), turned.height, turned.width)
    got = Drawn(how, crop, 0, 1)(raw, 7)
    np.testing.assert_array_equal(got, by_pillow(turned, region, (12, 12)))
    assert sides_of(raw, True) == (turned.height, turned.width)


@pytest.mark.parametrize('orientation', [1, 3, 6])
def test_a_large_jpeg_is_decoded_smaller_and_its_crop_looks_the_same(orientation, monkeypatch):
    y, x = np.mgrid[:900, :1600]
    smooth = np.stack([x / 1600 * 255, y / 900 * 255, 127 + 90 * np.sin(x / 60)], -1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = saved(smooth.astype(np.uint8), 'JPEG', quality=95, exif=exif)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(raw)))
    sizes, resize = [], Image.Image.resize
    monkeypatch.setattr(
        Image.Image,
        'resize',
        lambda self, *args, **rest: (sizes.append(self.size), resize(self, *args, **rest))[1],
    )
    region = (31.0, 57.5, 800.0, 812.0)
    how = Decoding(3, upright=True)
    (got,) = cut(raw, how, (100, 100), lambda height, width: [(region, 0)])
    assert sizes == [tuple(side // 4 for side in turned.size)]  # an eighth: under twice 100
    assert np.abs(got.astype(int) - by_pillow(turned, region, (100, 100))).max() <= 4
    cut(raw, how, (201, 201), lambda height, width: [(region, 0)])
    assert sizes[-1] == turned.size  # a half would be under twice 201


def test_what_is_shrunk_is_averaged_in_every_kind_of_file():
    """Of a board of single black and white pixels, nothing but grey is left at an eighth."""
    board = (np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8)
    for kind in ('PNG', 'JPEG'):
        raw = saved(board, kind, **({'quality': 95} if kind == 'JPEG' else {}))
        (got,) = cut(raw, Decoding(1), (64, 64), lambda h, w: [((0.0, 0.0, 512.0, 512.0), 0)])
        assert np.abs(got[2:-2, 2:-2].astype(int) - 127).max() <= 3


@pytest.mark.parametrize('sides', [(1, 1), (1, 300), (300, 2), (2, 3), (5, 700)])
@pytest.mark.parametrize('crop', [Crop('area', (9, 9)), Crop('scale', (9, 9), (10, 14))])
@pytest.mark.parametrize('kind', ['PNG', 'JPEG'])
def test_tiny_and_narrow_images_have_crops(sides, crop, kind):
    raw = saved(np.full((*sides, 3), 200, np.uint8), kind)
    for record in range(20):
        got = Drawn(HOW, crop, 0, 0)(raw, record)
        assert got.shape == (9, 9, 3) and np.abs(got.astype(int) - 200).max() <= 3


def test_grey_cmyk_palettes_16_bits_and_arrays_have_the_channels_of_the_set():
    crop = Crop('area', (6, 6))
    square = np.full((20, 30), 90, np.uint8)
    inks = Image.merge('CMYK', [Image.new('L', (30, 20), ink) for ink in (0, 255, 255, 0)])
    red = Drawn(HOW, crop, 0, 0)(saved(inks, 'JPEG', quality=95), 0)
    assert np.abs(red.astype(int) - [255, 0, 0]).max() < 12
    for raw in (
        saved(square),
        saved(square, 'JPEG'),
        saved(Image.fromarray(square).convert('P')),
        saved(square.astype(np.uint16) << 8),
        square[..., None],
    ):
        for channels in (1, 3):
            got = Drawn(Decoding(channels), crop, 0, 0)(raw, 3)
            assert got.shape == (6, 6, channels) and np.abs(got.astype(int) - 90).max() <= 2


# --- feeding -----------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def photographs(tmp_path_factory):
    """A folder of images of several shapes, two classes."""
    root = tmp_path_factory.mktemp('photographs')
    shapes = [(20, 30), (30, 20), (24, 24), (20, 61), (90, 20)]
    for part, name, count in itertools.product(('train', 'test'), 'ab', (11,)):
        (root / part / name).mkdir(parents=True)
        for index in range(count):
            image = Image.fromarray(noise(*shapes[index % 5]))
            image.save(root / part / name / f'{index}.png')
    return root


def load(photographs, **changes):
    given = dict(resize=16, whole=True, cache='off') | changes
    return data.load(fields_of(f'folder:{photographs}', **given))


def test_crops_are_the_same_in_all_processes_and_after_a_resume(photographs):
    crop, batch, seed = Crop('area', (12, 12)), 4, 5
    split = load(photographs).train
    given = split, batch, 1, seed

    def images(batches):
        return np.array([np.array(step['image'])[0] for step in batches])

    for epoch in (1, 2):
        whole = images(data.train_batches(*given, epoch, crop=crop))
        rows = data.order(len(split), seed, epoch)[: whole.shape[0] * batch]
        by_hand = []
        for row in split.rows[rows]:  # a plain loop, by Pillow
            image = Image.open(split.records.where(row))
            rng = np.random.default_rng((seed, epoch, row, 1))
            region, _ = crop.draw(rng, image.height, image.width)
            by_hand.append(by_pillow(image, region, (12, 12)))
        np.testing.assert_array_equal(whole.reshape(-1, 12, 12, 3), by_hand)
    np.testing.assert_array_equal(
        images(data.train_batches(*given, 2, crop=crop, start=2)), whole[2:]
    )
    shares = [
        images(data.train_batches(*given, 2, crop=crop, process_index=index, process_count=2))
        for index in (0, 1)
    ]
    np.testing.assert_array_equal(np.concatenate(shares, 1), whole)
    plan = BatchPlan(len(split), batch, seed)
    sent = pickle.loads(pickle.dumps(Steps(split, plan, crop)))  # as to a worker process
    for step in (1, 0):  # in any order
        np.testing.assert_array_equal(sent[2 * plan.steps + step]['image'], whole[step])


@pytest.mark.long
@pytest.mark.parametrize('workers', [1, 2])
def test_worker_processes_give_the_same_crops_from_the_start_and_after_a_resume(
    photographs, workers
):
    crop, split = Crop('area', (12, 12)), load(photographs).train
    whole = list(data.train_batches(split, 4, 1, 5, 2, crop=crop))
    other = load(photographs, workers=workers).train
    for start in (0, 2):
        found = list(data.train_batches(other, 4, 1, 5, 2, crop=crop, start=start))
        for one, same in zip(found, whole[start:], strict=True):
            np.testing.assert_array_equal(one['image'], same['image'])
        readahead.close()


def test_the_same_split_is_evaluated_in_centre_squares(photographs):
    whole, squares = load(photographs), load(photographs, whole=False)
    assert isinstance(whole.train, data.Streamed) and isinstance(squares.train, data.InMemory)
    for one, other in zip(*(data.eval_batches(each.train, 4, 1) for each in (whole, squares))):
        assert all((one[name] == other[name]).all() for name in one)
    assert (whole.mean == squares.mean).all() and whole.content == squares.content
    assert 'whole images' in whole.note and 'whole' not in squares.note
    with pytest.raises(ValueError, match='need a streamed split'):
        next(data.train_batches(squares.train, 4, 1, 0, 1, crop=Crop('area', (12, 12))))


# --- evaluation --------------------------------------------------------------------------------


@pytest.mark.parametrize('sides', [(40, 60), (60, 40), (40, 100)])
def test_views_are_corners_squares_and_grids_of_the_whole_scaled_image(sides):
    """Against plain loops over the whole image, scaled by Pillow; sides scale without a rest."""
    image = Image.fromarray(noise(*sides))
    raw, size = saved(image), 16

    def scaled(scale):
        height, width = (side * scale // min(sides) for side in sides)
        return image.resize((width, height), Image.Resampling.BILINEAR)

    def taken(whole, left, top, side=size):
        return np.asarray(whole.crop((left, top, left + side, top + side)))

    def check(name, scales, want):
        got = Cut(HOW, name, (size, size), scales)(raw, 0)
        assert len(got) == len(want) == Cut(HOW, name, (size, size), scales).views
        missing = list(got.astype(int))
        for view in want:  # in any order, each once
            errors = [np.abs(one - view).max() for one in missing]
            assert min(errors) <= 2
            missing.pop(int(np.argmin(errors)))

    ten, twenty = scaled(20), []
    for left in (0, ten.width - size):
        twenty += [taken(ten, left, top) for top in (0, ten.height - size)]
    middle = taken(ten, (ten.width - size) // 2, (ten.height - size) // 2)
    check('ten', (20,), [*twenty, middle])
    grids, squares = [], []
    for scale in (20, 22, 24):
        whole = scaled(scale)
        for i, j in itertools.product(range(5), range(5)):
            left, top = (whole.width - size) * i // 4, (whole.height - size) * j // 4
            grids.append(taken(whole, left, top))
        room = max(whole.size) - scale
        for offset in (0, room // 2, room):
            left, top = (offset, 0) if whole.width > whole.height else (0, offset)
            rest = scale - size
            for x, y in ((0, 0), (rest, 0), (0, rest), (rest, rest), (rest // 2, rest // 2)):
                squares.append(taken(whole, left + x, top + y))
            factor = min(sides) / scale
            box = left * factor, top * factor, (left + scale) * factor, (top + scale) * factor
            small = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
            squares.append(np.asarray(small))
    check('150', (20, 22, 24), grids)
    check('144', (20, 22, 24), squares)


@pytest.mark.parametrize(
    'sides, short, seen',
    [
        ((375, 500), 256, (256, 320)),  # 341 of VGG's map of 10: the last 21 pixels reach no cell
        ((500, 375), 256, (320, 256)),
        ((300, 300), 256, (256, 256)),
        ((300, 310), 256, (256, 256)),
        ((400, 400), 368, (368, 368)),  # no multiple of 32
        ((10, 4000), 256, (256, 768)),  # three times as long at most
        ((375, 500), 384, (384, 512)),
    ],
)
def test_dense_views_see_all_but_a_rest_that_no_cell_of_the_map_sees(sides, short, seen):
    assert crops.whole_sides(*sides, short) == seen
    ((top, left, height, width), _), *none = Whole(HOW, seen).region(*sides)
    assert not none and top >= -1e-9 and left >= -1e-9
    assert (2 * top + height, 2 * left + width) == pytest.approx(sides)  # the middle
    assert height / seen[0] == pytest.approx(width / seen[1])  # not squeezed
    assert min(height, width) == pytest.approx(min(sides))


def test_a_split_seen_whole_has_every_image_once_in_batches_of_one_shape(photographs):
    split = load(photographs).test
    parts = split.seen_whole(32)
    assert sorted(np.concatenate([places for places, _ in parts])) == list(range(len(split)))
    shapes = {part.shape for _, part in parts}
    assert shapes == {(32, 32, 3), (96, 32, 3), (32, 96, 3)}
    for places, part in parts:
        images, labels = part.read(np.arange(len(part)))
        assert (labels == split.labels[places]).all()
        for image, whole in zip(images, split.whole(places)):
            ((top, left, height, width), _), *_ = Whole(HOW, part.shape[:2]).region(
                *whole.shape[:2]
            )
            want = by_pillow(Image.fromarray(whole), (top, left, height, width), part.shape[:2])
            np.testing.assert_array_equal(image, want)


def test_a_training_on_whole_images_is_tested_on_all_of_each(photographs):
    """Against the net applied to every image alone: its whole, mirrored too, in any shape."""
    config = base.get_config()
    config.data.update(name=f'folder:{photographs}', resize=32, whole=True, cache='off')
    config.model.name, config.model.fields = 'resnet20', dict(blocks=1, width=2, fast=False)
    config.augment.update(crop='scale', size=32, scales=(32, 32))
    config.evaluation.views = 'dense'
    config.train.update(batch=4, devices=1, steps=1)
    dataset, kept = data.load(config.data), []
    (row,) = train.fit_together(
        [config], dataset, final=True, on_end=lambda index, variables: kept.append(variables)
    )
    net = cnns.build('resnet20', blocks=1, width=2, classes=2, fast=False)
    apply = jax.jit(lambda images: net.apply(kept[0], images, train=False))
    losses, right = [], []
    for image, label in zip(dataset.test.whole(np.arange(22)), dataset.test.labels):
        sides = crops.whole_sides(*image.shape[:2], 32)
        ((region, _),) = Whole(HOW, sides).region(*image.shape[:2])
        seen = by_pillow(Image.fromarray(image), region, sides) / 255
        seen = ((seen - dataset.mean) / dataset.std).astype(np.float32)
        chances = np.mean([jax.nn.softmax(apply(x[None]))[0] for x in (seen, seen[:, ::-1])], 0)
        losses.append(-np.log(chances[label]))
        right.append(chances.argmax() == label)
    assert row['test/loss'] == pytest.approx(np.mean(losses), abs=1e-5)
    assert row['test/error'] == pytest.approx(1 - np.mean(right))
    assert (bits.unpack(row['test/right'], 22) == right).all() and 'test/centre_error' in row
