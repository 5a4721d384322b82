"""build and names: an explicit dictionary whose errors name the nearest valid thing."""

import pathlib
import re

import pytest

import cnns


def test_build_takes_every_name_and_the_default_is_the_papers_choice():
    assert cnns.names() == ('lenet5', 'lenet5_1998')
    assert cnns.axes('lenet5') == dict(activation='tanh', pool='average', overlap=False,
                                       norm='none')
    assert cnns.axes('lenet5_1998') == dict(activation='scaled_tanh')
    for name in cnns.names():
        assert type(cnns.build(name)) is cnns.NETS[name]


@pytest.mark.parametrize('name, fields, message', [
    ('lenet', {}, r"unknown net 'lenet'. Did you mean 'lenet5'\? Allowed: lenet5, lenet5_1998"),
    ('lenet5', dict(poool='max'), r"no field 'poool'. Did you mean 'pool'\? Allowed: activation"),
    ('lenet5', dict(parent=None), "no field 'parent'"),
    ('lenet5', dict(pool='mean'), "unknown pool 'mean'.*Allowed: average, max"),
    ('lenet5_1998', dict(pool='max'), "lenet5_1998 has no axis 'pool': .*trainable"),
    ('lenet5_1998', dict(overlap=True), "no axis 'overlap': .*disjoint"),
    ('lenet5_1998', dict(norm='none'), "no axis 'norm': "),
])
def test_a_mistake_names_what_is_allowed(name, fields, message):
    with pytest.raises(ValueError, match=message):
        cnns.build(name, **fields)


def test_cnns_imports_nothing_of_ours_and_only_array_libraries():
    allowed = {'cnns', 'jax', 'flax', 'numpy', 'dataclasses', 'difflib'}
    folder = pathlib.Path(cnns.__file__).parent
    for path in folder.glob('*.py'):
        for package in re.findall(r'^(?:from|import) (\w+)', path.read_text(), re.M):
            assert package in allowed, path
