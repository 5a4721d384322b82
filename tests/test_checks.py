"""Checks: a value that no run could use is refused, and a hash names what is learned."""

import math
import re

import pytest

from configs import base as base_config
from experiments.errors import UserError
from experiments.plan import checks, runs
from experiments.plan import config as configs
from experiments.train import optim


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


@pytest.mark.parametrize('field, value', [('stream', 'never'), ('side', 300)])
def test_what_keeps_whole_images_from_being_cropped_is_refused(field, value):
    config = base()
    config.data.whole, config.data[field], config.augment.crop = True, value, 'area'
    with pytest.raises(UserError, match=f'data.{field}=.*[Ss]et .*'):
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
    assert 'Start from configs.base.get_config()' in str(caught.value)


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


# Fields that are read in every config; all others are in checks._READ, with a case below
ALWAYS = set(
    (
        'title data.name data.train data.test data.validation data.limit data.side data.resize '
        'data.channels data.stream data.cache model.name model.activation model.pool '
        'model.overlap model.norm model.dtype augment.crop augment.size augment.photometric '
        'augment.permute measure.names augment.flip augment.colour augment.affine '
        'augment.subtract augment.white '
        'evaluation.views evaluation.scales train.loss train.label_smoothing train.batch '
        'train.accumulate train.steps train.schedule train.warmup train.warmup_error '
        'train.weight_decay train.bias_rate train.clip train.ema train.curve '
        'train.devices train.together train.steps_per_dispatch train.start train.freeze '
        'train.watch train.profile '
        'data.classes '
        'protocol.rates protocol.level seed'
    ).split()
)
READ = {  # a value, and the fields with which it is read
    'train.milestones': ((1, 2), {'train.schedule': 'milestones'}),
    'train.every': (2.0, {'train.schedule': 'every'}),
    'train.plateau': (1, {'train.schedule': 'plateau'}),
    'train.drops': (1, {'train.schedule': 'plateau'}),
    'train.power': (2.0, {'train.schedule': 'polynomial'}),
    'train.factors': ((0.5,), {'train.schedule': 'every'}),
    'train.unit': ('steps', {'train.warmup': 3.0}),
    'train.rule': ('nesterov', {}),
    'train.rate_in_velocity': (True, {}),
    'train.momentum': (0.5, {}),
    'train.start_layers': (('C1',), {'train.start': __file__}),
    'train.new_head': (True, {'train.start': __file__}),
    'train.bias_decay': (0.5, {'train.weight_decay': 0.1}),
    'train.epochs': (3, {}),
    'train.rate': (0.5, {}),
    'data.whole': (True, {'augment.crop': 'area'}),
    'augment.pad': (2, {'augment.crop': 'pad'}),
    'augment.scales': ((40, 50), {'augment.crop': 'scale', 'augment.size': 32}),
    'augment.interpolation': ('random', {'augment.crop': 'area'}),
    'protocol.selection_seeds': ((3,), {'protocol.rates': (0.1, 0.2)}),
    'protocol.widen': (2, {'protocol.rates': (0.1, 0.2)}),
    'protocol.criterion': ('steps_to_error', {'protocol.rates': (0.1, 0.2), 'train.curve': 4}),
    'protocol.threshold': (
        0.5,
        {'protocol.rates': (0.1, 0.2), 'protocol.criterion': 'steps_to_error', 'train.curve': 4},
    ),
    'measure.epochs': ((1,), {'measure.names': ('gradient_norms',)}),
    'measure.images': (5, {'measure.names': ('gradient_norms',)}),
    'data.dir': ('/x', {'data.name': 'mnist'}),
    'data.allow_copies': (True, {'data.name': 'folder:x'}),
    'data.skip_broken': (True, {'data.name': 'mnist'}),
    'data.workers': (2, {'data.name': 'mnist'}),
}
IDLE = {  # the fields without which a value is not read, where the base config reads it
    'train.rule': {'train.momentum': 0.0},
    'train.rate_in_velocity': {'train.momentum': 0.0},
    'train.momentum': {'train.rule': 'adamw'},
    'train.epochs': {'train.steps': 10},
    'train.rate': {'protocol.rates': (0.1, 0.2)},
    'protocol.criterion': {'train.curve': 4},
}


def file_of(fields, loop=None):
    return configs.ConfigFile('made_up', lambda: set_all(base(), fields), loop)


def set_all(config, fields):
    for path, value in fields.items():
        configs.set_field(config, path, value)
    return config


def test_every_field_is_always_read_or_has_a_case():
    assert ALWAYS.isdisjoint(READ)
    assert ALWAYS | set(READ) == set(configs.flatten(base()))


@pytest.mark.parametrize('path', READ)
def test_a_field_that_has_no_effect_is_refused_or_said(path, capsys):
    value, others = READ[path]
    runs.plan_of(file_of(others), [(path, value)])
    runs.plan_of(file_of(others | {path: value}))
    assert 'note' not in capsys.readouterr().err
    idle = file_of(IDLE.get(path, {}))
    with pytest.raises(UserError, match=f'--config.{path} would have no effect: {path} is read wi'):
        runs.plan_of(idle, [(path, value)])
    if not path.startswith('protocol'):
        group, _, leaf = path.partition('.')
        arm = lambda add: add('a', **{group: {leaf: value}})
        with pytest.raises(UserError, match=f"'a' sets {path}, which would have no effect"):
            runs.plan_of(idle._replace(sweep=arm))
    runs.plan_of(file_of(IDLE.get(path, {}) | {path: value}))
    assert f'note: without effect in this config: {path} is read' in capsys.readouterr().err


def test_a_field_that_one_arm_reads_has_an_effect():
    loop = lambda add: [add('a', train=dict(schedule='every')), add('b')]
    runs.plan_of(file_of({}, loop), [('train.every', '2')])


def test_rates_of_learning_follow_a_field_of_the_schedule_only_where_it_is_read():
    """Against the schedule itself: every value that is called idle changes no learning rate."""

    def factors(fields):
        config = set_all(base(), fields)
        control, seen = optim.control_of(config), []
        for epoch in range(8):
            seen += [control.scale * optim.schedule_of(config, 5)(5 * epoch + s) for s in range(5)]
            control = optim.after_epoch(config, control, 0.5, 0.5)
        return seen

    for path in ('milestones', 'every', 'plateau', 'drops', 'power', 'factors', 'unit'):
        path = f'train.{path}'
        for schedule in base_config.SCHEDULES:
            fields = {'train.schedule': schedule, 'train.plateau': 2, 'train.every': 3.0}
            fields |= {'train.milestones': (2, 3)} if schedule == 'milestones' else {}
            changed = fields | {path: READ[path][0]}
            read = not checks.idle(path, configs.flatten(set_all(base(), changed)))
            assert (factors(fields) != factors(changed)) == read, (path, schedule)


@pytest.mark.parametrize('text', ['two\nlines', '\x1b[31mred', '\ud800'])
def test_a_label_or_title_that_is_not_a_line_of_text_is_refused(text):
    with pytest.raises(UserError, match='a label is a line of text without control'):
        runs.plan_of(file_of({}, lambda add: add(text)))
    with pytest.raises(UserError, match='title is .*one line of text without control'):
        runs.plan_of(file_of({'title': text}))
