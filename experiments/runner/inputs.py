"""The data sets of a plan, checked against its nets and against the rows of a work directory."""

import json
import pathlib
from collections.abc import Iterable
from typing import Any

import jax

import cnns
from experiments import data, train
from experiments.errors import UserError, counted
from experiments.plan.runs import Plan
from experiments.progress import note
from experiments.train import optim
from experiments.workdir import WorkDir


def prepare(
    whole: Plan, plan: Plan, folder: pathlib.Path
) -> tuple[WorkDir, dict[str, data.Dataset]]:
    """Opens the work directory and reads the data set of every arm, by its label.

    What needs no image is checked before any is read. Arms with equal `data` fields share one set.

    Raises:
      UserError: data, devices and batch do not fit, or the work directory holds something else.
    """
    opened = _opened(plan)
    workdir = WorkDir(folder, plan.name)
    datasets = read(plan, opened)
    check_data(whole, datasets, workdir)
    return workdir, datasets


def _opened(plan: Plan) -> dict[str, Any]:
    opened: dict[str, Any] = {}
    for arm in plan.arms:
        train.device_count(arm.config, arm.together)
        key = _key(arm.config)
        opened[key] = opened.get(key) or data.open_splits(arm.config.data)
    return opened


def read(plan: Plan, opened: dict[str, Any] | None = None) -> dict[str, data.Dataset]:
    """The data set of every arm, by its label, without a work directory.

    Raises:
      UserError: data, devices and batch do not fit.
    """
    opened = _opened(plan) if opened is None else opened
    known: dict[str, data.Dataset] = {}
    datasets = {}
    for arm in plan.arms:
        key, fields = _key(arm.config), arm.config.data
        if key not in known:
            known[key] = data.load(fields, least=arm.config.train.batch, opened=opened[key])
        datasets[arm.label] = known[key]
    return datasets


def _key(config) -> str:
    return json.dumps(config.data.to_dict(), sort_keys=True)


def check_data(whole: Plan, datasets: dict[str, data.Dataset], workdir: WorkDir) -> None:
    """UserError if finished runs were trained on data that have changed under the same name.

    A run's name holds which data it asks for, not what they were. Runs that this call leaves out
    are compared too, where they ask for the same set and splits as one that it trains.
    """
    finished = {name: row for name, row in workdir.rows.items() if row['status'] != 'failed'}
    if not finished:
        return
    now = {dataset.asked: dataset for dataset in datasets.values()}
    changed, unknown, kept, left = [], 0, 0, set(finished)
    for arm in whole.arms:
        dataset = now.get(data.asked(arm.config.data))
        trials = whole.trials(arm, workdir.rows)
        rates = {run.learning_rate for run in trials} or {None}
        finals = [run for rate in rates for run in whole.finals(arm, rate)]
        for run in (*trials, *finals):
            if run.name not in left:
                continue
            left.discard(run.name)
            if dataset is not None:
                row = finished[run.name]
                kept += 1
                unknown += 'data_found' not in row
                found = data.found_of(dataset.content, arm.config.data.limit)
                if row.get('data_found', found) != found:
                    changed.append((row, dataset, found))
    if changed:
        row, dataset, found = changed[0]
        raise UserError(
            f'{dataset.name} has changed: {len(changed)} of {counted(kept, "finished run")} in '
            f'{workdir.folder} were trained on other images of that name (such as {row["arm"]}, '
            f'seed {row["seed"]}: digest {row["data_found"]}, now {found}). Results of the '
            'two must not stand in one table: name another --workdir, or bring the old data back.'
        )
    if left:
        note(
            f'{counted(len(left), "run")} finished in {workdir.folder} before, of another config '
            'or of code whose configs had other fields, left alone and in no table'
        )
    if unknown:
        note(
            f'of {counted(kept, "finished run")}, {unknown} without a name of the images trained '
            'on, taken to be those of today'
        )


def describe(plan: Plan, datasets: dict[str, data.Dataset]) -> list[str]:
    """Lines on data, devices and schedules, each once, from the compiled functions of every arm.

    Raises:
      UserError: the batch, the devices, the net and the images of an arm do not fit together.
    """
    lines, notes = set(), dict[str, None]()
    for arm in plan.arms:
        config, dataset, models = arm.config, datasets[arm.label], arm.together
        steps_per_epoch = train.length_of(config, dataset).steps_per_epoch
        optim.schedule_of(config, steps_per_epoch)
        program = train.program_of(config, dataset, models)
        devices, notes = program.devices, notes | dict.fromkeys(program.notes)
        batch, each = config.train.batch, models // devices
        layout = f'batch {batch} = {devices} x {batch // devices}'
        if jax.process_count() > 1:
            layout += f', in {jax.process_count()} processes'
        if config.train.together > 1:
            layout = f'{models} runs together = {devices} x {each}, each with batches of {batch}'
        lines |= {
            f'data: {dataset.note}; {len(dataset.train.labels):,} train, '
            f'{len(dataset.validation.labels):,} validation, {len(dataset.test.labels):,} test '
            f'images, {"streamed" if isinstance(dataset.train, data.Streamed) else "in memory"}',
            f'devices: {devices} ({jax.local_devices()[0].device_kind}); {layout}',
            optim.late_falls(config, steps_per_epoch),
            channels(config, dataset),
        }
    for text in notes:
        note(text)
    return sorted(lines - {''})


def channels(config, dataset: data.Dataset) -> str:
    """A line where the images have other channels than the net's paper, or ''."""
    name, own = config.model.name, dataset.shape[-1]
    papers = cnns.NETS[name].input[-1]
    if own == papers:
        return ''
    instead = 'repeats grey images' if papers == 3 else 'turns the images into grey'
    return (
        f'net: {name} has {papers} input channel{"s" if papers > 1 else ""} in its paper and is '
        f'built for the {own} of {dataset.name}; --config.data.channels={papers} {instead}'
    )


def other_code(rows: Iterable[dict[str, Any]], now: dict[str, Any]) -> str:
    """A note on finished runs of other code than that of this environment, or ''."""
    differ = [row for row in rows if row.get('code') not in (None, now['code'])]
    if not differ:
        return ''
    others = sorted({_short(row.get('git_revision')) for row in differ})
    return (
        f'{counted(len(differ), "finished run")} trained by other code, of revision '
        f'{", ".join(others)}; this is {_short(now["git_revision"])}; name another --workdir to '
        'train all of them again'
    )


def _short(revision: str | None) -> str:
    """The first digits of a revision, and whether files had been changed since."""
    commit, plus, changes = (revision or 'unknown').partition('+')
    return commit[:12] + plus + changes
