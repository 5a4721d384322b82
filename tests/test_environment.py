"""The environment of a row: its code digest is of what can change a training."""

import pathlib
import shutil

import pytest

from experiments import environment

ROOT = pathlib.Path(environment.__file__).parent.parent


@pytest.mark.parametrize(
    'place, changes',
    [
        ('cnns/resnet.py', True),
        ('cnns/fast/pooling.py', True),
        ('experiments/machine.py', True),
        ('experiments/train/step.py', True),
        ('experiments/data/decode.py', True),
        ('experiments/preprocess/views.py', True),
        ('experiments/report/figures.py', False),
        ('experiments/run.py', False),
    ],
)
def test_a_comment_changes_the_digest_only_where_a_training_could_change(
    tmp_path, monkeypatch, place, changes
):
    for folder in ('cnns', 'experiments'):
        kept = shutil.ignore_patterns('stored', '__pycache__')
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=kept)
    monkeypatch.setattr(environment, '__file__', str(tmp_path / 'experiments/environment.py'))
    before = environment.environment()['code']
    with open(tmp_path / place, 'a') as file:
        file.write('# a comment\n')
    assert (environment.environment()['code'] != before) == changes
