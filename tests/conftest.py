"""For every test: four virtual CPU devices, a compilation cache of the session, the root's
configs."""

import atexit
import os
import pathlib
import shutil
import tempfile

# The suite compiles far more than it computes: a quarter of its time is LLVM's optimisation
os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} --xla_backend_optimization_level=0'

# Many tests compile the same programs. What this session compiles is kept until it ends, for both
# of its processes and for those that tests start.
if 'PYTEST_XDIST_WORKER' not in os.environ:
    os.environ['JAX_COMPILATION_CACHE_DIR'] = tempfile.mkdtemp(prefix='compiled-')
    os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
    atexit.register(shutil.rmtree, os.environ['JAX_COMPILATION_CACHE_DIR'], ignore_errors=True)

import jax
import pytest
from PIL import Image

jax.config.update('jax_num_cpu_devices', 4)

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture
def root(monkeypatch):
    """The project's folder, made the current one."""
    monkeypatch.chdir(ROOT)
    return ROOT


@pytest.fixture
def undrawn(monkeypatch):
    """Sweeps end without figures and report, which take longer than a tiny training."""
    from experiments.report import figures, page

    monkeypatch.setattr(figures, 'write', lambda *_: ())
    monkeypatch.setattr(page, 'write', lambda folder: folder / 'report.html')


@pytest.fixture
def tfds_dir():
    folder = os.environ.get('TFDS_DATA_DIR')
    if not folder or not (pathlib.Path(folder) / 'mnist').is_dir():
        pytest.skip('needs TFDS_DATA_DIR to point to a data_dir with mnist prepared')
    return str(pathlib.Path(folder).resolve())


@pytest.fixture
def benchmark(monkeypatch, capsys):
    """Calls the command of experiments.benchmark: (exit status, output, errors).

    It leaves the devices and settings of the other tests alone.
    """
    from experiments.benchmark import command

    monkeypatch.setattr(command, '_start_devices', lambda count: None)

    def call(*words):
        status = command.main([str(word) for word in words])
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Another current folder, and a cache of its own."""
    (tmp_path / 'work').mkdir()
    monkeypatch.chdir(tmp_path / 'work')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture
def folder(tmp_path):
    """A folder of ten images each of the classes dark and light."""
    for label, name in enumerate(('dark', 'light')):
        (tmp_path / 'set' / name).mkdir(parents=True)
        for index in range(10):
            image = Image.new('RGB', (8, 8 + label), (255 * label,) * 3)
            image.putpixel((0, 0), (index, 0, 0))  # no two are equal
            image.save(tmp_path / 'set' / name / f'{index}.png')
    return tmp_path / 'set'
