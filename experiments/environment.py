"""The code and the machine that a row or a measured speed comes from."""

import datetime
import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from experiments.files import digest

# What can change a training; the git revision names the rest of the code
_TRAINS = 'cnns experiments/data experiments/preprocess experiments/train experiments/machine.py'


def environment() -> dict[str, Any]:
    """Versions, devices, the code's git revision ('+changes' when the tree is not clean), date."""
    import jax  # here, since the commands of data sets do without it

    root = Path(__file__).parent.parent

    # A hook's variables would name its own repository
    own = {key: value for key, value in os.environ.items() if not key.startswith('GIT_')}

    def git(*words):
        done = subprocess.run(['git', *words], cwd=root, env=own, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        # An installed copy may lie in a repository that knows nothing of it
        tracked = git('ls-files', '--error-unmatch', Path(__file__).relative_to(root).as_posix())
        revision = git('rev-parse', 'HEAD') if tracked else None
        if revision and git('status', '--porcelain', '--untracked-files=no'):
            revision += '+changes'
    except OSError:  # no git on this machine
        revision = None
    places = [root / place for place in _TRAINS.split()]
    files = [path for place in places for path in [place, *place.rglob('*.py')] if path.is_file()]
    code = [(path.relative_to(root).as_posix(), path.read_bytes()) for path in sorted(files)]
    return {
        'python': platform.python_version(),
        'platform': platform.platform(),
        'date': now(),
        'cpu': _cpu(),
        'cpu_count': cores(),
        **{name: metadata.version(name) for name in ('jax', 'jaxlib', 'flax', 'numpy')},
        'device_kind': jax.local_devices()[0].device_kind,
        'backend': jax.default_backend(),
        'device_count': jax.device_count(),  # of all processes that train together
        'deterministic': deterministic(),
        'git_revision': revision,
        'code': digest(code),  # of the Python files that can change a training, committed or not
    }


def now() -> str:
    """Date and time of UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')


def _cpu() -> str:
    """The model of the processor, or its architecture where the system does not say."""
    processors = Path('/proc/cpuinfo')  # of Linux
    text = processors.read_text() if processors.is_file() else ''
    model = re.search(r'^model name\s*: *(.*)$', text, re.M)
    return model[1].strip() if model else platform.machine()


def cores() -> int | None:
    """CPU cores that this process may use: their number changes the order of XLA's sums."""
    affine = hasattr(os, 'sched_getaffinity')  # of Linux
    return len(os.sched_getaffinity(0)) if affine else os.cpu_count()


def deterministic() -> str:
    """The words of XLA_FLAGS that ask for repeatable sums, '' for none: GPUs need them."""
    words = os.environ.get('XLA_FLAGS', '').split()
    return ' '.join(word for word in words if 'determinis' in word)


def measured_on() -> dict[str, Any]:
    """What a measured speed depends on: the machine, the versions and how busy it was."""
    names = 'numpy', 'Pillow', 'grain', 'array_record', 'tensorflow-datasets', 'jax'
    return {
        'date': datetime.date.today().isoformat(),
        'python': platform.python_version(),
        'system': platform.system(),
        'cpu': _cpu(),
        'cores': cores(),
        'load': os.getloadavg(),
        'versions': {name: metadata.version(name) for name in names},
    }
