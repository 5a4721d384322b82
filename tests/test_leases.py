"""Leases: one worker has a run, a worker that is gone loses it, whatever its clock says."""

import json
import os
import time

import pytest

from experiments.runner import leases
from experiments.runner.leases import Leases

RUN = '0123456789ab'


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock, set by hand; the thread that renews leases sleeps meanwhile."""
    now = [1000.0]
    monkeypatch.setattr(leases.time, 'monotonic', lambda: now[0])
    return now


@pytest.fixture
def workers(tmp_path, monkeypatch):
    """Two workers on different machines: neither sees the locks of the other."""
    kernels = iter(['one', 'two'])
    monkeypatch.setattr(leases, 'kernel', lambda: next(kernels, 'three'))
    made = [Leases(tmp_path / 'leases', 60.0) for _ in range(2)]
    yield made
    for one in made:
        one.close()


def looks(worker, clock, count, seconds):
    """Whether the worker gets the run in one of so many looks, and sleeps before each of them."""
    for _ in range(count):
        clock[0] += seconds
        if worker.claim(RUN):
            return True
    return False


def beat(worker):
    """What the thread does every few seconds."""
    with worker._lock:
        worker._rewrite(worker._own[RUN])


def test_a_run_belongs_to_the_first_until_it_is_given_back(workers):
    one, two = workers
    assert one.claim(RUN) and not two.claim(RUN) and not one.claim(RUN)
    (said,) = two.others([RUN, 'ba9876543210']).values()
    assert leases.where(said) == f'process {os.getpid()} on {said["host"]}'
    assert one.others([RUN]) == {} and one.holds(RUN) and not two.holds(RUN)
    one.release([RUN])
    assert two.claim(RUN) and not one.holds(RUN)


def test_a_lease_that_is_renewed_is_never_taken_over(workers, clock):
    one, two = workers
    assert one.claim(RUN)
    for _ in range(50):
        beat(one)
        assert not looks(two, clock, 3, 10)
    assert one.holds(RUN)


def test_a_lease_without_a_change_is_taken_over_and_its_worker_notices(workers, clock):
    one, two = workers
    assert one.claim(RUN)
    assert not looks(two, clock, 6, 9.5) and looks(two, clock, 2, 9.5)
    assert not one.holds(RUN) and two.holds(RUN)
    with pytest.raises(leases.Lost):
        one.check([RUN])
    beat(one)  # the file that it wrote to is gone: this changes nothing
    one.release([RUN])
    assert two.holds(RUN) and [path.name for path in two.folder.iterdir()] == [RUN]


def test_a_worker_that_woke_up_asks_the_file_before_its_next_step(workers, clock):
    one, two = workers
    assert one.claim(RUN)
    one.check([RUN])
    assert looks(two, clock, 8, 10)
    with pytest.raises(leases.Lost):
        one.check([RUN])


def test_a_clock_of_the_day_that_jumps_does_not_matter(workers, clock, monkeypatch):
    one, two = workers
    assert one.claim(RUN)
    for jump in (1e9, -1e9, 0):
        monkeypatch.setattr(time, 'time', lambda jump=jump: jump)
        os.utime(one.folder / RUN, (max(jump, 0), max(jump, 0)))
        beat(one)
        assert not looks(two, clock, 2, 10)


def test_a_worker_that_slept_itself_takes_nothing_over(workers, clock):
    """Between its looks the other worker could not have shown any sign: both stood still."""
    one, two = workers
    assert one.claim(RUN)
    assert not looks(two, clock, 2, 1e6)
    beat(one)
    assert not looks(two, clock, 2, 1e6)


@pytest.mark.parametrize('content', [b'', b'{"host": 3}', b'\xff\x00', b'[]'])
def test_a_damaged_lease_is_waited_for_and_then_taken_over(workers, clock, content):
    one, _ = workers
    one.folder.mkdir()
    (one.folder / RUN).write_bytes(content)
    assert leases.where(one.others([RUN])[RUN]) == 'a worker whose lease is damaged'
    assert not looks(one, clock, 6, 9.5) and looks(one, clock, 2, 9.5)


def test_a_damaged_lease_is_no_longer_its_workers(workers):
    one, _ = workers
    assert one.claim(RUN)
    (one.folder / RUN).write_bytes(b'{')
    assert not one.holds(RUN)


def test_a_dead_process_of_this_machine_is_seen_at_once(tmp_path):
    one, two = (Leases(tmp_path / 'leases', 60.0) for _ in range(2))
    assert one.claim(RUN) and not two.claim(RUN)
    if not leases.kernel():
        pytest.skip('this system has no name')
    os.close(one._own.pop(RUN).file)  # what the end of a process does
    assert two.others([RUN]) == {} and two.claim(RUN)
    one.close(), two.close()


def test_the_thread_renews_and_a_lease_has_always_the_same_size(tmp_path):
    one = Leases(tmp_path / 'leases', 0.06)
    assert one.claim(RUN)
    sizes, counts = set(), set()
    deadline = time.monotonic() + 20
    while len(counts) < 3 and time.monotonic() < deadline:
        content = (one.folder / RUN).read_bytes()
        sizes.add(len(content))
        counts.add(json.loads(content)['count'])
        time.sleep(0.005)
    assert len(counts) >= 3 and sizes == {512}
    one.close()
    assert list(one.folder.iterdir()) == []


def test_a_claim_that_cannot_be_written_leaves_no_lease(workers, monkeypatch):
    one, two = workers

    def full(*_):
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as patched:
        patched.setattr(leases.os, 'write', full)
        with pytest.raises(OSError, match='No space'):
            one.claim(RUN)
    assert list(one.folder.iterdir()) == [] and two.claim(RUN)
