"""Contact sheets: what is shown is what the net gets, and mistakes are named."""

import numpy as np
import pytest
from PIL import Image

from configs import base
from experiments import data
from experiments.preprocess import augment, sheets


def dataset_of(height=16, width=16, channels=3, classes=3):
    images = np.random.default_rng(0).integers(0, 256, (6, height, width, channels), np.uint8)
    pixels = images.reshape(-1, channels) / 255
    split = data.InMemory(images, np.arange(6, dtype=np.int32) % classes)
    mean, std = pixels.mean(0).astype(np.float32), pixels.std(0).astype(np.float32)
    return data.Dataset(
        'noise', split, split, split, tuple('abcdefg'[:classes]), mean, std, 'random bytes'
    )


def config_of(**fields):
    config = base.get_config()
    config.augment.update(fields)
    return config


def content(figure):
    """The pixels of every image of a figure, and all its words."""
    figure.canvas.draw()
    pictures = [np.asarray(axis.images[0].get_array()) for axis in figure.axes if axis.images]
    words = [text.get_text() for text in figure.texts]
    for axis in figure.axes:
        words += [
            axis.get_xlabel(),
            axis.get_ylabel(),
            axis.get_title(),
            axis.get_title(loc='left'),
            *(text.get_text() for text in axis.texts),
        ]
    return pictures, [word for word in words if word]


@pytest.mark.parametrize('subtract, white', [('channel_std', 1.0), ('channel', 255.0)])
def test_without_augmentation_every_column_is_the_image(subtract, white):
    dataset = dataset_of()
    config = config_of(subtract=subtract, white=white)
    pictures, words = content(sheets.augmented(config, dataset, count=2, draws=3))
    images, labels = sheets.chosen(dataset, 2, 0)
    assert len(pictures) == 2 * 4
    for place, picture in enumerate(pictures):
        np.testing.assert_allclose(picture, images[place // 4] / 255, atol=1e-5)
    assert [dataset.classes[label] for label in labels] == [w for w in words if len(w) == 1]


def test_the_columns_after_the_image_are_draws_of_it_of_the_nets_size():
    dataset = dataset_of()
    config = config_of(crop='random', size=9, flip=True)
    pictures, words = content(sheets.augmented(config, dataset, count=1, draws=5))
    image, *draws = pictures
    draws = [np.round(255 * draw).astype(int) for draw in draws]
    image = np.round(255 * image).astype(int)
    places = [
        crop
        for top in range(8)
        for left in range(8)
        for crop in (
            image[top : top + 9, left : left + 9],
            image[top : top + 9, left : left + 9][:, ::-1],
        )
    ]
    assert len({draw.tobytes() for draw in draws}) > 1
    for draw in draws:
        assert any(np.array_equal(draw, place) for place in places)
    assert any('a crop of 9x9 of 16x16; then mirrored or not' in word for word in words)
    assert 'the net sees 9x9' in words


def test_crops_of_whole_images_stand_beside_all_of_each_image(tmp_path):
    rng = np.random.default_rng(0)
    for part, name in (('train', 'a'), ('train', 'b'), ('test', 'a'), ('test', 'b')):
        (tmp_path / part / name).mkdir(parents=True)
        for index in range(6):
            image = Image.fromarray(rng.integers(0, 256, (20, 44, 3), np.uint8))
            image.save(tmp_path / part / name / f'{index}.png')
    config = config_of(crop='area', size=8)
    config.data.update(name=f'folder:{tmp_path}', resize=10, whole=True, cache='off')
    dataset = data.load(config.data, look=True)
    pictures, words = content(sheets.augmented(config, dataset, count=2, draws=3))
    assert [picture.shape[:2] for picture in pictures] == [(20, 44), *[(8, 8)] * 3] * 2
    assert len({picture.tobytes() for picture in pictures}) == 8
    text = ' '.join(' '.join(words).split())
    assert "a crop of 8 to 100 % of the whole image's area, scaled to 8x8" in text
    assert 'image 20x44' in words
    for name, shapes in (
        ('ten', [(20, 44), *[(8, 8)] * 10]),
        ('dense', [(20, 44), *[(10, 10)] * 2]),
    ):
        config.evaluation.views = name
        pictures, _ = content(sheets.viewed(config, dataset))
        assert [picture.shape[:2] for picture in pictures] == shapes
    assert 'crop' in {kind.name for _, kind in sheets.every_kind(config, dataset)}


@pytest.fixture(scope='module')
def figure_of_each():
    return sheets.each(config_of(crop='area', size=8, colour=0.2), dataset_of(12, 14), draws=2)


def test_each_kind_has_a_row_with_its_draws(figure_of_each):
    pictures, words = content(figure_of_each)
    assert len(pictures) == 8 * 3
    text = ' '.join(words)
    for word in (
        '1 zeros around 12x14',
        'a crop of 10x10',
        'shorter side',
        'scaled to 8x8',
        '%',
        'mirrored or not',
        'deviation 0.2',
        'of 255',
        'bright',
        'squeeze',
    ):
        assert word in text


def test_every_text_lies_inside_the_sheet(figure_of_each):
    for figure in (
        figure_of_each,
        sheets.augmented(
            config_of(crop='area', size=8, flip=True, affine=True), dataset_of(), count=1, draws=1
        ),
    ):
        figure.canvas.draw()
        renderer = figure.canvas.get_renderer()
        texts = [
            *figure.texts,
            *(
                text
                for axis in figure.axes
                for text in (axis.xaxis.label, axis.yaxis.label, *axis.texts)
            ),
        ]
        for text in texts:
            if text.get_text():
                box = text.get_window_extent(renderer)
                assert box.x0 >= 0 and box.y0 >= 0, text.get_text()
                assert box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height


def test_the_views_sheet_says_how_often_a_view_occurs():
    config = config_of(crop='random', size=14)
    config.evaluation.views = '144'
    pictures, words = content(sheets.viewed(config, dataset_of()))
    assert len(pictures) == 1 + 42
    assert any('144 in all, 42 different' in word for word in words)
    assert sum(word == '14x14 x3' for word in words) == 40
    assert sum(word == '14x14 x12' for word in words) == 2


def test_kinds_of_the_config_replace_the_papers():
    dataset = dataset_of()
    ours = dict(sheets.every_kind(config_of(crop='pad', pad=3), dataset)[0:1])
    assert ours['ResNet on CIFAR-10'].title == '3 zeros around 16x16, then a crop of 16x16'
    assert {kind.name for _, kind in sheets.every_kind(config_of(), dataset)} == set(augment.ORDER)


@pytest.mark.parametrize(
    'argv, words',
    [
        (['--config', 'configs/lenet_mnits.py'], 'Did you mean'),
        (['--config', 'configs/base.py', '--drows', '3'], "unknown option '--drows'. Did you mean"),
        (['--config', 'configs/base.py', '--draws', '0'], '--draws is 0, it must be between'),
        (['--config', 'configs/base.py', '--config.augment.crop=pat'], "Did you mean 'pad'"),
        (['--config', 'configs/base.py', '--config.augment.crop'], 'needs a value'),
        (['--config', 'configs/base.py', '--out', 'sheet.jpg'], 'Let it end in .png'),
        (['--config', 'configs/base.py', '--config.augment.size=40'], 'does not fit into'),
        (['--config', 'configs/base.py', '--each', '--views'], 'not allowed with'),
    ],
)
def test_mistakes_end_in_one_line_and_status_2(root, capsys, argv, words):
    assert sheets.main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ') and words in error


def test_the_command_writes_the_sheet_of_a_config(root, capsys, tmp_path):
    out = tmp_path / 'sheet.png'
    assert (
        sheets.main(
            [
                '--config',
                'configs/base.py',
                '--images',
                '2',
                '--draws=2',
                '--config.augment.affine=true',
                '--out',
                str(out),
            ]
        )
        == 0
    )
    assert capsys.readouterr().out.strip() == str(out)
    with Image.open(out) as image:
        assert image.size[0] > 400
