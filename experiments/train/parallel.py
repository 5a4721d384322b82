"""Functions mapped over devices. This is the only module that calls pmap.

Where several processes share a training, a function is mapped over the devices of all of them, in
the order of the processes. Each gives the part of the batch that is for its own devices.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments import machine

AXIS = 'devices'  # name of the pmapped axis, here and in step.py and evaluate.py


class Parallel:
    """A pmapped function with compiler options, which jax.pmap itself does not take.

    It is compiled once for every shape of its arguments after the first.
    """

    def __init__(self, mapped: Any, options: dict[str, Any]):
        self.mapped, self.options = mapped, options
        self._known: dict[tuple, Any] = {}

    def lower(self, *args: Any) -> jax.stages.Lowered:
        return self.mapped.lower(*args)

    def compiled(self, *args: Any) -> jax.stages.Compiled:
        """The executable for arguments of these shapes; args can be jax.ShapeDtypeStructs."""
        key = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(args[1:]))
        if key not in self._known:
            self._known[key] = machine.compiled(self.lower(*args), self.options)
        return self._known[key]

    def __call__(self, *args: Any) -> Any:
        return self.compiled(*args)(*args) if self.options else self.mapped(*args)


def parallel(
    function: Callable, devices: int, *, donate: bool, shared: int = 0, fast: bool = True
) -> Parallel:
    """pmaps function(state, batch, *shared) over the first `devices` local devices.

    Only the batch has a device axis; `shared` arguments after it are the same everywhere. `fast`
    allows the compiler options of machine.py. With several processes: over all devices of all.
    """
    if jax.process_count() > 1:
        return _spanning(function, donate, fast, shared)
    axes = (None, 0) + (None,) * shared
    return _mapped(function, devices, donate, fast, axis_name=AXIS, in_axes=axes, out_axes=None)


def side_by_side(
    function: Callable, devices: int, axes: tuple, *, donate: bool, fast: bool = True
) -> Parallel:
    """pmaps function(*args) of one model so that it works on [devices, models] of them at once.

    axes: 0 for an argument whose leaves have the two leading axes, as the first argument always
    has; None for one that is the same for all models; or a dict of these. A dict's leaves have the
    axis of devices all the same. Results have both axes. Devices do not wait for each other.
    """

    def first(arg, axis):
        if isinstance(axis, dict):
            return {name: first(arg[name], axis[name]) for name in arg}
        return arg if axis is None else jax.tree.map(lambda leaf: leaf[0], arg)

    def on_device(*args):
        if len(jax.tree.leaves(args[0])[0]) > 1:
            return jax.vmap(function, in_axes=axes)(*args)
        # vmap would make a grouped convolution of every convolution, which is slower
        alone = [first(arg, axis) for arg, axis in zip(args, axes, strict=True)]
        return jax.tree.map(lambda leaf: leaf[None], function(*alone))

    of_devices = tuple(None if axis is None else 0 for axis in axes)
    return _mapped(on_device, devices, donate, fast, in_axes=of_devices)


class _Spanning(Parallel):
    """A function over the devices of all processes, whose arguments are those of this one."""

    def __init__(self, mapped: Any, options: dict[str, Any], mesh: Mesh):
        super().__init__(mapped, options)
        self.everywhere = NamedSharding(mesh, PartitionSpec())
        self.cut = NamedSharding(mesh, PartitionSpec(AXIS))

    def __call__(self, state: Any, batch: Any, *shared: Any) -> Any:
        state, shared = jax.tree.map(self._copied, (state, shared))
        return super().__call__(state, jax.tree.map(self._joined, batch), *shared)

    def _copied(self, leaf):
        """An array that every process has, as one that is on all devices."""
        if isinstance(leaf, jax.Array) and leaf.sharding == self.everywhere:
            return leaf
        leaf = np.asarray(leaf)
        return jax.make_array_from_process_local_data(self.everywhere, leaf, leaf.shape)

    def _joined(self, leaf):
        """[local devices, n, ...] of every process -> [all devices, n, ...]."""
        shape = (self.cut.mesh.size, *leaf.shape[1:])
        if isinstance(leaf, jax.Array) and len(leaf.addressable_shards) == len(leaf):
            parts = [shard.data for shard in leaf.addressable_shards]  # they are there already
            return jax.make_array_from_single_device_arrays(shape, self.cut, parts)
        return jax.make_array_from_process_local_data(self.cut, np.asarray(leaf), shape)


def _spanning(function: Callable, donate: bool, fast: bool, shared: int) -> Parallel:
    """Maps function(state, batch, *shared) over the devices of all processes."""
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    mesh, everywhere = Mesh(np.array(devices), (AXIS,)), PartitionSpec()

    def on_device(state, batch, *shared):
        return function(state, jax.tree.map(lambda leaf: leaf[0], batch), *shared)

    given = (everywhere, PartitionSpec(AXIS)) + (everywhere,) * shared
    # out of the check: results are sums over the devices, or computed from them
    mapped = jax.shard_map(
        on_device, mesh=mesh, in_specs=given, out_specs=everywhere, check_vma=False
    )
    jitted = jax.jit(mapped, donate_argnums=(0,) if donate else ())
    return _Spanning(jitted, machine.options(fast), mesh)


def _mapped(function: Callable, devices: int, donate: bool, fast: bool, **axes) -> Parallel:
    """pmaps a function over the first devices; donate: the memory of its first argument."""
    given, donated = jax.local_devices()[:devices], (0,) if donate else ()
    mapped = jax.pmap(function, devices=given, donate_argnums=donated, **axes)
    return Parallel(mapped, machine.options(fast))
