"""Checkpoints: what was kept is what comes back, and no training continues from anything else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import files
from experiments.train import State, checkpoint, large
from experiments.train.optim import Control

STATE = State(
    jnp.int32(7),
    {'conv1': {'kernel': jnp.arange(6.0).reshape(2, 3)}},
    {},
    ({'trace': jnp.float32([0.5])}, ()),
    (),
    jax.random.PRNGKey(3),
)
SNAPSHOT = checkpoint.Snapshot(
    2,
    7,
    (Control(0.1, 0.25, 1, 1, False), Control()),
    ({'error': 0.1, 'loss': 1 / 3}, {'error': 0.2, 'loss': 0.5}),
    STATE,
)
MADE_OF = {'group of runs': ['a', 'b'], 'data set': 'digest', 'code': None}


@pytest.fixture
def file(tmp_path):
    checkpoint.save(tmp_path / 'checkpoint.msgpack', MADE_OF, SNAPSHOT)
    return tmp_path / 'checkpoint.msgpack'


def test_a_snapshot_comes_back_bit_for_bit(file):
    got, note = checkpoint.read(file, MADE_OF)
    assert note == '' and got[:4] == SNAPSHOT[:4]  # Control() holds an infinity
    state = checkpoint.restored(got, STATE)
    assert jax.tree.structure(state) == jax.tree.structure(STATE)
    for one, two in zip(jax.tree.leaves(state), jax.tree.leaves(STATE)):
        assert one.dtype == two.dtype and one.sharding == two.sharding
        np.testing.assert_array_equal(one, two)


def test_without_a_file_there_is_no_snapshot_and_no_note(tmp_path):
    assert checkpoint.read(tmp_path / 'none', MADE_OF) == (None, '')


@pytest.mark.parametrize(
    'change, words',
    [
        ({'group of runs': ['a']}, 'another group of runs;'),
        ({'data set': 'other'}, 'data set;'),
        ({'code': 'x', 'data set': 'y'}, 'another data set, code;'),
        ({'jax': '1'}, 'another jax;'),
    ],
)
def test_the_file_of_another_training_is_left_alone_and_named(file, change, words):
    got, note = checkpoint.read(file, MADE_OF | change)
    assert got is None and words in note


@pytest.mark.parametrize('kept', [0, 1, 50, -1])
def test_a_truncated_file_is_reported_and_the_training_starts_over(file, kept):
    file.write_bytes(file.read_bytes()[:kept])
    got, note = checkpoint.read(file, MADE_OF)
    assert got is None and 'is damaged' in note and 'starts over' in note


def test_a_flipped_bit_anywhere_is_noticed(file):
    content = file.read_bytes()
    for bit in np.random.default_rng(0).integers(0, 8 * len(content), 200):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        file.write_bytes(changed)
        got, note = checkpoint.read(file, MADE_OF)
        assert got is None and 'is damaged' in note, bit


def test_a_state_of_other_shapes_is_refused(file):
    got, _ = checkpoint.read(file, MADE_OF)
    other = STATE._replace(params={'conv1': {'kernel': jnp.zeros((3, 3))}})
    with pytest.raises(checkpoint.Misfit, match=r'float32\(2, 3\) instead of float32\(3, 3\)'):
        checkpoint.restored(got, other)
    with pytest.raises(checkpoint.Misfit):
        checkpoint.restored(got, STATE._replace(params={'conv2': {'kernel': jnp.zeros((2, 3))}}))


def test_a_write_that_fails_leaves_the_old_file(file, monkeypatch):
    before = file.read_bytes()

    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(files.os, 'replace', full)
    with pytest.raises(OSError):
        checkpoint.save(file, MADE_OF, SNAPSHOT._replace(epoch=3))
    assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]


@pytest.fixture
def larger(tmp_path):
    """Two checkpoints by orbax: of step 7 inside an epoch, and of its end."""
    made = large.Large(tmp_path / 'checkpoints')
    partial = {'loss': np.float32([[1.5]]), 'error': np.float32([[0.5]]), 'seconds': 2.0}
    made.save(MADE_OF, SNAPSHOT._replace(partial=partial), wait=False)
    made.save(MADE_OF, SNAPSHOT, wait=True)
    made.close()
    return tmp_path / 'checkpoints'


def reread(folder, made_of=MADE_OF):
    made = large.Large(folder)
    try:
        return made.read(made_of)
    finally:
        made.close()


def test_a_large_snapshot_comes_back_bit_for_bit_and_one_of_another_training_does_not(larger):
    got, note = reread(larger)
    assert note == '' and got[:4] == SNAPSHOT[:4] and got.partial is None
    state = checkpoint.restored(got, STATE)
    assert jax.tree.structure(state) == jax.tree.structure(STATE)
    for one, two in zip(jax.tree.leaves(state), jax.tree.leaves(STATE)):
        assert one.dtype == two.dtype and one.sharding == two.sharding
        np.testing.assert_array_equal(one, two)
    got, note = reread(larger, MADE_OF | {'code': 'x'})
    assert got is None and 'is of another code; the training starts over' in note


def test_a_damaged_large_checkpoint_falls_back_to_the_one_before_it(larger):
    def damage(place):
        files = [path for path in place.rglob('*') if path.is_file() and path.stat().st_size > 20]
        for file in files:  # whichever of them orbax reads
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 1
            file.write_bytes(content)

    damage(larger / '15')
    got, note = reread(larger)
    assert f'{larger}/15 is damaged' in note and 'continues from step 7' in note
    assert got.partial['loss'] == 1.5 and got.partial['seconds'] == 2.0
    assert not (larger / '15').exists()
    damage(larger / '14')
    got, note = reread(larger)
    assert got is None and '14 is damaged' in note and 'starts over' in note


def test_a_large_checkpoint_with_other_arrays_than_those_of_its_checksum_is_damaged(
    larger, monkeypatch
):
    monkeypatch.setattr(large, '_checksum', lambda arrays: 0)
    got, note = reread(larger)
    assert got is None and note.count('it is not what was written') == 2


def test_large_checkpoints_are_two_at_most_and_those_of_an_earlier_training_go(larger):
    made, other = large.Large(larger), MADE_OF | {'code': 'x'}
    for step in (7, 8, 9, 2):  # the first is there already
        made.save(other, SNAPSHOT._replace(step=step), wait=True)
        assert len(made.manager.all_steps()) <= 2
    made.close()
    assert reread(larger, other)[0].step == 2
