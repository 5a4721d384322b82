"""The checkpoint of a group of runs: not written too often, found again, removed."""

import types

import numpy as np
import pytest

from experiments.errors import UserError
from experiments.runner import checkpoints
from experiments.train import checkpoint, optim
from experiments.workdir import WorkDir

RUNS = [types.SimpleNamespace(name=name) for name in ('a', 'b')]


def snapshot(epoch=1):
    state = {'step': np.int32(4)}
    return checkpoint.Snapshot(epoch, 4, (optim.Control(),) * 2, ({'error': 0.5},) * 2, state)


@pytest.fixture
def workdir(tmp_path):
    made = WorkDir(tmp_path, 'experiment')
    made.write('points/a/config.json', '{}')
    return made


@pytest.mark.parametrize('least, name', [(2**25, 'checkpoint.msgpack'), (0, 'checkpoints')])
def test_a_checkpoint_is_found_by_its_group_alone_and_can_be_removed(
    workdir, monkeypatch, least, name
):
    monkeypatch.setattr(checkpoints.larges, 'FROM', least)
    monkeypatch.setattr(checkpoints, 'KEEP', 0.0)
    monkeypatch.setattr(checkpoints, 'KEEP_TIMES', 0)
    kept = checkpoints.Checkpoint(workdir, RUNS, {'jax': '1'})
    kept.keep(snapshot)
    kept.close()
    assert (workdir.folder / 'points/a' / name).exists()
    assert checkpoints.Checkpoint(workdir, RUNS, {'jax': '1'}).begun.epoch == 1
    other = checkpoints.Checkpoint(workdir, RUNS[:1], {'jax': '1'})
    assert other.begun is None and 'of another group of runs;' in other.note
    checkpoints.remove(workdir, RUNS[0])
    assert checkpoints.Checkpoint(workdir, RUNS, {'jax': '1'}).begun is None
    checkpoints.remove(workdir, RUNS[0])  # it is removed already


def test_a_checkpoint_is_not_written_again_at_once(workdir):
    kept = checkpoints.Checkpoint(workdir, RUNS, {})
    kept.keep(lambda: pytest.fail('written'))
    assert not kept.path.exists()


def test_before_the_end_a_large_checkpoint_is_waited_for_and_else_not(workdir, monkeypatch):
    monkeypatch.setattr(checkpoints, 'KEEP', 0.0)
    kept, waits = checkpoints.Checkpoint(workdir, RUNS, {}), []
    kept._large = types.SimpleNamespace(save=lambda *_, wait: waits.append(wait))
    kept.keep(snapshot)
    kept.keep(snapshot, now=True)
    assert waits == [False, True]


def test_a_checkpoint_that_cannot_be_written_is_an_error(workdir, monkeypatch):
    monkeypatch.setattr(checkpoints, 'KEEP', 0.0)
    checkpoints.Checkpoint(workdir, RUNS, {}).path.mkdir()
    kept = checkpoints.Checkpoint(workdir, RUNS, {})
    with pytest.raises(UserError, match='cannot write to'):
        kept.keep(snapshot)
