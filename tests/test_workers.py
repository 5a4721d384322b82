"""Several workers on one work directory: every run once, whatever becomes of a worker."""

import json
import os
import pathlib
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
    for name in ('relu', 'tanh', 'sigmoid'):
        for seed in range(3):
            add(name, model=dict(activation=name), seed=seed)
"""

# The training is made up and lasts a moment; each of the processes forked does what a worker does.
WORKERS = """
import json, os, pathlib, sys, time
import numpy as np
from experiments import files, run, train
from experiments.runner import leases, runner

folder, count, seconds = pathlib.Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
leases.SECONDS, runner._LOOK = 1.5, 0.1
plain = train.Diverged

def fit(configs, dataset, on_epoch, read_test, on_step, on_end, **given):
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
    if read_test:
        row['test/error'] = error
    on_end(0, {'params': np.float32([error])})
    return [row]

train.fit_together = fit
words = ['--config', str(folder / 'tiny.py'), '--workdir', str(folder / sys.argv[4])]
for _ in range(count):
    if not os.fork():
        out = os.open(folder / f'{os.getpid()}.out', os.O_WRONLY | os.O_CREAT)
        os.dup2(out, 1), os.dup2(out, 2)
        try:
            status = run.main(words)
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(status)
    time.sleep(0.05)
ends = dict(os.wait() for _ in range(count))
print(json.dumps([os.waitstatus_to_exitcode(end) for end in ends.values()]))
"""


def started(folder, count, seconds, workdir='w'):
    (folder / 'tiny.py').write_text(TINY)
    words = [sys.executable, '-c', WORKERS, folder, str(count), str(seconds), workdir]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def ended(process):
    try:
        out, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    return json.loads(out)


def rows_of(workdir):
    return files.read(pathlib.Path(workdir) / 'results.jsonl')


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
    """The rows that one worker leaves, by name, and its folder."""
    folder = tmp_path_factory.mktemp('alone')
    assert ended(started(folder, 1, 0)) == [0]
    rows = {row['point']: row for row in rows_of(folder / 'w')}
    assert len(rows) == 15
    return rows, folder / 'w'


def trained(folder):
    return [line.split() for line in (folder / 'trained').read_text().splitlines()]


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


def test_two_workers_train_each_run_once_and_the_last_one_draws(tmp_path, alone):
    assert ended(started(tmp_path, 2, 0.2)) == [0, 0]
    rows = rows_of(tmp_path / 'w')
    assert len(rows) == 15 and {row['point']: row for row in rows} == alone[0]
    assert len(trained(tmp_path)) == 15 and len({words[0] for words in trained(tmp_path)}) == 2
    assert list((tmp_path / 'w' / 'leases').iterdir()) == []
    outs = [path.read_text() for path in tmp_path.glob('*.out')]
    assert all(out.count('relu: ') or '3/3' in out for out in outs)
    assert any('by another worker' in out for out in outs)
    assert sum('written: ' in out for out in outs) == 1
    csv = 'results.csv'
    assert (tmp_path / 'w' / csv).read_bytes() == (alone[1] / csv).read_bytes()


def test_of_four_workers_two_are_killed_and_one_sleeps_past_its_lease(tmp_path, alone):
    process, workdir = started(tmp_path, 4, 0.5), tmp_path / 'w'
    try:
        first, second, sleeper = list(holding(workdir, 3))[:3]
        os.kill(sleeper, signal.SIGSTOP)
        os.kill(first, signal.SIGKILL), os.kill(second, signal.SIGKILL)
        (run,) = [run for one, run in holding(workdir, 1).items() if one == sleeper]
        deadline = time.monotonic() + 60
        while run not in {row['point'] for row in rows_of(workdir)}:  # the fourth took it over
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(sleeper, signal.SIGCONT)
        assert sorted(ended(process)) == [-9, -9, 0, 0]
    finally:
        process.kill()
    rows = rows_of(workdir)
    assert len(rows) == 15 and {row['point']: row for row in rows} == alone[0]
    assert 'took over meanwhile' in (tmp_path / f'{sleeper}.out').read_text()
    for path in alone[1].glob('points/*/weights.msgpack'):
        assert (workdir / path.relative_to(alone[1])).read_bytes() == path.read_bytes()
