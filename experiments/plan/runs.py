"""The runs of an experiment, and the protocol that makes their comparison fair.

1. Every arm gets the same grid of learning rates. Each is tried with the selection seeds, and the
   arm keeps the one with the lowest mean validation error (ties: the lower validation loss).
2. Then every seed is trained at that learning rate. Seeds are paired: seed s means the same data
   order, and the same initialisation wherever two arms share a layer's shape.
3. The test split is read once, after the last step of those final runs. There is no best epoch.
"""

import copy
import numbers
import statistics
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from experiments.errors import UserError, one_of, reason, shown
from experiments.plan.checks import check_protocol, digest, resolve
from experiments.plan.config import ConfigFile, flatten, set_field
from experiments.schema import LINE

SELECT, FINAL = 'select', 'final'


class Run(NamedTuple):
    """One training. `name` is a hash of its resolved config and phase."""

    name: str
    phase: str  # SELECT or FINAL
    arm: str
    seed: int
    learning_rate: float | None  # None: the grid decides
    overrides: dict[str, Any]  # flat, without the seed
    config: ConfigDict
    resolved: dict[str, Any]  # flat, the axes filled in


class Arm(NamedTuple):
    """One setting of an ablation. `config` and `resolved` are those of its first seed."""

    label: str
    overrides: dict[str, Any]  # flat, without the seed
    seeds: tuple[int, ...]
    config: ConfigDict
    resolved: dict[str, Any]

    @property
    def together(self) -> int:
        """Final runs that are trained at once."""
        return min(self.config.train.together, len(self.seeds))


class Plan(NamedTuple):
    """All runs of an experiment, before any has run. The first arm is the baseline."""

    name: str
    config: ConfigDict  # without the overrides of any arm
    arms: tuple[Arm, ...]

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """The grid; empty where train.rate is used as it is."""
        return tuple(self.config.protocol.rates)

    @property
    def size(self) -> int:
        """How many runs there are, trials and final ones."""
        seeds = self.config.protocol.selection_seeds
        trials = len(self.arms) * len(self.learning_rates) * len(seeds)
        return trials + sum(len(arm.seeds) for arm in self.arms)

    def run(self, phase: str, arm: Arm, seed: int, learning_rate: float | None) -> Run:
        """The run of an arm with this seed.

        learning_rate None: the config's own, or where there is a grid, the one not chosen yet.
        """
        config = copy.deepcopy(arm.config)
        set_field(config, 'seed', seed)
        if learning_rate is not None:
            set_field(config, 'train.rate', float(learning_rate))
        resolved = resolve(config)
        if learning_rate is None and self.learning_rates:
            resolved['train.rate'] = None
        name, learning_rate = digest(resolved, phase), resolved['train.rate']
        return Run(name, phase, arm.label, seed, learning_rate, arm.overrides, config, resolved)

    def trials(self, arm: Arm) -> list[Run]:
        """The runs that choose an arm's learning rate; none when the grid is empty."""
        return [
            self.run(SELECT, arm, seed, learning_rate)
            for learning_rate in self.learning_rates
            for seed in self.config.protocol.selection_seeds
        ]

    def finals(self, arm: Arm, learning_rate: float | None = None) -> list[Run]:
        """The final runs of an arm at this learning rate; None as in `run`."""
        return [self.run(FINAL, arm, seed, learning_rate) for seed in arm.seeds]

    def runs(self) -> Iterator[Run]:
        """Every run in its order, the final ones without the learning rate of a grid."""
        for arm in self.arms:
            yield from self.trials(arm)
            yield from self.finals(arm)


def plan_of(file: ConfigFile, assignments: Iterable[tuple[str, str]] = ()) -> Plan:
    """Declares all runs of a config and checks every one of them.

    assignments: overrides of the command line, (field, value).

    Raises:
      UserError: any run is wrong, two runs are equal, or the command line sets a field that the
        sweep itself sets.
    """
    assigned = tuple(assignments)
    config = _set(file.make(), assigned)
    check_protocol(flatten(config))
    if not LINE.fits(config.title):
        raise UserError(f'title is {shown(config.title)}: it must be a line of text.')
    for path, _ in assigned:
        _check_effect(f'--config.{path}', path, config)
    declared = _declared(file, config, {path for path, _ in assigned})
    plan = Plan(file.name, config, ())
    for label, (overrides, seeds) in declared.items():
        made = _set(file.make(), (*assigned, *overrides.items(), ('seed', seeds[0])))
        arm = Arm(label, overrides, tuple(seeds), made, resolve(made))
        plan = plan._replace(arms=(*plan.arms, arm))
    known: dict[str, Run] = {}
    for run in plan.runs():
        twin = known.setdefault(run.name, run)
        if twin is not run:
            raise UserError(
                f'arms {twin.arm!r} and {run.arm!r} train the same config: '
                'their difference would be a copy. Change one of them.'
            )
    return plan


def _set(config, fields: Iterable[tuple[str, Any]]):
    for path, value in fields:
        set_field(config, path, value)
    return config


def _check_effect(what: str, path: str, config, in_epochs: bool = False) -> None:
    """UserError for a field that the grid or train.steps overrides; what: who sets it."""
    why = ''
    if path == 'train.rate' and config.protocol.rates:
        why = (
            'learning rates are chosen from protocol.rates. Set --config.protocol.rates=RATE for '
            'a single one, or --config.protocol.rates=() for train.rate as it is.'
        )
    if path == 'train.epochs' and config.train.steps and not in_epochs:
        why = (
            f'the config is {config.train.steps:,} steps long. Set train.steps=0 too to count '
            'epochs, or train.steps to another number of steps.'
        )
    if why:
        raise UserError(f'{what} would have no effect: {why}')


_Declared = dict[str, tuple[dict[str, Any], list[int]]]  # arm: its overrides, flat, and its seeds


def _declared(file: ConfigFile, config, assigned: set[str]) -> _Declared:
    """What a config file's sweep adds; without one, the config itself is the only arm."""
    arms: _Declared = {}

    def add(label: str, *, seed: int | None = None, **overrides):
        flat = flatten(overrides)
        if not LINE.fits(label):
            raise UserError(
                f'the sweep adds an arm labelled {shown(label)}: a label is a line of text.'
            )
        for path in flat:
            what = f'arm {label!r} sets {path}, which'
            _check_effect(what, path, config, in_epochs='train.steps' in flat)
            if path.startswith('protocol.') or path == 'title':
                raise UserError(f'{what} is common to all arms. Set it in get_config().')
        for path in (*flat, *(() if seed is None else ('seed',))):
            if path in assigned:
                raise UserError(
                    f'--config.{path} would have no effect: the sweep of this config '
                    f'sets {path} itself. Use --only {path.split(".")[-1]}=... to run '
                    'a part of it, or edit the config.'
                )
        if seed is None:
            seed = config.seed
        elif isinstance(seed, numbers.Integral) and not isinstance(seed, bool):
            seed = int(seed)  # numpy's too
        known, seeds = arms.setdefault(label, (flat, []))
        if known != flat:
            raise UserError(
                f'the sweep gives arm {label!r} two meanings: {known} '
                f'and {flat}. Give each arm its own label.'
            )
        if seed in seeds:
            raise UserError(f'the sweep adds arm {label!r} with seed {seed} twice.')
        seeds.append(seed)

    sweep = file.sweep or (lambda add: add(config.model.name))
    try:
        sweep(add)
    except UserError:
        raise
    except TypeError as error:
        raise UserError(
            f'sweep(add) of {file.name} calls add wrongly ({error}); it is '
            'add(label, seed=..., group=dict(field=value)).'
        ) from error
    except (Exception, SystemExit) as error:
        raise UserError(f'sweep(add) of {file.name} fails: {reason(error)}') from error
    if not arms:
        raise UserError(f'sweep(add) of {file.name} adds no run.')
    return arms


def only(plan: Plan, text: str) -> Plan:
    """Keeps the arms and seeds that match 'pool=max,seed=0'; '' keeps all.

    Keys are 'arm', 'seed', and the fields the sweep sets, by their whole or last names; an arm that
    leaves such a field alone matches the value it has then. Seeds restrict the final runs only:
    an arm's learning rate is always chosen on the whole grid.

    Raises:
      UserError: an unknown key, or no run that matches.
    """
    if not text:
        return plan
    fields = sorted({path for arm in plan.arms for path in arm.overrides})
    last = [path.split('.')[-1] for path in fields]
    allowed = {short if last.count(short) == 1 else path: path for short, path in zip(last, fields)}
    arms = list(plan.arms)
    for pair in text.split(','):
        key, equals, value = (word.strip() for word in pair.partition('='))
        if not equals:
            raise UserError(
                f"--only takes key=value pairs such as 'seed=0', it was given {pair!r}."
            )
        if key == 'seed':
            kept = [tuple(seed for seed in arm.seeds if str(seed) == value) for arm in arms]
            arms = [arm._replace(seeds=seeds) for arm, seeds in zip(arms, kept)]
        elif key == 'arm':
            arms = [arm for arm in arms if arm.label == value]
        elif key in (*allowed, *fields):
            path = allowed.get(key, key)
            arms = [arm for arm in arms if _same(arm.resolved[path], value)]
        else:
            raise one_of('key of --only', key, (*allowed, 'arm', 'seed'))
    arms = [arm for arm in arms if arm.seeds]
    if not arms:
        labels = '; '.join(arm.label for arm in plan.arms)
        seeds = sorted({seed for arm in plan.arms for seed in arm.seeds})
        raise UserError(f'--only {text} matches no run. Arms: {labels}. Seeds: {seeds}.')
    return plan._replace(arms=tuple(arms))


def _same(value, text: str) -> bool:
    """Whether a word of the command line means this value: 'true' is True, '1e-1' is 0.1."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(text) == value
        except ValueError:
            return False
    return str(value).lower() == text.lower()


def choose_learning_rate(trials: Iterable[Run], rows: dict[str, dict[str, Any]]) -> float | None:
    """The learning rate with the lowest mean validation error over the selection seeds.

    Ties go to the lower mean validation loss, then to the lower learning rate. A learning rate of
    which any trial diverged or failed is out. Returns None when none is left.
    """
    tried: dict[Any, list[dict]] = {}
    for run in trials:
        tried.setdefault(run.learning_rate, []).append(rows[run.name])
    scores = []
    for learning_rate, own in tried.items():
        if all(row['status'] == 'done' for row in own):
            error = statistics.fmean(row['validation/error'] for row in own)
            loss = statistics.fmean(row['validation/loss'] for row in own)
            scores.append((error, loss, learning_rate))
    return min(scores)[-1] if scores else None
