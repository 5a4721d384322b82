"""The setup of the process changes no result; devices communicate as seldom as possible."""

import os
import platform
import re
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from experiments import data, machine, train
from experiments.errors import UserError
from experiments.plan import config as configs
from experiments.train import program as programs

KNOWN = jax.__version_info__ >= (0, 12) and platform.machine() == 'x86_64'
BATCH = 8


def program_of(**changes):
    """The program of modern LeNet-5 with max pooling on random images, and one batch of them."""
    config = base.get_config()
    settings = dict(model__pool='max', train__batch=BATCH, train__devices=1) | changes
    for path, value in settings.items():
        configs.set_field(config, path.replace('__', '.'), value)
    rng = np.random.default_rng(0)
    part = data.InMemory(
        rng.integers(0, 256, (BATCH, 32, 32, 1), np.uint8),
        rng.integers(0, 3, BATCH).astype(np.int32),
    )
    dataset = data.Dataset(
        'random',
        part,
        part,
        part,
        tuple('abcdefghij'),
        np.float32([0.5]),
        np.float32([0.3]),
        'random bytes',
    )
    program = train.program_of(config, dataset)
    return program, next(iter(data.train_batches(part, BATCH, program.devices, 0, 1)))


# --- compiler options --------------------------------------------------------------------------


@pytest.mark.skipif(not KNOWN, reason='options are for jax from 0.12 on, on x86-64')
def test_the_options_are_those_that_this_jaxlib_knows():
    double = jax.jit(lambda x: 2 * x).lower(jnp.ones(3))
    assert machine.options()
    for name, value in machine.options().items():
        np.testing.assert_array_equal(machine.compiled(double, {name: value})(jnp.ones(3)), 2)
    with pytest.raises(Exception, match='No such compile option'):
        machine.compiled(double, {'xla_cpu_use_onednm': True})


@pytest.mark.skipif(KNOWN, reason='options are for jax from 0.12 on, on x86-64')
def test_an_older_jax_and_other_processors_get_no_options():
    assert machine.options() == {}


def test_options_are_for_cpus_of_one_kind_for_newer_versions_and_for_fast_nets(monkeypatch):
    monkeypatch.setattr(jax, '__version_info__', (0, 12, 0))
    monkeypatch.setattr(platform, 'machine', lambda: 'x86_64')
    assert machine.options() and machine.options(fast=True)
    assert machine.options(fast=False) == {}
    with monkeypatch.context() as changed:
        changed.setattr(jax, '__version_info__', (0, 11, 9))
        assert machine.options() == {}
    with monkeypatch.context() as changed:
        changed.setattr(platform, 'machine', lambda: 'aarch64')
        assert machine.options() == {}
    for backend in ('gpu', 'tpu'):
        monkeypatch.setattr(jax, 'default_backend', lambda backend=backend: backend)
        assert machine.options() == {}


@pytest.mark.skipif(not KNOWN, reason='options are for jax from 0.12 on, on x86-64')
def test_a_step_learns_the_same_with_and_without_options(monkeypatch):
    learned = []
    for given in (machine.options(), {}):
        monkeypatch.setattr(machine, 'options', lambda fast=True, given=given: given)
        programs._programs.clear()  # they are kept with the options they were compiled with
        program, batch = program_of(model__norm='batch')
        assert program.step.options == given
        start = program.init(0)
        before = jax.device_get(start.params)
        state, metrics = program.step(start, batch, np.float32(0.1))
        learned.append(jax.device_get((state.params, state.batch_stats, metrics)))
    programs._programs.clear()
    one, other = learned
    assert any(
        np.abs(a - b).max() > 1e-3
        for a, b in zip(jax.tree.leaves(one[0]), jax.tree.leaves(before), strict=True)
    ), 'nothing was learned'
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_process_can_be_prepared_late_and_twice(root):
    done = subprocess.run(
        [
            sys.executable,
            '-c',
            (
                'import jax, jax.numpy as jnp\n'
                'from experiments import machine\n'
                'before = jnp.ones(1000).sum()\n'
                'machine.prepare(); machine.prepare()\n'
                'assert jax.jit(lambda x: (x @ x).sum())(jnp.ones((200, 200))) == 200**3\n'
                'assert before == 1000\n'
                'assert not jax.config.values["jax_cpu_enable_async_dispatch"]\n'
            ),
        ],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, '')


def test_a_platform_that_is_not_here_is_named_in_one_line(monkeypatch):
    """jax 0.12 raises RuntimeError for foo, and AssertionError for cuda on a CPU."""
    monkeypatch.setenv('JAX_PLATFORMS', 'cuda')
    for error in (RuntimeError("Unable to initialize backend 'cuda'\n(...)"), AssertionError()):
        monkeypatch.setattr(
            jax, 'local_devices', lambda error=error: exec('raise error', {'error': error})
        )
        with pytest.raises(UserError) as found:
            machine.check_devices()
        assert "JAX_PLATFORMS is 'cuda': unset it" in str(found.value)
        assert '\n' not in str(found.value)
    monkeypatch.undo()
    machine.check_devices()


def test_a_platform_of_no_name_ends_each_command_in_one_line(root):
    done = subprocess.run(
        [sys.executable, '-m', 'experiments.models', 'lenet5'],
        capture_output=True,
        text=True,
        env={**os.environ, 'JAX_PLATFORMS': 'foo'},
    )
    assert done.returncode == 2 and done.stderr.count('\n') == 1
    assert "'foo'" in done.stderr and done.stderr.startswith('error: JAX finds no device')


# --- collectives -------------------------------------------------------------------------------


@pytest.fixture(scope='module', params=['none', 'batch'])
def sums(request):
    """norm, and the all-reduces of the compiled step on each number of devices, line by line."""
    shaped = lambda tree: jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree)
    found, state = {}, None
    for devices in (1, 2, 4):
        program, batch = program_of(model__norm=request.param, train__devices=devices)
        state = state or shaped(program.init(0))  # of one device: the same on all numbers
        text = program.step.compiled(
            state, shaped(batch), jax.ShapeDtypeStruct((), np.float32)
        ).as_text()
        kinds = set(re.findall(r' (all-[a-z-]+|reduce-scatter|collective-[a-z-]+)\(', text))
        assert kinds <= {'all-reduce', 'all-reduce-start', 'all-reduce-done'}
        found[devices] = [
            line for line in text.splitlines() if re.search(r' all-reduce(-start)?\(', line)
        ]
    return request.param, found, state


def test_one_device_communicates_with_none(sums):
    _, found, _ = sums
    assert found[1] == []


@pytest.mark.parametrize('devices', [2, 4])
def test_gradients_statistics_and_metrics_are_one_sum_over_devices(sums, devices):
    """Batch norm adds one sum for each of its layers, C1, C3 and C5, in either direction: the
    batch's mean and that of its squares, and the gradients of both."""
    norm, found, state = sums
    layers = {'none': 0, 'batch': 3}[norm]
    assert len(found[devices]) == 1 + 2 * layers
    sizes = [len(re.findall(r'f32\[', line.split(' all-reduce')[0])) for line in found[devices]]
    leaves = len(jax.tree.leaves((state.params, state.batch_stats)))
    assert sorted(sizes) == [1] * 2 * layers + [leaves + 2]  # loss and error besides


def test_compiled_programs_and_what_is_known_of_gpu_kernels_are_kept_in_one_folder(
    tmp_path, monkeypatch
):
    set_to = {}
    config = types.SimpleNamespace(
        jax_compilation_cache_dir=None, jax_enable_compilation_cache=True, update=set_to.__setitem__
    )
    monkeypatch.setattr(machine, 'jax', types.SimpleNamespace(config=config))
    machine.keep_compiled(str(tmp_path / 'kept'))
    assert set_to['jax_compilation_cache_dir'] == str(tmp_path / 'kept')
    assert 'autotune' in set_to['jax_persistent_cache_enable_xla_caches']
    assert set_to.keys() <= jax.config.values.keys()
