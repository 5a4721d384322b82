"""The command line from config to report, and mistakes that lose no work."""

import contextlib
import csv
import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

import cnns
from cnns import layers, weights
from experiments import files, progress, run, train
from experiments import workdir as workdirs
from experiments.data import records
from experiments.report import compare, figures
from experiments.runner import checkpoints
from experiments.train import checkpoint, large, optim
from experiments.workdir import WorkDir

ABLATE = '--config', 'configs/ablate_pooling.py'

TINY = """
from configs import base

def get_config():
    config = base.get_config()
    config.data.limit = 128
    config.train.epochs = 2
    config.train.batch = 32
    config.train.devices = 1
    config.protocol.rates = (0.02, 0.05)
    return config

def sweep(add):
    for pool in ('average', 'max'):
        for seed in range(2):
            add(pool + ' pooling', model=dict(pool=pool), seed=seed)
"""


@pytest.fixture
def tiny(tmp_path, root):
    path = tmp_path / 'tiny.py'
    path.write_text(TINY)
    return str(path)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A tiny sweep, run once: (config file, work directory)."""
    folder = tmp_path_factory.mktemp('finished')
    (folder / 'tiny.py').write_text(TINY)
    workdir = folder / 'work'
    with open(folder / 'out', 'w') as out, contextlib.redirect_stdout(out):
        assert run.main(['--config', str(folder / 'tiny.py'), '--workdir', str(workdir)]) == 0
    return str(folder / 'tiny.py'), workdir


@pytest.fixture
def drawings():
    """For tests of what is drawn, or of rows that are hard to draw."""


@pytest.fixture(autouse=True)
def _undrawn(request):
    """All other tests draw nothing."""
    if 'drawings' not in request.fixturenames:
        request.getfixturevalue('undrawn')


def rows_of(workdir):
    return files.read(pathlib.Path(workdir) / 'results.jsonl')


def by_point(workdir):
    """{run: row}, without the digests of weights, which runs that are not trained do not have."""
    skipped = 'weights', 'digest'
    return {
        row['point']: {name: row[name] for name in row.keys() - skipped} for row in rows_of(workdir)
    }


def test_an_experiment_leaves_every_promised_file(finished):
    _, workdir = finished
    rows = rows_of(workdir)
    assert [(row['arm'], row['phase'], row['learning_rate'] in (0.02, 0.05)) for row in rows] == [
        (arm, phase, True)
        for arm in ('average pooling', 'max pooling')
        for phase in ('select', 'select', 'final', 'final')
    ]
    for row in rows:
        folder = workdir / 'points' / row['point']
        assert json.loads((folder / 'config.json').read_text())['seed'] == row['seed']
        assert json.loads((folder / 'environment.json').read_text())['device_count'] >= 1
        assert len(files.read(folder / 'metrics.jsonl')) == 2
        assert ('test/error' in row) == (row['phase'] == 'final')
    with open(workdir / 'results.csv') as file:
        assert [line['arm'] for line in csv.DictReader(file)] == ['average pooling', 'max pooling']
    assert (workdir / 'figure.png').read_bytes()[:4] == b'\x89PNG'
    assert '<svg' in (workdir / 'figure.svg').read_text()
    assert '<html' in (workdir / 'report.html').read_text()


def test_the_chosen_learning_rate_is_the_better_one_on_validation(finished):
    _, workdir = finished
    for arm in ('average pooling', 'max pooling'):
        rows = [row for row in rows_of(workdir) if row['arm'] == arm]
        trials = {
            row['learning_rate']: row['validation/error']
            for row in rows
            if row['phase'] == 'select'
        }
        best = min(trials, key=lambda rate: (trials[rate], rate))
        assert {row['learning_rate'] for row in rows if row['phase'] == 'final'} == {best}


def test_two_calls_give_bit_identical_rows(finished, tmp_path):
    config, workdir = finished
    assert run.main(['--config', config, '--workdir', str(tmp_path / 'again')]) == 0
    assert (tmp_path / 'again' / 'results.jsonl').read_bytes() == (
        workdir / 'results.jsonl'
    ).read_bytes()


def test_the_output_has_plan_progress_table_and_a_sentence(finished):
    _, workdir = finished
    out = (workdir.parent / 'out').read_text()
    for words in (
        '2 arms, 8 runs',
        f'results: {workdir}',
        'devices: 1',
        '[8/8]',
        'max pooling: ',
        '95 % interval',
        'with 2 seeds',
        '1,797 handwritten digits',
        'only the first 128 of 1,293 train, 128 of 144 validation, 128 of 360 test images',
        'test images, in memory',
    ):
        assert words in out, words


def test_a_grid_whose_edge_wins_is_widened_and_its_trials_are_kept_and_drawn(
    finished, tmp_path, capsys, monkeypatch
):
    """Of two learning rates one edge always wins: each arm tries a third, a step beyond it."""
    config, workdir = finished
    shutil.copytree(workdir, tmp_path / 'w')
    kept = [row for row in rows_of(workdir) if row['arm'] == 'average pooling']
    (tmp_path / 'w/results.jsonl').write_text(''.join(f'{json.dumps(row)}\n' for row in kept))
    words = ['--config', config, '--workdir', str(tmp_path / 'w'), '--config.protocol.widen=1']
    fit, named = train.fit_together, []

    def watched(configs, *others, **given):  # `status` knows a run by the plan as it trains
        plan = json.loads((tmp_path / 'w/plan.json').read_text())
        known = {(one['arm'], one['learning_rate']) for one in plan['runs'].values()}
        named.append((f'{configs[0].model.pool} pooling', configs[0].train.rate) in known)
        return fit(configs, *others, **given)

    monkeypatch.setattr(train, 'fit_together', watched)
    assert run.main(words) == 0
    assert len(named) >= 2 and all(named)
    assert capsys.readouterr().err.count('the edge of the grid won') == 2
    rows, plan = rows_of(tmp_path / 'w'), json.loads((tmp_path / 'w/plan.json').read_text())
    for arm in ('average pooling', 'max pooling'):
        trials = {
            row['learning_rate']: row['validation/error']
            for row in rows
            if (row['arm'], row['phase']) == (arm, 'select')
        }
        first = min((trials[rate], rate) for rate in (0.02, 0.05))[1]
        assert list(trials) == [0.02, 0.05, 0.125 if first == 0.05 else 0.008]
        assert plan['arm_rates'][arm] == list(trials)
        best = min((trials[rate], rate) for rate in trials)[1]
        finals = {
            row['seed']
            for row in rows
            if (row['arm'], row['phase'], row['learning_rate']) == (arm, 'final', best)
        }
        assert finals == {0, 1}
    assert run.main(words) == 0 and rows_of(tmp_path / 'w') == rows  # nothing more


def test_finished_runs_are_skipped_and_nothing_is_added(finished, capsys, monkeypatch):
    config, workdir = finished
    before = (workdir / 'results.jsonl').read_bytes()
    monkeypatch.setattr(train, 'fit_together', lambda *_, **__: pytest.fail('trained again'))
    assert run.main(['--config', config, '--workdir', str(workdir)]) == 0
    assert (workdir / 'results.jsonl').read_bytes() == before
    assert capsys.readouterr().out.count('finished before, skipped') == 8


def test_a_changed_config_never_mixes_with_old_rows(tiny, tmp_path, finished, monkeypatch):
    workdir = tmp_path / 'w'
    shutil.copytree(finished[1], workdir)
    grouped(monkeypatch, known=rows_of(finished[1]))  # whatever they measure
    assert (
        run.main(['--config', tiny, '--workdir', str(workdir), '--config.train.momentum=0.5']) == 0
    )
    assert len(rows_of(workdir)) == 16
    experiment = workdirs.read_experiment(workdir)
    assert len(experiment.rows) == 8
    resolved = [
        json.loads((workdir / 'points' / row['point'] / 'config.json').read_text())
        for row in experiment.rows
    ]
    assert {config['train.momentum'] for config in resolved} == {0.5}


def photographs(place, count=24, size=8):
    for label, name in enumerate(('dark', 'light')):
        for number, split in enumerate(('train', 'validation', 'test')):
            (place / split / name).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                grey = 150 * label + 3 * index + number  # no two are equal
                Image.new('L', (size, size), grey).save(place / split / name / f'{index}.png')


FOLDER = """
from configs import base

def get_config():
    config = base.get_config()
    config.data.name = 'folder:{}'
    config.data.side = 28
    config.data.cache = 'off'
    config.model.name = 'mlp_300'
    config.train.epochs = 1
    config.train.batch = 16
    config.train.devices = 1
    return config

def sweep(add):
    for name in ('relu', 'tanh'):
        add(name, model=dict(activation=name))
"""


def test_data_that_changed_under_the_same_name_are_refused_beside_old_results(
    tmp_path, root, capsys
):
    photographs(tmp_path / 'set')
    (tmp_path / 'seen.py').write_text(FOLDER.format(tmp_path / 'set'))
    words = ['--config', str(tmp_path / 'seen.py'), '--workdir', str(tmp_path / 'w')]
    assert run.main([*words, '--only', 'arm=relu']) == 0
    (row,) = rows_of(tmp_path / 'w')
    assert re.fullmatch('[0-9a-f]{16}', row['data_found'])
    (tmp_path / 'set' / 'train' / 'dark' / '3.png').unlink()
    before = (tmp_path / 'w' / 'results.jsonl').read_bytes()
    for more in ((), ('--only', 'arm=tanh')):  # that arm has no row of its own yet
        capsys.readouterr()
        assert run.main([*words, *more]) == 2
        err = capsys.readouterr().err
        assert 'has changed: 1 of 1 finished run in' in err and 'name another --workdir' in err
    assert (tmp_path / 'w' / 'results.jsonl').read_bytes() == before
    photographs(tmp_path / 'set')
    assert run.main(words) == 0 and len(rows_of(tmp_path / 'w')) == 2


def test_arms_of_other_limits_are_compared_by_what_they_read(tmp_path, root, capsys):
    photographs(tmp_path / 'set')
    (tmp_path / 'seen.py').write_text(
        FOLDER.format(tmp_path / 'set').replace(
            """    for name in ('relu', 'tanh'):
        add(name, model=dict(activation=name))""",
            """    for limit in (16, 32):
        add(str(limit), data=dict(limit=limit))""",
        )
    )
    words = ['--config', str(tmp_path / 'seen.py'), '--workdir', str(tmp_path / 'w'), '--only']
    assert run.main([*words, 'limit=16']) == 0
    photographs(tmp_path / 'set', size=9)
    assert run.main([*words, 'limit=32']) == 2
    assert 'has changed: 1 of 1 finished run in' in capsys.readouterr().err
    photographs(tmp_path / 'set')
    assert run.main([*words, 'limit=32']) == 0


def test_what_needs_no_images_is_checked_before_any_is_read(tmp_path, root, capsys, monkeypatch):
    photographs(tmp_path / 'set')
    (tmp_path / 'seen.py').write_text(FOLDER.format(tmp_path / 'set'))
    monkeypatch.setattr(records, 'many', lambda *_: pytest.fail('read'))
    for change, message in (
        ('train.devices=7', 'train.devices is 7'),
        ('train.batch=2000', '48 images, fewer than one batch of 2000'),
    ):
        assert (
            run.main(
                [
                    '--config',
                    str(tmp_path / 'seen.py'),
                    '--workdir',
                    str(tmp_path / 'w'),
                    f'--config.{change}',
                    '--config.data.channels=1',
                ]
            )
            == 2
        )
        assert message in capsys.readouterr().err


def test_an_unknown_set_leaves_no_folder_behind(tiny, tmp_path):
    assert (
        run.main(
            [
                '--config',
                tiny,
                '--workdir',
                str(tmp_path / 'w'),
                '--config.data.name=folder:nowhere',
            ]
        )
        == 2
    )
    assert not (tmp_path / 'w').exists()


def test_a_moved_data_folder_is_the_same_data(tmp_path, root, capsys):
    photographs(tmp_path / 'a')
    photographs(tmp_path / 'b')
    for place in ('a', 'b'):
        (tmp_path / 'set').unlink(missing_ok=True)
        (tmp_path / 'set').symlink_to(tmp_path / place)
        (tmp_path / 'seen.py').write_text(FOLDER.format(tmp_path / 'set'))
        assert (
            run.main(['--config', str(tmp_path / 'seen.py'), '--workdir', str(tmp_path / 'w')]) == 0
        )
    assert capsys.readouterr().out.count('finished before, skipped') == 2


def test_results_of_other_code_and_unknown_data_are_noted(
    tiny, tmp_path, finished, capsys, drawings
):
    config, done = finished
    shutil.copytree(done, tmp_path / 'w')
    rows = [json.loads(line) for line in (done / 'results.jsonl').read_text().splitlines()]
    for row in rows:
        row['git_revision'], row['code'] = 'a' * 40, 'other'
        del row['data_found'], row['digest']  # as older code wrote them
    (tmp_path / 'w' / 'results.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    assert run.main(['--config', tiny, '--workdir', str(tmp_path / 'w')]) == 0
    err = capsys.readouterr().err
    assert 'of 8 finished runs, 8 without a name of the images' in err
    assert 'trained by other code, of revision aaaaaaaaaaaa;' in err
    assert run.main(['--config', config, '--workdir', str(done)]) == 0
    assert 'note' not in capsys.readouterr().err


def test_only_runs_a_part_and_splits_add_up(tiny, tmp_path, finished, monkeypatch):
    workdir = tmp_path / 'w'
    grouped(monkeypatch, known=rows_of(finished[1]))
    for words in ('pool=max,seed=0', 'pool=average', 'seed=1', ''):
        assert run.main(['--config', tiny, '--workdir', str(workdir), '--only', words]) == 0
        if words == 'pool=max,seed=0':
            assert [(r['arm'], r['phase'], r['seed']) for r in rows_of(workdir)] == [
                ('max pooling', 'select', 1000)
            ] * 2 + [('max pooling', 'final', 0)]
    assert by_point(workdir) == by_point(finished[1])
    assert len(workdirs.read_experiment(workdir).rows) == 8


def test_dry_run_prints_the_runs_and_writes_nothing(root, tmp_path, capsys):
    workdir = tmp_path / 'w'
    assert run.main([*ABLATE, '--dry_run', '--workdir', str(workdir)]) == 0
    out = capsys.readouterr().out
    assert '4 arms, 32 runs' in out and 'overlapping max pooling' in out
    lines = [line for line in out.splitlines() if re.search('  (select|final)  ', line)]
    assert len(lines) == 32
    named = [line for line in lines if re.search(r'  [0-9a-f]{12}$', line)]
    assert len(named) == 12 and all(
        '  select  ' in line for line in named
    )  # 3 learning rates x 4 arms
    assert not workdir.exists()


@pytest.mark.parametrize(
    'words, message',
    [
        (['--config', 'configs/ablate_poling.py'], "Did you mean 'configs/ablate_pooling.py'"),
        (['--config', 'configs/ablate_pooling.py:mnits'], "Did you mean 'mnist'"),
        ([*ABLATE, '--config.train.epoch=3'], "Did you mean 'train.epochs'"),
        ([*ABLATE, '--config.train.epochs=x'], 'takes a whole number'),
        ([*ABLATE, '--config.train.epochs'], 'needs a value'),
        ([*ABLATE, '--config.model.norm=bach'], "Did you mean 'batch'"),
        ([*ABLATE, '--config.model.name=lenet5_1998'], "no axis 'pool'"),
        ([*ABLATE, '--config.data.name=mnits'], "Did you mean 'mnist'"),
        ([*ABLATE, '--dryrun'], "Did you mean '--dry_run'"),
        ([*ABLATE, '--only', 'pol=max'], "Did you mean 'pool'"),
        ([*ABLATE, '--config.train.batch=63', '--config.train.devices=4'], '63 = 4 x 15 + 3'),
        ([*ABLATE, '--config.train.batch=2000'], 'fewer than one batch of 2000'),
        ([*ABLATE, '--config.data.side=40'], '32'),
        ([*ABLATE, '--config.train.rate=0.5'], 'would have no effect'),
        ([*ABLATE, '--config.protocol.rates=((0.1,),)'], 'learning rate is'),
        ([*ABLATE, '--config.data.test=train'], 'must not be trained on'),
        ([*ABLATE, '--only', 'pool=max', '--only', 'seed=99'], 'no run'),
        (['--config'], 'expected one argument'),
        ([], 'required: --config'),
        ([*ABLATE, 'stray'], 'unrecognized arguments: stray'),
    ],
)
def test_a_mistake_is_one_short_error_and_status_2(root, tmp_path, capsys, words, message):
    assert run.main([*words, '--workdir', str(tmp_path / 'w')]) == 2
    err = capsys.readouterr().err
    assert err.startswith('error: ') and message in err and 'Traceback' not in err
    assert not rows_of(tmp_path / 'w')


def test_an_unprepared_set_ends_before_anything_is_trained(root, tmp_path, capsys):
    words = [
        '--config',
        'configs/ablate_pooling.py:cifar10',
        '--config.data.dir',
        str(tmp_path / 'no'),
        '--workdir',
        str(tmp_path / 'w'),
    ]
    assert run.main(words) == 2
    assert 'experiments.data prepare cifar10' in capsys.readouterr().err


def test_a_work_directory_of_another_experiment_is_refused(root, finished, capsys, tmp_path):
    _, workdir = finished
    before = (workdir / 'results.jsonl').read_bytes()
    assert run.main([*ABLATE, '--workdir', str(workdir)]) == 2
    assert (
        "holds the experiment 'tiny', this one is 'ablate_pooling-digits'"
        in capsys.readouterr().err
    )
    assert (workdir / 'results.jsonl').read_bytes() == before
    (tmp_path / 'diary.txt').write_text('mine')
    assert run.main([*ABLATE, '--workdir', str(tmp_path)]) == 2
    assert 'is not empty' in capsys.readouterr().err


def test_a_truncated_last_line_costs_that_run_only(tiny, tmp_path, finished, capsys):
    workdir = tmp_path / 'w'
    shutil.copytree(finished[1], workdir)
    content = (workdir / 'results.jsonl').read_bytes()
    (workdir / 'results.jsonl').write_bytes(content[:-40])
    assert run.main(['--config', tiny, '--workdir', str(workdir)]) == 0
    captured = capsys.readouterr()
    assert captured.out.count('finished before, skipped') == 7
    assert 'results.jsonl' in captured.err
    with pytest.warns(UserWarning, match='not a complete row'):
        assert len(workdirs.read_experiment(workdir).rows) == 8
    assert (workdir / 'results.jsonl').read_bytes().startswith(content[:-40])  # only ever added to


def test_the_curve_of_a_run_can_be_drawn_while_it_runs(tiny, tmp_path, monkeypatch):
    drawn = []

    def fit(configs, dataset, on_epoch, final, **given):
        metrics = {'train/error': 0.5, 'validation/error': 0.4, 'validation/loss': 1.0}
        on_epoch(0, {'epoch': 1, **metrics})
        found = compare.read([tmp_path / 'w'])
        drawn.append((configs[0].model.pool, figures.kinds_of(found)))
        return [metrics | ({'test/error': 0.4} if final else {})]

    monkeypatch.setattr(train, 'fit_together', fit)
    assert run.main(['--config', tiny, '--workdir', str(tmp_path / 'w')]) == 0
    assert drawn == [
        ('average', ['running', 'trial']),
        ('average', ['running', 'trial']),
        ('average', ['running']),
        ('average', ['validation', 'training', 'running']),
        ('max', ['validation', 'training', 'running', 'trial']),
        ('max', ['validation', 'training', 'running', 'trial']),
        ('max', ['validation', 'training', 'running']),
        ('max', ['validation', 'training', 'running']),
    ]


def test_a_diverging_and_a_failing_run_do_not_stop_the_others(
    tiny, tmp_path, finished, capsys, monkeypatch, drawings
):
    known, broken = rows_of(finished[1]), [True]

    def change(given_configs):
        (config,) = given_configs
        if config.model.pool == 'max' and config.seed == 0:
            return [train.Diverged('the loss is nan at step 7 (epoch 2) with learning rate 0.1')]
        if broken and config.model.pool == 'average' and config.seed == 1:
            raise MemoryError('no room')

    grouped(monkeypatch, change, known)
    workdir = tmp_path / 'w'
    assert run.main(['--config', tiny, '--workdir', str(workdir)]) == 1
    captured = capsys.readouterr()
    assert (
        'diverged: max pooling (final, seed 0' in captured.err and 'nan at step 7' in captured.err
    )
    assert (
        'failed: average pooling (final, seed 1' in captured.err
        and 'MemoryError: no room' in captured.err
    )
    assert [row['status'] for row in rows_of(workdir)].count('done') == 6
    assert (workdir / 'report.html').exists()
    broken.clear()  # what failed is tried again, what diverged is a result
    assert run.main(['--config', tiny, '--workdir', str(workdir)]) == 1
    assert [row['status'] for row in workdirs.read_experiment(workdir).rows].count('done') == 7


def test_a_real_divergence_is_reported_by_run_and_step(tiny, tmp_path, capsys):
    words = [
        '--config',
        tiny,
        '--workdir',
        str(tmp_path / 'w'),
        '--config.protocol.rates=(0.05, 1e30)',
        '--config.model.activation=relu',
        '--only',
        'pool=max,seed=0',
    ]
    assert (
        run.main(words) == 0
    )  # a learning rate of the grid that diverges is not chosen, and that is all
    captured = capsys.readouterr()
    assert (
        'diverged: max pooling (select, seed 1000, learning rate 1e+30): the loss is '
        in captured.err
    )
    assert rows_of(tmp_path / 'w')[-1]['learning_rate'] == 0.05


def test_an_arm_that_no_learning_rate_trains_is_reported(tiny, tmp_path, capsys, drawings):
    words = [
        '--config',
        tiny,
        '--workdir',
        str(tmp_path / 'w'),
        '--config.protocol.rates=(1e30,)',
        '--config.model.activation=relu',
        '--only',
        'pool=max',
    ]
    assert run.main(words) == 1
    assert 'no learning rate of the grid trained' in capsys.readouterr().err


def test_a_work_directory_that_cannot_be_made_is_an_error(tiny, tmp_path, capsys):
    (tmp_path / 'file').write_text('')
    assert run.main(['--config', tiny, '--workdir', str(tmp_path / 'file' / 'w')]) == 2
    err = capsys.readouterr().err
    assert 'cannot write to' in err and 'name another --workdir' in err and 'removed' not in err


def test_a_full_disk_keeps_the_finished_runs(tiny, tmp_path, finished, capsys, monkeypatch):
    grouped(monkeypatch, known=rows_of(finished[1]))
    workdir, plain, written = tmp_path / 'w', files.append, []

    def append(path, row):
        if len(written) == 2:
            raise OSError(28, 'No space left on device')
        written.append(plain(path, row))

    monkeypatch.setattr(workdirs, 'append', append)
    assert run.main(['--config', tiny, '--workdir', str(workdir)]) == 2
    err = capsys.readouterr().err
    assert 'No space left on device' in err and 'Finished runs kept: 2' in err
    assert len(rows_of(workdir)) == 2
    monkeypatch.setattr(workdirs, 'append', plain)
    assert run.main(['--config', tiny, '--workdir', str(workdir)]) == 0
    assert len(rows_of(workdir)) == 8


@pytest.mark.parametrize(
    'sent, status',
    [
        (signal.SIGINT, 130),
        # the signal in this process: test_sigterm_inside_of_an_epoch_...
        pytest.param(signal.SIGTERM, 75, marks=pytest.mark.long),
    ],
)
def test_an_interrupted_sweep_continues_where_it_stopped(
    sent, status, tiny, tmp_path, finished, root, monkeypatch
):
    workdir = tmp_path / 'w'
    command = [sys.executable, '-m', 'experiments.run', '--config', tiny, '--workdir', str(workdir)]
    process = subprocess.Popen(
        command,
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, 'PYTHONUNBUFFERED': '1'},
    )
    try:
        deadline = time.time() + 120
        while len(rows_of(workdir)) < 2 and time.time() < deadline:
            time.sleep(0.02)
        process.send_signal(sent)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == status, err
    assert 'finished runs kept in' in err and 'Run the same command again' in err
    assert 'Traceback' not in err
    kept = (workdir / 'results.jsonl').read_bytes()
    assert 2 <= kept.count(b'\n') < 8
    grouped(monkeypatch, known=rows_of(finished[1]))
    assert run.main(['--config', tiny, '--workdir', str(workdir)]) == 0
    assert (workdir / 'results.jsonl').read_bytes().startswith(kept)
    names = lambda folder: [row['point'] for row in rows_of(folder)]
    assert names(workdir) == names(finished[1])  # each run once, in the same order


def test_a_run_interrupted_between_its_epochs_continues_and_ends_the_same(
    tiny, tmp_path, capsys, monkeypatch
):
    words = [
        '--config',
        tiny,
        '--config.train.epochs=4',
        '--config.protocol.rates=()',
        '--only',
        'pool=max,seed=0',
        '--workdir',
    ]
    assert run.main([*words, str(tmp_path / 'whole')]) == 0
    (whole,) = rows_of(tmp_path / 'whole')
    plain, seen = files.append, []

    def append(path, row):
        plain(path, row)
        seen.append(row)
        if len(seen) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, 'KEEP', 0.0)
    monkeypatch.setattr(checkpoints, 'KEEP_TIMES', 0)
    with monkeypatch.context() as patched:
        patched.setattr(workdirs, 'append', append)
        assert run.main([*words, str(tmp_path / 'w')]) == 130
    folder = tmp_path / 'w' / 'points' / whole['point']
    assert (folder / 'checkpoint.msgpack').exists() and not rows_of(tmp_path / 'w')
    capsys.readouterr()
    assert run.main([*words, str(tmp_path / 'w')]) == 0
    assert (
        'max pooling (final, seed 0, learning rate 0.05): continues after epoch 2, step 12'
        in capsys.readouterr().out
    )
    assert rows_of(tmp_path / 'w') == [whole]
    assert not (folder / 'checkpoint.msgpack').exists()
    weights = 'points/' + whole['point'] + '/weights.safetensors'
    assert (tmp_path / 'w' / weights).read_bytes() == (tmp_path / 'whole' / weights).read_bytes()
    curve = lambda place: [
        {k: v for k, v in line.items() if k != 'seconds'}
        for line in workdirs.read_experiment(place).curves[whole['point']]
    ]
    assert curve(tmp_path / 'w') == curve(tmp_path / 'whole') and len(curve(tmp_path / 'w')) == 4


@pytest.mark.parametrize('together', [1, 2])
def test_a_disk_that_is_full_for_the_weights_costs_no_row_and_no_weights(
    tiny, tmp_path, finished, capsys, monkeypatch, together
):
    grouped(monkeypatch, known=rows_of(finished[1]))
    words = [
        '--config',
        tiny,
        '--config.protocol.rates=()',
        '--only',
        'pool=max',
        '--workdir',
        str(tmp_path / 'w'),
        f'--config.train.together={together}',
    ]
    plain, calls = WorkDir.write, []

    def full(workdir, name, content):
        calls.extend([name] if name.endswith('weights.safetensors') else [])
        if name.endswith('weights.safetensors') and len(calls) == together:
            with workdir.writing():
                raise OSError(28, 'No space left on device', name)
        plain(workdir, name, content)

    with monkeypatch.context() as patched:
        patched.setattr(WorkDir, 'write', full)
        assert run.main(words) == 2
    err = capsys.readouterr().err
    assert 'weights.safetensors: No space left' in err and rows_of(tmp_path / 'w') == []
    assert run.main(words) == 0
    rows = rows_of(tmp_path / 'w')
    assert [row['seed'] for row in rows] == [0, 1]
    assert all(
        (tmp_path / 'w' / 'points' / row['point'] / 'weights.safetensors').exists() for row in rows
    )


def test_an_interrupt_between_the_rows_of_a_group_waits_for_all_of_them(
    tiny, tmp_path, finished, monkeypatch
):
    grouped(monkeypatch, known=rows_of(finished[1]))
    plain = WorkDir.add

    def add(self, row):
        plain(self, row)
        if row['seed'] == 0:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(WorkDir, 'add', add)
    assert (
        run.main(
            [
                '--config',
                tiny,
                '--config.protocol.rates=()',
                '--only',
                'pool=max',
                '--workdir',
                str(tmp_path / 'w'),
                '--config.train.together=2',
            ]
        )
        == 130
    )
    assert [row['seed'] for row in rows_of(tmp_path / 'w')] == [0, 1]


def test_a_checkpoint_that_does_not_fit_starts_the_training_over(
    tiny, tmp_path, capsys, monkeypatch
):
    words = [
        '--config',
        tiny,
        '--config.protocol.rates=()',
        '--only',
        'pool=max,seed=0',
        '--workdir',
        str(tmp_path / 'w'),
    ]
    snapshot = checkpoint.Snapshot(
        1, 4, (optim.Control(),), ({'error': 0.5, 'loss': 1.0},), {'step': np.int32(4)}
    )
    monkeypatch.setattr(checkpoint, 'read', lambda path, made_of: (snapshot, ''))
    assert run.main(words) == 0
    assert 'does not fit' in capsys.readouterr().err
    (row,) = rows_of(tmp_path / 'w')
    assert row['status'] == 'done' and row['steps'] == 8


def test_finished_runs_of_another_config_are_noted(tiny, tmp_path, finished, capsys, monkeypatch):
    shutil.copytree(finished[1], tmp_path / 'w')
    grouped(monkeypatch, known=rows_of(finished[1]))
    assert (
        run.main(
            ['--config', tiny, '--workdir', str(tmp_path / 'w'), '--config.train.momentum=0.5']
        )
        == 0
    )
    assert 'note: 8 runs finished in' in capsys.readouterr().err


def test_a_finished_run_keeps_no_checkpoint(tiny, tmp_path, finished):
    shutil.copytree(finished[1], tmp_path / 'w')
    left = tmp_path / 'w' / 'points' / rows_of(finished[1])[0]['point'] / 'checkpoint.msgpack'
    left.write_bytes(b'of a group that was interrupted')
    assert run.main(['--config', tiny, '--workdir', str(tmp_path / 'w')]) == 0
    assert not left.exists()


def test_weights_are_kept_of_the_final_runs(finished):
    _, workdir = finished
    for row in rows_of(workdir):
        path = workdir / 'points' / row['point'] / 'weights.safetensors'
        assert path.exists() == (row['phase'] == 'final')
    variables, metadata = weights.load(path)
    net = weights.build(metadata)
    assert net == cnns.build('lenet5', pool=row['overrides']['model.pool'])
    assert net.apply(variables, np.zeros((2, 32, 32, 1)), train=False).shape == (2, 10)


@pytest.mark.parametrize('dispatch, after', [(1, 6), (2, 8)])  # 8: the last
def test_sigterm_inside_of_an_epoch_saves_the_step_and_the_same_command_goes_on(
    tiny, tmp_path, capsys, monkeypatch, dispatch, after
):
    words = ['--config', tiny, '--config.protocol.rates=()', '--only', 'pool=max,seed=0']
    words += [f'--config.train.steps_per_dispatch={dispatch}']
    assert run.main([*words, '--workdir', str(tmp_path / 'whole')]) == 0
    (whole,) = rows_of(tmp_path / 'whole')
    plain = progress.Reporter.step

    def step(self, step, *more):
        plain(self, step, *more)
        if step in (5, 6):  # of 8, four an epoch
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(progress.Reporter, 'step', step)
        assert run.main([*words, '--workdir', str(tmp_path / 'w')]) == 75
    assert 'Run the same command again to continue' in capsys.readouterr().err
    assert rows_of(tmp_path / 'w') == [] and list((tmp_path / 'w/leases').iterdir()) == []
    assert run.main([*words, '--workdir', str(tmp_path / 'w')]) == 0
    assert f'continues after epoch 1, step {after}' in capsys.readouterr().out
    assert rows_of(tmp_path / 'w') == [whole]


def test_an_interrupt_that_comes_back_as_an_error_of_the_run_is_still_an_interrupt(
    tiny, tmp_path, capsys, monkeypatch
):
    def fit(*_, **__):  # as C++ code does it
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError('INTERNAL: callback failed') from None

    monkeypatch.setattr(train, 'fit_together', fit)
    assert run.main(['--config', tiny, '--workdir', str(tmp_path / 'w')]) == 130
    assert 'interrupted in average pooling (select, seed 1000' in capsys.readouterr().err
    assert not rows_of(tmp_path / 'w')


def test_the_handlers_of_signals_are_put_back(tiny, tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert run.main(['--config', tiny, '--dry_run']) == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_call_that_failed_before_its_first_run_can_be_repeated(root, tmp_path, capsys):
    words = [
        '--config',
        'configs/ablate_pooling.py:cifar10',
        '--config.data.dir',
        str(tmp_path / 'no'),
        '--workdir',
        str(tmp_path / 'w'),
    ]
    for _ in range(2):
        assert run.main(words) == 2
        assert 'is not prepared' in capsys.readouterr().err


@pytest.mark.parametrize('content', ['[]', None])
def test_a_damaged_or_lost_plan_costs_no_row(tiny, tmp_path, finished, capsys, content):
    workdir = tmp_path / 'w'
    shutil.copytree(finished[1], workdir)
    if content is None:
        (workdir / 'plan.json').unlink()
    else:
        (workdir / 'plan.json').write_text(content)
    assert run.main(['--config', 'configs/base.py', '--workdir', str(workdir)]) == 2
    assert "holds the experiment 'tiny'" in capsys.readouterr().err
    assert run.main(['--config', tiny, '--workdir', str(workdir)]) == 0
    assert capsys.readouterr().out.count('finished before, skipped') == 8


def test_odd_lines_among_the_rows_are_noted_and_skipped(tiny, tmp_path, finished, capsys, drawings):
    workdir = tmp_path / 'w'
    shutil.copytree(finished[1], workdir)
    with open(workdir / 'results.jsonl', 'ab') as file:
        file.write(b'{"point": 3}\n[1]\n\xff\xfe\n')
    metrics, *_ = (workdir / 'points').glob('*/metrics.jsonl')
    metrics.write_text('{"epoch": "x"}\n{"epoch": 1, "trai')
    assert run.main(['--config', tiny, '--workdir', str(workdir)]) == 0
    captured = capsys.readouterr()
    assert captured.out.count('finished before, skipped') == 8 and captured.err.count('note: ') == 3


@pytest.mark.parametrize('folder', ['/dev/null', 'x' * 300])
def test_a_work_directory_no_one_can_use_is_an_error(tiny, capsys, folder):
    assert run.main(['--config', tiny, '--workdir', folder]) == 2
    assert capsys.readouterr().err.startswith('error: cannot ')


def test_an_output_that_cannot_be_written_is_an_error(tiny, tmp_path, capsys, monkeypatch):
    def broken(*_, **__):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(run.tables.Console, 'print', broken)
    assert run.main(['--config', tiny, '--workdir', str(tmp_path / 'w')]) == 2
    assert 'the output cannot be written' in capsys.readouterr().err


class Head(io.StringIO):
    """Standard output whose reader leaves when it has read `last`, as `head` does."""

    def __init__(self, last):
        super().__init__()
        self.last = last

    def write(self, text):
        if self.last in self.getvalue():
            raise BrokenPipeError
        return super().write(text)


@pytest.mark.parametrize('last', ['results: ', ', step 3 of 8'])  # before the run, and inside
def test_a_reader_that_leaves_ends_the_call_and_no_run_has_failed(
    tiny, tmp_path, capsys, monkeypatch, last
):
    monkeypatch.setattr(progress, '_QUIET', 0.0)  # a line for every step
    words = ['--config', tiny, '--config.protocol.rates=()', '--only', 'pool=max,seed=0']
    with monkeypatch.context() as patched:
        patched.setattr(sys, 'stdout', Head(last))
        assert run.main([*words, '--workdir', str(tmp_path / 'w')]) == 141
        assert last in sys.stdout.getvalue()
    assert 'diverged' not in capsys.readouterr().err and rows_of(tmp_path / 'w') == []


def test_a_finished_sweep_survives_every_output(finished, capsys, monkeypatch):
    config, workdir = finished
    words = ['--config', config, '--workdir', str(workdir)]
    with monkeypatch.context() as patched:
        patched.setattr(sys, 'stdout', io.TextIOWrapper(io.BytesIO(), encoding='ascii'))
        assert run.main(words) == 0
        text = sys.stdout.buffer.getvalue().decode()
        assert 'written: ' in text and re.search(r'\d\.\d\d \? \d', text)
        patched.setattr(sys, 'stdout', None)
        assert run.main(words) == 0
    monkeypatch.setenv('FORCE_COLOR', '1')
    capsys.readouterr()
    assert run.main(words) == 0
    assert '\x1b' not in capsys.readouterr().out


def test_square_brackets_and_64_bits_work(tiny, tmp_path, capsys, drawings):
    words = ['--config', tiny, '--config.protocol.rates=()', '--only', 'pool=max,seed=0']
    workdir = tmp_path / '[w] [/b]'
    jax.config.update('jax_enable_x64', True)
    try:
        assert run.main([*words, '--workdir', str(workdir)]) == 0
    finally:
        jax.config.update('jax_enable_x64', False)
    assert [row['status'] for row in rows_of(workdir)] == ['done']
    out = capsys.readouterr().out
    assert f'results: {workdir}\n' in out and f'written: {workdir}/results.csv' in out


@pytest.mark.parametrize(
    'ends, status, message',
    [
        (True, 130, 'finished runs kept in {}: 0. '),
        (False, 2, 'Finished runs kept: 0. The folder was removed or renamed meanwhile'),
    ],
)
def test_what_was_removed_meanwhile_is_not_said_to_be_kept(
    tiny, tmp_path, finished, capsys, monkeypatch, ends, status, message
):
    plain = WorkDir.add

    def add(workdir, row):
        plain(workdir, row)
        if len(workdir.rows) == 3:
            shutil.rmtree(workdir.folder)
            if ends:
                raise KeyboardInterrupt

    monkeypatch.setattr(WorkDir, 'add', add)
    grouped(monkeypatch, known=rows_of(finished[1]))
    assert run.main(['--config', tiny, '--workdir', str(tmp_path / 'w')]) == status
    assert message.format(tmp_path / 'w') in capsys.readouterr().err


MIXED = """
from configs import base

def get_config():
    config = base.get_config()
    config.model.name = 'mlp_300'
    config.train.epochs = 1
    config.train.batch = 32
    config.train.devices = 1
    return config

def sweep(add):
    for seed in range(2):
        add('64 [bold]images[/]', data=dict(limit=64), seed=seed)
    add('128 images', data=dict(limit=128), seed=1)
"""


def test_arms_may_differ_in_their_data_and_seeds_and_need_no_grid(tmp_path, capsys, drawings):
    (tmp_path / 'mixed.py').write_text(MIXED)
    workdir = tmp_path / 'w'
    assert run.main(['--config', str(tmp_path / 'mixed.py'), '--workdir', str(workdir)]) == 0
    # one epoch of 64 or 128 images in batches of 32
    assert [(row['arm'], row['seed'], row['steps']) for row in rows_of(workdir)] == [
        ('64 [bold]images[/]', 0, 2),
        ('64 [bold]images[/]', 1, 2),
        ('128 images', 1, 4),
    ]
    with open(workdir / 'results.csv') as file:
        assert [line['seeds_planned'] for line in csv.DictReader(file)] == ['2', '1']
    out = capsys.readouterr().out
    assert '64 [bold]images[/]' in out and '128 images' in out and 'not run' not in out
    assert 'none was selected' in (workdir / 'report.html').read_text()


def test_an_arm_that_no_learning_rate_trains_keeps_its_older_results(tiny, tmp_path):
    words = [
        '--config',
        tiny,
        '--workdir',
        str(tmp_path / 'w'),
        '--config.model.activation=relu',
        '--only',
        'pool=max,seed=0',
    ]
    assert run.main([*words, '--config.protocol.rates=0.05']) == 0  # 0.05: train.rate in base too
    done = rows_of(tmp_path / 'w')[-1]
    for _ in range(2):
        assert run.main([*words, '--config.protocol.rates=1e30']) == 1
    added = rows_of(tmp_path / 'w')[2:]
    assert [(row['status'], row['learning_rate']) for row in added] == [
        ('diverged', 1e30),
        ('failed', None),
    ]
    assert done['point'] not in {row['point'] for row in added}


def test_rows_that_another_process_adds_meanwhile_are_in_the_plan_and_the_table(
    tiny, tmp_path, finished, capsys, monkeypatch
):
    rows, workdir = rows_of(finished[1]), tmp_path / 'w'

    def change(configs):
        if not (workdir / 'other').exists():  # the other process ends all runs of the other arm
            (workdir / 'other').mkdir()
            for row in rows:
                if row['overrides']['model.pool'] == 'max':
                    files.append(workdir / 'results.jsonl', row)

    grouped(monkeypatch, change, rows)
    assert run.main(['--config', tiny, '--only', 'pool=average', '--workdir', str(workdir)]) == 0
    assert capsys.readouterr().out.count(' 2/2 ') == 2
    assert len(workdirs.read_experiment(workdir).rows) == 8


def test_trials_and_final_runs_can_be_asked_for_apart(
    tiny, tmp_path, finished, capsys, monkeypatch
):
    grouped(monkeypatch, known=rows_of(finished[1]))
    words = ['--config', tiny, '--workdir', str(tmp_path / 'w'), '--only']
    assert run.main([*words, 'phase=final']) == 2
    assert 'with --only phase=select first' in capsys.readouterr().err
    assert run.main([*words, 'phase=select']) == 0
    assert {row['phase'] for row in rows_of(tmp_path / 'w')} == {'select'}
    assert run.main([*words, 'phase=final,seed=0']) == 0
    assert capsys.readouterr().out.count('finished before') == 0
    expected = by_point(finished[1])
    assert by_point(tmp_path / 'w') == {n: row for n, row in expected.items() if row['seed'] != 1}


def test_a_trial_that_another_process_ends_meanwhile_is_not_repeated(
    tiny, tmp_path, finished, monkeypatch
):
    """The other process ends everything else while the first run is trained."""
    rows = rows_of(finished[1])

    def change(configs):
        for row in rows:
            files.append(tmp_path / 'w' / 'results.jsonl', row)

    groups = grouped(monkeypatch, change, rows)
    assert run.main(['--config', tiny, '--workdir', str(tmp_path / 'w')]) == 0
    assert groups == [[(0.02, 1000)]]


def test_rows_that_come_while_the_table_is_drawn_are_in_plan_and_figures(
    tiny, tmp_path, finished, capsys, monkeypatch
):
    rows, plain = rows_of(finished[1]), figures.write
    shutil.copytree(finished[1], tmp_path / 'w')
    (tmp_path / 'w' / 'results.jsonl').unlink()
    for row in rows:
        if row['overrides']['model.pool'] == 'average':
            files.append(tmp_path / 'w' / 'results.jsonl', row)
    seen = []

    def write(experiment, path):
        drawn = plain(experiment, path)
        if not seen:
            for row in rows:
                if row['overrides']['model.pool'] == 'max':
                    files.append(tmp_path / 'w' / 'results.jsonl', row)
        seen.append(len(experiment.rows))
        return drawn

    monkeypatch.setattr(figures, 'write', write)
    words = ['--config', tiny, '--only', 'pool=average', '--workdir', str(tmp_path / 'w')]
    assert run.main(words) == 0
    assert seen == [4, 8] and capsys.readouterr().out.count(' 2/2 ') == 2
    assert len(json.loads((tmp_path / 'w' / 'plan.json').read_text())['points']) == 8


def test_weights_of_finished_runs_that_are_gone_or_damaged_are_said(
    tiny, tmp_path, finished, capsys
):
    shutil.copytree(finished[1], tmp_path / 'w')
    one, two, *_ = sorted((tmp_path / 'w').glob('points/*/weights.safetensors'))
    content = bytearray(one.read_bytes())
    content[len(content) // 2] ^= 1
    one.write_bytes(content)
    assert run.main(['--config', tiny, '--workdir', str(tmp_path / 'w')]) == 0
    assert f'note: {one} is damaged. The row of' in capsys.readouterr().err
    one.unlink(), two.unlink()
    assert run.main(['--config', tiny, '--workdir', str(tmp_path / 'w')]) == 0
    err = capsys.readouterr().err
    assert (
        'weights.safetensors is missing (and 1 more). The row of' in err and err.count('note') == 1
    )


@pytest.mark.parametrize(
    'words, said',
    [
        (['--config.train.epochs=3'], '(train.epochs 2, now 3)'),
        (['--config.train.steps=9'], '(train.steps 0, now 9)'),
        (['--config.train.momentum=0.5'], ''),
        (['--config.train.epochs=3', '--config.train.momentum=0.5'], ''),
        ([], ''),
    ],
)
def test_finished_runs_of_another_length_are_named_and_why_they_are_not_continued(
    tiny, tmp_path, finished, capsys, monkeypatch, words, said
):
    shutil.copytree(finished[1], tmp_path / 'w')

    def stop(*args, **given):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, 'fit_together', stop)
    run.main(['--config', tiny, '--workdir', str(tmp_path / 'w'), *words])
    err = capsys.readouterr().err
    told = (
        f'note: 4 finished runs in {tmp_path / "w"} differ from runs of this plan in their length'
    )
    assert (told in err) == bool(said) and said in err
    assert ("train.schedule='cosine' depends on the length" in err) == bool(said)


def test_a_work_directory_that_is_removed_meanwhile_is_not_made_anew(
    tiny, tmp_path, finished, capsys, monkeypatch
):
    shutil.copytree(finished[1], tmp_path / 'w')
    (tmp_path / 'w' / 'results.jsonl').write_text(
        ''.join(json.dumps(row) + '\n' for row in rows_of(finished[1])[:3])
    )

    def fit(*args, **given):
        shutil.rmtree(tmp_path / 'w')
        return [{'train/error': 0.5, 'validation/error': 0.5, 'test/error': 0.5}]

    monkeypatch.setattr(train, 'fit_together', fit)
    assert run.main(['--config', tiny, '--workdir', str(tmp_path / 'w')]) == 2
    err = capsys.readouterr().err
    assert 'Finished runs kept: 0. The folder was removed or renamed' in err
    assert not (tmp_path / 'w').exists()


# --- runs trained together -------------------------------------------------------------------


def grouped(monkeypatch, change=lambda configs: None, known=()):
    """The groups that are trained, as (learning rate, seed) of their runs, in a growing list.

    change: called before; what it returns is given instead of a training. known: rows of these
    runs, given too, with weights that are made up.
    """
    plain, groups = train.fit_together, []
    measured = {
        (row['overrides']['model.pool'], row['learning_rate'], row['seed']): {
            key: value
            for key, value in row.items()
            if '/' in key or key in ('epochs', 'steps', 'devices', 'parameters')
        }
        for row in known
    }

    def fit(configs, *args, **given):
        groups.append([(config.train.rate, config.seed) for config in configs])
        if outcomes := change(configs):
            return outcomes
        if known:
            for index in range(len(configs)):
                given['on_end'](index, {'params': np.float32([index])})
            return [
                measured[config.model.pool, config.train.rate, config.seed] for config in configs
            ]
        return plain(configs, *args, **given)

    monkeypatch.setattr(train, 'fit_together', fit)
    return groups


def test_runs_trained_together_leave_the_rows_and_files_of_runs_trained_alone(
    tiny, tmp_path, finished, capsys, monkeypatch
):
    groups, workdir = grouped(monkeypatch), tmp_path / 'w'
    words = ['--config', tiny, '--workdir', str(workdir), '--config.train.together=2']
    assert run.main([*words, '--only', 'pool=max']) == 0
    out = capsys.readouterr().out
    assert 'devices: 1 (cpu); 2 runs together = 1 x 2, each with batches of 32' in out
    assert '[4/4] max pooling (final, seed 1, learning rate ' in out
    alone = [row for row in rows_of(finished[1]) if row['arm'] == 'max pooling']
    chosen = alone[-1]['learning_rate']
    assert groups == [[(0.02, 1000), (0.05, 1000)], [(chosen, 0), (chosen, 1)]]
    for one, many in zip(alone, rows_of(workdir), strict=True):
        assert one.keys() == many.keys()
        for name, value in one.items():
            if name == 'weights':  # a digest of what is rounded otherwise
                continue
            if isinstance(value, float):
                value = pytest.approx(value, rel=1e-3, abs=0.02 if 'error' in name else 0)
            assert many[name] == value, name
        folder = workdir / 'points' / many['point']
        assert {path.name for path in folder.iterdir()} == {
            path.name for path in (finished[1] / 'points' / one['point']).iterdir()
        }
        lines = files.read(folder / 'metrics.jsonl')
        assert [line['epoch'] for line in lines] == [1, 2]
        assert lines[-1]['validation/error'] == many['validation/error']


def test_a_resumed_call_groups_only_what_is_missing(tiny, tmp_path, finished, capsys, monkeypatch):
    workdir = tmp_path / 'w'
    shutil.copytree(finished[1], workdir)
    lines = (workdir / 'results.jsonl').read_text().splitlines(keepends=True)
    (workdir / 'results.jsonl').write_text(''.join(lines[:2] + lines[4:5]))
    groups = grouped(monkeypatch, known=rows_of(finished[1]))
    words = ['--config', tiny, '--workdir', str(workdir), '--config.train.together=5']
    assert run.main(words) == 0
    assert [[seed for _, seed in group] for group in groups] == [[0, 1], [1000], [0, 1]]
    assert capsys.readouterr().out.count('finished before, skipped') == 3
    assert sorted(row['point'] for row in rows_of(workdir)) == sorted(
        row['point'] for row in rows_of(finished[1])
    )


def test_an_error_fails_the_runs_of_its_group_and_no_others(
    tiny, tmp_path, finished, capsys, monkeypatch
):
    def change(configs):
        if configs[0].model.pool == 'average' and configs[0].seed == 0:
            raise MemoryError('no room')

    grouped(monkeypatch, change, rows_of(finished[1]))
    workdir = tmp_path / 'w'
    words = ['--config', tiny, '--workdir', str(workdir), '--config.train.together=2']
    assert run.main(words) == 1
    assert capsys.readouterr().err.count('MemoryError: no room') == 2
    assert [row['status'] for row in rows_of(workdir)] == ['done'] * 2 + ['failed'] * 2 + [
        'done'
    ] * 4


def test_a_learning_rate_that_diverges_beside_another_is_reported_by_run_and_step(
    tiny, tmp_path, finished, capsys, monkeypatch
):
    """The training is made up: test_train's a_model_that_diverges_stops_none_of_the_others."""
    known, workdir = rows_of(finished[1])[-1], tmp_path / 'w'

    def change(configs):
        row = {name: value for name, value in known.items() if '/' in name}
        bad = train.Diverged('the loss is nan at step 2')
        return [bad if config.train.rate == 1e30 else row for config in configs]

    grouped(monkeypatch, change)
    words = ['--config', tiny, '--workdir', str(workdir), '--only', 'pool=max,seed=0']
    words += ['--config.protocol.rates=(0.05, 1e30)', '--config.train.together=2']
    assert run.main(words) == 0
    assert (
        'diverged: max pooling (select, seed 1000, learning rate 1e+30): the loss is nan at step 2'
        in capsys.readouterr().err
    )
    assert [(row['status'], row['learning_rate']) for row in rows_of(workdir)] == [
        ('done', 0.05),
        ('diverged', 1e30),
        ('done', 0.05),
    ]


def test_an_interrupt_names_all_runs_of_the_group(tiny, tmp_path, capsys, monkeypatch):
    grouped(monkeypatch, lambda configs: os.kill(os.getpid(), signal.SIGINT))
    words = ['--config', tiny, '--workdir', str(tmp_path / 'w'), '--config.train.together=2']
    assert run.main(words) == 130
    err = capsys.readouterr().err
    assert 'interrupted in average pooling (select, seed 1000, learning rates 0.02, 0.05);' in err
    assert '; finished runs ' in err


@pytest.mark.parametrize(
    'value, message',
    [
        ('0', 'train.together is 0, it must be a number of runs from 1'),
        ('-2', 'train.together is -2'),
        ('1.5', "'train.together' takes a whole number"),
    ],
)
def test_a_wrong_number_of_runs_together_is_one_short_error(tiny, tmp_path, capsys, value, message):
    assert (
        run.main(
            ['--config', tiny, '--workdir', str(tmp_path / 'w'), f'--config.train.together={value}']
        )
        == 2
    )
    assert message in capsys.readouterr().err


@pytest.mark.parametrize('least', [0, 2**40], ids=['by orbax', 'by a file'])
def test_a_resumed_run_is_bit_exact_with_dropout_augmentation_and_streaming(
    folder, tmp_path, capsys, monkeypatch, root, least
):
    plain_dense, dropped = layers.Layers.dense, []

    def dense(self, name, *given, **more):  # the nets with dropout have tens of millions of weights
        y = plain_dense(self, name, *given, **more)
        if name == 'fc1' and self.net.has_rng('dropout'):
            dropped.append(name)
            y = nn.Dropout(0.5, deterministic=False)(y)
        return y

    monkeypatch.setattr(layers.Layers, 'dense', dense)
    words = ['--config', 'configs/base.py', '--config.model.name=mlp_300']
    words += ['--config.model.norm=batch', f'--config.data.name=folder:{folder}']
    words += ['--config.data.allow_copies=True', '--config.data.resize=8']
    words += ['--config.data.stream=always', '--config.data.cache=off']
    words += ['--config.augment.crop=pad', '--config.augment.pad=1', '--config.augment.flip=True']
    words += ['--config.train.batch=4', '--config.train.epochs=2', '--config.train.devices=1']
    assert run.main([*words, '--workdir', str(tmp_path / 'whole')]) == 0 and dropped
    (whole,) = rows_of(tmp_path / 'whole')
    monkeypatch.setattr(large, 'FROM', least)
    plain = progress.Reporter.step

    def step(self, step, *more):
        plain(self, step, *more)
        if step == 2:  # of the first epoch
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(progress.Reporter, 'step', step)
        assert run.main([*words, '--workdir', str(tmp_path / 'w')]) == 75
    point = tmp_path / 'w' / 'points' / whole['point']
    assert (point / 'checkpoints').is_dir() == (least == 0)
    assert (point / 'checkpoint.msgpack').exists() == (least > 0)
    assert run.main([*words, '--workdir', str(tmp_path / 'w')]) == 0
    assert 'continues after epoch 0, step 3' in capsys.readouterr().out
    assert rows_of(tmp_path / 'w') == [whole]  # with the digest of the weights
    assert not (point / 'checkpoints').exists() and not (point / 'checkpoint.msgpack').exists()


def test_a_read_only_directory_costs_no_row_and_is_one_line(
    finished, tmp_path, capsys, monkeypatch
):
    config, done = finished
    workdir = tmp_path / 'w'
    shutil.copytree(done, workdir)
    rows = (workdir / 'results.jsonl').read_text().splitlines(keepends=True)
    (workdir / 'results.jsonl').write_text(''.join(rows[:-1]))

    def refusing(plain, writes):
        def call(path, *given, **more):
            if writes(*given, **more) and str(path).startswith(str(workdir)):
                raise OSError(30, 'Read-only file system', str(path))
            return plain(path, *given, **more)

        return call

    with monkeypatch.context() as patched:
        mask = os.O_WRONLY | os.O_RDWR | os.O_CREAT
        patched.setattr(os, 'open', refusing(os.open, lambda flags, *_, **__: flags & mask))
        patched.setattr(os, 'mkdir', refusing(os.mkdir, lambda *_, **__: True))
        patched.setattr(os, 'unlink', refusing(os.unlink, lambda *_, **__: True))
        patched.setattr(
            'builtins.open', refusing(open, lambda mode='r', *_, **__: set(mode) & set('wax+'))
        )
        assert run.main(['--config', config, '--workdir', str(workdir)]) == 2
    err = capsys.readouterr().err
    assert err.count('\n') == 1 and 'Read-only file system' in err
    assert (workdir / 'results.jsonl').read_text() == ''.join(rows[:-1])
    assert run.main(['--config', config, '--workdir', str(workdir)]) == 0
    assert (workdir / 'results.jsonl').read_text() == ''.join(rows)
