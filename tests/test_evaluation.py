"""An evaluation: its numbers against plain loops, its row beside those of trainings, its page."""

import csv
import io
import json

import jax
import numpy as np
import pytest
from PIL import Image

import cnns
from configs import base
from experiments import workdir as workdirs
from experiments.data import load
from experiments.evaluation import command, measured, predict, ready
from experiments.plan import config as configs
from experiments.report import compare, page, result_table
from experiments.report.summary import summarise
from experiments.train import saved

DIGITS = tuple('0123456789')


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """The folder of a run of mlp_300 on 60 digits whose weights are random."""
    folder = tmp_path_factory.mktemp('run')
    config = base.get_config()
    for name, value in {'model.name': 'mlp_300', 'data.limit': 60}.items():
        configs.set_field(config, name, value)
    dataset = load(config.data)
    net = cnns.build('mlp_300', channels=1)
    variables = net.init(jax.random.key(0), np.zeros((1, 32, 32, 1)), train=False)
    made = dict(arm='an arm', seed=2, learning_rate=0.05, name='0123456789ab')
    path = folder / 'weights.safetensors'
    path.write_bytes(saved.pack(jax.tree.map(np.asarray, variables), config, dataset, made))
    return folder, net, variables, dataset


@pytest.fixture(scope='module')
def evaluated(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp('evaluated') / 'w'
    assert command.main(['--weights', str(run[0]), '--workdir', str(folder)]) == 0
    return folder


def test_the_row_of_an_evaluation_is_what_a_plain_loop_counts(run, evaluated):
    _, net, variables, dataset = run
    (row,) = workdirs.read_experiment(evaluated).rows
    wrong = 0
    for image, label in zip(dataset.test.images, dataset.test.labels):
        pixels = (np.float32(image) / 255 - dataset.mean) / dataset.std
        wrong += int(np.argmax(net.apply(variables, pixels[None], train=False))) != label
    assert row['test/count'] == 60 and row['test/error'] == pytest.approx(wrong / 60)
    assert (row['arm'], row['seed'], row['phase']) == (f'an arm ({run[0].name})', 2, 'final')
    low, high = row['evaluation']['interval']
    assert low < wrong / 60 < high


def test_tables_hold_evaluations_beside_each_other(evaluated, capsys):
    experiment = compare.read([evaluated])
    headings, ((_, rate, seeds, error, *_),) = result_table.table(summarise(experiment))
    assert (rate, seeds) == ('0.05', '1/1')
    assert float(error.split()[0]) == pytest.approx(
        100 * experiment.rows[0]['test/error'], abs=0.01
    )
    assert capsys.readouterr().err == ''


def test_the_page_has_the_error_each_class_and_the_most_wrong_images(evaluated):
    text = (evaluated / 'evaluation.html').read_text()
    error = workdirs.read_experiment(evaluated).rows[0]['test/error']
    assert f'test error: {100 * error:.2f} [' in text and text.count('<svg') == 3
    assert text.count('data:image/png') >= 24 and 'taken for' in text
    for name in ('figure.png', 'figure.svg', 'mistakes.png'):
        assert (evaluated / name).stat().st_size > 1000


def test_a_report_of_an_evaluation_says_that_nothing_was_trained(evaluated):
    assert page.main([str(evaluated)]) == 0  # test_run has the words of trainings
    text = (evaluated / 'report.html').read_text()
    assert 'nothing was trained' in text and 'Every arm is trained' not in text


MADE = measured.Measured(
    labels=np.int32([0, 0, 1, 1, 2]),
    guesses=np.int32([0, 1, 1, 0, 0]),
    ranks=np.int32([0, 1, 0, 2, 1]),
    confidences=np.float32([0.95, 0.85, 0.55, 1, 0.92]),
    losses=np.zeros(5, np.float32),
    others={},
    classes=3,
)


def test_confusion_classes_and_the_most_wrong_by_hand():
    table = measured.confusion(MADE)
    assert table.tolist() == [[1, 1, 0], [1, 1, 0], [1, 0, 0]]
    assert measured.per_class(table)[2] == measured.Class(2, 1, 1, 0, 1)
    assert measured.per_class(np.diag([4, 0, 2]))[1] == measured.Class(1, 0, 0, None, 0)
    assert measured.most_wrong(MADE, 2).tolist() == [3, 4]


def test_reliability_by_hand():
    bins, error = measured.reliability(MADE)
    assert [one.images for one in bins] == [1, 1, 3]
    assert bins[2].right == pytest.approx(1 / 3)
    expected = (1 * abs(0.55 - 1) + 1 * 0.85 + 3 * abs((0.95 + 1 + 0.92) / 3 - 1 / 3)) / 5
    assert error == pytest.approx(expected, rel=1e-6)


def test_the_interval_over_images_is_that_of_clopper_and_pearson():
    low, high = measured.interval(0, 10)
    assert low == 0 and high == pytest.approx(1 - 0.025 ** (1 / 10))
    assert measured.interval(0, 0) == (0, 1)


@pytest.mark.parametrize(
    'words, message',
    [
        (['--config.data.name=synthetic:50x32x1', '--class_names=NAMES'], 'synthetic:50x32x1 has'),
        (['--config.train.rate=1'], '--config.train.rate would have no effect: an evaluation'),
        (['--part=tset'], "unknown --part 'tset'. Did you mean 'test'?"),
        (['--model=resnet20'], 'says that its net is mlp_300: leave out --model'),
        (['--mean=123.7'], "--mean is '123.7', it must be 1 number from 0 to 1, of pixels in"),
        (['--resize=9999'], '--resize is 9999, it must be between the 32 pixels'),
    ],
)
def test_a_mistake_is_one_line(run, tmp_path, capsys, words, message):
    (tmp_path / 'names').write_text('\n'.join('abcdefghij'))
    words = [word.replace('NAMES', str(tmp_path / 'names')) for word in words]
    where = ['--workdir', str(tmp_path / 'w')]
    assert command.main(['--weights', str(run[0]), *where, *words]) == 2
    err = capsys.readouterr().err
    assert err.startswith('error: ') and err.count('\n') == 1 and message in err


def test_predictions_are_those_of_the_net_on_images_of_any_size_and_kind(run, tmp_path, capsys):
    folder, net, variables, dataset = run
    pixels = dataset.test.images[0, ..., 0]
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    large = Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST)
    large.convert('RGB').save(tmp_path / 'b.png')
    assert predict.main(['--weights', str(folder), '--csv', str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row['image'][-5:] for row in rows] == ['a.png'] * 5 + ['b.png'] * 5
    prepared = (np.float32(pixels[None, ..., None]) / 255 - dataset.mean) / dataset.std
    expected = np.asarray(jax.nn.softmax(net.apply(variables, prepared, train=False)))[0]
    best = np.argsort(-expected)[:5]
    assert [int(row['class']) for row in rows[:5]] == best.tolist()
    assert [row['name'] for row in rows[:5]] == [DIGITS[place] for place in best]
    for row, place in zip(rows, best):
        assert float(row['probability']) == pytest.approx(expected[place], rel=1e-4)
    assert '1 image turned into grey' in err and 'run 0123456789ab: an arm, seed 2' in err
    assert predict.main(['--weights', str(folder), '--json', '--batch=1', str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    again = [one['class'] for image in found for one in image['best']]
    assert again == [int(row['class']) for row in rows]


def test_a_config_says_which_data_and_views_are_evaluated(run, tmp_path, capsys):
    folder, net, variables, dataset = run
    (tmp_path / 'mine.py').write_text(
        'from configs import base\n\ndef get_config():\n    config = base.get_config()\n'
        "    config.model.name, config.data.limit = 'resnet20', 25\n    return config\n"
    )
    words = ['--weights', str(folder), '--config', f'{tmp_path}/mine.py', '--json']
    words += ['--config.evaluation.views=ten', '--workdir', str(tmp_path / 'w')]
    assert command.main(words) == 0
    told = json.loads(capsys.readouterr().out)
    # Views of the size of the image are all the same one, and its mirror image
    wrong = 0
    for image, label in zip(dataset.test.images[:25], dataset.test.labels):
        pixels = (np.float32(image) / 255 - dataset.mean) / dataset.std
        logits = net.apply(variables, np.stack([pixels, pixels[:, ::-1]]), train=False)
        wrong += int(np.argmax(jax.nn.softmax(logits).mean(0))) != label
    assert (told['row']['test/count'], told['row']['evaluation']['views']) == (25, 'ten')
    assert told['row']['test/error'] == pytest.approx(wrong / 25)
    assert sum(one['errors'] for one in told['classes']) == wrong
    assert np.trace(told['confusion']) == 25 - wrong


def test_ten_views_of_a_prediction_are_those_of_a_plain_loop(run, tmp_path, capsys):
    _, _, _, dataset = run
    config = base.get_config()
    fields = {'model.name': 'mlp_300', 'augment.crop': 'random', 'augment.size': 28}
    for name, value in fields.items():
        configs.set_field(config, name, value)
    net = cnns.build('mlp_300', channels=1)
    variables = net.init(jax.random.key(1), np.zeros((1, 28, 28, 1)), train=False)
    path = tmp_path / 'net.safetensors'
    path.write_bytes(saved.pack(jax.tree.map(np.asarray, variables), config, dataset, {}))
    pixels = dataset.test.images[0]
    Image.fromarray(pixels[..., 0]).save(tmp_path / 'a.png')
    words = ['--weights', str(path), '--json', '--views', 'ten', f'{tmp_path}/a.png']
    assert predict.main(words) == 0
    out, err = capsys.readouterr()
    prepared = (np.float32(pixels) / 255 - dataset.mean) / dataset.std
    corners = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]
    cut = np.stack([prepared[y : y + 28, x : x + 28] for y, x in corners])
    both = np.concatenate([cut, cut[:, :, ::-1]])
    expected = np.asarray(jax.nn.softmax(net.apply(variables, both, train=False)).mean(0))
    (found,) = json.loads(out)
    for one in found['best']:
        assert one['probability'] == pytest.approx(expected[one['class']], rel=1e-4)
    assert [one['class'] for one in found['best']] == np.argsort(-expected)[:5].tolist()
    assert '10 views (ten)' in err


def test_weights_of_older_code_are_read_with_the_config_beside_them(run, tmp_path):
    from flax import serialization

    folder, _, variables, dataset = run
    (tmp_path / 'weights.msgpack').write_bytes(
        serialization.msgpack_serialize(jax.tree.map(np.asarray, dict(variables)))
    )
    config = base.get_config()
    flat = configs.flatten(config) | {'model.name': 'mlp_300', 'data.limit': 60}
    (tmp_path / 'config.json').write_text(json.dumps(flat))
    old, new = (ready.read(ready.Asked(str(place))) for place in (tmp_path, folder))
    assert old.net == new.net and old.classes == new.classes and old.normalised == new.normalised
    images = dataset.test.images[:2]
    np.testing.assert_array_equal(old.trained.prepare(images), new.trained.prepare(images))
