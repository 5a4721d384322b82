"""Finished runs that differ from planned ones in their length alone: why they are not continued."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from experiments import schema
from experiments.plan.checks import NOT_IN_THE_NAME
from experiments.plan.runs import FINAL, Plan
from experiments.workdir import WorkDir, folder_of

_LENGTH = ('train.epochs', 'train.steps')


def not_continued(plan: Plan, workdir: WorkDir) -> str:
    """A note on finished final runs of another length than the plan's, or ''."""
    known = {
        run.name for arm in plan.arms for rate in _rates(arm) for run in plan.finals(arm, rate)
    }
    others = [
        name
        for name, row in workdir.rows.items()
        if row['status'] == 'done' and row['phase'] == FINAL and name not in known
    ]
    if not others:
        return ''
    finals = [run for arm in plan.arms for run in plan.finals(arm)]
    planned = {_key(run.resolved): run for run in finals}
    found: dict[str, Any] = {}
    for name in others:
        config = _config(workdir, name)
        if config is not None and _key(config) in planned:
            found[name] = config, planned[_key(config)].resolved
    if not found:
        return ''
    old, new = next(iter(found.values()))
    words = ', '.join(
        f'{field} {old[field]}, now {new[field]}' for field in _LENGTH if old[field] != new[field]
    )
    schedule = new['train.schedule']
    why = 'weights.safetensors holds no velocity of the update'
    if schedule in ('cosine', 'polynomial'):
        why = f'train.schedule={schedule!r} depends on the length, and {why}'
    return (
        f'{len(found)} finished runs in {workdir.folder} differ from runs of this plan in their '
        f'length alone ({words}). They are not continued, the others start over: {why}'
    )


def _rates(arm) -> Iterable[float | None]:
    return arm.learning_rates or (None,)


def _config(workdir: WorkDir, name: str) -> dict[str, Any] | None:
    try:
        config = schema.parse((workdir.folder / folder_of(name) / 'config.json').read_bytes())
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) and all(key in config for key in _LENGTH) else None


def _key(config: Mapping[str, Any]) -> str:
    """A config without its length, and without what a grid decides or names no run."""
    left_out = NOT_IN_THE_NAME.union(_LENGTH, ('train.rate',))
    return json.dumps({k: v for k, v in config.items() if k not in left_out}, sort_keys=True)
