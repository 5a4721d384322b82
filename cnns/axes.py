"""The four axes of the ablations, spelled once, and their checks.

activation  'tanh', 'relu', 'sigmoid', 'scaled_tanh'
pool        'average', 'max'
overlap     False: window = stride; True: window = stride + 1, the same output size
norm        'none', 'lrn', 'batch', 'batch+lrn' (batch norm before the activation, LRN after it)
"""

import difflib
from collections.abc import Callable, Collection, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def scaled_tanh(x: Array) -> Array:
    """1.7159 tanh(2x/3): f(1) = 1 and f(-1) = -1 (LeCun et al. 1998, Eq. 6 and App. A)."""
    return 1.7159 * jnp.tanh(2 / 3 * x)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    'tanh': jnp.tanh,
    'relu': jax.nn.relu,
    'sigmoid': jax.nn.sigmoid,
    'scaled_tanh': scaled_tanh,
}
POOLS = ('average', 'max')
OVERLAPS = (False, True)
NORMS: dict[str, tuple[str, ...]] = {  # and the layers that each of them adds
    'none': (),
    'lrn': ('lrn',),
    'batch': ('batch',),
    'batch+lrn': ('batch', 'lrn'),
}
# An activation is one line of ACTIVATIONS, a value of another axis one of its tuple or table
AXES: dict[str, Collection] = {
    'activation': ACTIVATIONS.keys(),
    'pool': POOLS,
    'overlap': OVERLAPS,
    'norm': NORMS.keys(),
}


def unknown(what: str, given: Any, allowed: Iterable) -> ValueError:
    """The error for a name outside a list: the nearest name first, then all.

    `what` begins the sentence: 'unknown pool'.
    """
    close = difflib.get_close_matches(str(given), map(str, allowed), n=1)
    hint = f' Did you mean {close[0]!r}?' if close else ''
    return ValueError(f'{what} {given!r}.{hint} Allowed: {", ".join(map(str, allowed))}.')


def check_axes(**values: Any) -> None:
    """Raises ValueError for a value that its axis does not have, naming the nearest one."""
    for axis, value in values.items():
        allowed = AXES[axis]
        # 1 == True in Python; an overlap of 1 would be a window of unknown meaning
        if not any(value == known and type(value) is type(known) for known in allowed):
            raise unknown(f'unknown {axis}', value, allowed)
