"""For every test: four virtual CPU devices, nothing kept of what is compiled, the root's configs."""

import os
import pathlib

import jax
import pytest

jax.config.update('jax_num_cpu_devices', 4)
jax.config.update('jax_enable_compilation_cache', False)  # no test leaves files behind

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture
def root(monkeypatch):
    """The project's folder, made the current one."""
    monkeypatch.chdir(ROOT)
    return ROOT


@pytest.fixture
def tfds_dir():
    folder = os.environ.get('TFDS_DATA_DIR')
    if not folder or not (pathlib.Path(folder) / 'mnist').is_dir():
        pytest.skip('needs TFDS_DATA_DIR to point to a data_dir with mnist prepared')
    return str(pathlib.Path(folder).resolve())
