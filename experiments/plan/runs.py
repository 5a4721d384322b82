"""The runs of an experiment, and the protocol that makes their comparison fair.

1. Every arm gets the same grid of learning rates, unless the sweep gives it one of its own. Each is
   tried with the selection seeds, and the arm keeps the one with the lowest mean validation error
   (ties: the lower validation loss).
2. Then every seed is trained at that learning rate. Seeds are paired: seed s means the same data
   order, and the same initialisation wherever two arms share a layer's shape.
3. The test split is read once, after the last step of those final runs. There is no best epoch.
"""

import copy
import itertools
import numbers
import pathlib
import statistics
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs import base
from experiments import schema
from experiments.errors import UserError, one_of, reason, shown
from experiments.plan.checks import check_protocol, digest, idle, is_seed, resolve
from experiments.plan.config import ConfigFile, flatten, set_field
from experiments.progress import note

SELECT, FINAL = 'select', 'final'


class Arm(NamedTuple):
    """One setting of an ablation. `config` and `resolved` are those of its first seed.

    The grid of learning rates is `config.protocol.rates`.
    """

    label: str
    overrides: dict[str, Any]  # flat, without the seed
    seeds: tuple[int, ...]
    config: ConfigDict
    resolved: dict[str, Any]  # flat, the axes filled in
    known: dict[tuple, 'Run']  # runs that were asked for, by phase, seed and learning rate

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """The grid; empty where train.rate is used as it is."""
        return tuple(self.config.protocol.rates)

    @property
    def together(self) -> int:
        """Final runs that are trained at once."""
        return min(self.config.train.together, len(self.seeds))


class Run(NamedTuple):
    """One training. `name` is a hash of its resolved config and phase."""

    name: str
    phase: str  # SELECT or FINAL
    arm: str
    seed: int
    learning_rate: float | None  # None: the grid decides
    overrides: dict[str, Any]  # flat, without the seed
    of: Arm  # whose config it shares, but for seed and learning rate

    @property
    def config(self) -> ConfigDict:
        """A copy of its own, made at each call."""
        config = copy.deepcopy(self.of.config)
        set_field(config, 'seed', self.seed)
        if self.learning_rate is not None:
            set_field(config, 'train.rate', self.learning_rate)
        return config

    @property
    def resolved(self) -> dict[str, Any]:
        """The config, flat, the axes filled in."""
        return self.of.resolved | {'seed': self.seed, 'train.rate': self.learning_rate}


class Plan(NamedTuple):
    """All runs of an experiment, before any has run. The first arm is the baseline."""

    name: str
    config: ConfigDict  # without the overrides of any arm
    arms: tuple[Arm, ...]
    phases: tuple[str, ...] = (SELECT, FINAL)  # that are trained
    comparisons: tuple[tuple[str, str], ...] = ()  # the family that Holm's correction is over

    @property
    def title(self) -> str:
        """The heading of tables, figures and pages: 'pool and overlap in lenet5 on digits'."""
        if self.config.title:
            return self.config.title
        nets = list(dict.fromkeys(arm.config.model.name for arm in self.arms))
        sets = dict.fromkeys(_short(arm.config.data.name) for arm in self.arms)
        varied = dict.fromkeys(path for arm in self.arms for path in arm.overrides)
        words = [path.split('.')[-1] for path in varied if path not in ('model.name', 'data.name')]
        compared = ', '.join(words[:-1]) + ' and ' * (len(words) > 1) + ''.join(words[-1:])
        net = ', '.join(nets) if len(nets) <= 3 else f'{len(nets)} nets'
        return f'{compared}{" in " * bool(words)}{net} on {", ".join(sets)}'

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """Those of the grids of all arms."""
        return tuple(dict.fromkeys(rate for arm in self.arms for rate in arm.learning_rates))

    @property
    def size(self) -> int:
        """How many runs there are, of all phases that are trained."""
        seeds = self.config.protocol.selection_seeds
        trials = sum(len(arm.learning_rates) for arm in self.arms) * len(seeds)
        finals = sum(len(arm.seeds) for arm in self.arms)
        return trials * (SELECT in self.phases) + finals * (FINAL in self.phases)

    def run(self, phase: str, arm: Arm, seed: int, learning_rate: float | None) -> Run:
        """The run of an arm with this seed.

        learning_rate None: the config's own, or where there is a grid, the one not chosen yet.
        """
        if learning_rate is not None:
            learning_rate = float(learning_rate)
        elif not arm.learning_rates:
            learning_rate = arm.resolved['train.rate']
        run = Run('', phase, arm.label, seed, learning_rate, arm.overrides, arm)
        if not is_seed(seed):
            resolve(run.config)  # says what a seed is
        key = phase, seed, learning_rate
        if key not in arm.known:
            arm.known[key] = run._replace(name=digest(run.resolved, phase))
        return arm.known[key]

    def trials(self, arm: Arm, rows: Mapping[str, dict[str, Any]] = {}) -> list[Run]:
        """The runs that choose an arm's learning rate; none when the grid is empty.

        With the rows so far, those of the learning rates that protocol.widen adds too, in the order
        in which they are tried.
        """
        protocol = self.config.protocol

        def of(rates: Iterable[float]) -> list[Run]:
            seeds = protocol.selection_seeds
            return [self.run(SELECT, arm, seed, rate) for rate in rates for seed in seeds]

        rates = list(arm.learning_rates)
        trials = of(rates)
        for _ in range(protocol.widen if rates else 0):
            if any(run.name not in rows for run in trials):
                break
            beyond = wider(rates, choose_learning_rate(trials, rows, protocol))
            if beyond is None:
                break
            rates.append(beyond)
            trials += of([beyond])
        return trials

    def finals(self, arm: Arm, learning_rate: float | None = None) -> list[Run]:
        """The final runs of an arm at this learning rate; None as in `run`."""
        return [self.run(FINAL, arm, seed, learning_rate) for seed in arm.seeds]

    def runs(self) -> Iterator[Run]:
        """Every run in its order, the final ones without the learning rate of a grid."""
        for arm in self.arms:
            yield from self.trials(arm) if SELECT in self.phases else ()
            yield from self.finals(arm) if FINAL in self.phases else ()


def _short(name: str) -> str:
    """data.name, of a folder without the way to it."""
    kind, colon, rest = name.partition(':')
    return f'{kind}:{pathlib.Path(rest).name or rest}' if kind == 'folder' else name


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
    paths = {path for path, _ in assigned}
    if 'title' not in paths and any(p == 'data.name' or p.startswith('model.') for p in paths):
        with config.unlocked():
            config.title = None  # the file's title is of another net or data set
    declared = _declared(file, config, {path for path, _ in assigned})
    arms = []
    for label, (overrides, rates, seeds) in declared.items():
        grid = (('protocol.rates', rates),) if rates is not None else ()
        made = _set(file.make(), (*assigned, *overrides.items(), *grid, ('seed', seeds[0])))
        arms.append(Arm(label, overrides, tuple(seeds), made, resolve(made), {}))
    plan = Plan(file.name, config, tuple(arms), comparisons=file.comparisons)
    for label in (label for pair in plan.comparisons for label in pair):
        if label not in declared:
            raise one_of(f'arm in COMPARISONS of {file.name}', label, declared)
    _check_effects(plan, file, [path for path, _ in assigned])
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


def _check_effects(plan: Plan, file: ConfigFile, assigned: Iterable[str]) -> None:
    """UserError for a field of the command line or of an arm that changes nothing; a note for one
    of the config file."""
    flats = [arm.resolved for arm in plan.arms]
    for arm in plan.arms:
        for path, value in arm.overrides.items():
            why = idle(path, arm.resolved)
            if why and value not in (None, ()):
                raise UserError(f'arm {arm.label!r} sets {path}, which would have no effect: {why}')
    for path in assigned:
        whys = [idle(path, flat) for flat in flats]
        if all(whys) and flats[0][path] not in (None, ()):
            raise UserError(f'--config.{path} would have no effect: {whys[0]}')
    if not file.small:
        default, own = flatten(base.get_config()), flatten(file.make())
        changed = [path for path in default if own[path] != default[path]]
        whys = [idle(path, flats[0]) for path in changed if all(idle(path, f) for f in flats)]
        if whys:
            note(f'without effect in this config: {" ".join(whys)}')


# {arm: its overrides, flat, its own grid of learning rates or None, and its seeds}
_Declared = dict[str, tuple[dict[str, Any], tuple | None, list[int]]]


def _declared(file: ConfigFile, config, assigned: set[str]) -> _Declared:
    """What a config file's sweep adds; without one, the config itself is the only arm."""
    arms: _Declared = {}

    def add(label: str, *, seed: int | None = None, rates: Iterable | None = None, **overrides):
        flat = flatten(overrides)
        if rates is not None and (file.small or 'protocol.rates' in assigned):
            rates = None  # the command line gives one grid, or none, to all arms
        grid = None if rates is None else tuple(rates)
        if not schema.LINE.fits(label):  # it goes to terminals, figures and pages
            raise UserError(
                f'the sweep adds an arm labelled {shown(label)}: a label is a line of text without '
                'control characters.'
            )
        for path in flat:
            if path.startswith('protocol.') or path == 'title':
                raise UserError(
                    f'arm {label!r} sets {path}, which is common to all arms. Set it in '
                    'get_config().'
                )
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
        *known, seeds = arms.setdefault(label, (flat, grid, []))
        for one, other in zip(known, (flat, grid)):
            if one != other:
                raise UserError(
                    f'the sweep gives arm {label!r} two meanings: {one} '
                    f'and {other}. Give each arm its own label.'
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
            'add(label, seed=..., rates=..., group=dict(field=value)).'
        ) from error
    except (Exception, SystemExit) as error:
        raise UserError(f'sweep(add) of {file.name} fails: {reason(error)}') from error
    if not arms:
        raise UserError(f'sweep(add) of {file.name} adds no run.')
    return arms


def only(plan: Plan, text: str) -> Plan:
    """Keeps the arms and seeds that match 'pool=max,seed=0'; '' keeps all.

    Keys are 'arm', 'seed', 'phase' ('select' or 'final'), and the fields the sweep sets, by their
    whole or last names; an arm that leaves such a field alone matches the value it has then. Seeds
    restrict the final runs only: an arm's learning rate is always chosen on the whole grid.

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
        elif key == 'phase':
            if value not in (SELECT, FINAL):
                raise one_of('phase of --only', value, (SELECT, FINAL))
            plan = plan._replace(phases=tuple(one for one in plan.phases if one == value))
        elif key == 'arm':
            arms = [arm for arm in arms if arm.label == value]
        elif key in (*allowed, *fields):
            path = allowed.get(key, key)
            arms = [arm for arm in arms if _same(arm.resolved[path], value)]
        else:
            raise one_of('key of --only', key, (*allowed, 'arm', 'phase', 'seed'))
    arms = [arm for arm in arms if arm.seeds]
    if plan.learning_rates == () and FINAL not in plan.phases or not plan.phases:
        raise UserError(
            f'--only {text} matches no run: trials are runs that choose a learning rate from '
            'protocol.rates.'
        )
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


def wider(rates: Iterable[float], chosen: float | None) -> float | None:
    """The next learning rate beyond a grid whose lowest or highest one was chosen, else None.

    The steps of the grid go on beyond it, in turns where it has two kinds: after 0.01, 0.03, 0.1
    comes 0.3, and before it 0.003. The number is rounded to three digits.
    """
    known = sorted(rates)
    if chosen not in (known[0], known[-1]):
        return None
    if chosen == known[0]:
        inside = known[1:3]
        step = inside[-1] / inside[0] if len(inside) > 1 else known[1] / known[0]
        return float(f'{known[0] / step:.3g}')
    inside = known[-3:-1]
    step = inside[-1] / inside[0] if len(inside) > 1 else known[-1] / known[-2]
    return float(f'{known[-1] * step:.3g}')


def training_curve(row: dict[str, Any]) -> list[tuple[float, float]]:
    """(step, training error) of a row: the mean over one epoch of steps, at the middle of these.

    The first is at half an epoch; there is one for every point of 'train/curve' from the end of the
    first epoch on. A single point is lower or higher by its place in an epoch: the net saw the
    images of the first batches half an epoch ago on average, those of the last ones one and a half,
    and has forgotten more of them.

    Raises:
      KeyError: the row has no curve.
    """
    ends, errors = zip((0, 0.0), *row['train/curve'])
    points = max(len(row['train/curve']) // row['epochs'], 1)
    curve = []
    for first in range(len(ends) - points):
        last = first + points
        steps = [b - a for a, b in itertools.pairwise(ends[first : last + 1])]
        mean = statistics.fmean(errors[first + 1 : last + 1], steps)
        curve.append(((ends[first] + ends[last]) / 2, round(mean, 9)))  # of equal points: the same
    return curve


def steps_to_error(row: dict[str, Any], threshold: float) -> float | None:
    """Steps after which `training_curve` is first at most this fraction; None if it never is.

    Between two of its points it is taken to fall on a straight line.
    """
    before = None
    for step, error in training_curve(row):
        if error <= threshold:
            if before is None:
                return step
            last, higher = before
            return last + (step - last) * (higher - threshold) / (higher - error)
        before = step, error
    return None


def choose_learning_rate(
    trials: Iterable[Run], rows: Mapping[str, dict[str, Any]], protocol: Any = None
) -> float | None:
    """The best learning rate by the mean over the selection seeds.

    By the validation error; ties go to the lower validation loss, then to the lower learning rate.
    With the criterion 'steps_to_error' of `protocol`, a config's group, by the steps to that
    training error: fewest trials that never reach it first, then fewest steps, where a trial that
    never does counts with all of its steps. A learning rate of which any trial diverged or failed
    is out. Returns None when none is left.
    """
    by_steps = protocol is not None and protocol.criterion == 'steps_to_error'
    tried: dict[Any, list[dict]] = {}
    for run in trials:
        tried.setdefault(run.learning_rate, []).append(rows[run.name])
    scores = []
    for learning_rate, own in tried.items():
        if all(row['status'] == 'done' for row in own):
            error = statistics.fmean(row['validation/error'] for row in own)
            loss = statistics.fmean(row['validation/loss'] for row in own)
            steps: tuple[float, ...] = ()
            if by_steps:
                found = [steps_to_error(row, protocol.threshold) for row in own]
                took = [row['steps'] if step is None else step for row, step in zip(own, found)]
                steps = found.count(None), statistics.fmean(took)
            scores.append((*steps, error, loss, learning_rate))
    return min(scores)[-1] if scores else None
