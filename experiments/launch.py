"""Starts workers of experiments.run on a cluster, or in the background of this machine.

    python -m experiments.launch --config configs/ablate_pooling.py --cluster slurm --gpus 1
    python -m experiments.launch --config configs/ablate_pooling.py --status
    python -m experiments.launch --config configs/ablate_pooling.py --cancel
    python -m experiments.launch --config configs/ablate_pooling.py --print_script > sweep.sh

The workers share one work directory by leases, so that any number of them is right, and what an
earlier submission has left behind is of no matter. How far the sweep is, its rows say; the states
of jobs do not. Submission needs submitit, `pip install -e '.[cluster]'`; a printed script does not.
"""

import argparse
import collections
import math
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from experiments import files, run, schema, status, tables
from experiments.errors import UserError, command, counted, reason
from experiments.plan import config, runs
from experiments.runner import interrupts, leases
from experiments.workdir import JOBS, WorkDir

_SUBMITTED = 'submitted.jsonl'
_AT_ONCE = {'slurm': 256, 'local': 2}  # workers
_YEAR = 365 * 24 * 60  # minutes: a worker on this machine has no end
_MEMORY = 0.9  # of a GPU's memory, for all workers that share it
_GRACE = 120  # seconds before the end of its time in which a worker is told to save

JOB = schema.Schema(
    {
        'cluster': schema.one_of('slurm', 'local'),
        'jobs': schema.list_of(schema.LINE),
        'host': schema.LINE,
        'kernel': schema.TEXT,
    }
)


class Worker:
    """One worker, as submitit calls it; it is pickled.

    SIGTERM is passed on, so that the training saves. Before the end of the job's time, submitit
    calls `checkpoint` and queues the job again.
    """

    def __init__(self, words: list[str], folder: str, sharers: int = 1):
        """sharers: workers that share the GPUs of a machine."""
        self.words, self.folder, self.sharers = words, folder, sharers
        self.process: subprocess.Popen | None = None

    def __call__(self) -> int:
        """Returns the exit status of experiments.run, 0 or 1; with another one the job fails."""
        signal.signal(signal.SIGTERM, lambda number, frame: self._stop())
        line = [sys.executable, '-m', 'experiments.run', *self.words]
        # a session of its own, since a second signal would end it at once: only ours comes through
        own = os.environ | memory(self.sharers)
        self.process = subprocess.Popen(line, cwd=self.folder, env=own, start_new_session=True)
        ended = self.process.wait()
        if ended not in (0, 1):
            sys.exit(ended if ended > 0 else 128 - ended)
        return ended

    def _stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()

    def checkpoint(self) -> Any:
        """Lets the training save and returns what goes on in its place."""
        from submitit.helpers import DelayedSubmission

        self._stop()
        if self.process:
            self.process.wait()
        return DelayedSubmission(Worker(self.words, self.folder, self.sharers))


def memory(sharers: int) -> dict[str, str]:
    """Variables that JAX reads at its import, so that workers get equal parts of a GPU's memory.

    Alone, a process takes three quarters of it at its start. What the user has set stays.
    """
    name = 'XLA_PYTHON_CLIENT_MEM_FRACTION'
    known = name in os.environ or 'XLA_PYTHON_CLIENT_PREALLOCATE' in os.environ
    return {} if sharers < 2 or known else {name: f'{_MEMORY / sharers:.3f}'}


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """Splits the command line into its flags and the `--config.field=value` overrides."""
    words = 'Starts workers of experiments.run on a cluster, or in the background.'
    parser = config.parser('python -m experiments.launch', words, '')
    run.add_arguments(parser)
    add = parser.add_argument
    add('--cluster', choices=('slurm', 'local'), help='where workers are started; default: slurm')
    add('--status', action='store_true', help='print how far the sweep is, and start nothing')
    add('--cancel', action='store_true', help='end the workers that were started from here')
    add('--print_script', action='store_true', help='print a script for sbatch, start nothing')
    add('--runs_per_task', type=int, default=8, metavar='N', help='one worker for N runs')
    add('--parallel', type=int, metavar='N', help='workers at a time')
    add('--time', type=int, default=60, metavar='MINUTES', help='of a worker; then it goes on anew')
    add('--cpus', type=int, default=2, metavar='N', help='processors of a worker')
    add('--gpus', type=int, default=0, metavar='N', help='GPUs of a worker')
    add('--memory', type=float, metavar='GB', help='of a worker')
    add('--partition', metavar='NAME', help='of Slurm')
    add('--constraint', metavar='TEXT', help='of Slurm, on its machines')
    add('--slurm', action='append', metavar='KEY=VALUE', help='any other option of sbatch')
    add('--setup', action='append', metavar='LINE', help='a line of shell before each worker')
    return config.parse(parser, argv)


@command
def main(argv: list[str] | None = None) -> int:
    args, assignments = parse(sys.argv[1:] if argv is None else argv)
    for name in ('runs_per_task', 'parallel', 'time', 'cpus'):
        if (value := getattr(args, name)) is not None and value < 1:
            raise UserError(f'--{name} is {value}, it must be a whole number from 1.')
    if args.gpus < 0 or args.memory is not None and not 0 < args.memory < math.inf:
        raise UserError('--gpus must be a whole number from 0, and --memory a number above 0.')
    plan = runs.only(
        runs.plan_of(config.read_config(args.config), assignments), ','.join(args.only or ())
    )
    workdir = run.workdir_of(args, plan).absolute()
    if args.status:
        return _status(workdir)
    if args.cancel:
        return _cancel(workdir)
    cluster = args.cluster or 'slurm'
    tasks = math.ceil(plan.size / args.runs_per_task)
    at_once = min(args.parallel or _AT_ONCE[cluster], tasks)
    words = _words(args, assignments, workdir)
    if args.print_script:
        print(script(args, plan.name, words, workdir, tasks, at_once), end='')
        return 0
    if cluster == 'local':
        tasks = at_once  # all of them start at once
    WorkDir(workdir, plan.name)
    jobs = _submit(args, cluster, plan.name, words, workdir, tasks, at_once)
    console = tables.Console()
    console.print(f'{counted(tasks, "worker")} for {counted(plan.size, "run")}: {", ".join(jobs)}')
    console.print(f'results: {workdir}, logs: {workdir / JOBS}')
    return 0


def _words(args: argparse.Namespace, assignments: list[tuple[str, str]], workdir: Path) -> list:
    """The command line of a worker."""
    words = ['--config', args.config, '--workdir', str(workdir)]
    words += [f'--config.{field}={value}' for field, value in assignments]
    for part in args.only or ():
        words += ['--only', part]
    if args.compilation_cache:
        words += ['--compilation_cache', args.compilation_cache]
    return words


def _slurm_fields(args: argparse.Namespace) -> dict[str, str]:
    """--slurm. Raises UserError for what is no key=value."""
    fields = {}
    for pair in args.slurm or ():
        key, equals, value = pair.partition('=')
        if not key or not equals:
            raise UserError(f"--slurm takes KEY=VALUE such as 'account=lab', not {pair!r}.")
        fields[key.lstrip('-').replace('_', '-')] = value
    return fields


def script(
    args: argparse.Namespace, name: str, words: list[str], workdir: Path, tasks: int, at_once: int
) -> str:
    """A script for sbatch that does what a submission does.

    Slurm queues a preempted job again by itself; the script does so where its time ends. Both
    times the training has saved before.
    """
    logs = workdir / JOBS
    fields: dict[str, Any] = {
        'job-name': name,
        'array': f'0-{tasks - 1}%{at_once}',
        'output': f'{logs}/%A_%a.log',
        'open-mode': 'append',
        'requeue': None,
        'signal': f'B:USR1@{_GRACE}',
        'time': args.time,
        'cpus-per-task': args.cpus,
        'gpus-per-node': args.gpus or '',
        'mem': '' if args.memory is None else f'{math.ceil(1024 * args.memory)}M',
        'partition': args.partition or '',
        'constraint': args.constraint or '',
        **_slurm_fields(args),
    }
    lines = ['#!/bin/bash', f'# mkdir -p {shlex.quote(str(logs))}, then sbatch this file']
    for key, value in fields.items():
        if value != '':
            lines.append(
                f'#SBATCH --{key}' + ('' if value is None else f'={shlex.quote(str(value))}')
            )
    worker = shlex.join([sys.executable, '-m', 'experiments.run', *words])
    return '\n'.join(
        [
            *lines,
            '',
            *(args.setup or ()),
            f'cd {shlex.quote(os.getcwd())} || exit 2',
            f'setsid {worker} &  # a signal comes once, through this script',
            'worker=$! ended=',
            "trap 'kill -TERM $worker' TERM",
            "trap 'ended=1; kill -TERM $worker' USR1  # the time is nearly over",
            'while :; do',
            '  wait $worker; status=$?',
            '  kill -0 $worker 2> /dev/null || break  # a signal ended the wait, not the worker',
            'done',
            f'if [ -n "$ended" ] && [ $status = {interrupts.CONTINUE} ]; then',
            '  scontrol requeue "$SLURM_JOB_ID"',
            'fi',
            'exit $status',
            '',
        ]
    )


def _submitit() -> Any:
    """The package, which would set up the log of this whole process when it is imported."""
    quiet = {'SUBMITIT_LOG_LEVEL': 'NOCONFIG'}
    before = {name: os.environ.get(name) for name in quiet}
    os.environ |= quiet
    try:
        import submitit  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise UserError(
            "submitit is not installed: pip install -e '.[cluster]', or use --print_script."
        ) from None
    finally:  # the workers, which inherit the environment, have a log
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return submitit


def _submit(args, cluster: str, name: str, words, workdir: Path, tasks: int, at_once: int) -> list:
    """Submits the workers by submitit and notes them down; returns the names of the jobs."""
    submitit = _submitit()
    logs = workdir / JOBS
    # A folder of its own: nothing is read that an earlier submission left
    own = logs / f'{time.strftime("%Y%m%d-%H%M%S")}-{secrets.token_hex(2)}'
    given: dict[str, Any] = {
        'timeout_min': args.time if cluster == 'slurm' else _YEAR,
        'cpus_per_task': args.cpus,
        'gpus_per_node': args.gpus,
        'slurm_job_name': name,
        'slurm_signal_delay_s': _GRACE,
        'slurm_array_parallelism': at_once,
        'slurm_additional_parameters': {'requeue': True, **_slurm_fields(args)},
        'slurm_partition': args.partition,
        'slurm_constraint': args.constraint,
        'mem_gb': args.memory,
        'slurm_setup': args.setup,
    }
    if cluster == 'local' and args.setup:
        given['local_setup'] = args.setup
    if not args.gpus:
        del given['gpus_per_node']
    try:
        own.mkdir(parents=True, exist_ok=True)
        # its time may end as often as it likes: each time it goes on from a checkpoint
        executor = submitit.AutoExecutor(own, cluster=cluster, slurm_max_num_timeout=10**6)
        executor.update_parameters(**{k: v for k, v in given.items() if v is not None})
        with executor.batch():
            sharers = tasks if cluster == 'local' else 1
            jobs = [executor.submit(Worker(words, os.getcwd(), sharers)) for _ in range(tasks)]
        ids = [job.job_id for job in jobs]
        row = {
            'cluster': cluster,
            'jobs': ids,
            'host': socket.gethostname(),
            'kernel': leases.kernel(),
        }
        files.append(logs / _SUBMITTED, row)
    except OSError as error:
        raise UserError(f'cannot write to {logs}: {reason(error)}.') from error
    except Exception as error:  # submitit raises several kinds for what sbatch says
        raise UserError(
            f'{cluster} does not take the jobs: {reason(error)}. --print_script prints a plain '
            'script for sbatch, --cluster local starts workers on this machine.'
        ) from error
    return ids


def _submitted(workdir: Path) -> list[dict[str, Any]]:
    """What was started for a work directory, without what does not fit."""
    found = files.read(workdir / JOBS / _SUBMITTED)
    return [one for one in found if not schema.fault(one, JOB)]


def _status(workdir: Path) -> int:
    console = tables.Console()
    status.show(status.survey(workdir), console)
    states: collections.Counter[str] = collections.Counter()
    for one in _submitted(workdir):
        if one['cluster'] == 'slurm':
            states.update(_called('squeue', '-h', '-o', '%T', '-j', ','.join(one['jobs'])).split())
        else:
            states['RUNNING'] += len(_alive(one))
    if states:
        words = ', '.join(f'{count} {state.lower()}' for state, count in states.items())
        console.print(f'jobs: {words}')
    return 0


def _cancel(workdir: Path) -> int:
    """Ends the workers: each saves, and its run is left to whoever comes next."""
    ended = 0
    for one in _submitted(workdir):
        if one['cluster'] == 'slurm':
            _called('scancel', *one['jobs'])
            ended += len(one['jobs'])
        else:
            for process in _alive(one):
                os.kill(process, signal.SIGTERM)
                ended += 1
    tables.Console().print(f'{counted(ended, "job")} cancelled; the same command goes on later')
    return 0


def _alive(one: dict[str, Any]) -> list[int]:
    """The processes of a local submission that are still there, if it was on this machine."""
    if one['kernel'] != leases.kernel() or one['host'] != socket.gethostname():
        return []
    found = []
    for process in map(int, filter(str.isdecimal, one['jobs'])):
        try:
            line = Path(f'/proc/{process}/cmdline').read_bytes()
        except OSError:
            continue
        if b'submitit' in line:  # else another program has the number now
            found.append(process)
    return found


def _called(*words: str) -> str:
    """The output of a command of Slurm.

    Raises:
      UserError: there is no such command here.
    """
    try:
        return subprocess.run(words, capture_output=True, text=True).stdout
    except OSError as error:
        raise UserError(f'{words[0]} cannot be called ({reason(error)}).') from error


if __name__ == '__main__':
    sys.exit(main())
