"""Workers on a cluster: what is submitted, and what becomes of it."""

import importlib.util
import os
import signal
import subprocess
import time

import pytest

from experiments import files, launch

CONFIG = '--config', 'configs/ablate_pooling.py', '--config.train.epochs=3'


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A folder of programs that are found first, and what they are called with."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    monkeypatch.setenv('PATH', f'{folder}:{os.environ["PATH"]}')

    def add(name, lines='', calls=tmp_path / 'calls'):
        (folder / name).write_text(f'#!/bin/bash\necho "{name} $@" >> {calls}\n{lines}\n')
        (folder / name).chmod(0o755)
        return folder / name

    add.calls = lambda: (tmp_path / 'calls').read_text().splitlines()
    return add


def needs_submitit():
    if not importlib.util.find_spec('submitit'):  # not imported: it sets up the log of a process
        pytest.skip('needs submitit')


def printed(capsys, *words):
    assert launch.main([*CONFIG, '--print_script', *words]) == 0
    return capsys.readouterr().out


def test_a_script_has_the_fields_that_were_asked_for_and_is_sound(root, tmp_path, capsys):
    workdir = tmp_path / 'a b'
    words = '--runs_per_task 10 --parallel 3 --time 90 --cpus 4 --gpus 1 --memory 1.5'.split()
    words += ['--partition', 'fast', '--constraint', 'a100|h100', '--slurm', 'account=lab']
    text = printed(capsys, *words, '--workdir', str(workdir), '--setup', 'module load cuda')
    fields = dict(
        line.removeprefix('#SBATCH --').partition('=')[::2]
        for line in text.splitlines()
        if line.startswith('#SBATCH')
    )
    assert fields == {
        'job-name': 'ablate_pooling-digits',
        'array': '0-3%3',  # 32 runs, 10 for each worker
        'output': f"'{workdir}/jobs/%A_%a.log'",
        'open-mode': 'append',
        'requeue': '',
        'signal': 'B:USR1@120',
        'time': '90',
        'cpus-per-task': '4',
        'gpus-per-node': '1',
        'mem': '1536M',
        'partition': 'fast',
        'constraint': "'a100|h100'",
        'account': 'lab',
    }
    assert 'module load cuda\n' in text and '--config.train.epochs=3' in text
    assert f"--workdir '{workdir}'" in text and not workdir.exists()
    assert subprocess.run(['bash', '-n'], input=text, text=True).returncode == 0


@pytest.mark.parametrize(
    'sent, requeued, status', [('USR1', True, 75), ('TERM', False, 75), (None, False, 1)]
)
def test_a_script_queues_again_only_what_saved_at_the_end_of_its_time(
    root, tmp_path, capsys, monkeypatch, programs, sent, requeued, status
):
    body = 'sleep 0.1; exit 1'
    if sent:
        body = f'trap "sleep 0.1; exit 75" TERM; touch {tmp_path}/up; while :; do sleep 0.01; done'
    monkeypatch.setattr(launch.sys, 'executable', str(programs('worker', body)))
    programs('scontrol')
    monkeypatch.setenv('SLURM_JOB_ID', '17')
    process = subprocess.Popen(['bash', '-c', printed(capsys)])
    deadline = time.monotonic() + 30
    while sent and not (tmp_path / 'up').exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    if sent:
        process.send_signal(getattr(signal, f'SIG{sent}'))
    assert process.wait(timeout=30) == status
    first, *rest = programs.calls()
    assert first.startswith('worker -m experiments.run --config configs/ablate_pooling.py')
    assert rest == (['scontrol requeue 17'] if requeued else [])


def test_a_submission_is_an_array_and_an_earlier_one_is_of_no_matter(
    root, tmp_path, capsys, programs
):
    needs_submitit()
    programs('srun'), programs('scancel'), programs('squeue', 'echo RUNNING; echo PENDING')
    programs('sbatch', 'grep -h "SBATCH\\|requeue" "$1" >> $(dirname $0)/text; echo job 12')
    workdir = tmp_path / 'w'
    words = [*CONFIG, '--workdir', str(workdir), '--partition', 'fast', '--slurm', 'account=lab']
    for _ in range(2):
        assert launch.main(words) == 0
        assert '4 workers for 32 runs: 12_0, 12_1' in capsys.readouterr().out
    text = (tmp_path / 'bin' / 'text').read_text()
    for part in ('--array=0-3%4', '--partition=fast', '--account=lab', '--requeue', '--time=60'):
        assert text.count(part) == 2, part
    assert len(list((workdir / 'jobs').glob('*-*/'))) == 2
    assert launch.main([*words, '--cancel']) == 0
    assert programs.calls()[-1] == 'scancel 12_0 12_1 12_2 12_3'
    assert launch.main([*words, '--status']) == 2  # nothing has begun: there is no plan yet
    assert 'plan.json' in capsys.readouterr().err


def test_without_slurm_the_error_says_what_goes_without_it(root, tmp_path, capsys, monkeypatch):
    needs_submitit()
    monkeypatch.setenv('PATH', str(tmp_path))
    assert launch.main([*CONFIG, '--workdir', str(tmp_path / 'w')]) == 2
    err = capsys.readouterr().err
    assert err.count('\n') == 1 and '--cluster local' in err and '--print_script' in err


@pytest.mark.parametrize(
    'words, message',
    [
        (['--runs_per_task', '0'], '--runs_per_task is 0'),
        (['--slurm', 'account'], "--slurm takes KEY=VALUE such as 'account=lab', not 'account'"),
        (['--cluster', 'slrum'], "Did you mean 'slurm'"),
        (['--memory', '-1'], '--memory a number above 0'),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_submitted(root, tmp_path, capsys, words, message):
    words = [*CONFIG, '--print_script', '--workdir', str(tmp_path / 'w'), *words]
    assert launch.main(words) == 2
    out, err = capsys.readouterr()
    assert message in err and err.count('\n') == 1 and out == '' and not (tmp_path / 'w').exists()


@pytest.mark.long
def test_workers_of_this_machine_are_started_cancelled_and_started_again(tmp_path, capsys, root):
    needs_submitit()
    workdir = tmp_path / 'w'
    words = ['--config', 'configs/ablate_pooling.py', '--config.train.epochs=1']
    words += ['--config.data.limit=64', '--workdir', str(workdir), '--cluster', 'local']

    def rows():
        return files.read(workdir / 'results.jsonl')

    def waited(what):
        deadline = time.monotonic() + 400
        while not what() and time.monotonic() < deadline:
            time.sleep(0.2)
        assert what(), [path.read_text() for path in workdir.glob('jobs/*/*.err')]

    assert launch.main(words) == 0
    waited(lambda: len(rows()) >= 2)
    assert launch.main([*words, '--cancel']) == 0
    waited(lambda: not list((workdir / 'leases').iterdir()))
    assert launch.main(words) == 0
    waited(lambda: (workdir / 'report.html').exists())
    names = [row['point'] for row in rows()]
    assert len(names) == len(set(names)) == 32
    capsys.readouterr()
    assert launch.main([*words, '--status']) == 0
    assert '32 of 32 runs' in capsys.readouterr().out


def test_workers_that_share_a_gpu_get_equal_parts_of_its_memory(monkeypatch, tmp_path):
    for name in ('XLA_PYTHON_CLIENT_MEM_FRACTION', 'XLA_PYTHON_CLIENT_PREALLOCATE'):
        monkeypatch.delenv(name, raising=False)
    given = {}

    class Process:
        def __init__(self, line, **more):
            given.update(more)

        def wait(self):
            return 0

    monkeypatch.setattr(launch.subprocess, 'Popen', Process)
    monkeypatch.setattr(launch.signal, 'signal', lambda *_: None)
    assert launch.Worker([], str(tmp_path), 3)() == 0
    assert given['env']['XLA_PYTHON_CLIENT_MEM_FRACTION'] == '0.300'
    launch.Worker([], str(tmp_path))()
    assert 'XLA_PYTHON_CLIENT_MEM_FRACTION' not in given['env']  # JAX's own part of one alone
    monkeypatch.setenv('XLA_PYTHON_CLIENT_MEM_FRACTION', '0.5')
    assert launch.memory(3) == {}  # the user knows better
