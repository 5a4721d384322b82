"""What code and what machine made a row."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import flax
import jax
import jaxlib
import numpy

from experiments.files import digest


def environment() -> dict[str, Any]:
    """Versions, devices and the code's git revision ('+changes' when the tree is not clean)."""

    def git(*words):
        done = subprocess.run(
            ['git', *words], cwd=Path(__file__).parent, capture_output=True, text=True
        )
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        revision = git('rev-parse', 'HEAD')
        if revision and git('status', '--porcelain', '--untracked-files=no'):
            revision += '+changes'
    except OSError:  # no git on this machine
        revision = None
    return {
        'python': platform.python_version(),
        'platform': platform.platform(),
        'cpu_count': os.cpu_count(),
        'jax': jax.__version__,
        'jaxlib': jaxlib.__version__,
        'flax': flax.__version__,
        'numpy': numpy.__version__,
        'device_kind': jax.local_devices()[0].device_kind,
        'backend': jax.default_backend(),
        'device_count': jax.local_device_count(),
        'git_revision': revision,
        'code': _code_digest(),
    }


def _code_digest() -> str:
    """Of the Python files of the project: what the revision says, and what is not committed."""
    root = Path(__file__).parent.parent
    files = [path for folder in ('cnns', 'experiments') for path in (root / folder).rglob('*.py')]
    return digest(
        [(path.relative_to(root).as_posix(), path.read_bytes()) for path in sorted(files)]
    )
