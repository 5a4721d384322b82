"""Work directories to report on: one as it is, several side by side as one experiment."""

import argparse
import contextlib
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.progress import note
from experiments.workdir import Experiment, read_experiment

FOLDER = 'comparison'  # where a comparison of several work directories is written


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The work directories of a command."""
    parser.add_argument(
        'workdir', nargs='+', help='work directory of an experiment; several are compared'
    )


def out(args: argparse.Namespace) -> Path:
    """The folder that is written to where --out is not given."""
    return Path(args.workdir[0] if len(args.workdir) == 1 else FOLDER)


def read(folders: Sequence[str | os.PathLike]) -> Experiment:
    """`together` of what the folders hold, with a note on standard error for each damaged line.

    Raises:
      UserError: a folder is no work directory, or was given twice.
    """
    with noted():
        found = [read_experiment(folder) for folder in folders]
    return together(folders, found)


@contextlib.contextmanager
def noted() -> Iterator[None]:
    """Every warning inside becomes a note on standard error, once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        try:
            yield
        finally:
            for text in dict.fromkeys(str(warning.message) for warning in caught):
                note(text)


def names(folders: Sequence[str | os.PathLike], experiments: Sequence[Experiment]) -> list[str]:
    """What to call each work directory: its experiment, its folder's name or its path.

    The first of these that differs between all of them.
    """
    paths = [os.path.normpath(folder) for folder in folders]
    for found in (
        [str(one.plan.get('experiment', '')) for one in experiments],
        [os.path.basename(path) for path in paths],
    ):
        if all(found) and len(set(found)) == len(found):
            return found
    return paths


def together(folders: Sequence[str | os.PathLike], experiments: Sequence[Experiment]) -> Experiment:
    """Several experiments as one: the arms of all, the first arm of the first as the baseline.

    Arms whose labels clash get the name of their experiment. Runs are renamed 'INDEX-NAME', since
    two work directories can hold the same run. The plan has two more fields: 'origin', of each arm
    its name of `names`, its data set and how its learning rate was chosen; 'remarks', sentences
    on what else differs.

    Raises:
      UserError: a folder was given twice, or two arms have the same label whatever is done.
    """
    if len(experiments) == 1:
        return experiments[0]
    if len({os.path.realpath(folder) for folder in folders}) < len(folders):
        given = ', '.join(map(str, folders))
        raise UserError(f'a work directory was given twice ({given}): name each once.')
    called = names(folders, experiments)
    count = Counter(label for one in experiments for label in one.plan['arms'])
    data = _data(experiments)
    plan: dict[str, Any] = {
        'title': '; '.join(dict.fromkeys(one.plan['title'] for one in experiments)),
        'command': '; '.join(str(one.plan.get('command', '')) for one in experiments),
        'dataset': ', '.join(dict.fromkeys(data)),
        'dataset_note': '; '.join(dict.fromkeys(one.plan['dataset_note'] for one in experiments)),
        'model': ', '.join(dict.fromkeys(str(one.plan.get('model', '')) for one in experiments)),
        'seeds': sorted({seed for one in experiments for seed in one.plan['seeds']}),
        'rates': sorted({rate for one in experiments for rate in one.plan['rates']}),
        'level': experiments[0].plan['level'],
        'remarks': _remarks(called, experiments, data),
        **{key: {} for key in ('arm_seeds', 'arm_rates', 'arm_epochs', 'runs', 'origin')},
    }
    arms: list[str] = []
    rows: list[dict[str, Any]] = []
    curves: dict[str, list[dict[str, Any]]] = {}
    for index, (name, (own, own_rows, own_curves)) in enumerate(zip(called, experiments)):
        label = {arm: f'{arm} ({name})' if count[arm] > 1 else arm for arm in own['arms']}
        for arm in own['arms']:
            arms.append(label[arm])
            plan['arm_seeds'][label[arm]] = own.get('arm_seeds', {}).get(arm, own['seeds'])
            plan['arm_rates'][label[arm]] = own.get('arm_rates', {}).get(arm, own['rates'])
            plan['arm_epochs'][label[arm]] = own.get('epochs')
            plan['origin'][label[arm]] = {
                'name': name,
                'data': data[index],
                'images': own['dataset_note'],
                'criterion': own.get('criterion'),  # of its learning rate
                'threshold': own.get('threshold'),
            }
        for run, what in own.get('runs', {}).items():
            plan['runs'][f'{index}-{run}'] = what | {'arm': label[what['arm']]}
        rows += [
            row | {'arm': label[row['arm']], 'point': f'{index}-{row["point"]}'} for row in own_rows
        ]
        curves |= {f'{index}-{run}': lines for run, lines in own_curves.items()}
    if len(set(arms)) < len(arms):
        twice = next(arm for arm, times in Counter(arms).items() if times > 1)
        raise UserError(f'two work directories have an arm {twice!r}: rename one of the folders.')
    plan |= {'arms': arms, 'points': [row['point'] for row in rows]}
    return Experiment(plan, rows, curves)


def _data(experiments: Sequence[Experiment]) -> list[str]:
    """The data set of each experiment, with a digest where one name stands for several."""
    named = [str(one.plan.get('dataset', '')) for one in experiments]
    found = [
        sorted({row['data_found'] for row in one.rows if row.get('data_found')})
        for one in experiments
    ]
    digests: dict[str, set[str]] = {}
    for name, own in zip(named, found):
        digests.setdefault(name, set()).update(own)
    return [
        f'{name} ({", ".join(own)})' if own and len(digests[name]) > len(own) else name
        for name, own in zip(named, found)
    ]


def _remarks(
    called: Sequence[str], experiments: Sequence[Experiment], data: Sequence[str]
) -> list[str]:
    """A sentence on each thing that differs between experiments beside their arms."""
    plans = [one.plan for one in experiments]
    texts = []
    for what, values in (
        ('data sets', data),
        ('nets', [str(plan.get('model', 'unknown')) for plan in plans]),
        ('numbers of epochs', [str(plan.get('epochs', 'unknown')) for plan in plans]),
    ):
        if len(set(values)) > 1:
            listed = '; '.join(f'{name}: {value}' for name, value in zip(called, values))
            texts.append(f'The {what} differ ({listed}).')
    if len({plan['level'] for plan in plans}) > 1:
        texts.append(f'All intervals are at the level of {called[0]}.')
    return texts
