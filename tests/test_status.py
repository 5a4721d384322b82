"""The status of a sweep: what is done, who is at work, what is left."""

import json
import os

import pytest
from rows import row

from experiments import files, status
from experiments.runner.leases import Leases

NAMES = [digit * 12 for digit in '0123456']


@pytest.fixture
def workdir(tmp_path):
    """Two arms of a trial and two seeds: one arm is done but for a run, the other has begun."""
    phases = [('a', 'select', 9), ('a', 'final', 0), ('a', 'final', 1), ('b', 'select', 9)]
    runs = {
        name: {'arm': arm, 'phase': phase, 'seed': seed, 'learning_rate': 0.1, 'overrides': {}}
        for name, (arm, phase, seed) in zip(NAMES, phases)
    }
    plan = {
        'title': 'pool in lenet5',
        'dataset_note': 'd',
        'arms': ['a', 'b'],
        'arm_seeds': {'a': [0, 1], 'b': [0, 1]},
        'seeds': [0, 1],
        'rates': [0.1],
        'level': 0.95,
        'epochs': 4,
        'points': list(runs),
        'runs': runs,
    }
    (tmp_path / 'plan.json').write_text(json.dumps(files.sealed(plan)))
    for name, seconds in zip(NAMES[:4], (100, 300, None, None)):
        folder = tmp_path / 'points' / name
        folder.mkdir(parents=True)
        (folder / 'environment.json').write_text('{}')
        files.append(folder / 'metrics.jsonl', {'epoch': 3, 'validation/error': 0.5})
        for file, when in (('environment.json', 1e9), ('metrics.jsonl', 1e9 + (seconds or 0))):
            os.utime(folder / file, (when, when))
    trial = row('a', 9, 0.5, phase='select', point=NAMES[0]) | {'validation/loss': 1.0}
    files.append(tmp_path / 'results.jsonl', trial)
    files.append(tmp_path / 'results.jsonl', row('a', 0, 0.5, point=NAMES[1]))
    files.append(tmp_path / 'results.jsonl', row('a', 1, status='diverged', point=NAMES[2]))
    return tmp_path


def test_runs_are_counted_and_the_time_to_go_is_that_of_the_workers_of_now(workdir, capsys):
    worker = Leases(workdir / 'leases')
    assert worker.claim(NAMES[3])
    assert status.main([str(workdir), '--json']) == 0
    found = json.loads(capsys.readouterr().out)
    assert found['arms'] == {
        'a': {'done': 2, 'diverged': 1, 'failed': 0, 'running': 0, 'left': 0},
        'b': {'done': 0, 'diverged': 0, 'failed': 0, 'running': 1, 'left': 2},
    }
    assert (found['total'], found['left'], found['seconds_per_run']) == (6, 2, 200)
    (one,) = found['workers']
    assert (one['run'], one['process'], one['epoch'], one['epochs']) == (
        NAMES[3],
        os.getpid(),
        3,
        4,
    )
    assert found['runs_per_hour'] == 18  # one worker, 200 seconds a run
    assert found['seconds_left'] == 200 * (2 + 1 / 4)
    assert status.main([str(workdir)]) == 0
    out = capsys.readouterr().out
    assert 'select, seed 9, rate 0.1' in out and f'process {os.getpid()} on ' in out
    assert '3 of 6 runs, 18 runs an hour, about 0:07:30 to go' in out
    worker.close()
    assert status.main([str(workdir)]) == 0
    assert '3 of 6 runs, no worker at work' in capsys.readouterr().out


def test_a_damaged_lease_is_a_worker_and_a_folder_without_a_plan_an_error(workdir, capsys):
    (workdir / 'leases').mkdir()
    (workdir / 'leases' / NAMES[3]).write_bytes(b'\xff')
    assert status.main([str(workdir)]) == 0
    assert 'a worker whose lease is damaged' in capsys.readouterr().out
    assert status.main([str(workdir / 'leases')]) == 2
    assert capsys.readouterr().err.startswith('error: no plan.json in')


def test_before_the_first_run_has_ended_a_worker_is_not_denied(workdir, capsys):
    (workdir / 'results.jsonl').write_text('')
    worker = Leases(workdir / 'leases')
    assert worker.claim(NAMES[0])
    assert status.main([str(workdir)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == '0 of 6 runs'
    worker.close()
