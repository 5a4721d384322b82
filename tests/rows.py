"""Made-up rows of experiments, for the tests of the report."""

from experiments import files
from experiments.report.summary import summarise
from experiments.workdir import Experiment

ARMS = ('average', 'max')


def row(arm, seed, test=None, status='done', phase='final', rate=0.1, **more):
    made = {
        'point': files.digest(arm, phase, seed, rate)[:12],
        'arm': arm,
        'seed': seed,
        'phase': phase,
        'status': status,
        'learning_rate': rate,
        'reason': '',
    }
    if status == 'done':
        made |= {'train/error': test / 2, 'validation/error': test, 'parameters': 61706}
        if phase == 'final':
            made['test/error'] = test
    return made | more


def experiment(rows, arms=ARMS, seeds=(0, 1, 2), level=0.95, rates=(0.1,), curves=None, **plan):
    return Experiment(
        {
            'title': 't',
            'dataset_note': 'made up',
            'arms': list(arms),
            'seeds': list(seeds),
            'rates': list(rates),
            'level': level,
            'points': [r['point'] for r in rows],
        }
        | plan,
        list(rows),
        curves or {},
    )


def with_runs(made, *more):
    """The experiment with the runs in its plan, as today's code writes it.

    more: (name, arm, phase, seed) of runs without a row.
    """
    runs = {
        one['point']: {key: one[key] for key in ('arm', 'phase', 'seed', 'learning_rate')}
        for one in made.rows
    } | {
        name: {'arm': arm, 'phase': phase, 'seed': seed, 'learning_rate': 0.1}
        for name, arm, phase, seed in more
    }
    for run in runs.values():
        run['overrides'] = {}
    return made._replace(plan=made.plan | {'runs': runs, 'points': list(runs)})


def compared(average, maximum, **given):
    """Summary of two arms with these test errors, {seed: fraction}."""
    rows = [
        row(arm, seed, value)
        for arm, errors in zip(ARMS, (average, maximum))
        for seed, value in errors.items()
    ]
    return summarise(experiment(rows, **given))
