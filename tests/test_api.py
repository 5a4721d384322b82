"""Use from Python against the commands, and what it leaves alone."""

import json
import signal
import threading

import jax
import numpy as np
import pytest

from cnns import weights
from configs import base
from experiments import api, run, workdir
from experiments.errors import UserError
from experiments.evaluation import command, predict
from experiments.report import figures, page

RECIPE = """
from configs import base

def get_config():
    config = base.get_config()
    config.model.name = 'mlp_300'
    config.data.limit = 90
    config.train.epochs = 2
    config.train.batch = 16
    config.train.devices = 1
    config.protocol.rates = (0.05, 0.02)
    config.seed = 3
    return config
"""


def recipe():
    names = {}
    exec(RECIPE, names)
    return names['get_config']()


@pytest.fixture(scope='module')
def result():
    """The result of a training in a thread, and the lines of its epochs."""
    found, lines, config = [], [], recipe()
    before = config.to_json_best_effort()
    thread = threading.Thread(target=lambda: found.append(api.train(config, lines.append)))
    thread.start()
    thread.join()
    assert config.to_json_best_effort() == before
    return found[0], lines


@pytest.fixture(scope='module')
def commanded(tmp_path_factory):
    """The work directory of `experiments.run` with the same config."""
    folder = tmp_path_factory.mktemp('run')
    (folder / 'mine.py').write_text(RECIPE)
    words = ['--config', f'{folder}/mine.py', '--workdir', f'{folder}/w']
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(folder / 'cache'))
        patch.setattr(figures, 'write', lambda *_: ())
        patch.setattr(page, 'write', lambda folder: folder)
        assert run.main([*words, '--compilation_cache=off']) == 0
    return folder / 'w'


def test_a_training_gives_the_rows_and_curves_of_the_command(result, commanded):
    made, lines = result
    stored = workdir.read_experiment(commanded)
    assert [row['phase'] for row in made.rows] == ['select', 'select', 'final']
    for own, row in zip(made.rows, stored.rows, strict=True):
        assert own.keys() == row.keys() - {'digest'}
        assert {k: own[k] for k in own if k not in ('experiment', 'weights')} == {
            k: row[k] for k in own if k not in ('experiment', 'weights')
        }
        curve = [
            {k: v for k, v in line.items() if k != 'seconds'} for line in made.curves[own['point']]
        ]
        assert curve == [
            {k: v for k, v in line.items() if k not in ('seconds', 'digest')}
            for line in stored.curves[row['point']]
        ]
    assert lines == [line for row in made.rows for line in made.curves[row['point']]]
    assert (made.row, made.curve) == (made.rows[-1], made.curves[made.rows[-1]['point']])


def test_a_result_has_net_variables_classes_and_normalisation(result, commanded):
    made, _ = result
    (file,) = commanded.glob('points/*/weights.safetensors')
    variables, metadata = weights.load(file)
    jax.tree.map(np.testing.assert_array_equal, made.variables, variables)
    assert (made.net.classes, list(made.classes)) == (10, metadata['class_names'])
    assert made.mean.tolist() == metadata['mean'] and made.std.tolist() == metadata['std']
    images, labels = made.dataset.test.images, made.dataset.test.labels
    prepared = (np.float32(images) / 255 - made.mean) / made.std
    np.testing.assert_allclose(made.prepare(images), prepared, atol=1e-5)
    photo = predict.Image.fromarray(np.uint8(np.arange(64 * 70).reshape(64, 70) // 18))
    middle = photo.crop((3, 0, 67, 64)).resize((32, 32), predict.Image.Resampling.BILINEAR)
    (seen,) = made.prepare([np.asarray(photo)[..., None]])
    expected = (np.float32(middle) / 255 - made.mean) / made.std
    inside = np.s_[1:-1, 1:-1]  # a filter at the edge of the crop sees what is beyond it
    np.testing.assert_allclose(seen[..., 0][inside], expected[inside], atol=1e-5)
    guesses = np.argmax(made.net.apply(made.variables, prepared, train=False), -1)
    assert made.row['test/error'] == pytest.approx(np.mean(guesses != labels))


def test_an_evaluation_is_that_of_the_command(result, commanded, tmp_path, capsys):
    made, _ = result
    found = api.evaluate(made, part='validation')
    words = ['--weights', str(commanded), '--part', 'validation', '--json']
    assert command.main([*words, '--workdir', str(tmp_path / 'w')]) == 0
    told = json.loads(capsys.readouterr().out)
    same = 'validation/error validation/loss validation/right validation/count data_found'.split()
    assert [found.row[key] for key in same] == [told['row'][key] for key in same]
    assert found.confusion.tolist() == told['confusion']
    assert found.row['validation/error'] == made.row['validation/error']
    images, labels = found.split.read(found.wrong[:2])
    assert images.shape[1:] == (32, 32, 1) and labels.tolist() == [
        found.found.labels[place] for place in found.wrong[:2]
    ]
    assert api.evaluate(made, fields={'data.limit': 40}).row['test/count'] == 40


def test_predictions_are_those_of_the_command(result, tmp_path, capsys):
    made, _ = result
    for index, pixels in enumerate(made.dataset.test.images[:3]):
        predict.Image.fromarray(pixels[..., 0]).save(tmp_path / f'{index}.png')
    made.save(tmp_path / 'net.safetensors')
    assert predict.main(['--weights', f'{tmp_path}/net.safetensors', '--json', str(tmp_path)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert api.predict(made, tmp_path) == told
    arrays = api.predict(made, made.dataset.test.images[:3])
    assert [one['best'] for one in arrays] == [one['best'] for one in told]
    assert [one['image'] for one in arrays] == [0, 1, 2]
    assert capsys.readouterr().err == ''
    (one,) = api.predict(tmp_path / 'net.safetensors', [tmp_path / '1.png'])
    assert one['best'][0]['class'] == told[1]['best'][0]['class']
    assert 'mean 0.3' in capsys.readouterr().err  # a file says what is used


def test_nothing_is_written_and_no_setting_is_changed(elsewhere, tmp_path, monkeypatch):
    monkeypatch.setattr('sys.argv', ['notebook', '--config=nothing', '--unknown'])
    config = recipe()
    config.protocol.rates = ()
    config.data.limit = 60  # another set: none of those above is taken
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with jax.enable_x64(True):
        made = api.train(config)
        assert jax.numpy.zeros(1, float).dtype == np.float64
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert {leaf.dtype for leaf in jax.tree.leaves(made.variables)} == {np.dtype(np.float32)}
    assert [*tmp_path.rglob('*')] == [tmp_path / 'work'] and len(made.rows) == 1
    again = api.train(config)
    assert again.dataset is made.dataset and again.row == made.row


def changed(**fields):
    config = recipe()
    for path, value in fields.items():
        group, name = path.split('__')
        config[group][name] = value
    return config


@pytest.mark.parametrize(
    'config, message',
    [
        ({'model': 1}, "the config is {'model': 1}; it must be a ConfigDict made by configs.base"),
        (changed(model__name='lenet6'), "unknown net 'lenet6'. Did you mean 'lenet5'?"),
        (changed(train__batch=4096), 'batch'),
        (changed(data__name='folder:nothing'), 'nothing'),
    ],
)
def test_a_mistake_is_an_exception_with_the_line_of_the_command(config, message):
    with pytest.raises(UserError) as found:
        api.train(config)
    assert message in str(found.value) and '\n' not in str(found.value)


def test_a_training_that_diverges_says_at_which_step():
    config = changed(train__rate=3e38, train__schedule='constant', protocol__rates=())
    with pytest.raises(api.Diverged, match=r'the loss is \w+ at step \d+ \(epoch 1\)'):
        api.train(config)


def test_mistakes_in_use_are_exceptions_of_one_line(result, tmp_path):
    made, _ = result
    for call, message in [
        (lambda: api.evaluate(made, part='tset'), "unknown part 'tset'. Did you mean 'test'?"),
        (lambda: api.evaluate(made, fields={'data.classes': ('0', '1')}), 'is for 10'),
        (lambda: api.evaluate(made, base.get_data()), 'the config lacks'),
        (lambda: api.predict(made, np.zeros((1, 8, 8, 1))), 'it must be uint8 [H, W, 1]'),
        (lambda: api.predict(made, tmp_path / 'no.png'), 'there is no image'),
        (lambda: api.predict(made, []), 'no image is given'),
        (lambda: api.load(tmp_path / 'no.pth'), 'there is no such file or folder'),
        (lambda: made.save(tmp_path / 'net.pth'), 'written as .safetensors; change the name'),
    ]:
        with pytest.raises(UserError) as found:
            call()
        assert message in str(found.value) and '\n' not in str(found.value)
