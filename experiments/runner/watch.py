"""Who else is told of a training while it runs: event files, a tracker, the profiler.

train.watch names them, train.profile says how many steps are profiled. None changes what is
learned. Each needs a package of its own, an extra of this project; what they write is in the folder
of the run, without a network.
"""

import importlib.util
import json
import numbers
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import jax

from experiments.errors import UserError, reason
from experiments.plan.runs import Plan, Run
from experiments.progress import note
from experiments.runner.rows import label


class Watcher(Protocol):
    """What is told of one run."""

    package: str

    def begin(self, run: Run, folder: Path) -> None:
        """folder: that of the run, which is there."""

    def log(self, line: dict[str, Any]) -> None:
        """line: of an epoch, as in metrics.jsonl."""

    def end(self) -> None:
        """The training has ended, in whatever way."""


class TensorBoard:
    """Event files in the folder `tensorboard` of the run; no TensorFlow is needed."""

    package = 'tensorboardX'

    def begin(self, run: Run, folder: Path) -> None:
        from tensorboardX import SummaryWriter

        self.writer = SummaryWriter(str(folder / 'tensorboard'))
        self.writer.add_text('config', f'    {json.dumps(run.resolved, sort_keys=True)}')

    def log(self, line: dict[str, Any]) -> None:
        for name, value in _numbers(line).items():
            self.writer.add_scalar(name, value, line['step'])
        self.writer.flush()

    def end(self) -> None:
        self.writer.close()


class Wandb:
    """An offline run of Weights & Biases in the folder of the run; `wandb sync` uploads it."""

    package = 'wandb'

    def begin(self, run: Run, folder: Path) -> None:
        import wandb

        self.run = wandb.init(
            project='cnns',
            name=label([run]),
            id=run.name,
            config=run.resolved,
            dir=str(folder),
            mode='offline',
            reinit='create_new',
            settings=wandb.Settings(console='off', silent=True),
        )

    def log(self, line: dict[str, Any]) -> None:
        self.run.log(_numbers(line), step=line['step'])

    def end(self) -> None:
        self.run.finish()


# Names as train.watch has them, which are those of the extras
WATCHERS: dict[str, type[TensorBoard] | type[Wandb]] = {'tensorboard': TensorBoard, 'wandb': Wandb}


def _numbers(line: dict[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in line.items()
        if isinstance(value, numbers.Real) and name != 'step'
    }


def check(plan: Plan) -> None:
    """UserError where train.watch names what is not installed."""
    for name in dict.fromkeys(name for arm in plan.arms for name in arm.config.train.watch):
        package = WATCHERS[name].package
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"train.watch names {name}, which needs {package}: pip install -e '.[{name}]', or "
                'leave it out.'
            )


class Watched:
    """Context of a training whose runs are watched.

    profile: steps that are profiled into the folder `profile` of the first run, from the third on:
    the first ones compile.
    """

    def __init__(self, runs: Iterable[Run], folders: Iterable[Path], profile: int):
        self.runs, self.folders, self.left = list(runs), list(folders), profile
        self.steps = 0
        self.profiling = False
        self.watchers: list[list[Watcher]] = [
            [WATCHERS[name]() for name in run.of.config.train.watch] for run in self.runs
        ]

    def __enter__(self) -> 'Watched':
        for index, about in enumerate(zip(self.runs, self.folders, strict=True)):
            self._tell(index, 'begin', *about)
        return self

    def _tell(self, index: int, what: str, *about: Any) -> None:
        """Calls a method of the watchers of a run; one that fails is told no more."""
        for watcher in list(self.watchers[index]):
            try:
                getattr(watcher, what)(*about)
            except Exception as error:  # it must not cost the training
                note(f'{label([self.runs[index]])}: {watcher.package} fails ({reason(error)})')
                self.watchers[index].remove(watcher)

    def epoch(self, index: int, line: dict[str, Any]) -> None:
        """An epoch of the run with this index has ended."""
        self._tell(index, 'log', line)

    def step(self) -> None:
        """The host has asked for one more step, or dispatch of several."""
        self.steps += 1
        if self.profiling:
            self.left -= 1
            if not self.left:
                self._stop()
        elif self.left and self.steps >= 2:
            jax.profiler.start_trace(str(self.folders[0] / 'profile'))
            self.profiling = True

    def _stop(self) -> None:
        # devices do one thing after the other: this is done when the steps are
        for device in jax.local_devices():
            (jax.device_put(0.0, device) + 0).block_until_ready()
        jax.profiler.stop_trace()
        self.profiling, self.left = False, 0

    def __exit__(self, *_: Any) -> None:
        if self.profiling:
            self._stop()
        for index in range(len(self.runs)):
            self._tell(index, 'end')
