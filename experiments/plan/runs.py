"""The runs of an experiment, and the protocol that makes their comparison fair.

1. Every arm gets the same grid of learning rates. Each rate is tried with the selection seeds and
   the arm keeps the one with the lowest mean validation error (ties: the lower validation loss).
2. Then every seed is trained with that learning rate. Seeds are paired: seed s means the same
   data order, and the same initialisation wherever two arms share a layer's shape.
3. The test split is read once, after the last step of those runs. No epoch is selected.
"""

import copy
import numbers
import statistics
from collections.abc import Iterable
from typing import Any, NamedTuple

from experiments.errors import UserError, one_of, reason, shown
from experiments.plan.checks import check_protocol, digest, resolve
from experiments.plan.config import ConfigFile, flatten, set_field

SELECT, FINAL = 'select', 'final'


class Run(NamedTuple):
    """One training. `name` is a hash of its resolved config and phase."""

    name: str
    phase: str  # SELECT or FINAL
    arm: str
    seed: int
    rate: float | None  # learning rate; None: to be chosen from the grid
    overrides: dict[str, Any]  # flat, without the seed
    config: Any  # ConfigDict
    resolved: dict[str, Any]  # flat, the axes filled in


class Arm(NamedTuple):
    """One setting that is compared: what it changes, and the seeds of its final runs."""

    label: str
    overrides: dict[str, Any]  # flat, without the seed
    seeds: tuple[int, ...]
    config: Any = None  # ConfigDict of its first final run, with the config's own learning rate
    resolved: dict[str, Any] = {}  # the same, flat, the axes filled in


class Plan(NamedTuple):
    """An experiment before any of it has run. The first arm is the baseline."""

    file: ConfigFile
    config: Any  # ConfigDict that is common to all arms
    arms: tuple[Arm, ...]

    @property
    def rates(self) -> tuple[float, ...]:
        """The grid of learning rates that every arm tries; () where there is none."""
        return tuple(self.config.protocol.rates)

    def run(self, phase: str, arm: Arm, seed: int, rate: float | None) -> Run:
        """The run of this plan with these coordinates.

        rate None keeps the config's own, or stands for the one to be chosen where there is a grid.
        """
        config = copy.deepcopy(arm.config)
        set_field(config, 'seed', seed)
        if rate is not None:
            set_field(config, 'train.rate', float(rate))
        resolved = resolve(config)
        if rate is None and self.rates:
            resolved['train.rate'] = None
        name, rate = digest(resolved, phase), resolved['train.rate']
        return Run(name, phase, arm.label, seed, rate, arm.overrides, config, resolved)

    def trials(self, arm: Arm) -> list[Run]:
        """The runs that choose an arm's learning rate; none when the grid is empty."""
        return [
            self.run(SELECT, arm, seed, rate)
            for rate in self.rates
            for seed in self.config.protocol.selection_seeds
        ]

    def finals(self, arm: Arm, rate: float | None) -> list[Run]:
        """The runs of an arm's seeds with this learning rate; None as in `run`."""
        return [self.run(FINAL, arm, seed, rate) for seed in arm.seeds]


def plan(file: ConfigFile, assignments: Iterable[tuple[str, str]] = ()) -> Plan:
    """Declares all runs of a config and checks every one of them.

    Raises:
      UserError: any run is wrong, two runs are equal, or the command line sets a field that
        the sweep itself sets.
    """
    assignments = tuple(assignments)
    base = file.make()
    for path, value in assignments:
        set_field(base, path, value)
    check_protocol(flatten(base))
    chosen = (
        'learning rates are chosen from protocol.rates. Set --config.protocol.rates=RATE for '
        'a single one, or --config.protocol.rates=() for train.rate as it is.'
    )
    if base.protocol.rates and 'train.rate' in dict(assignments):
        raise UserError(f'--config.train.rate would have no effect: {chosen}')
    if base.train.steps and 'train.epochs' in dict(assignments):
        raise UserError(
            f'--config.train.epochs would have no effect: this config is '
            f'{base.train.steps:,} steps long. Set --config.train.steps=N for another '
            'number of steps, or --config.train.steps=0 beside it to count epochs.'
        )
    arms: dict[str, Arm] = {}

    def add(label: str, *, seed: int | None = None, **overrides):
        flat = flatten(overrides)
        if not isinstance(label, str) or not label.strip():
            raise UserError(f'the sweep adds an arm labelled {shown(label)}: a label is a text.')
        if isinstance(seed, numbers.Integral) and not isinstance(seed, bool):
            seed = int(seed)  # numpy's too
        for path in flat:
            if path == 'train.rate' and base.protocol.rates:
                raise UserError(
                    f'arm {label!r} sets train.rate, which would have no effect: {chosen}'
                )
            if path == 'train.epochs' and base.train.steps and 'train.steps' not in flat:
                raise UserError(
                    f'arm {label!r} sets train.epochs, which would have no effect: '
                    f'the config is {base.train.steps:,} steps long. Set train.steps=0 '
                    'too.'
                )
            if path.startswith('protocol.') or path == 'title':
                raise UserError(
                    f'arm {label!r} sets {path}, which is common to all arms. Set it '
                    'in get_config().'
                )
        for path in (*flat, *(() if seed is None else ('seed',))):
            if path in dict(assignments):
                raise UserError(
                    f'--config.{path} would have no effect: the sweep of this config '
                    f'sets {path} itself. Use --only {path.split(".")[-1]}=... to run '
                    'a part of it, or edit the config.'
                )
        seed = base.seed if seed is None else seed
        arm = arms.setdefault(label, Arm(label, flat, ()))
        if arm.overrides != flat:
            raise UserError(
                f'the sweep gives arm {label!r} two meanings: {arm.overrides} '
                f'and {flat}. Give each arm its own label.'
            )
        if seed in arm.seeds:
            raise UserError(f'the sweep adds arm {label!r} with seed {seed} twice.')
        arms[label] = arm._replace(seeds=(*arm.seeds, seed))

    if file.sweep is None:
        add(base.model.name)
    else:
        try:
            file.sweep(add)
        except TypeError as error:
            raise UserError(
                f'sweep(add) of {file.name} calls add wrongly ({error}); it is '
                'add(label, seed=..., group=dict(field=value)).'
            ) from error
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            raise UserError(f'sweep(add) of {file.name} fails: {reason(error)}') from error
    if not arms:
        raise UserError(f'sweep(add) of {file.name} adds no run.')
    made = Plan(file, base, tuple(_configured(arm, file, assignments) for arm in arms.values()))
    names: dict[str, Run] = {}
    for arm in made.arms:
        for run in (*made.trials(arm), *made.finals(arm, None)):
            twin = names.setdefault(run.name, run)
            if twin is not run:
                raise UserError(
                    f'arms {twin.arm!r} and {run.arm!r} train the same config: '
                    'their difference would be a copy. Change one of them.'
                )
    return made


def _configured(arm: Arm, file: ConfigFile, assignments) -> Arm:
    """The arm with the config of its first final run."""
    config = file.make()
    for path, value in (*assignments, *arm.overrides.items(), ('seed', arm.seeds[0])):
        set_field(config, path, value)
    return arm._replace(config=config, resolved=resolve(config))


def only(made: Plan, text: str) -> Plan:
    """Keeps the arms and seeds that match 'pool=max,seed=0'; '' keeps all.

    Keys are 'arm', 'seed', and the fields the sweep sets, by their whole or last names; an arm that
    leaves such a field alone matches the value it has then. Seeds restrict the final runs
    only: an arm's learning rate is always chosen on the whole grid.

    Raises:
      UserError: an unknown key, or no run that matches.
    """
    if not text:
        return made
    fields = sorted({path for arm in made.arms for path in arm.overrides})
    last = [path.split('.')[-1] for path in fields]
    allowed = {short if last.count(short) == 1 else path: path for short, path in zip(last, fields)}
    arms = made.arms
    for pair in text.split(','):
        key, equals, value = (part.strip() for part in pair.partition('='))
        if not equals:
            raise UserError(
                f"--only takes key=value pairs such as 'seed=0', it was given {pair!r}."
            )
        if key == 'seed':
            arms = tuple(
                arm._replace(seeds=tuple(s for s in arm.seeds if str(s) == value)) for arm in arms
            )
        elif key == 'arm':
            arms = tuple(arm for arm in arms if arm.label == value)
        elif key in (*allowed, *fields):
            path = allowed.get(key, key)
            arms = tuple(arm for arm in arms if _same(arm.resolved[path], value))
        else:
            raise one_of('key of --only', key, (*allowed, 'arm', 'seed'))
    arms = tuple(arm for arm in arms if arm.seeds)
    if not arms:
        raise UserError(
            f'--only {text} matches no run. Arms: '
            f'{"; ".join(arm.label for arm in made.arms)}. '
            f'Seeds: {sorted({seed for arm in made.arms for seed in arm.seeds})}.'
        )
    return made._replace(arms=arms)


def _same(value, text: str) -> bool:
    """Whether a word of the command line means this value: 'true' is True, '1e-1' is 0.1."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(text) == value
        except ValueError:
            return False
    return str(value).lower() == text.lower()


def choose_rate(trials: list[Run], rows: dict[str, dict]) -> float | None:
    """The learning rate with the lowest mean validation error over the selection seeds.

    Ties go to the lower mean validation loss, then to the lower learning rate. One of which any
    trial diverged or failed is out. Returns None when none is left.
    """
    tried: dict[float, list[dict]] = {}
    for run in trials:
        assert run.rate is not None  # a trial has one of the grid
        tried.setdefault(run.rate, []).append(rows[run.name])
    scores = []
    for rate, found in tried.items():
        if all(row['status'] == 'done' for row in found):
            error, loss = (
                statistics.fmean(row[key] for row in found)
                for key in ('validation/error', 'validation/loss')
            )
            scores.append((error, loss, rate))
    return min(scores)[-1] if scores else None
