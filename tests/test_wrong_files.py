"""What is given in place of weights: each command says in one line what it is."""

import numpy as np
import pytest
from test_tensors import POINTER, QUANTIZED, state, tensor, zip_file

from cnns import tensors
from experiments.evaluation import command, predict
from experiments.models import export

LENET = {
    'conv1': (6, 1, 5, 5),
    'conv2': (16, 6, 5, 5),
    'fc1': (120, 400),
    'fc2': (84, 120),
    'fc3': (10, 84),
}
SAID = {
    'page.pth': 'it is a web page',
    'pointer.pth': 'it is a Git LFS pointer',
    'half.pth': 'is no whole zip archive; is it complete?',
    'half.safetensors': 'is the file complete?',
    'lenet5.safetensors': 'these tensors are those of lenet5, not of resnet20',
    'optimizer.pth': 'it holds the state of an optimizer and no weights',
    'quantized.pth': 'its tensors are quantized',
}


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp('wrong')
    (folder / 'page.pth').write_bytes(b'<!DOCTYPE html>\n<html><body>Sign in</body></html>')
    (folder / 'pointer.pth').write_bytes(POINTER)
    weights = {}
    for name, shape in LENET.items():
        weights |= {f'{name}.weight': np.zeros(shape, np.float32)}
        weights |= {f'{name}.bias': np.zeros(shape[:1], np.float32)}
    tensors.save(folder / 'lenet5.safetensors', weights)
    whole = (folder / 'lenet5.safetensors').read_bytes()
    (folder / 'half.safetensors').write_bytes(whole[: len(whole) // 2])
    whole = zip_file(folder / 'half.pth', state(a=tensor())).read_bytes()
    (folder / 'half.pth').write_bytes(whole[: len(whole) // 2])
    zip_file(folder / 'optimizer.pth', state(state=b'}', param_groups=b']'))
    zip_file(folder / 'quantized.pth', state(a=QUANTIZED, scale=tensor()))
    predict.Image.new('RGB', (32, 32)).save(folder / 'image.png')
    return folder


COMMANDS = {
    'predict': (predict, ['{folder}/image.png']),
    'evaluate': (command, ['--config.data.name=synthetic:50x32x3', '--workdir={folder}/w']),
    'export': (export, ['--to=stablehlo', '--out={folder}/net.stablehlo']),
}


@pytest.mark.parametrize('name', COMMANDS)
@pytest.mark.parametrize('file', SAID)
@pytest.mark.parametrize('model', [['--model=resnet20'], []], ids=['model', 'no model'])
def test_a_wrong_file_is_one_line_that_says_what_it_is(files, capsys, name, file, model):
    module, words = COMMANDS[name]
    words = [word.format(folder=files) for word in words]
    assert module.main([f'--weights={files / file}', *model, *words]) == 2
    out, err = capsys.readouterr()
    said = SAID[file]
    if file == 'lenet5.safetensors' and not model:
        said = '--model'  # what its net is, is asked for
    assert out == '' and err.startswith('error: ') and err.count('\n') == 1
    assert said in err and str(files / file) in err
    if said != '--model':
        assert '--model' not in err  # which would not help
    assert not (files / 'w').exists() and not (files / 'net.stablehlo').exists()
