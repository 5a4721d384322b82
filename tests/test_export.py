"""Exported nets compute what ours do, and what does not is not written."""

import json
import textwrap

import jax
import numpy as np
import pytest

import cnns
from cnns import convert, weights
from experiments.models import export
from experiments.models.to_onnx import to_onnx

METADATA = {
    'net': 'lenet5',
    'fields': {'activation': 'relu', 'pool': 'max'},
    'class_names': list('abcdefghij'),
    'mean': [0.13],
    'std': [0.31],
    'resolution': 32,
}


def drawn(net, size):
    """Variables of a net, all random, so that no layer is without effect."""
    draws = np.random.default_rng(0)
    shapes = jax.eval_shape(
        lambda: net.init(jax.random.key(0), np.zeros((1, *size), np.float32), train=False)
    )

    def draw(path, leaf):
        if path[-1].key in ('var', 'scale'):
            return draws.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        fan_in = np.prod(leaf.shape[:-1]) if leaf.ndim in (2, 4) else 100
        return draws.normal(0, (2 / fan_in) ** 0.5, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.fixture(scope='module')
def lenet(tmp_path_factory):
    path = tmp_path_factory.mktemp('lenet') / 'weights.safetensors'
    weights.save(path, drawn(weights.build(METADATA), (32, 32, 1)), METADATA)
    return path


def images(count, size=(32, 32, 1)):
    return np.random.default_rng(1).standard_normal((count, *size), np.float32)


def ours(path, x):
    variables, metadata = weights.load(path)
    net = weights.build(metadata)
    return np.asarray(jax.jit(lambda v, x: net.apply(v, x, train=False))(variables, x))


def onnx_logits(data, x):
    runtime = pytest.importorskip('onnxruntime', reason='needs onnxruntime, extra [onnx]')
    return runtime.InferenceSession(data).run(None, {'images': x})[0]


# Between them every operation, and every kind of layer
NETS = [
    ('lenet5_1998', {}, (32, 32, 1)),
    ('mlp_batchnorm', {'norm': 'batch'}, (28, 28, 1)),
    ('cuda_convnet_18pct', {'activation': 'sigmoid'}, (16, 16, 3)),
    ('cuda_convnet_11pct', {}, (24, 24, 3)),
    ('alexnet_32px', {'norm': 'lrn', 'units': 8, 'adaptive': True}, (40, 40, 3)),
    pytest.param('googlenet_32px', {}, (32, 32, 3), marks=pytest.mark.long),
    ('resnet20', {'blocks': 1}, (32, 32, 3)),
    ('resnet18', {'blocks': (1, 1, 1, 1), 'width': 8, 'classes': 3}, (33, 47, 3)),
]


@pytest.mark.parametrize('name, fields, size', NETS)
def test_an_onnx_model_gives_our_logits_for_every_batch(name, fields, size):
    pytest.importorskip('onnx', reason='needs onnx, extra [onnx]')
    net = cnns.build(name, **fields)
    variables = drawn(net, size)
    data = to_onnx(net.clone(fast=False), variables, size, {})
    x = images(3, size)
    expected = np.asarray(jax.jit(lambda v, x: net.apply(v, x, train=False))(variables, x))
    for count in (1, 3):
        apart = np.abs(onnx_logits(data, x[:count]) - expected[:count]).max()
        assert apart < 2e-5 * np.abs(expected).max()
    assert np.ptp(expected, axis=0).max() > 1e-3 * np.abs(expected).max()  # images matter


def test_onnx_keeps_classes_and_normalisation(lenet, tmp_path, capsys):
    onnx = pytest.importorskip('onnx', reason='needs onnx, extra [onnx]')
    out = tmp_path / 'net.onnx'
    assert export.main(['--weights', str(lenet), '--to', 'onnx', '--out', str(out)]) == 0
    model = onnx.load(out)
    kept = {one.key: one.value for one in model.metadata_props}
    assert json.loads(kept['class_names']) == METADATA['class_names']
    assert (json.loads(kept['mean']), json.loads(kept['std'])) == ([0.13], [0.31])
    x = images(4)
    np.testing.assert_allclose(onnx_logits(out.read_bytes(), x), ours(lenet, x), atol=1e-5)
    text = capsys.readouterr().out
    assert 'mean 0.13 subtracted, divided by 0.31' in text and 'a, b, c' in text


def test_stablehlo_is_read_without_us_for_any_batch(lenet, tmp_path):
    out = tmp_path / 'net.stablehlo'
    assert export.main(['--weights', str(lenet), '--to', 'stablehlo', '--out', str(out)]) == 0
    exported = jax.export.deserialize(bytearray(out.read_bytes()))
    assert set(exported.platforms) >= {'cpu', 'cuda', 'tpu'}
    for count in (1, 7):
        x = images(count)
        np.testing.assert_allclose(exported.call(x), ours(lenet, x), atol=1e-5)


def test_torch_and_back_are_the_same_weights(lenet, tmp_path, capsys):
    out = tmp_path / 'net.safetensors'
    assert export.main(['--weights', str(lenet), '--to', 'torch', '--out', str(out)]) == 0
    assert 'layout: lenet5 with activation=relu, pool=max' in capsys.readouterr().out
    back = convert.read(out, 'lenet5', activation='relu', pool='max').variables
    jax.tree.map(np.testing.assert_array_equal, back, weights.load(lenet)[0])
    again = tmp_path / 'again.stablehlo'
    words = ['--model', 'lenet5', '--field', 'activation=relu', '--field', 'pool=max']
    words += ['--weights', str(out), '--to', 'stablehlo', '--out', str(again)]
    assert export.main(words) == 0


@pytest.mark.parametrize(
    'words, message',
    [
        (['--to', 'onnx', '--out', 'a.pb'], '--to onnx writes .onnx'),
        (['--to', 'stablehlo', '--out', 'a.stablehlo', '--side', '0'], 'at least 1 pixel'),
        (['--to', 'stablehlo', '--out', 'a.stablehlo', '--side', '33'], 'LeNet-5 takes images'),
        (['--to', 'stablehlo', '--out', 'a.stablehlo', '--field', 'pool'], 'NAME=VALUE'),
        (['--to', 'stablehlo', '--out', 'a.stablehlo', '--field', 'pool=max'], 'leave out --field'),
        (['--to', 'onnx', '--out', 'a.onnx', '--model', 'lenet5'], 'leave out --model'),
        (['--to', 'onnx', '--out', 'a.onnx', '--weights', 'no.pth'], 'no such file or folder'),
    ],
)
def test_a_mistake_is_one_line_and_no_file(lenet, elsewhere, tmp_path, capsys, words, message):
    assert export.main(['--weights', str(lenet), *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1
    assert not list((tmp_path / 'work').iterdir())


def test_the_crop_of_the_images_is_said():
    net = cnns.build('lenet5')
    given = export.Given(net, {}, METADATA | {'shape': [40, 44, 1]}, (32, 32, 1))
    said = '[N, 32, 32, 1], the middle of images of a shorter side of 40, pixels / 255, mean 0.13'
    assert said in export.describe(given)[-1]
    given = given._replace(metadata=METADATA | {'shape': [32, 32, 1]})
    assert '[N, 32, 32, 1], pixels / 255' in export.describe(given)[-1]


def printed(capsys):
    """The lines of Python that the command ends with."""
    _, lines = capsys.readouterr().out.split('In Python:\n')
    return textwrap.dedent(lines)


@pytest.mark.parametrize('kind', ['onnx', 'stablehlo'])
def test_the_printed_lines_read_the_file(lenet, tmp_path, capsys, kind):
    if kind == 'onnx':
        pytest.importorskip('onnx', reason='needs onnx, extra [onnx]')
        pytest.importorskip('onnxruntime', reason='needs onnxruntime, extra [onnx]')
    words = ['--weights', str(lenet), '--to', kind, '--out', f"{tmp_path}/it's.{kind}"]
    assert export.main(words) == 0
    names = {'images': images(2)}
    exec(printed(capsys), names)
    np.testing.assert_allclose(names['logits'], ours(lenet, images(2)), atol=1e-5)


def test_the_printed_lines_put_the_weights_into_a_module_of_torch(lenet, tmp_path, capsys):
    torch = pytest.importorskip('torch', reason='needs PyTorch')
    nn = torch.nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
            self.fc1, self.fc2, self.fc3 = (
                nn.Linear(400, 120),
                nn.Linear(120, 84),
                nn.Linear(84, 10),
            )

        def forward(self, x):
            for layer in (self.conv1, self.conv2):
                x = nn.functional.max_pool2d(layer(x).relu(), 2)
            return self.fc3(self.fc2(self.fc1(x.flatten(1)).relu()).relu())

    out = tmp_path / 'net.safetensors'
    assert export.main(['--weights', str(lenet), '--to', 'torch', '--out', str(out)]) == 0
    model, x = Model(), images(2)
    exec(printed(capsys), {'model': model})
    with torch.no_grad():
        logits = model(torch.tensor(x.transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(logits, ours(lenet, x), atol=1e-5)


def test_a_run_of_a_work_directory_is_taken_as_its_file(lenet, tmp_path):
    run = tmp_path / 'points' / '0123456789ab'
    run.mkdir(parents=True)
    (run / 'weights.safetensors').write_bytes(lenet.read_bytes())
    for folder in (run, tmp_path):
        given = export.read(str(folder), None, {}, None)
        assert given.metadata['net'] == 'lenet5' and given.size == (32, 32, 1)


def test_a_net_without_a_layout_says_what_differs(tmp_path, capsys):
    metadata = {'net': 'lenet5', 'fields': {'norm': 'lrn'}}
    weights.save(tmp_path / 'a.safetensors', drawn(weights.build(metadata), (32, 32, 1)), metadata)
    out = tmp_path / 'b.safetensors'
    words = ['--weights', str(tmp_path / 'a.safetensors'), '--to', 'torch', '--out', str(out)]
    assert export.main(words) == 2
    assert "norm='none'" in capsys.readouterr().err and not out.exists()


def test_what_differs_by_more_than_rounding_is_not_written(lenet, tmp_path, capsys, monkeypatch):
    plain = export.to_stablehlo

    def shifted(given):
        data, logits = plain(given)
        return data, lambda x: logits(x) + 1e-2

    monkeypatch.setattr(export, 'to_stablehlo', shifted)
    out = tmp_path / 'net.stablehlo'
    assert export.main(['--weights', str(lenet), '--to', 'stablehlo', '--out', str(out)]) == 2
    assert 'differ by 0.01' in capsys.readouterr().err and not out.exists()
