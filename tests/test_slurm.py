"""A real Slurm of one node: an array of 12 runs, two tasks queued again, one run diverges."""

import csv
import json
import pathlib
import secrets
import shutil
import socket
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from experiments import files

PROGRAMS = 'munged', 'slurmctld', 'slurmd', 'sbatch', 'scontrol', 'squeue'
missing = [name for name in PROGRAMS if not shutil.which(name)]
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing), reason=f'needs Slurm and MUNGE: no {", ".join(missing)}'),
]

# 12 runs; what relu and tanh train lasts long enough to be met in the middle
SWEEP = """
from configs import base

def get_config():
    config = base.get_config()
    config.data.limit = 256
    config.model.name = 'mlp_300'
    config.train.epochs = 40
    config.train.batch = 16
    config.train.devices = 1
    config.train.rate = 0.05
    config.protocol.rates = ()
    return config

def sweep(add):
    for seed in range(6):
        add('relu', model=dict(activation='relu'), seed=seed)
    for seed in range(5):
        add('tanh', model=dict(activation='tanh'), seed=seed)
    add('too fast', train=dict(rate=1e38), seed=0)
"""

SETTINGS = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
KillWait=60
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs=3 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def until(true, what, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return found


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(('127.0.0.1', 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@pytest.fixture(scope='module')
def slurm(tmp_path_factory):
    """A controller and a node of three processors on this machine, as the user of the tests."""
    folder = tmp_path_factory.mktemp('slurm')
    folder.chmod(0o755)  # MUNGE refuses a socket in a folder that others cannot enter
    for name in ('state', 'spool', 'munge'):
        (folder / name).mkdir(mode=0o755)
    key = folder / 'munge' / 'key'
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(1024))
    host, user = socket.gethostname().split('.')[0], subprocess.getoutput('id -un')
    (folder / 'slurm.conf').write_text(
        SETTINGS.format(host=host, user=user, folder=folder, ports=free_ports(2))
    )
    of_munge = [f'--{name}-file={folder}/munge/{name}' for name in ('key', 'pid', 'log', 'seed')]
    commands = (
        ['munged', '--foreground', '--force', f'--socket={folder}/munge/socket', *of_munge],
        ['slurmctld', '-D'],
        ['slurmd', '-D', '-N', host],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('SLURM_CONF', str(folder / 'slurm.conf'))
        started = []
        try:
            for command in commands:
                out = open(folder / f'{command[0]}.out', 'w')
                started.append(subprocess.Popen(command, stdout=out, stderr=out))
                if command[0] == 'munged':
                    until((folder / 'munge' / 'socket').exists, 'MUNGE does not start')
            until(lambda: 'idle' in subprocess.getoutput('sinfo -h -o %T'), 'the node is not idle')
            yield folder
        finally:
            for process in reversed(started):
                process.terminate()
            for process in started:
                process.wait(timeout=60)


def call(*words):
    done = subprocess.run([str(word) for word in words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def tasks_that_train(workdir):
    """The array tasks whose workers have a lease now."""
    found = set()
    for path in (workdir / 'leases').glob('[0-9a-f]*'):
        try:
            process = json.loads(path.read_text())['process']
            words = pathlib.Path(f'/proc/{process}/environ').read_bytes().split(b'\0')
        except (OSError, ValueError):  # between two runs
            continue
        given = dict(word.split(b'=', 1) for word in words if b'=' in word)
        found.add(b'_'.join(given[b'SLURM_ARRAY_' + name] for name in (b'JOB_ID', b'TASK_ID')))
    return sorted(one.decode() for one in found)


@pytest.mark.parametrize('way', ['submitit', 'script'])
def test_an_array_with_tasks_queued_again_leaves_the_rows_of_one_process(slurm, tmp_path, way):
    if way == 'submitit':
        pytest.importorskip('submitit', reason='needs submitit')
    (tmp_path / 'twelve.py').write_text(SWEEP)
    workdir, alone = tmp_path / 'w', tmp_path / 'alone'
    config = '--config', tmp_path / 'twelve.py', '--workdir'
    words = [sys.executable, '-m', 'experiments.launch', *config, workdir]
    words += ['--runs_per_task', 1, '--cpus', 1]
    if way == 'submitit':
        assert '12 workers for 12 runs' in call(*words)
    else:
        (workdir / 'jobs').mkdir(parents=True)
        (tmp_path / 'sweep.sh').write_text(call(*words, '--print_script'))
        assert 'Submitted batch job' in call('sbatch', tmp_path / 'sweep.sh')
    first, second = until(
        lambda: len(found := tasks_that_train(workdir)) >= 2 and found[:2], 'no two tasks train'
    )
    call('scontrol', 'requeue', first), call('scontrol', 'requeue', second)
    until(lambda: not call('squeue', '-h'), 'jobs are left', 400)

    for task in (first, second):
        assert 'Restarts=1' in call('scontrol', 'show', 'job', task)
    assert len(list((workdir / 'jobs').glob('*/*log.out' if way == 'submitit' else '*.log'))) >= 2
    call(sys.executable, '-m', 'experiments.run', *config, alone)
    ours, theirs = (files.read(one / 'results.jsonl') for one in (workdir, alone))
    assert len(ours) == len({row['point'] for row in ours}) == 12
    by_run = lambda rows: sorted(rows, key=lambda row: row['point'])  # noqa: E731
    assert by_run(ours) == by_run(theirs)
    assert [row['arm'] for row in ours if row['status'] == 'diverged'] == ['too fast']
    tables = [list(csv.DictReader(open(one / 'results.csv'))) for one in (workdir, alone)]
    for line in (*tables[0], *tables[1]):
        line.pop('seconds_per_epoch')
    assert tables[0] == tables[1] and len(tables[0]) == 3
    assert list((workdir / 'leases').iterdir()) == []
    shown = call(*words, '--status')
    assert '12 of 12 runs' in shown
