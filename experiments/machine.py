"""What a process sets up, before it touches a device, to train fast on this machine.

All of it concerns CPUs:

- Steps run in the thread that asks for them. Their temporary memory then comes from the main
  heap, where it can stay between steps; from another thread, glibc maps every large piece anew, and
  each of its pages is faulted in and cleared again at every step.
- The heap keeps freed memory.
- XLA compiles convolutions to oneDNN's kernels, which jaxlib contains from 0.12 on.
"""

import ctypes
import os
import platform
import warnings
from typing import Any

import jax

from experiments import files
from experiments.errors import UserError, reason
from experiments.progress import note

# From jaxlib 0.12 on. Convolutions and matrix products by oneDNN, sums by YNNPACK, and the order of
# operations that needs least memory, since two at once share the caches.
_OPTIONS = {
    'xla_cpu_use_onednn': True,
    'xla_cpu_experimental_onednn_custom_call': True,
    'xla_cpu_experimental_ynn_fusion_type': 'LIBRARY_FUSION_TYPE_REDUCE',
    'xla_cpu_scheduler_type': 'CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED',
}
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # of glibc's mallopt


def prepare() -> None:
    """Sets up this process. It has to be called before JAX is asked for its devices."""
    jax.config.update('jax_cpu_enable_async_dispatch', False)
    jax.config.update('jax_enable_x64', False)  # nets and steps are of 32 bits, whatever was set
    if platform.libc_ver()[0] == 'glibc':
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_TOP_PAD, 2**28)


def check_devices() -> None:
    """Raises UserError where JAX finds no device, such as those of a wrong JAX_PLATFORMS."""
    try:
        jax.local_devices()
    except Exception as error:  # each backend fails in its own way
        asked = os.environ.get('JAX_PLATFORMS')
        remedy = 'Install what it needs, or set JAX_PLATFORMS=cpu.'
        if asked:
            remedy = f'JAX_PLATFORMS is {asked!r}: unset it, or set it to cpu.'
        raise UserError(f'JAX finds no device ({reason(error)}). {remedy}') from error


def options(fast: bool = True) -> dict[str, Any]:
    """Compiler options of training and evaluation steps; {}: XLA's own choices."""
    known = jax.__version_info__ >= (0, 12) and platform.machine() == 'x86_64'
    return dict(_OPTIONS) if fast and known and jax.default_backend() == 'cpu' else {}


def compiled(lowered: jax.stages.Lowered, options: dict[str, Any]) -> jax.stages.Compiled:
    """The executable of a lowered program."""
    with warnings.catch_warnings():
        if options:  # this jaxlib cannot write programs with oneDNN's kernels; they compile again
            warnings.filterwarnings('ignore', 'Error writing persistent compilation cache entry')
        return lowered.compile(compiler_options=options)


def keep_compiled(setting: str | None) -> None:
    """Keeps compiled programs on disk, so that the next process need not compile them.

    Programs with oneDNN's kernels cannot be written by jaxlib 0.12 (its serialisation fails): on a
    CPU, steps compiled with `options` compile in every process; all else is kept.

    setting: a folder, or 'off'. None: JAX_COMPILATION_CACHE_DIR, else the folder 'compiled' beside
    the decoded data sets (files.cache_folder). Prints a note if the folder cannot be written.
    """
    if setting is None and jax.config.jax_compilation_cache_dir:
        return
    place = files.cache_folder(setting)
    if place is None or not jax.config.jax_enable_compilation_cache:
        jax.config.update('jax_enable_compilation_cache', False)
        return
    place = place if setting else place / 'compiled'
    try:
        place.mkdir(parents=True, exist_ok=True)
        if not os.access(place, os.W_OK):
            raise PermissionError(f'no permission to write to {place}')
    except OSError as error:
        note(
            f'compiled programs are not kept in {place} ({reason(error)}). Name another '
            "folder with --compilation_cache, or 'off'."
        )
        return
    jax.config.update('jax_compilation_cache_dir', str(place))
    # What XLA found out about a GPU's kernels is kept beside the programs
    jax.config.update(
        'jax_persistent_cache_enable_xla_caches', 'xla_gpu_per_fusion_autotune_cache_dir'
    )
    # Small nets compile in tenths of a second, many times
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)
    jax.config.update('jax_persistent_cache_min_entry_size_bytes', 0)
