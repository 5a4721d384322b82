"""What the processes do that train with process 0 and have no work directory."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments import train
from experiments.data import Dataset
from experiments.environment import environment
from experiments.errors import UserError
from experiments.plan.runs import FINAL, Plan, Run
from experiments.runner import checkpoints, inputs
from experiments.runner.team import Team
from experiments.train import checkpoint

_ALIKE = ('code', 'jax', 'jaxlib', 'device_kind')  # of the environment


def task(
    runs: Sequence[Run],
    datasets: Mapping[str, Dataset],
    environment: Mapping[str, Any],
    kept: checkpoints.Checkpoint,
) -> tuple[dict[str, Any], bytes | None]:
    """What process 0 sends of the run that it trains next, and its checkpoint."""
    (run, *_) = runs
    said = {
        'arm': run.arm,
        'phase': run.phase,
        'seed': run.seed,
        'learning_rate': run.learning_rate,
        'alike': _alike(run, datasets[run.arm], environment),
    }
    return said, kept.packed()


def _alike(run: Run, dataset: Dataset, environment: Mapping[str, Any]) -> dict[str, Any]:
    """What is the same in all processes, as JSON has it."""
    # the name of a run leaves out in how many dispatches its steps are, but all do one together
    config = [run.name, run.of.config.train.steps_per_dispatch]
    about = {name: environment[name] for name in _ALIKE}
    return {'data set': dataset.found, **about, 'config': config}


def follow(team: Team, plan: Plan) -> int:
    """Trains what process 0 sends, until it ends; returns the exit status.

    Raises:
      UserError: this process has other data, code or devices.
    """
    datasets = inputs.read(plan)
    arms = {arm.label: arm for arm in plan.arms}
    own = environment()
    for said, content in team.tasks():
        arm = arms.get(said['arm'])
        if arm is None:
            raise UserError(f'it was given another config, without the arm {said["arm"]!r}.')
        dataset = datasets[arm.label]
        run = plan.run(said['phase'], arm, said['seed'], said['learning_rate'])
        here, there = _alike(run, dataset, own), said['alike']
        if differ := [name for name in here if here[name] != there[name]]:
            raise UserError(f'it has another {", ".join(differ)} than process 0.')
        begun = None if content is None else checkpoint.parsed(content)[0]
        try:
            train.fit_together([run.config], dataset, final=run.phase == FINAL, begun=begun)
        except checkpoint.Misfit:  # process 0 finds the same, and begins anew
            continue
    return 0
