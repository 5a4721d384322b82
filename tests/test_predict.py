"""The preprocessing against its definition; the command line on images of every kind."""

import os
import subprocess

import numpy as np
import pytest
from PIL import Image

from cnns import convert, tensors
from experiments import data
from experiments.errors import UserError
from experiments.evaluation import predict, ready
from experiments.preprocess import augment, views

CLASSES = 7


def weights(path, model='resnet18', *, bias=range(CLASSES), **changed):
    """A file of the right names whose logits are `bias`, whatever the image."""
    import flax
    import jax

    net = convert.build(model, classes=CLASSES)
    shapes = jax.eval_shape(
        lambda: net.init(jax.random.key(0), np.zeros((1, 224, 224, 3)), train=False)
    )
    flat = flax.traverse_util.flatten_dict(shapes, sep='/')
    made = convert.to_torch(
        model,
        flax.traverse_util.unflatten_dict(
            {name: np.broadcast_to(np.float32(0), leaf.shape) for name, leaf in flat.items()},
            sep='/',
        ),
    )
    made |= {'fc.bias': np.float32(bias), **changed}
    tensors.save(path, {name: tensor for name, tensor in made.items() if tensor is not None})
    return str(path)


@pytest.fixture(scope='module')
def resnet(tmp_path_factory):
    return weights(tmp_path_factory.mktemp('weights') / 'resnet18.safetensors')


def pixels_of(path, resize=256):
    """The middle 224x224 that a net of photographs sees."""
    shape = (resize, resize, 3)
    (got,) = centre(predict.read_image(path, shape, whole=True)[0][None], shape)
    return got


def centre(images, shape):
    unchanged = data.Statistics(np.zeros(3, np.float32), np.full(3, 1 / 255, np.float32))
    crop = 'random' if shape[0] > 224 else 'none'
    trained = augment.augmentation(shape, unchanged, crop=crop, size=224)
    (got,) = views.views('centre', trained)(images)
    return np.uint8(np.round(got))


def photo(path, size=(300, 280), mode='RGB', **options):
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **options)
    return str(path)


# --- preprocessing ---------------------------------------------------------------------------


@pytest.mark.parametrize('size', [(300, 280), (256, 256), (200, 600), (1000, 700)])
def test_images_are_resized_and_cropped_as_torchvision_does(tmp_path, size):
    torch = pytest.importorskip('torch', reason='needs PyTorch')
    path = photo(tmp_path / 'a.png', size)
    got = pixels_of(path)
    assert got.shape == (224, 224, 3) and got.dtype == np.uint8
    x = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None].float()
    width, height = size
    # The rule of its Resize: the shorter side exactly, the longer one rounded down
    height, width = (
        (256, int(256 * width / height)) if height <= width else (int(256 * height / width), 256)
    )
    x = torch.nn.functional.interpolate(x, (height, width), mode='bilinear', antialias=True)
    top, left = int(round((height - 224) / 2.0)), int(round((width - 224) / 2.0))
    expected = x[0, :, top : top + 224, left : left + 224].permute(1, 2, 0).numpy()
    assert np.abs(got - expected).max() < 1.05  # Pillow rounds to whole grey levels twice


def test_the_middle_is_taken_and_resize_changes_how_much(tmp_path):
    # A white square of 256x256 in the middle of black, no resizing of the shorter side needed
    pixels = np.zeros((256, 512, 3), np.uint8)
    pixels[:, 128:384] = 255
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    assert (pixels_of(tmp_path / 'a.png') == 255).all()
    # At 224 the white part is 224 wide: all of it, and nothing of the black but blurred edges
    small = pixels_of(tmp_path / 'a.png', 224)
    assert (small[:, 2:-2] == 255).all()


@pytest.mark.parametrize(
    'given, expected, said',
    [
        (
            {},
            [(1 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, -0.406 / 0.225],
            "mean and std: ImageNet's",
        ),
        (dict(mean='0.5', std='0.5'), [1, -0.6, -1], 'std 0.5, 0.5, 0.5 (--mean and --std)'),
        (dict(mean='1,0.2,0'), [0, 0, 0], "std: ImageNet's"),
    ],
)
def test_what_images_are_normalised_by_can_be_given_and_is_said(resnet, given, expected, said):
    net = ready.read(ready.Asked(resnet, 'resnet18', **given))
    images = np.broadcast_to(np.uint8([255, 51, 0]), (1, 256, 256, 3))
    (got,) = views.views('centre', net.trained)(images)
    assert got.shape == (1, 224, 224, 3)
    np.testing.assert_allclose(got[0, 0, 0], expected, atol=1e-6)
    assert any(said in line for line in net.used(views.views('centre', net.trained)))


def test_the_normalisation_of_torchvisions_googlenet_is_another():
    assert ready.NORMALISATION['googlenet'] == ((0.5,) * 3, (0.5,) * 3)


def test_images_of_every_kind_are_read_alike(tmp_path):
    square = Image.new('RGB', (256, 256), (200, 120, 40))
    square.save(tmp_path / 'rgb.png')
    square.convert('P', palette=Image.Palette.ADAPTIVE).save(tmp_path / 'palette.gif')
    square.convert('RGBA').save(tmp_path / 'alpha.png')
    square.convert('CMYK').save(tmp_path / 'cmyk.jpg', quality=100)
    for name in ('rgb.png', 'palette.gif', 'alpha.png', 'cmyk.jpg'):
        got = pixels_of(tmp_path / name).astype(int)
        assert np.abs(got - (200, 120, 40)).max() <= 3, name
    Image.new('L', (256, 256), 77).save(tmp_path / 'grey.png')
    Image.fromarray(np.full((256, 256), 77 * 257, np.uint16)).save(tmp_path / 'grey16.png')
    Image.new('1', (256, 256), 1).save(tmp_path / 'bilevel.png')
    for name, level in (('grey.png', 77), ('grey16.png', 77), ('bilevel.png', 255)):
        assert (pixels_of(tmp_path / name) == level).all(), name


def test_a_palette_with_a_transparent_colour_is_read_without_a_warning(tmp_path):
    image = Image.new('P', (256, 256), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(tmp_path / 'a.png', transparency=bytes([255, 0]))
    assert (pixels_of(tmp_path / 'a.png') == (10, 20, 30)).all()


def test_pixels_without_a_known_white_are_refused(tmp_path):
    Image.fromarray(np.full((300, 300), 0.5, np.float32)).save(tmp_path / 'image.tiff')
    with pytest.raises(UserError, match='its pixels have 32 bits, whose white is not known'):
        pixels_of(tmp_path / 'image.tiff')


def test_a_portable_grey_map_of_16_bits_is_scaled(tmp_path):
    pixels = np.full((256, 256), 77 * 257, '>u2').tobytes()
    (tmp_path / 'a.pgm').write_bytes(b'P5 256 256 65535\n' + pixels)
    assert (pixels_of(tmp_path / 'a.pgm') == 77).all()


def test_no_program_is_run_and_no_pipe_waited_for_whatever_the_images_name(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(subprocess, 'check_call', lambda *words, **_: ran.append(words))
    (tmp_path / 'a.jpg').write_bytes(b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 300 300\n')
    os.mkfifo(tmp_path / 'b.jpg')
    for name, words in (('a.jpg', 'none of JPEG, PNG'), ('b.jpg', 'no regular file')):
        with pytest.raises(UserError, match=f'{name} cannot be read as an image: {words}'):
            pixels_of(tmp_path / name)
    assert not ran


def test_warnings_of_pillow_come_with_the_files_name(tmp_path, capsys):
    exif = b'Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\xff\0\0\0\0'  # cut off
    path = photo(tmp_path / 'a.jpg', exif=exif)
    pixels_of(path)
    lines = capsys.readouterr().err.splitlines()
    assert any('EXIF' in line for line in lines)
    assert all(line.startswith(f'note: {path}: ') for line in lines)


def test_a_rotated_photograph_is_turned_upright(tmp_path):
    pixels = np.zeros((256, 256, 3), np.uint8)
    pixels[:128] = 255
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view: the white top comes to the right
    image.save(tmp_path / 'a.jpg', exif=exif, quality=95)
    got = pixels_of(tmp_path / 'a.jpg').astype(int)
    assert got[:, 130:].min() > 240 and got[:, :90].max() < 15


# --- the command line ------------------------------------------------------------------------


def run(capsys, *arguments):
    code = predict.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_five_best_classes_are_printed_for_each_image(tmp_path, capsys, resnet):
    first, second = photo(tmp_path / 'a.jpg'), photo(tmp_path / 'b.png', mode='L')
    names = tmp_path / 'names.txt'
    names.write_text('\n'.join(f'kind {i}' for i in range(CLASSES)) + '\n')
    code, out, err = run(
        capsys, '--model', 'resnet18', '--weights', resnet, '--class_names', names, first, second
    )
    assert code == 0 and all(line.startswith('note: ') for line in err.splitlines())
    assert f'resnet18 of {resnet}' in err and 'mean 0.485, 0.456, 0.406' in err
    lines = out.splitlines()
    assert lines[0] == first and lines[6] == second and len(lines) == 12
    powers = np.exp(np.arange(CLASSES))  # the logits are 0 to 6
    for rank, line in enumerate(lines[1:6]):
        best = CLASSES - 1 - rank
        share, percent, index, *name = line.split()
        assert float(share) == pytest.approx(100 * powers[best] / powers.sum(), abs=0.006)
        assert (percent, int(index), ' '.join(name)) == ('%', best, f'kind {best}')
    assert lines[7:] == lines[1:6]


def test_a_whole_net_sees_the_prepared_image(tmp_path, capsys):
    torch = pytest.importorskip('torch', reason='needs PyTorch')
    from experiments.benchmark import torch_nets

    theirs = torch_nets.randomise(torch_nets.build('resnet18', classes=4))
    theirs.fc.weight.data /= 100  # probabilities that are not 0 and 1
    torch.save(theirs.state_dict(), tmp_path / 'a.pth')
    image = photo(tmp_path / 'a.png')
    code, out, _ = run(capsys, '--model', 'resnet18', '--weights', tmp_path / 'a.pth', image)
    assert code == 0
    x = pixels_of(image) / 255
    x = (x - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.no_grad():
        logits = theirs(torch.tensor(x.transpose(2, 0, 1)[None], dtype=torch.float32))
    expected = 100 * torch.softmax(logits, -1)[0].numpy()
    rows = [line.split() for line in out.splitlines()[1:]]
    assert [int(row[2]) for row in rows] == np.argsort(-expected).tolist()
    np.testing.assert_allclose([float(row[0]) for row in rows], -np.sort(-expected), atol=0.01)


def fails(capsys, match, *arguments):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, '')
    assert err.startswith('error: ') and err.count('\n') == 1
    assert match in err


def test_mistakes_are_one_line_and_status_2(tmp_path, capsys, resnet):
    good = photo(tmp_path / 'a.jpg')
    model = ('--model', 'resnet18', '--weights', resnet)
    fails(capsys, 'there is no image', *model, tmp_path / 'none.jpg')
    text = tmp_path / 'text.jpg'
    text.write_text('no image')
    fails(capsys, 'text.jpg cannot be read as an image', *model, good, text)
    text.write_bytes((tmp_path / 'a.jpg').read_bytes()[:3000])
    fails(capsys, 'text.jpg cannot be read as an image', *model, text)
    (tmp_path / 'empty').mkdir()
    fails(capsys, 'empty has no images: files that end in .jpg', *model, tmp_path / 'empty')
    fails(
        capsys,
        "unknown --model 'resnet51'. Did you mean 'resnet56'? Allowed: alexnet, googlenet, vgg11",
        '--model',
        'resnet51',
        '--weights',
        resnet,
        good,
    )
    fails(
        capsys,
        "none.pth': there is no such file or folder.",
        '--model',
        'resnet18',
        '--weights',
        tmp_path / 'none.pth',
        good,
    )
    fails(
        capsys,
        'it has no weights.safetensors or weights.msgpack',
        '--model',
        'resnet18',
        '--weights',
        _folder(tmp_path),
        good,
    )
    fails(
        capsys,
        'these tensors are those of resnet18, not of resnet50',
        '--model',
        'resnet50',
        '--weights',
        resnet,
        good,
    )
    names = tmp_path / 'names.txt'
    names.write_text('one\ntwo\n')
    fails(capsys, 'names 2 classes, the weights have 7', *model, '--class_names', names, good)
    fails(capsys, 'cannot be read', *model, '--class_names', tmp_path / 'none.txt', good)
    fails(capsys, '--resize is 100, it must be between the 224', *model, '--resize', 100, good)
    fails(capsys, '--resize is 60000', *model, '--resize', 60000, good)


def _folder(path):
    (path / 'folder.pth').mkdir()
    return path / 'folder.pth'


def test_weights_that_cannot_be_used_are_refused(tmp_path, capsys):
    good = photo(tmp_path / 'a.jpg')

    def refused(match, **changed):
        path = weights(tmp_path / 'w.safetensors', **changed)
        fails(capsys, match, '--model', 'resnet18', '--weights', path, good)

    refused('missing: bn1.running_mean.', **{'bn1.running_mean': None})
    refused(
        'images of resnet18 of 1 channel were normalised by: give --mean',
        **{'conv1.weight': np.zeros((64, 1, 7, 7), np.float32)},
    )
    refused('not finite: fc.bias (7 of 7 values)', bias=[np.nan] * CLASSES)
    large = {'layer4.1.bn2.bias': (512,), 'fc.weight': (CLASSES, 512)}
    large = {name: np.full(shape, 3e38, np.float32) for name, shape in large.items()}
    refused('the logits are not finite', **large)
    import pickle

    (tmp_path / 'w.pth').write_bytes(pickle.dumps({'a': 1}))
    fails(
        capsys,
        'it is a pickle, but not one of torch.save',
        '--model',
        'resnet18',
        '--weights',
        tmp_path / 'w.pth',
        good,
    )


def test_an_image_too_narrow_to_be_resized_is_refused(tmp_path, capsys, resnet):
    Image.new('L', (2000, 2)).save(tmp_path / 'a.png')
    fails(
        capsys,
        'is 2000x2 pixels, too narrow',
        '--model',
        'resnet18',
        '--weights',
        resnet,
        tmp_path / 'a.png',
    )


def test_help_names_the_models_and_what_the_files_are(capsys):
    with pytest.raises(SystemExit) as stopped:
        predict.main(['--help'])
    out = capsys.readouterr().out
    assert stopped.value.code == 0
    for word in (*convert.MODELS, '.safetensors', 'one per line'):
        assert word in out
