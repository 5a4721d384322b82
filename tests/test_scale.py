"""Sweeps of many runs: what is done for each run is done once, whatever their number."""

import collections
import json

import pytest
from rows import experiment, row

from experiments import launch, run, status
from experiments.plan import config, runs
from experiments.report import figures, page
from experiments.report.summary import MANY, drawn, summarise
from experiments.workdir import WorkDir

SWEEP = """
from configs import base

def get_config():
    config = base.get_config()
    config.data.limit = 128
    config.train.devices = 1
    config.protocol.rates = (0.02, 0.05)
    config.protocol.selection_seeds = tuple(range(1000, 1004))
    return config

def sweep(add):
    for arm in range({arms}):
        for seed in range(12):
            add(f'decay {arm}', train=dict(weight_decay=arm * 1e-5), seed=seed)
"""


def finished(plan, folder):
    """A work directory in which every run of a plan has a made-up row."""
    WorkDir(folder, plan.name)
    lines = []
    for arm in plan.arms:
        for one in (*plan.trials(arm), *plan.finals(arm, 0.05)):
            error = abs(one.learning_rate - 0.05) + 0.1
            more = {'validation/loss': 1.0, 'experiment': plan.name, 'point': one.name}
            made = row(arm.label, one.seed, error, phase=one.phase, rate=one.learning_rate, **more)
            lines.append(json.dumps(made))
    (folder / 'results.jsonl').write_text('\n'.join(lines) + '\n')


@pytest.fixture
def counts(monkeypatch):
    """How often what takes long was called."""
    found: collections.Counter[str] = collections.Counter()

    def count(owner, name):
        call = getattr(owner, name)

        def counted(*args, **given):
            found[name] += 1
            return call(*args, **given)

        monkeypatch.setattr(owner, name, counted)

    for owner, name in ((runs, 'resolve'), (runs, 'digest'), (WorkDir, 'write')):
        count(owner, name)
    return found


def test_a_finished_sweep_of_a_thousand_runs_is_gone_through_by_a_few_calls_for_each(
    tmp_path, monkeypatch, counts, capsys
):
    arms, size = 50, 1000
    (tmp_path / 'many.py').write_text(SWEEP.replace('{arms}', str(arms)))
    words = ['--config', str(tmp_path / 'many.py'), '--workdir', str(tmp_path / 'work')]
    plan = runs.plan_of(config.read_config(words[1]))
    assert plan.size == size
    # an arm's final runs are named at the rates of its grid, and before one is chosen
    named = size + arms * 12 * 2
    assert counts['resolve'] <= arms + 1 and counts['digest'] <= size
    finished(plan, tmp_path / 'work')
    counts.clear()
    monkeypatch.setattr(figures, 'write', lambda *_: ())
    monkeypatch.setattr(page, 'write', lambda folder: folder)
    assert run.main(words) == 0
    assert capsys.readouterr().out.count('finished before, skipped') == size
    assert counts['resolve'] <= arms + 1
    assert counts['digest'] <= named
    assert counts['write'] <= 4  # of the plan: at the start and at the end
    counts.clear()
    assert launch.main([*words, '--print_script']) == 0 and capsys.readouterr().out
    assert counts['resolve'] <= arms + 1 and counts['digest'] <= size
    counts.clear()
    assert status.main([str(tmp_path / 'work'), '--json']) == 0
    assert not counts
    assert json.loads(capsys.readouterr().out)['done'] == size


def test_of_many_arms_a_figure_has_the_baseline_and_the_best_and_says_so():
    errors = {f'arm {n}': 0.1 + (n * 7 % 40) / 1000 for n in range(40)}
    made = experiment([row(arm, 0, error) for arm, error in errors.items()], arms=errors)
    summary = summarise(made)
    assert not any(arm['neighbours'] for arm in summary)
    some, shown = drawn(made, summary)
    best = sorted(list(errors)[1:], key=errors.get)[: MANY - 1]
    assert [arm['arm'] for arm in shown] == some.plan['arms']
    assert some.plan['arms'] == [arm for arm in errors if arm in ('arm 0', *best)]
    assert 'Of 40 arms, the baseline and the 29 with' in figures.small_print(some, shown)
    few = experiment([row(arm, 0, errors[arm]) for arm in list(errors)[:3]], arms=list(errors)[:3])
    assert drawn(few, summarise(few))[0] is few
