"""The code and the machine that a row comes from."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from experiments.files import digest

# What can change a training; the git revision names the rest of the code
_TRAINS = 'cnns experiments/data experiments/preprocess experiments/train experiments/machine.py'


def environment() -> dict[str, Any]:
    """Versions, devices and the code's git revision ('+changes' when the tree is not clean)."""
    root = Path(__file__).parent.parent

    def git(*words):
        done = subprocess.run(['git', *words], cwd=root, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        revision = git('rev-parse', 'HEAD')
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
        'cpu_count': os.cpu_count(),
        **{name: metadata.version(name) for name in ('jax', 'jaxlib', 'flax', 'numpy')},
        'device_kind': jax.local_devices()[0].device_kind,
        'backend': jax.default_backend(),
        'device_count': jax.local_device_count(),
        'git_revision': revision,
        'code': digest(code),  # of the Python files that can change a training, committed or not
    }
