"""Several workers on one work directory: every run once, whatever becomes of a worker."""

import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from experiments import files

TINY = """
from configs import base

def get_config():
    config = base.get_config()
    config.data.limit = 64
    config.model.name = 'mlp_300'
    config.train.epochs = 1
    config.train.batch = 32
    config.train.devices = 1
    config.protocol.rates = (0.02, 0.05)
    return config

def sweep(add):
    for name in ('relu', 'tanh'):
        for seed in range(2):
            add(name, model=dict(activation=name), seed=seed)
"""

# The training is made up and lasts a moment; each of the processes forked does what a worker does.
WORKERS = """
import json, os, pathlib, sys, time
import numpy as np
from experiments import files, run, train
from experiments.report import figures, page
from experiments.runner import leases, runner

folder, count, seconds = pathlib.Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
leases.SECONDS, runner._LOOK = 1.2, 0.1

def fit(configs, dataset, on_epoch, final, on_step, on_end, **given):
    (config,) = configs
    error = files.digest(config.seed, config.train.rate, config.model.activation)
    error = int(error, 16) / 16**16
    for step in range(10):
        time.sleep(seconds / 10)
        on_step(step + 1, 10)
    on_epoch(0, {'epoch': 1, 'validation/error': error})
    with open(folder / 'trained', 'a') as file:
        file.write(f'{os.getpid()} {config.model.activation} {config.seed} {config.train.rate}\\n')
    row = {'train/error': error, 'validation/error': error, 'validation/loss': 1.0}
    if final:
        row['test/error'] = error
    on_end(0, {'params': np.float32([error])})
    return [row]

train.fit_together = fit
figures.write, page.write = lambda *_: (), lambda folder: folder / 'report.html'
def begin(workdir):
    process = os.fork()
    if process:
        return process
    out = os.open(folder / f'{os.getpid()}.out', os.O_WRONLY | os.O_CREAT)
    os.dup2(out, 1), os.dup2(out, 2)
    try:
        status = run.main(['--config', str(folder / 'tiny.py'), '--workdir', str(workdir)])
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)

many = [begin(folder / 'w') for _ in range(count)]
ends = dict(os.wait() for _ in many)
os.waitpid(begin(folder / 'alone'), 0)
print(json.dumps([os.waitstatus_to_exitcode(ends[one]) for one in many]))
"""


def started(folder, count, seconds):
    (folder / 'tiny.py').write_text(TINY)
    words = [sys.executable, '-c', WORKERS, folder, str(count), str(seconds)]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def ended(process):
    """The exit statuses of the workers."""
    try:
        out, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    return json.loads(out)


def rows_of(workdir):
    return files.read(pathlib.Path(workdir) / 'results.jsonl')


def holding(workdir, wanted, but=(), seconds=60.0):
    """So many processes that have a lease now, beside those named."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = {}
        for path in (workdir / 'leases').glob('[0-9a-f]*'):
            try:
                found[json.loads(path.read_text())['process']] = path.name
            except (OSError, ValueError):
                continue
        found = {process: run for process, run in found.items() if process not in but}
        if len(found) >= wanted:
            return found
        time.sleep(0.02)
    raise AssertionError('no worker trains')


def same_rows(folder, count):
    """Whether the workers left the rows, tables and weights that one leaves, each once."""
    rows, alone = ({row['point']: row for row in rows_of(folder / one)} for one in ('w', 'alone'))
    assert rows == alone and len(rows_of(folder / 'w')) == len(rows) == count
    paths = list((folder / 'alone').glob('points/*/weights.safetensors'))
    for path in paths:
        other = folder / 'w' / path.relative_to(folder / 'alone')
        assert other.read_bytes() == path.read_bytes()
    assert paths and (folder / 'w/results.csv').exists()
    assert list((folder / 'w' / 'leases').iterdir()) == []


# its leases last a second, so that a machine busy with other tests can let a live one run out
@pytest.mark.long
def test_of_four_workers_two_are_killed_and_one_sleeps_past_its_lease(tmp_path):
    process, workdir = started(tmp_path, 4, 0.3), tmp_path / 'w'
    try:
        held = holding(workdir, 3)
        first, second, sleeper = list(held)[:3]
        os.kill(sleeper, signal.SIGSTOP)
        os.kill(first, signal.SIGKILL), os.kill(second, signal.SIGKILL)
        run = holding(workdir, 1, but=(first, second))[sleeper]
        deadline = time.monotonic() + 60
        while run not in {row['point'] for row in rows_of(workdir)}:  # the fourth took it over
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(sleeper, signal.SIGCONT)
        assert sorted(ended(process)) == [-9, -9, 0, 0]
    finally:
        process.kill()
    same_rows(tmp_path, 8)
    outs = {path.stem: path.read_text() for path in tmp_path.glob('*.out')}
    # training, or about to begin when it was stopped
    assert re.search('took over meanwhile|, by another worker', outs[str(sleeper)])
    assert any(', by another worker' in out for out in outs.values())


@pytest.mark.long
def test_two_workers_started_at_once_train_no_run_twice_and_one_of_them_draws(tmp_path):
    assert ended(started(tmp_path, 2, 0.5)) == [0, 0]
    same_rows(tmp_path, 8)
    trained = [line.split() for line in (tmp_path / 'trained').read_text().splitlines()]
    alone = trained[8:]
    assert len({words[0] for words in alone}) == 1 and len({words[0] for words in trained[:8]}) == 2
    assert sorted(words[1:] for words in trained[:8]) == sorted(words[1:] for words in alone)
    drawn = [out for path in tmp_path.glob('*.out') if 'written: ' in (out := path.read_text())]
    assert len(drawn) == 2  # one of the two, and the one alone


@pytest.mark.long
def test_two_real_processes_leave_the_rows_of_one(tmp_path):
    (tmp_path / 'tiny.py').write_text(TINY)

    def begin(workdir):
        words = ['--config', str(tmp_path / 'tiny.py'), '--workdir', str(tmp_path / workdir)]
        words = [sys.executable, '-m', 'experiments.run', *words]
        return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)

    for processes in ([begin('w'), begin('w')], [begin('alone')]):
        assert [process.wait(timeout=300) for process in processes] == [0] * len(processes)
    same_rows(tmp_path, 8)


KILLED = """
import os, sys
from experiments import run
from experiments.runner import checkpoints
from experiments.train import large

checkpoints.KEEP, checkpoints.KEEP_TIMES, large.FROM = 0, 0, int(sys.argv[1])
for line in sys.stdin:  # a work directory: each is trained in in a process of its own
    process = os.fork()
    if not process:
        out = os.open(os.devnull, os.O_WRONLY)
        os.dup2(out, 1)
        sys.exit(run.main(['--config', sys.argv[2], '--workdir', line.strip()]))
    print(process, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""

LONGER = """
from configs import base

def get_config():
    config = base.get_config()
    config.data.stream = 'always'
    config.augment.crop, config.augment.flip = 'pad', True
    config.model.name, config.model.norm = 'mlp_300', 'batch'
    config.train.epochs = 4
    config.train.batch = 16
    config.train.devices = 1
    return config

def sweep(add):
    for name in ('relu', 'tanh'):
        add(name, model=dict(activation=name))
"""


# minutes: every step writes a checkpoint, so that many of the kills come while one is written
@pytest.mark.long
@pytest.mark.parametrize('least', [0, 2**40], ids=['by orbax', 'by a file'])
def test_a_sweep_that_is_killed_at_ten_random_moments_ends_as_one_left_alone(tmp_path, least):
    (tmp_path / 'longer.py').write_text(LONGER)
    words = [sys.executable, '-c', KILLED, str(least), tmp_path / 'longer.py']
    moments = random.Random(least)

    def begin(workdir):
        print(tmp_path / workdir, file=server.stdin, flush=True)
        return int(server.stdout.readline())

    def changed():
        places = (tmp_path / 'w').glob('points/*/checkpoint*')
        return max((place.stat().st_mtime_ns for place in places), default=0)

    with subprocess.Popen(
        words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        for _ in range(10):
            before, process = changed(), begin('w')
            deadline = time.monotonic() + 60
            while changed() == before:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(moments.uniform(0, 0.5))
            os.kill(process, signal.SIGKILL)
            assert int(server.stdout.readline()) == -signal.SIGKILL  # it had not ended before
        for workdir in ('w', 'alone'):
            begin(workdir)
            assert server.stdout.readline() == '0\n'
        server.stdin.close()
    same_rows(tmp_path, 2)
