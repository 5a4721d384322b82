"""The CNNs that made the field, as pure Flax modules.

    net = cnns.build('lenet5', activation='relu', pool='max')
    variables = net.init(key, images, train=False)
    logits = net.apply(variables, images, train=False)

To add a net, write its file and name it in NETS.
"""

import dataclasses
import difflib

from cnns import layers, lenet

NETS = {
    'lenet5': lenet.LeNet5,
    'lenet5_1998': lenet.LeNet5Original,
}

_FLAX = ('parent', 'name')  # fields every linen module has, which are not ours to set


def names() -> tuple[str, ...]:
    """The names `build` takes."""
    return tuple(NETS)


def axes(name: str) -> dict:
    """The ablation axes of a net and the paper's choice on each: {'activation': 'tanh', ...}."""
    fields = dataclasses.fields(_net(name))
    return {field.name: field.default for field in fields if field.name in layers.AXES}


def build(name: str, **fields):
    """Returns the module of a net, with the paper's choice for every field not given.

    Raises:
      ValueError: an unknown name, field or axis value (with the nearest one), or an axis that the
        net does not have (with the reason).
    """
    net = _net(name)
    known = [field.name for field in dataclasses.fields(net) if field.name not in _FLAX]
    for field in fields:
        if field in known:
            continue
        if field in getattr(net, 'LACKS', {}):
            raise ValueError(f'{name} has no axis {field!r}: {net.LACKS[field]}. Leave it out.')
        raise ValueError(f'{name} has no field {field!r}.{_nearest(field, known)} '
                         f'Allowed: {", ".join(known)}.')
    layers.check_axes(**{field: value for field, value in fields.items() if field in layers.AXES})
    return net(**fields)


def _net(name):
    if name not in NETS:
        raise ValueError(f'unknown net {name!r}.{_nearest(name, NETS)} Allowed: {", ".join(NETS)}.')
    return NETS[name]


def _nearest(given, allowed):
    match = difflib.get_close_matches(str(given), list(allowed), n=1)
    return f' Did you mean {match[0]!r}?' if match else ''
