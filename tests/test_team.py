"""One training by several processes: the row of one process, whatever becomes of the others."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import types

import jax
import numpy as np
import pytest
from conftest import ROOT

from cnns import weights
from configs import base
from experiments import run, train
from experiments.environment import environment
from experiments.errors import UserError
from experiments.plan import config, runs
from experiments.runner import follow, inputs, team

TINY = """
from configs import base

def get_config():
    config = base.get_config()
    config.data.limit = 203  # the last batches of all three splits are not full
    config.model.name = 'lenet5'
    config.model.norm = 'batch'
    config.augment.crop = 'pad'
    config.augment.pad = 2
    config.train.epochs = 3
    config.train.batch = 32
    config.train.rate = 0.05
    config.train.curve = 2
    config.measure.names = ('gradient_norms',)
    return config
"""

# Steps are slow enough to be interrupted, and every one of them is kept
PROCESS = """
import sys, time
from experiments import progress, run
from experiments.runner import checkpoints, team
checkpoints.KEEP = checkpoints.KEEP_TIMES = 0.0
team.LOST, progress.Reporter.step = 6.0, lambda *_: time.sleep(float(sys.argv[1]))
sys.exit(run.main(sys.argv[2:]))
"""


class Processes:
    """The processes of one training, started on one work directory."""

    def __init__(self, folder, workdir, count, pause=0.0):
        (folder / 'tiny.py').write_text(TINY)
        with socket.socket() as free:
            free.bind(('localhost', 0))
            port = free.getsockname()[1]
        self.workdir, self.many = folder / workdir, []
        words = ['--config', folder / 'tiny.py', '--workdir', self.workdir]
        words += ['--compilation_cache', folder / 'compiled', '--config.model.fields.fast=False']
        env = os.environ | {'JAX_NUM_CPU_DEVICES': str(4 // count)}
        for index in range(count):
            where = ['--distributed', f'localhost:{port},{index},{count}'] if count > 1 else []
            self.many.append(
                subprocess.Popen(
                    [sys.executable, '-c', PROCESS, str(pause), *words, *where],
                    cwd=ROOT,
                    env=env,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )

    def after_checkpoints(self, count):
        """Waits until so many checkpoints were written."""
        seen = set()
        while len(seen) < count:
            assert all(process.poll() is None for process in self.many), self.ended()
            seen |= {path.stat().st_ino for path in self.workdir.glob('points/*/checkpoint.*')}
            time.sleep(0.01)

    def ended(self, seconds=120):
        """Exit status and output of each."""
        try:
            outs = [process.communicate(timeout=seconds)[0] for process in self.many]
        finally:
            for process in self.many:
                process.kill()
        return [(process.returncode, out) for process, out in zip(self.many, outs)]

    def row(self):
        (line,) = (self.workdir / 'results.jsonl').read_text().splitlines()
        return json.loads(line)

    def variables(self):
        (path,) = self.workdir.glob('points/*/weights.safetensors')
        return weights.load(path)[0]


def close(one, two):
    """Whether two values are equal, numbers within the rounding of sums over devices."""
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(close(one[key], two[key]) for key in one)
    if isinstance(one, (str, bool, type(None))):
        return one == two
    return np.allclose(one, two, rtol=1e-4, atol=1e-5)


# nine processes are started one after the other, and three times a loss has to be noticed
@pytest.mark.long
def test_two_processes_of_two_devices_are_one_of_four_and_survive_the_loss_of_either(tmp_path):
    alone = Processes(tmp_path, 'alone', 1)
    ((status, out),) = alone.ended()
    assert status == 0, out

    pair = Processes(tmp_path, 'pair', 2, pause=0.3)
    pair.after_checkpoints(3)
    pair.many[1].kill()
    start = time.monotonic()
    (status, out), _ = pair.ended()
    assert status == 2 and time.monotonic() - start < 60
    (line,) = [line for line in out.splitlines() if line.startswith('error: ')]
    assert 'process 1 of 2 (on ' in line and 'Run the same command again' in line

    pair = Processes(tmp_path, 'pair', 2, pause=0.3)
    pair.after_checkpoints(3)
    pair.many[0].kill()
    start = time.monotonic()
    _, (status, out) = pair.ended()
    assert status == 2 and time.monotonic() - start < 60
    (line,) = [line for line in out.splitlines() if line.startswith('error: ')]
    assert 'process 0 of 2 (on ' in line

    pair = Processes(tmp_path, 'pair', 2, pause=0.3)
    pair.after_checkpoints(3)
    pair.many[1].send_signal(signal.SIGTERM)
    (status, out), (other, quiet) = pair.ended()
    assert (status, other) == (75, 75) and 'interrupted in' in out, out

    pair = Processes(tmp_path, 'pair', 2)
    (status, out), (other, quiet) = pair.ended()
    assert (status, other) == (0, 0) and 'continues after epoch' in out, out
    assert [line for line in quiet.splitlines() if not line.startswith('[Gloo]')] == []

    plain = Processes(tmp_path, 'plain', 2)
    assert [status for status, _ in plain.ended()] == [0, 0]
    assert pair.row() == plain.row()  # bit for bit, the digest of the weights too
    row, expected = pair.row(), alone.row()
    for name in ('weights', 'digest'):
        row.pop(name), expected.pop(name)
    assert row['devices'] == 4 and close(row, expected)
    assert close(pair.variables(), alone.variables())


@pytest.mark.parametrize(
    'setting',
    ['', 'host', 'host:1,0', 'host:1,2,2', 'host:1,-1,2', ':1,0,2', 'host:x,0,2', 'a,0,2'],
)
def test_an_address_that_is_none_is_refused(setting):
    with pytest.raises(UserError, match='it must be .auto. or HOST:PORT,INDEX,COUNT'):
        team.parse(setting)


def test_an_address_is_what_jax_takes():
    given = {'coordinator_address': '[::1]:80', 'process_id': 1, 'num_processes': 2}
    assert team.parse('[::1]:80,1,2') == given and team.parse('auto') == {}


@pytest.mark.parametrize(
    'field, value, words',
    [('together', 2, 'share no batch'), ('devices', 4, 'train with all their 8 devices')],
)
def test_what_processes_cannot_share_is_refused(monkeypatch, field, value, words):
    monkeypatch.setattr(jax, 'process_count', lambda: 2)
    monkeypatch.setattr(jax, 'device_count', lambda: 8)
    config = base.get_config()
    config.train.batch, config.train[field] = 32, value
    with pytest.raises(UserError, match=words):
        train.device_count(config, 2 if field == 'together' else 1)


@pytest.mark.parametrize(
    'change, words',
    [
        ([], None),
        ([('train.steps_per_dispatch', 2)], 'another config than process 0'),
        ([('train.rate', 0.2), ('data.limit', 200)], 'another data set, config than process 0'),
        ([('train.profile', 3)], None),
    ],
)
def test_a_process_that_was_given_something_else_says_what(tmp_path, monkeypatch, change, words):
    (tmp_path / 'tiny.py').write_text(TINY)
    read = config.read_config(str(tmp_path / 'tiny.py'))
    first, other = runs.plan_of(read), runs.plan_of(read, change)
    (one,) = first.finals(first.arms[0])
    kept = types.SimpleNamespace(packed=lambda: None)
    sent = follow.task([one], inputs.read(first), environment(), kept)
    trained = []
    monkeypatch.setattr(train, 'fit_together', lambda configs, *_, **given: trained.append(configs))
    tasks = types.SimpleNamespace(tasks=lambda: iter([json.loads(json.dumps(sent))]))
    if words:
        with pytest.raises(UserError, match=words):
            follow.follow(tasks, other)
    else:
        assert follow.follow(tasks, other) == 0 and len(trained) == 1


def test_auto_without_a_cluster_is_one_line(root, capsys, monkeypatch):
    monkeypatch.setattr(team, '_HEARTBEAT', 10)
    monkeypatch.setattr(team, '_on_abort', lambda _: None)  # of this process, for good
    words = ['--config', 'configs/lenet_mnist.py:smoke', '--distributed', 'auto']
    assert run.main(words) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and 'the processes do not find each other' in error


def test_a_process_that_nobody_answers_waits_and_says_so(root, capsys, monkeypatch):
    monkeypatch.setattr(team, '_START', 1)
    monkeypatch.setattr(team, '_on_abort', lambda _: None)  # of this process, for good
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        place = f'127.0.0.1:{free.getsockname()[1]}'
    words = ['--config', 'configs/lenet_mnist.py:smoke', '--distributed', f'{place},1,2']
    assert run.main(words) == 2
    waiting, error = capsys.readouterr().err.splitlines()
    assert waiting.startswith(f'note: waiting for process 0 at {place} (') and 'refused' in waiting
    assert 'the processes do not find each other (' in error and 'refused). Start all' in error


def test_the_runs_are_printed_without_the_other_processes(root, capsys):
    words = ['--config', 'configs/lenet_mnist.py:smoke', '--distributed', '127.0.0.1:1,1,2']
    assert run.main([*words, '--dry_run']) == 0 and 'final' in capsys.readouterr().out
