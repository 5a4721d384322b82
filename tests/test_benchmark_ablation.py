"""The ablation before and after: what is run, what counts as the same, what is kept."""

import json
import shutil
import subprocess

import pytest

from experiments.benchmark import ablation


@pytest.fixture
def runs(root, monkeypatch):
    """Records the command lines of experiments.run, whose work directory is a stored experiment."""
    made = []

    def started(words, **_):
        made.append([str(word) for word in words[1:]])
        if '--config' in words:
            at, cache = (
                words[words.index(word) + 1] for word in ('--workdir', '--compilation_cache')
            )
            assert not at.exists()
            made[-1].append(f'cache {"full" if cache.exists() else "empty"}')
            cache.mkdir(exist_ok=True)
            shutil.copytree(root / 'experiments/stored/lenet_mnist-modern', at)
        return subprocess.CompletedProcess(words, 0, '', '')

    monkeypatch.setattr(ablation.subprocess, 'run', started)
    return made


def test_every_run_has_a_new_directory_and_only_the_second_start_has_a_full_cache(
    runs, benchmark, tmp_path
):
    out = tmp_path / 'a.json'
    assert benchmark('--ablation', '--out', str(out))[0] == 0
    assert [words[-1] for words in runs] == [
        'cache empty',
        'cache empty',
        'cache full',
        'cache empty',
    ]
    assert ['--config.model.fields.fast=False' in words for words in runs] == [True, *[False] * 3]
    assert ['--config.train.together=5' in words for words in runs] == [*[False] * 3, True]
    assert all('configs/ablate_pooling.py' in words for words in runs)
    assert list(json.loads(out.read_text())['runs']) == list(ablation.RUNS)


def test_it_continues_where_it_ended_and_runs_twice_for_a_second_start(runs, benchmark, tmp_path):
    out = tmp_path / 'a.json'
    assert benchmark('--ablation', '--out', str(out))[0] == 0
    stored = json.loads(out.read_text())
    del stored['runs']['fast, second start']
    out.write_text(json.dumps(stored))
    runs.clear()
    assert benchmark('--ablation', '--out', str(out))[0] == 0
    assert [words[-1] for words in runs] == ['cache empty', 'cache full']


def result(seconds, *sentences):
    return {'seconds': seconds, 'points': 3, 'sentences': list(sentences)}


STORED = {
    'kind': 'ablation',
    'settings': {'config': 'c.py'},
    'environment': {
        'cpu': 'a CPU',
        'cores': 2,
        'python': '3',
        'versions': {'jax': '1'},
        'load': [0.5],
        'date': 'today',
    },
    'runs': {
        'plain': result(60, 'a: +0.6 points, 95 % interval +0.3 to +0.8: higher than b'),
        'fast': result(20, 'a: +0.5 points, 95 % interval +0.1 to +0.9: higher than b'),
        'other': result(30, 'a: +0.5 points, 95 % interval -0.1 to +0.9: no difference'),
    },
}


def test_conclusions_are_the_same_if_the_sentences_end_alike():
    assert ablation.time_cells(STORED) == [
        ('plain', '60', '1.00', ''),
        ('fast', '20', '3.00', 'the same'),
        ('other', '30', '2.00', 'DIFFERENT'),
    ]


def test_an_interrupt_keeps_the_finished_runs_and_says_so(benchmark, tmp_path, monkeypatch):
    done = iter([STORED['runs']['plain']])

    def measure(*_):
        for one in done:
            return one
        raise KeyboardInterrupt

    monkeypatch.setattr(ablation, '_measure', measure)
    out = tmp_path / 'a.json'
    code, _, err = benchmark('--ablation', '--out', str(out))
    assert code == 130
    assert '1 of 4 runs' in err
    assert list(json.loads(out.read_text())['runs']) == ['plain']


def test_runs_that_conclude_nothing_are_not_called_the_same():
    runs = {name: {'seconds': 1.0, 'points': 2, 'sentences': []} for name in ('plain', 'fast')}
    assert [line[-1] for line in ablation.time_cells(STORED | {'runs': runs})] == ['', 'none']


def test_what_is_stored_is_shown_in_words(benchmark, tmp_path):
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(STORED))
    code, printed, err = benchmark('--markdown', str(path))
    assert code == 0
    assert '| other | 30 | 2.00 | DIFFERENT |' in printed
    assert 'fast: a: +0.5 points' in printed and 'c.py, a CPU' in printed
    code, printed, err = benchmark('--figure', str(tmp_path / 'a.png'), str(path))
    assert code == 2
    assert '--markdown' in err


def test_a_run_that_fails_is_named_with_its_own_words(benchmark, tmp_path):
    code, _, err = benchmark('--ablation', str(tmp_path / 'none.py'))
    assert code == 2
    assert 'none.py' in err and 'ended with 2' in err and 'Traceback' not in err


def test_it_takes_one_config_and_no_file_of_another_kind(benchmark, tmp_path):
    code, _, err = benchmark('--ablation', 'a.py', 'b.py')
    assert code == 2
    assert 'one config' in err
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(STORED))
    code, _, err = benchmark('--ablation', '--out', str(path))
    assert code == 2
    assert 'c.py' in err
