"""Judging claims on all cores."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from experiments import environment
from experiments.claims import ledger, page, parallel

SCRIPT = """
import json, os, pathlib, sys, time
import jax.numpy as jnp
from experiments.claims import command as claims, ledger, parallel
from experiments.errors import UserError, command

def work(value):
    time.sleep(0.2)
    if value == 'wrong':
        raise UserError('no number')
    if value == 'kill':
        os.kill(os.getpid(), 9)
    if value == 'count':
        return print('counted', flush=True), os.getpid()
    if value in ('left', 'right'):
        pathlib.Path(value).touch()
        while not all(map(os.path.exists, ('left', 'right'))):
            time.sleep(0.1)
        return 0.0, os.getpid()
    if value == 'wait':
        print('waiting', flush=True)
        time.sleep(60)
    return float(jnp.square(value)), os.getpid()

@command
def main():
    parallel.prepare()
    if sys.argv[1] == 'claims':
        claimed = [ledger.CLAIMS[name] for name in sys.argv[2:]]
        print(json.dumps([(*found, section) for _, found, section in claims.judged(claimed, True)]))
        return 0
    values = [int(word) if word.isdigit() else word for word in sys.argv[1:]]
    for place, (square, process) in parallel.each(work, values):
        print(place, square, process == os.getpid())
    return 0

if __name__ == '__main__':
    sys.exit(main())
"""
several = pytest.mark.skipif(
    sys.platform != 'linux' or (environment.cores() or 1) < 2, reason='needs Linux and two cores'
)


@pytest.fixture
def start(tmp_path, root):
    """Starts the script with these values."""
    (tmp_path / 'script.py').write_text(SCRIPT)
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    environ = {**os.environ, 'PYTHONPATH': str(root)}

    def begin(*values):
        words = [sys.executable, 'script.py', *values]
        return subprocess.Popen(words, cwd=tmp_path, env=environ, start_new_session=True, **pipes)

    return begin


@several
def test_each_value_has_its_own_result_from_another_process(start):
    out, err = (process := start('2', '3', '4', '5')).communicate(timeout=120)
    assert (process.returncode, err) == (0, '')
    assert sorted(out.splitlines()) == [
        '0 4.0 False',
        '1 9.0 False',
        '2 16.0 False',
        '3 25.0 False',
    ]


@several
def test_two_values_are_worked_on_at_the_same_time(start):
    out, err = start('left', 'right').communicate(timeout=60)  # each waits until the other begins
    assert sorted(out.splitlines()) == ['0 0.0 False', '1 0.0 False'] and err == ''


@several
def test_claims_and_their_figures_are_those_of_one_process_and_no_thread_of_jax_is_forked(start):
    names = ('L2', 'V1b', 'L6')
    out, err = start('claims', *names).communicate(timeout=120)
    assert err == ''  # JAX warns where it is forked
    expected = [(ledger.CLAIMS[name], ledger.verdict(ledger.CLAIMS[name])) for name in names]
    assert json.loads(out) == [[*found, page.section(claim, found)] for claim, found in expected]


def test_one_value_or_a_process_that_is_not_prepared_starts_no_other(start):
    out, err = start('7').communicate(timeout=120)
    assert (out, err) == ('0 49.0 True\n', '')
    assert list(parallel.each(lambda value: (value, os.getpid()), [4, 5])) == [
        (0, (4, os.getpid())),
        (1, (5, os.getpid())),
    ]


@several
def test_a_process_that_is_killed_is_one_line(start):
    out, err = (process := start('2', 'kill')).communicate(timeout=120)
    assert process.returncode == 2 and err.count('\n') == 1
    assert err.startswith('error: a process that judged claims was killed')


@several
def test_an_interruption_ends_at_once_in_one_word(start):
    process = start('wait', 'wait', '3')
    assert process.stdout.readline() == 'waiting\n'
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, 'interrupted\n')
    assert time.monotonic() - began < 30  # the values take 60 s


@several
def test_an_error_does_not_wait_for_the_values_that_have_not_begun(start):
    process = start(*['count'] * 60, 'wrong')  # the last begins first
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2 and err == 'error: no number\n'
    assert out.count('counted') < 30


@several
def test_the_others_end_with_the_process_that_is_killed(start):
    process = start('wait', 'wait', '3')
    assert process.stdout.readline() == 'waiting\n'
    process.kill()
    out, _ = process.communicate(timeout=30)  # until the last of them closes the pipe
    assert 'False' not in out
