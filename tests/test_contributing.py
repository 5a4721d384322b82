"""CONTRIBUTING's recipes, executed: one of every kind is added to a copy of the project."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

# {file: (the line before, what a person adds after it)}: one place for each kind
ADDED = {
    'cnns/axes.py': [
        ("    'relu': jax.nn.relu,\n", "    'leaky': jax.nn.leaky_relu,\n"),
        ('AXES: dict[str, Collection] = {', "'reduction': ('none', 'mean'), "),
    ],
    'cnns/__init__.py': [
        ('from cnns.mlp import MLP\n', 'from cnns.tiny import Tiny\n'),
        ('NETS = {\n', "    'tiny': Entry(Tiny, {}, _MNIST28, *_LECUN),\n"),
    ],
    'experiments/train/evaluate.py': [
        (
            '    return function\n\n\n',
            '@metric\ndef confidence(logits, labels):\n'
            '    return jax.nn.softmax(logits).max(-1)\n\n\n',
        )
    ],
    'experiments/data/sources.py': [
        (
            '# (before) ',
            'def mine(fields):\n'
            '    images = np.zeros((60, 8, 8, 1), np.uint8)\n'
            '    labels = np.arange(60, dtype=np.int32) % 3\n'
            '    images[:] = labels[:, None, None, None] * 100\n'
            '    images[:, 0, 0, 0] = np.arange(60)\n'
            "    parts = {'train': slice(0, 48), 'test': slice(48, 60)}\n"
            "    made = {k: Arrays(images[s], labels[s], f'mine {k}') for k, s in parts.items()}\n"
            "    return Source(made, ('a', 'b', 'c'), 'three greys')\n\n\n",
        ),
        ('SOURCES: dict[str, Callable] = {', "'mine': mine, "),
    ],
}
NET = """
import flax.linen as nn
from cnns import layers

class Tiny(layers.Net):
    LACKS = {'pool': 'it has no maps', 'overlap': 'it has no pooling', 'norm': 'it is too small'}
    activation: str = 'leaky'
    classes: int = 10
    channels: int = 1
    reduction: str = 'none'

    @nn.compact
    def __call__(self, x, *, train, features=False):
        layer = layers.Layers(self, x, train=train, weights=nn.initializers.normal(0.1))
        if self.reduction == 'mean':
            x = x.mean((1, 2), keepdims=True)
        x = layer.dense('fc1', layers.flat(x), 8)
        return layer.result(layer.dense('fc2', x, self.classes, linear=True), features)
"""
CLAIM = """
from configs import base

def get_config():
    config = base.get_config()
    config.data.name = 'mine'
    config.data.validation = 0.25
    config.model.name = 'tiny'
    config.train.batch = 12
    config.train.epochs = 1
    config.train.devices = 1
    return config

def sweep(add):
    for reduction in ('none', 'mean'):
        add(reduction, model=dict(reduction=reduction))
"""


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp('project')
    for name in ('cnns', 'configs', 'experiments'):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns('stored', '__pycache__')
        )
    for name, changes in ADDED.items():
        text = (folder / name).read_text()
        for place, added in changes:
            if place == '# (before) ':  # a function, before its table
                text = text.replace('SOURCES: dict', added + 'SOURCES: dict', 1)
            else:
                assert text.count(place) >= 1, (name, place)
                text = text.replace(place, place + added, 1)
        (folder / name).write_text(text)
    (folder / 'cnns/tiny.py').write_text(NET)
    (folder / 'configs/ablate_reduction.py').write_text(CLAIM)
    return folder


def call(project, *words, code=None):
    settings = os.environ | {'PYTHONPATH': str(project), 'XDG_CACHE_HOME': str(project / 'cache')}
    start = ['-c', code] if code else ['-m', *words]
    done = subprocess.run(
        [sys.executable, *start], cwd=project, env=settings, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_added_in_one_place_is_everywhere(project):
    words = ['experiments.run', '--config', 'configs/ablate_reduction.py', '--workdir', 'w']
    out = call(project, *words, '--config.model.activation=relu')
    assert 'reduction in tiny on mine: 2 arms, 2 runs' in out and 'three greys' in out
    row = (project / 'w/results.jsonl').read_text().splitlines()[0]
    assert all(f'"{split}/confidence": 0.' in row for split in ('train', 'validation', 'test'))
    assert 'test confidence' in ' '.join(out.split())
    assert 'test_confidence_mean' in (project / 'w/results.csv').read_text()
    assert 'test confidence' in (project / 'w/report.html').read_text()


def test_a_source_that_is_added_is_known_to_the_commands(project):
    code = (
        'from experiments.data import commands; '
        "commands.main(['list']); commands.main(['show', 'mine'])"
    )
    out = call(project, code=code)
    assert 'others:    mine' in out and 'three greys' in out


def test_an_axis_and_an_activation_that_are_added_pass_the_tests_of_all_nets(project):
    """Names of runs stay, and tests/test_axes.py takes the new values without a line of its own."""
    code = f"""
import sys; sys.path.insert(0, {str(ROOT / 'tests')!r})
import test_axes
from configs import base
from experiments.plan import config, runs
test_axes.test_no_axis_leaks('tiny', {{'activation': 'leaky'}})
test_axes.test_no_axis_leaks('lenet5', {{'activation': 'leaky'}})
print(runs.plan_of(config.read_config('base')).finals(
    runs.plan_of(config.read_config('base')).arms[0])[0].name)
"""
    assert call(project, code=code).split() == ['92f1de71b314']
