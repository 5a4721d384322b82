"""The data sets of all arms, checked against the rows that a work directory holds."""

import json
import sys
from typing import Any

import cnns
from experiments import data
from experiments.errors import UserError
from experiments.plan import sweep
from experiments.workdir import Store


def key(fields) -> str:
    return json.dumps(fields.to_dict(), sort_keys=True)


def read_data(made: sweep.Plan, opened: dict | None = None) -> dict[str, data.Dataset]:
    """The data set of every arm, by its label; arms with equal `data` fields share one.

    opened: what data.open_splits gave, by the `_key` of its fields.
    """
    read, datasets = {}, {}
    for arm in made.arms:
        config = made.finals(arm, None)[0].config
        name = key(config.data)
        if name not in read:
            read[name] = data.load(
                config.data, least=config.train.batch, opened=(opened or {}).get(name)
            )
        datasets[arm.label] = read[name]
    return datasets


def check_data(whole: sweep.Plan, datasets, store: 'Store') -> None:
    """UserError if finished points were trained on data that have changed under the same name.

    A point's name says which data it asks for, not what they were. Points that this call leaves
    out are compared too, where they ask for the same set and parts as one that it trains.
    """
    if not store.rows:
        return
    now = {dataset.asked: dataset for dataset in datasets.values()}
    changed, unknown, kept = [], 0, 0
    left = {name for name, row in store.rows.items() if row['status'] != 'failed'}
    for arm in whole.arms:
        dataset = now.get(data.asked(whole.finals(arm, None)[0].config.data))
        trials = whole.selections(arm)
        finals = [point for rate in whole.rates or (None,) for point in whole.finals(arm, rate)]
        for point in (*trials, *finals):
            row = store.rows.get(point.name)
            if row is None or row['status'] == 'failed':
                continue
            left.discard(point.name)
            if dataset is None:
                continue
            kept += 1
            unknown += 'data_found' not in row
            if row.get('data_found', dataset.found) != dataset.found:
                changed.append((row, dataset))
    if changed:
        row, dataset = changed[0]
        raise UserError(
            f'{dataset.name} has changed: {len(changed)} of {kept} finished points in '
            f'{store.folder} were trained on other images of that name (such as {row["arm"]}, seed '
            f'{row["seed"]}: digest {row["data_found"]}, now {dataset.found}). Results of the two '
            'must not stand in one table: name another --workdir, or bring the old data back.'
        )
    if left:
        print(
            f'note: {len(left)} finished points in {store.folder} are of another config, or of '
            'code whose configs had other fields; they are left alone and stand in no table',
            file=sys.stderr,
        )
    if unknown:
        print(
            f'note: {unknown} of {kept} finished points do not say which images they were '
            'trained on; they are taken to be those of today',
            file=sys.stderr,
        )


def other_code(rows, now: dict[str, Any]) -> str:
    """A note on finished points of other code than that of this environment, or ''."""
    others = sorted(
        {
            _short(row.get('git_revision'))
            for row in rows
            if row.get('code') not in (None, now['code'])
        }
    )
    return (
        f'note: finished points were trained by other code, of revision {", ".join(others)}; '
        f'this is {_short(now["git_revision"])}; name another --workdir to train all of them '
        'anew'
        if others
        else ''
    )


def _short(revision: str | None) -> str:
    """The first digits of a revision, and whether files had been changed since."""
    commit, plus, changes = (revision or 'unknown').partition('+')
    return commit[:12] + plus + changes


def channels(config, dataset) -> list[str]:
    """A line where the images have other channels than the net's paper."""
    name, own = config.model.name, dataset.shape[-1]
    papers = cnns.NETS[name].input[-1]
    if own == papers:
        return []
    instead = 'repeats grey images' if papers == 3 else 'turns the images into grey'
    channels = f'{papers} input channel{"s" if papers > 1 else ""}'
    return [
        f'net: {name} has {channels} in its paper and is built for the {own} of '
        f'{dataset.name}; --config.data.channels={papers} {instead}'
    ]
