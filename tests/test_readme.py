"""README keeps its word: every command in it runs, every link in it leads somewhere."""

import pathlib
import re
import shlex

import pytest

import cnns
from cnns.layers import Net
from experiments import run
from experiments.benchmark import command as benchmark
from experiments.data import commands
from experiments.data import speed as data_speed
from experiments.models import command as models
from experiments.models import predict
from experiments.preprocess import sheets
from experiments.report import figures
from experiments.report import page as report

ROOT = pathlib.Path(__file__).parent.parent
TEXT = (ROOT / 'README.md').read_text()
BLOCKS = re.findall(r'^```\w*\n(.*?)^```', TEXT, re.M | re.S)
# The blocks of 'Run it' and 'Test it' install and run the project as they stand, in CI.
INSTALLING = [line for block in BLOCKS for line in block.splitlines() if 'pip install' in line]
COMMANDS = [
    line.split('#')[0].strip()
    for block in BLOCKS
    for line in block.splitlines()
    if line.startswith('python -m experiments.')
]


def test_the_two_headings_have_one_block_each():
    for heading in ('## Run it', '## Test it'):
        section = TEXT.split(f'\n{heading}\n')[1].split('\n## ')[0]
        assert section.count('```') == 2, heading
    assert len(INSTALLING) == 3  # run, test, and preparing data


@pytest.mark.parametrize('command', COMMANDS)
def test_every_command_is_one_the_program_takes(command, root, tmp_path, monkeypatch, capsys):
    _, _, module, *words = shlex.split(command)
    if module == 'experiments.run':
        assert run.main([*words, '--dry_run', '--workdir', str(tmp_path / 'w')]) == 0
    elif module == 'experiments.models':
        # test_nets.py traces all of them
        monkeypatch.setattr(cnns, 'names', lambda: ('lenet5', 'alexnet_32px'))
        words = [word.replace('runs/', f'{tmp_path}/') for word in words]
        assert models.main(words) == 0
    elif module == 'experiments.predict':
        assert predict.main(words) == 2  # takes the words, and finds no such image here
        assert 'image.jpg' in capsys.readouterr().err
    elif module == 'experiments.sheets':
        assert sheets.main([word.replace('runs/', f'{tmp_path}/') for word in words]) == 0
    elif module == 'experiments.benchmark':
        if '--figure' in words:
            assert benchmark.main([word.replace('runs/', f'{tmp_path}/') for word in words]) == 0
        else:  # minutes
            benchmark.check(benchmark.parser().parse_args(words))
    elif module == 'experiments.data':
        asked = []
        monkeypatch.setattr(commands, 'prepare', lambda name, folder: asked.append(name) or name)
        assert commands.main([word.replace('runs/', f'{tmp_path}/') for word in words]) == 0
        assert bool(asked) == (words[0] == 'prepare')
    else:
        (stored,) = words[:1]
        (tmp_path / 'copy').mkdir()
        for path in (root / stored).rglob('*.json*'):
            copy = tmp_path / 'copy' / path.relative_to(root / stored)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
        main = {'experiments.figures': figures, 'experiments.report': report}[module].main
        assert main([str(tmp_path / 'copy'), *words[1:]]) == 0
        assert list((tmp_path / 'copy').glob('*.html' if module.endswith('report') else '*.png'))


def test_every_path_it_names_exists():
    for link in re.findall(r'\]\(([^)#]+)\)', TEXT):
        assert (ROOT / link).exists(), link
    for path in re.findall(r'`((?:cnns|configs|experiments|tests)/[\w./-]+)`', TEXT):
        assert (ROOT / path).exists(), path


def test_the_field_list_in_an_override_is_real():
    from configs import base
    from experiments.plan.config import flatten

    fields = flatten(base.get_config())
    for field in re.findall(r'--config\.([a-z][\w.]+)=', TEXT):
        if field.startswith('model.fields.'):
            assert hasattr(Net, field.split('.')[-1]), field
        else:
            assert field in fields, field


def test_the_python_example_runs():
    (example,) = re.findall(r'^```python\n(.*?)^```', TEXT, re.M | re.S)
    names = {}
    exec(example, names)
    assert names['logits'].shape == (1, 10)
    assert names['hidden'].shape == (1, 84)


def test_the_stored_input_speeds_are_quoted_as_the_command_prints_them(root):
    files = sorted((root / 'experiments/stored/input_speed').glob('*.json'))
    if not files:
        pytest.skip('no input speeds are stored')
    assert data_speed.markdown(files) in TEXT
