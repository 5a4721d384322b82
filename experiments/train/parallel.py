"""Functions mapped over the devices of this process. This is the only module that calls pmap."""

from collections.abc import Callable
from typing import Any

import jax

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

    def __call__(self, *args):
        return self.compiled(*args)(*args) if self.options else self.mapped(*args)


def parallel(
    function: Callable, devices: int, *, donate: bool, shared: int = 0, fast: bool = True
) -> Parallel:
    """pmaps function(state, batch, *shared) over the first `devices` local devices.

    Only the batch has a device axis; `shared` arguments after it are the same everywhere. `fast`
    allows the compiler options of machine.py.
    """
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


def _mapped(function: Callable, devices: int, donate: bool, fast: bool, **axes) -> Parallel:
    """pmaps a function over the first devices; donate: the memory of its first argument."""
    given, donated = jax.local_devices()[:devices], (0,) if donate else ()
    mapped = jax.pmap(function, devices=given, donate_argnums=donated, **axes)
    return Parallel(mapped, machine.options(fast))
