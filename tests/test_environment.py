"""The environment of a row: its code digest is of what can change a training."""

import datetime
import pathlib
import shutil
import subprocess

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


def test_date_and_processor_are_named():
    found = environment.environment()
    when = datetime.datetime.fromisoformat(found['date'])
    assert abs(when - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(minutes=1)
    assert found['cpu'] == environment.measured_on()['cpu'] != ''


@pytest.mark.parametrize('known', [False, True])
def test_the_revision_is_of_a_repository_that_holds_the_code(tmp_path, monkeypatch, known):
    """An installed copy lies in a repository of the user, which ignores it or has it as its own."""
    (tmp_path / 'experiments').mkdir()
    shutil.copy(environment.__file__, tmp_path / 'experiments/environment.py')
    (tmp_path / 'mine.txt').write_text('')
    git = lambda *words: subprocess.run(
        ['git', '-c', 'user.name=me', '-c', 'user.email=me@here', *words],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    git('init', '-q')
    git('add', '.' if known else 'mine.txt')
    git('commit', '-qm', 'words')
    monkeypatch.setattr(environment, '__file__', str(tmp_path / 'experiments/environment.py'))
    head = git('rev-parse', 'HEAD')
    assert environment.environment()['git_revision'] == (head if known else None)
    monkeypatch.setenv('GIT_DIR', str(ROOT / '.git'))  # as in a hook
    assert environment.environment()['git_revision'] == (head if known else None)


def test_the_flags_that_make_sums_repeatable_are_in_the_environment(monkeypatch):
    words = (
        '--xla_gpu_deterministic_ops=true --xla_dump_to=/x --xla_gpu_exclude_nondeterministic_ops'
    )
    monkeypatch.setenv('XLA_FLAGS', words)
    own = '--xla_gpu_deterministic_ops=true --xla_gpu_exclude_nondeterministic_ops'
    assert environment.deterministic() == own
    monkeypatch.delenv('XLA_FLAGS')
    assert environment.deterministic() == ''
