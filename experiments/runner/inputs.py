"""The data sets of all arms, and all that is checked before the first run is trained."""

import json
import sys
from collections.abc import Iterable
from typing import Any

import jax
from ml_collections import ConfigDict

import cnns
from experiments import data, train
from experiments.errors import UserError
from experiments.plan.runs import Plan
from experiments.train import optim
from experiments.workdir import WorkDir

Opened = dict[str, tuple]  # what data.open_splits gave, by `key`


def key(fields: ConfigDict) -> str:
    """The same text for `data` groups with equal fields: their arms share a data set."""
    return json.dumps(fields.to_dict(), sort_keys=True)


def open_data(plan: Plan) -> Opened:
    """Opens the data set of every arm and checks what can be checked without reading an image.

    Raises:
      UserError: no such data set, splits that overlap, or devices that do not fit the batch.
    """
    opened: Opened = {}
    for arm in plan.arms:
        train.device_count(arm.config, min(arm.config.train.together, len(arm.seeds)))
        name = key(arm.config.data)
        opened[name] = opened.get(name) or data.open_splits(arm.config.data)
    return opened


def read_data(plan: Plan, opened: Opened | None = None) -> dict[str, data.Dataset]:
    """The data set of every arm, by its label; arms with equal `data` fields share one."""
    read, datasets = {}, {}
    for arm in plan.arms:
        fields = arm.config.data
        name = key(fields)
        if name not in read:
            least, known = arm.config.train.batch, (opened or {}).get(name)
            read[name] = data.load(fields, least=least, opened=known)
        datasets[arm.label] = read[name]
    return datasets


def check_data(whole: Plan, datasets: dict[str, data.Dataset], workdir: WorkDir) -> None:
    """UserError if finished runs were trained on data that have changed under the same name.

    The name of a run says which data it asks for, not what they were. Runs that this call leaves
    out are compared too, where they ask for the same set and splits as one that it trains.
    """
    if not workdir.rows:
        return
    now = {dataset.asked: dataset for dataset in datasets.values()}
    finished = {name: row for name, row in workdir.rows.items() if row['status'] != 'failed'}
    changed, unknown, kept, strange = [], 0, 0, set(finished)
    for arm in whole.arms:
        dataset = now.get(data.asked(arm.config.data))
        finals = [run for rate in whole.rates or (None,) for run in whole.finals(arm, rate)]
        for run in (*whole.trials(arm), *finals):
            strange.discard(run.name)
            if run.name not in finished or dataset is None:
                continue
            row = finished[run.name]
            kept += 1
            unknown += 'data_found' not in row
            if row.get('data_found', dataset.found) != dataset.found:
                changed.append((row, dataset))
    if changed:
        row, dataset = changed[0]
        raise UserError(
            f'{dataset.name} has changed: {len(changed)} of {kept} finished runs in '
            f'{workdir.folder} were trained on other images of that name (such as {row["arm"]}, '
            f'seed {row["seed"]}: digest {row["data_found"]}, now {dataset.found}). Results of the '
            'two must not stand in one table: name another --workdir, or bring the old data back.'
        )
    if strange:
        print(
            f'note: {len(strange)} finished runs in {workdir.folder} are of another config, or of '
            'code whose configs had other fields; they are left alone and stand in no table',
            file=sys.stderr,
        )
    if unknown:
        print(
            f'note: {unknown} of {kept} finished runs do not say which images they were '
            'trained on; they are taken to be those of today',
            file=sys.stderr,
        )


def describe(plan: Plan, datasets: dict[str, data.Dataset]) -> list[str]:
    """Lines on the data, the devices and the nets; what several arms share is one line.

    The net of every arm is built, so that batch, devices, net and images are known to fit before
    the first run is trained.

    Raises:
      UserError: they do not fit together.
    """
    lines = set()
    for arm in plan.arms:
        config, dataset = arm.config, datasets[arm.label]
        steps_per_epoch = train.length_of(config, dataset).steps_per_epoch
        optim.schedule_of(config, steps_per_epoch)
        lines.add(optim.never(config, steps_per_epoch))
        models = min(config.train.together, len(arm.seeds))
        devices = train.program_of(config, dataset, models).devices
        lines.add(_data_line(dataset))
        lines.add(_device_line(config.train, models, devices))
        lines.add(_channels_line(config.model.name, dataset))
    return sorted(filter(None, lines))


def _data_line(dataset: data.Dataset) -> str:
    counts = ', '.join(
        f'{len(split.labels):,} {name}'
        for name, split in (
            ('train', dataset.train),
            ('validation', dataset.validation),
            ('test', dataset.test),
        )
    )
    where = 'streamed' if isinstance(dataset.train, data.Streamed) else 'in memory'
    return f'data: {dataset.note}; {counts} images, {where}'


def _device_line(fields, models: int, devices: int) -> str:
    layout = (
        f'batch {fields.batch} = {devices} x {fields.batch // devices}'
        if fields.together == 1
        else f'{models} runs together = {devices} x {models // devices}, each with batches of '
        f'{fields.batch}'
    )
    return f'devices: {devices} ({jax.local_devices()[0].device_kind}); {layout}'


def _channels_line(name: str, dataset: data.Dataset) -> str:
    """A line where the images have other channels than the net's paper, or ''."""
    own, papers = dataset.shape[-1], cnns.NETS[name].input[-1]
    if own == papers:
        return ''
    instead = 'repeats grey images' if papers == 3 else 'turns the images into grey'
    channels = f'{papers} input channel{"s" if papers > 1 else ""}'
    return (
        f'net: {name} has {channels} in its paper and is built for the {own} of '
        f'{dataset.name}; --config.data.channels={papers} {instead}'
    )


def other_code(rows: Iterable[dict[str, Any]], now: dict[str, Any]) -> str:
    """A note on finished runs of other code than that of this environment, or ''."""
    others = sorted(
        {
            _short(row.get('git_revision'))
            for row in rows
            if row.get('code') not in (None, now['code'])
        }
    )
    return (
        f'note: finished runs were trained by other code, of revision {", ".join(others)}; '
        f'this is {_short(now["git_revision"])}; name another --workdir to train all of them '
        'anew'
        if others
        else ''
    )


def _short(revision: str | None) -> str:
    """The first digits of a revision, and whether files had been changed since."""
    commit, plus, changes = (revision or 'unknown').partition('+')
    return commit[:12] + plus + changes
