"""What is stored and printed of runs: their rows, their labels, and plan.json."""

from collections.abc import Sequence
from typing import Any

from experiments import train
from experiments.data import Dataset
from experiments.errors import printable, reason
from experiments.plan.runs import Plan, Run, choose_learning_rate

Row = dict[str, Any]


def label(runs: Sequence[Run]) -> str:
    """Names runs of one arm and phase: 'max pooling (final, seeds 0, 1, learning rate 0.05)'."""
    words = [runs[0].phase]
    seeds = [str(run.seed) for run in runs]
    rates = [f'{run.learning_rate:g}' for run in runs if run.learning_rate is not None]
    for name, values in (('seed', seeds), ('learning rate', rates)):
        values = list(dict.fromkeys(values))
        if values:
            words.append(f'{name}{"s" if len(values) > 1 else ""} {", ".join(values)}')
    return f'{runs[0].arm} ({", ".join(words)})'


def outcome_columns(outcome: Row | Exception) -> Row:
    """The columns of a row that the end of a training gives: its metrics, status and reason."""
    if isinstance(outcome, train.Diverged):
        return {'status': 'diverged', 'reason': str(outcome)}
    if isinstance(outcome, Exception):
        return {'status': 'failed', 'reason': reason(outcome)[:500]}
    return outcome | {'status': 'done', 'reason': ''}


def row_of(run: Run, experiment: str, dataset: Dataset, environment: Row, columns: Row) -> Row:
    """The row of a run in results.jsonl; columns: of `outcome_columns`."""
    return {
        'point': run.name,
        'experiment': experiment,
        'phase': run.phase,
        'arm': run.arm,
        'overrides': run.overrides,
        'seed': run.seed,
        'learning_rate': run.learning_rate,
        'dataset': dataset.name,
        'data_found': dataset.found,
        'git_revision': environment['git_revision'],
        'code': environment['code'],
        'deterministic': environment.get('deterministic', ''),
        'model': run.of.config.model.name,
        **columns,
    }


def words(row: Row) -> str:
    """The end of a run in a few words: 'test error 1.50 %'."""
    if row['status'] != 'done':
        return f'{row["status"].upper()}: {row["reason"]}'
    split = 'test' if 'test/error' in row else 'validation'
    return f'{split} error {100 * row[f"{split}/error"]:.2f} %'


def plan_file(whole: Plan, datasets: dict[str, Dataset], command: str, rows: dict[str, Row]) -> Row:
    """The content of plan.json: what tables and figures need to know beside the rows.

    It lists the runs of the whole experiment whose learning rates are known, so that calls with
    --only add up to it.
    """
    known: list[Run] = []
    rates: dict[str, list[float | None]] = {}
    for arm in whole.arms:
        trials = whole.trials(arm, rows)
        rates[arm.label] = list(dict.fromkeys(run.learning_rate for run in trials))
        known += trials
        if all(run.name in rows for run in trials):
            # None without trials
            learning_rate = choose_learning_rate(trials, rows, whole.config.protocol)
            known += whole.finals(arm, learning_rate)
    sets = list(datasets.values())
    return {
        'experiment': whole.name,
        'title': printable(whole.title),
        'command': printable(f'python -m experiments.run {command}'),
        'dataset': printable(', '.join(dict.fromkeys(dataset.name for dataset in sets))),
        'dataset_note': printable('; '.join(dict.fromkeys(dataset.note for dataset in sets))),
        'model': whole.config.model.name,
        'arms': [arm.label for arm in whole.arms],
        'arm_seeds': {arm.label: arm.seeds for arm in whole.arms},
        'seeds': sorted({seed for arm in whole.arms for seed in arm.seeds}),
        'rates': list(dict.fromkeys(rate for own in rates.values() for rate in own)),
        'arm_rates': rates,
        'comparisons': [list(pair) for pair in whole.comparisons],
        'criterion': whole.config.protocol.criterion,
        'threshold': whole.config.protocol.threshold,
        'level': whole.config.protocol.level,
        'epochs': train.length_of(whole.config, sets[0]).epochs,
        'points': [run.name for run in known],
        'runs': {
            run.name: {
                'arm': run.arm,
                'phase': run.phase,
                'seed': run.seed,
                'learning_rate': run.learning_rate,
                'overrides': run.overrides,
            }
            for run in known
        },
    }
