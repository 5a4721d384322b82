"""Optimisers of optax by name, for train.rule: which there are, and which fields they take."""

import functools
import inspect
from typing import Any

import optax

from experiments.errors import UserError, one_of

OURS = (
    'momentum',
    'nesterov',
)  # experiments/train/optim.py, with the papers' two places of the rate

# These need more than gradients and parameters (the loss, a key), read the rate before any step, or
# are deprecated
_UNFIT = ('lbfgs', 'noisy_sgd', 'rprop', 'optimistic_adam')
_DECAYS = ('weight_decay', 'weight_decay_rate')
# Fields that have another place, or that a config cannot hold
_ELSEWHERE = {
    'learning_rate': 'train.rate',
    **dict.fromkeys(_DECAYS, 'train.weight_decay'),
    **dict.fromkeys(('mask', 'weight_decay_mask'), 'train.layer_decay and train.bias_decay'),
    'trust_ratio_mask': 'optax, for all parameters',
}


@functools.cache
def names() -> tuple[str, ...]:
    """The optimisers of the installed optax that a compiled step can be given a rate for."""
    functions = inspect.getmembers(optax, inspect.isfunction)
    return tuple(
        name
        for name, function in functions
        if name not in _UNFIT
        and not name.startswith(('_', 'scale_by_'))
        and next(iter(inspect.signature(function).parameters), '') == 'learning_rate'
    )


@functools.cache
def _defaults(rule: str) -> dict[str, Any]:
    parameters = inspect.signature(getattr(optax, rule)).parameters
    return {name: parameter.default for name, parameter in parameters.items()}


def decay_field(rule: str) -> str | None:
    """The optimiser's own argument for weight decay, or None: then decay is L2 in the gradient."""
    return next((name for name in _DECAYS if name in _defaults(rule)), None)


def check(flat: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Checks the names of train.optimiser_fields; returns {path: (value, optax's default)}.

    Raises:
      UserError: a field that the rule lacks, or that has another place.
    """
    prefix, rule = 'train.optimiser_fields.', flat['train.rule']
    given = {path[len(prefix) :]: path for path in flat if path.startswith(prefix)}
    if rule in OURS:
        if given:
            raise UserError(
                f'{next(iter(given.values()))} would have no effect: train.rule={rule!r} has '
                'train.momentum and train.rate_in_velocity; the others take fields of optax.'
            )
        return {}
    own = {name: value for name, value in _defaults(rule).items() if name not in _ELSEWHERE}
    for name in given:
        if name in _ELSEWHERE:
            raise UserError(
                f'train.optimiser_fields.{name} has a place of its own: {_ELSEWHERE[name]}.'
            )
        if name not in own:
            raise one_of(f'field of optax.{rule} in train.optimiser_fields', name, own)
    return {path: (flat[path], own[name]) for name, path in given.items()}
