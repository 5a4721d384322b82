"""Checks: a value that no run could use is refused, and a hash names what is learned."""

import math
import re

import pytest

from configs import base as base_config
from experiments.errors import UserError
from experiments.plan import checks
from experiments.plan import config as configs


def base():
    return base_config.get_config()


@pytest.mark.parametrize(
    'path, value, message',
    [
        ('model.pool', 'maximum', r"pool.*'maximum'.*max"),
        ('model.activation', 'rleu', r"'rleu'.*relu"),
        ('model.norm', 'layer', r"'layer'"),
        ('model.name', 'lenet', r"'lenet'.*lenet5"),
        ('train.loss', 'hinge', r"'hinge'.*Allowed: cross_entropy, rbf"),
        ('train.loss', 'rbf', r'output codes'),
        ('train.schedule', 'cosin', r"'cosin'. Did you mean 'cosine'"),
        ('train.batch', 0, 'train.batch is 0'),
        ('train.epochs', 0, 'train.epochs is 0'),
        ('train.rate', -1.0, 'learning rate is -1.0'),
        ('train.rate', float('nan'), 'learning rate is nan'),
        ('train.warmup', 11.0, 'train.warmup is 11.0'),
        ('data.validation', 0.0, 'data.validation is 0.0'),
        ('protocol.rates', (0.1, 0.1), 'twice'),
        ('protocol.level', 1.0, 'protocol.level'),
        ('seed', -1, 'seed is -1'),
        ('train.epochs', 10**20, 'between 1 and 1000000'),
        ('train.weight_decay', float('inf'), 'train.weight_decay is inf'),
        ('data.test', 'train', 'must not be trained on'),
        ('protocol.rates', ((0.1,),), 'learning rate is'),
        ('protocol.rates', (True,), 'learning rate is True'),
        ('data.stream', 'alway', "value of data.stream 'alway'. Did you mean 'always'"),
        ('data.channels', 2, 'data.channels is 2, it must be 0'),
        ('augment.crop', 'padd', "value of augment.crop 'padd'. Did you mean 'pad'"),
        ('augment.scales', (512, 256), r'augment.scales is \(512, 256\)'),
        ('augment.white', 255.0, 'augment.white would have no effect'),
        ('evaluation.views', 'tens', "'tens'. Did you mean 'ten'"),
        ('evaluation.scales', (0, 256), 'evaluation.scales is'),
        ('train.schedule', 'milestones', 'train.milestones is empty'),
        ('train.milestones', (3, 2), r'train.milestones is \(3, 2\), it must hold rising'),
        ('train.factors', (0.1, 0.2), 'train.factors holds 2 numbers, it must hold 1:'),
        ('train.factors', (), r'train.factors is \(\), it must hold positive'),
        ('train.every', 0.0, 'train.every is 0.0'),
        ('train.plateau', 0, 'train.plateau is 0'),
        ('train.ema', 1.0, 'train.ema is 1.0'),
        ('train.label_smoothing', -0.1, 'train.label_smoothing is -0.1'),
        ('train.accumulate', 3, 'train.batch=128 does not divide into train.accumulate=3'),
        ('train.rule', 'nestrov', "'nestrov'. Did you mean 'nesterov'"),
        ('train.clip', -1.0, 'train.clip is -1.0'),
        ('train.layer_decay.fc10', -1.0, 'train.layer_decay.fc10 is -1.0'),
        ('model.fields.maps', 3, "lenet5 has no field 'maps'"),
        ('model.fields.initialiser', 'xavier', "unknown initialiser 'xavier'"),
        ('model.fields.initialiser', 3, 'unknown initialiser 3'),
        ('model.fields.epsilon', 'small', 'model.fields.epsilon of lenet5 takes a number'),
        ('model.fields.pool', 'max', 'model.fields.pool has a place of its own: model.pool'),
        (
            'model.fields.epsilon',
            -1.0,
            'model.fields.epsilon of lenet5 is -1.0, it must be a number',
        ),
        ('model.fields.classes', 3, 'model.fields.classes has a place of its own: the data'),
    ],
)
def test_a_value_no_run_could_use_is_refused(path, value, message):
    config = base()
    configs.set_field(config, path, value)
    with pytest.raises(UserError, match=message):
        checks.resolve(config)


@pytest.mark.parametrize(
    'name, field, value, message',
    [
        ('mlp_300', 'hidden', ('a',), 'takes whole numbers from 1, such as (300,)'),
        ('mlp_300', 'hidden', (300, 0), 'takes whole numbers from 1'),
        ('alexnet', 'groups', 0, 'takes whole numbers from 1, such as 2'),
        ('alexnet', 'widths', (0, 1, 1, 1, 1), 'takes whole numbers from 1'),
        ('alexnet', 'conv1_padding', 'x', 'takes a whole number, such as None'),
        ('alexnet', 'conv1_padding', -3, 'it must be a number from 0'),
        ('alexnet', 'lrn_k', math.inf, 'it must be a number from 0'),
        ('googlenet', 'last_overlap', 1, 'takes true or false'),
    ],
)
def test_a_field_of_a_net_has_the_nets_own_type(name, field, value, message):
    config = base()
    configs.set_field(config, 'model.name', name)
    configs.set_field(config, f'model.fields.{field}', value)
    with pytest.raises(UserError, match=re.escape(message)):
        checks.resolve(config)


def test_an_axis_the_net_lacks_is_refused_with_its_reason():
    config = base()
    configs.set_field(config, 'model.name', 'lenet5_1998')
    configs.set_field(config, 'model.pool', 'max')
    with pytest.raises(UserError, match="has no axis 'pool'.*trainable"):
        checks.resolve(config)


def test_the_resolved_config_spells_out_the_papers_choice():
    flat = checks.resolve(base())
    assert [flat[f'model.{axis}'] for axis in configs.AXES] == ['tanh', 'average', False, 'none']


def test_a_field_that_is_no_axis_is_refused_and_an_axis_without_a_field_too(monkeypatch):
    config = base()
    with config.unlocked():
        config.model.skip = 'yes'
    with pytest.raises(UserError, match='model.skip would have no effect: it is no axis of AXES'):
        checks.resolve(config)
    monkeypatch.setattr(checks, 'AXES', (*checks.AXES, 'skip'))
    with pytest.raises(UserError, match='no model.skip') as caught:
        checks.resolve(base())
    assert 'placeholder in configs/base.py' in str(caught.value)


def test_the_name_depends_on_what_is_learned_and_on_nothing_else():
    def name(path=None, value=None, phase='final'):
        config = base()
        if path:
            configs.set_field(config, path, value)
        return checks.digest(checks.resolve(config), phase)

    assert name() == name('title', 'x') == name('data.dir', 'd') == name('train.devices', 2)
    assert name() == name('data.allow_copies', 'true')  # it refuses or allows, and changes no image
    assert name() == name('model.pool', 'average')  # the default, spelled out
    others = {
        name('seed', 1),
        name('train.rate', 0.1),
        name('model.pool', 'max'),
        name('data.limit', 10),
        name('train.epochs', 3),
        name(phase='select'),
    }
    assert len(others | {name()}) == 7
    assert re.fullmatch('[0-9a-f]{12}', name())


def test_a_selection_seed_given_twice_is_refused():
    config = base()
    configs.set_field(config, 'protocol.rates', (0.1, 0.2))
    configs.set_field(config, 'protocol.selection_seeds', (3, 3))
    with pytest.raises(UserError, match='must hold different whole numbers'):
        checks.resolve(config)


def test_fields_of_the_net_are_read_as_values_name_the_run_and_reach_the_net():
    config = base()
    for path, text in (
        ('model.name', 'resnet18'),
        ('model.fields.shortcut', 'A'),
        ('model.fields.width', '32'),
        ('model.fields.blocks', '[1, 1, 1, 1]'),
        ('model.fields.bottleneck', 'true'),
    ):
        configs.set_field(config, path, text)
    assert configs.fields_of(config) == dict(
        shortcut='A', width=32, blocks=(1, 1, 1, 1), bottleneck=True
    )
    flat = checks.resolve(config)
    assert flat['model.fields.width'] == 32
    other = config.copy_and_resolve_references()
    configs.set_field(other, 'model.fields.width', 16)
    assert checks.digest(flat, 'final') != checks.digest(checks.resolve(other), 'final')


def test_a_compiled_program_depends_on_no_seed_and_no_schedule_and_on_the_papers_choice():
    def changed(path, value):
        config = base()
        configs.set_field(config, path, value)
        return checks.compiled(config)

    same = [('seed', 3), ('train.rate', 0.5), ('train.epochs', 3), ('protocol.rates', (0.1,))]
    for path, value in (*same, ('model.pool', 'average')):
        assert changed(path, value) == checks.compiled(base()), path
    for path, value in (('model.pool', 'max'), ('train.batch', 64), ('train.momentum', 0.5)):
        assert changed(path, value) != checks.compiled(base()), path


def test_a_field_added_later_names_a_run_only_where_it_is_not_at_its_default(monkeypatch):
    flat = checks.resolve(base())
    name, longer = checks.digest(flat, 'final'), base()
    with longer.unlocked():
        longer.train.later = 1.0
    monkeypatch.setattr(base_config, 'get_config', lambda: longer)
    assert checks.digest(flat | {'train.later': 1.0}, 'final') == name
    assert checks.digest(flat | {'train.later': 2.0}, 'final') != name


def test_fields_of_the_first_rows_always_name_a_run():
    """These names are in stored work directories: they must never change."""
    assert checks._FIRST_FIELDS <= set(configs.flatten(base()))
    assert checks.digest(checks.resolve(base()), 'final') == '92f1de71b314'
