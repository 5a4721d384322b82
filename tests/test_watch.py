"""Who is told of a training beside its files: event files, a tracker, the profiler."""

import json
import struct

import pytest

from experiments import files, run
from experiments.plan import config, runs
from experiments.plan.checks import WATCHERS
from experiments.runner import watch

TINY = """
from configs import base

def get_config():
    config = base.get_config()
    config.model.name = 'mlp_300'
    config.data.limit = 64
    config.train.devices = 1
    config.train.batch = 8
    config.train.epochs = 2
    return config

def sweep(add):
    for seed in range(2):
        add('one', seed=seed)
"""
LINE = {'epoch': 1, 'step': 7, 'rate': 0.1, 'validation/error': 0.25, 'note': 'no number'}


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / 'tiny.py').write_text(TINY)
    return str(tmp_path / 'tiny.py')


def one_run(tiny, *watchers):
    plan = runs.plan_of(config.read_config(tiny), [('train.watch', watchers)])
    return plan.finals(plan.arms[0])[0]


def test_a_training_tells_its_watchers_each_epoch_and_the_first_run_is_profiled(
    tiny, tmp_path, monkeypatch
):
    told = []

    class Fake:
        package = 'json'

        def begin(self, run, folder):
            told.append((run.seed, folder.name == run.name and folder.is_dir()))

        def log(self, line):
            told.append(line['step'])

        def end(self):
            told.append('end')

    monkeypatch.setitem(watch.WATCHERS, 'tensorboard', Fake)
    words = ['--config', tiny, '--workdir', str(tmp_path / 'work'), '--config.train.profile=2']
    assert run.main([*words, '--config.train.watch=tensorboard']) == 0
    assert told == [(0, True), 8, 16, 'end', (1, True), 8, 16, 'end']
    rows = files.read(tmp_path / 'work' / 'results.jsonl')
    plain = runs.plan_of(config.read_config(tiny))
    assert [row['point'] for row in rows] == [one.name for one in plain.runs()]
    traces = sorted((tmp_path / 'work').glob('points/*/profile/plugins/profile/*/*.xplane.pb'))
    assert [trace.parts[-6] for trace in traces] == [rows[0]['point']]


def test_a_watcher_that_is_not_installed_or_unknown_ends_the_command_with_a_line(
    tiny, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(watch.importlib.util, 'find_spec', lambda name: None)
    words = ['--config', tiny, '--workdir', str(tmp_path / 'work')]
    assert run.main([*words, '--config.train.watch=tensorboard']) == 2
    err = capsys.readouterr().err
    assert "which needs tensorboardX: pip install -e '.[tensorboard]'" in err
    assert run.main([*words, '--config.train.watch=tensorbord']) == 2
    assert "Did you mean 'tensorboard'" in capsys.readouterr().err
    assert set(WATCHERS) == set(watch.WATCHERS)


def test_a_watcher_that_fails_is_told_no_more_and_costs_no_training(tiny, tmp_path, monkeypatch):
    told = []

    class Failing:
        package = 'json'

        def begin(self, run, folder):
            told.append(run.name)
            raise OSError('no room')

        def log(self, line):
            told.append(line)

        def end(self):
            told.append('end')

    monkeypatch.setitem(watch.WATCHERS, 'tensorboard', Failing)
    own = one_run(tiny, 'tensorboard')
    with watch.Watched([own], [tmp_path], 0) as watched:
        watched.epoch(0, LINE)
    assert told == [own.name]


def test_the_third_step_and_those_after_it_are_profiled_as_many_as_asked(
    tiny, tmp_path, monkeypatch
):
    done, calls = [], []
    note = lambda what: lambda *_: calls.append((what, len(done)))
    monkeypatch.setattr(watch.jax.profiler, 'start_trace', note('start'))
    monkeypatch.setattr(watch.jax.profiler, 'stop_trace', note('stop'))
    with watch.Watched([one_run(tiny)], [tmp_path], 2) as watched:
        for step in range(6):
            done.append(step)
            watched.step()
    assert calls == [('start', 2), ('stop', 4)]


def test_event_files_hold_the_numbers_of_each_epoch_and_the_config(tiny, tmp_path):
    pytest.importorskip('tensorboardX', reason='needs tensorboardX')
    from tensorboardX.proto.event_pb2 import Event

    with watch.Watched([one_run(tiny, 'tensorboard')], [tmp_path], 0) as watched:
        watched.epoch(0, LINE)
    (path,) = (tmp_path / 'tensorboard').iterdir()
    content, values, texts = path.read_bytes(), {}, b''
    while content:  # a length, its checksum, an event, its checksum
        (size,) = struct.unpack('<Q', content[:8])
        event = Event.FromString(content[12 : 12 + size])
        content = content[16 + size :]
        for value in event.summary.value:
            if value.HasField('tensor'):
                texts += value.tensor.string_val[0]
            else:
                values[value.tag, event.step] = value.simple_value
    assert values == {
        ('epoch', 7): 1,
        ('rate', 7): pytest.approx(0.1),
        ('validation/error', 7): 0.25,
    }
    assert json.loads(texts)['model.name'] == 'mlp_300'


def test_an_offline_tracker_leaves_its_files_in_the_folder_of_the_run(tiny, tmp_path, monkeypatch):
    pytest.importorskip('wandb', reason='needs wandb')
    monkeypatch.setenv('WANDB_DIR', str(tmp_path / 'elsewhere'))
    own = one_run(tiny, 'wandb')
    with watch.Watched([own], [tmp_path], 0) as watched:
        watched.epoch(0, LINE)
    (stored,) = tmp_path.glob(f'wandb/offline-run-*-{own.name}/run-{own.name}.wandb')
    assert b'validation/error' in stored.read_bytes()
