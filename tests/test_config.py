"""Configs: every field named once, overrides typed, mistakes answered with the nearest name."""

import math
import pathlib
import re

import pytest

import cnns
from experiments.errors import UserError
from experiments.plan import checks, runs
from experiments.plan import config as configs

FILES = sorted(
    path
    for path in (pathlib.Path(__file__).parent.parent / 'configs').glob('*.py')
    if path.stem not in ('__init__', 'base')
)


def base():
    from configs import base as module

    return module.get_config()


def arguments(path):
    found = re.search(r'^ARGUMENTS = \((.*?)\)', path.read_text(), re.M | re.S)
    return re.findall(r"'(.*?)'", found[1]) if found else []


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_every_config_and_argument_resolves_and_is_locked(path):
    for argument in ['', *arguments(path)]:
        source = configs.load(f'{path}:{argument}' if argument else str(path))
        config = source.make()
        assert config.is_locked
        assert checks.resolve(config)['model.name']
        suffix = argument or ''.join(arguments(path)[:1])
        assert source.name == f'{path.stem}-{suffix}'.rstrip('-')


def test_every_field_of_base_has_a_comment():
    text = (FILES[0].parent / 'base.py').read_text().partition('return config.lock()')[0]
    lines = [
        line
        for line in text.splitlines()
        if re.match(r'\s+config\.\w+(\.\w+)? = ', line) and 'ConfigDict()' not in line
    ]
    assert len(lines) == len(configs.flatten(base()))
    for line in lines:
        assert '  # ' in line, line


@pytest.mark.parametrize(
    'path, text, value',
    [
        ('train.epochs', '3', 3),
        ('train.rate', '0.5', 0.5),
        ('train.rate', '1', 1.0),
        ('model.pool', 'max', 'max'),
        ('model.overlap', 'true', True),
        ('model.overlap', 'False', False),
        ('protocol.rates', '(0.1, 0.2)', (0.1, 0.2)),
        ('protocol.rates', '0.1,0.2', (0.1, 0.2)),
        ('protocol.rates', '0.1', (0.1,)),
        ('data.dir', 'some/where', 'some/where'),
    ],
)
def test_overrides_are_read_as_the_fields_type(path, text, value):
    config = base()
    configs.set_field(config, path, text)
    assert configs.flatten(config)[path] == value
    assert type(configs.flatten(config)[path]) is type(value)


@pytest.mark.parametrize(
    'path, text, message',
    [
        ('train.epoch', '3', "unknown field 'train.epoch'. Did you mean 'train.epochs'"),
        ('train', '3', "'train' is a group of fields"),
        ('train.epochs', 'many', "'train.epochs' takes a whole number"),
        ('train.epochs', '1.5', "'train.epochs' takes a whole number"),
        ('train.epochs', 'True', "'train.epochs' takes a whole number"),
        ('model.overlap', '1', "'model.overlap' takes true or false"),
        ('model.overlap', 'yes', "'model.overlap' takes true or false"),
        ('train.rate', 'nan', "'train.rate' takes a number"),
        ('protocol.rates', '', "'protocol.rates' takes a list"),
        ('train.batch', '(' * 500, "'train.batch' takes a whole number"),
    ],
)
def test_a_wrong_field_or_type_is_named(path, text, message):
    with pytest.raises(UserError, match=re.escape(message)):
        configs.set_field(base(), path, text)


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
        ('model.fields.width', 3, "lenet5 has no field 'width'"),
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
    assert [flat[f'model.{axis}'] for axis in checks.AXES] == ['tanh', 'average', False, 'none']


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


def test_the_axes_are_those_of_the_layers():
    assert set(checks.AXES) == set(cnns.axes.AXES) == set(checks.AXES) & set(base().model)


def test_the_name_depends_on_what_is_learned_and_on_nothing_else():
    def name(path=None, value=None, phase='final'):
        config = base()
        if path:
            configs.set_field(config, path, value)
        return checks.digest(checks.resolve(config), phase)

    assert name() == name('title', 'x') == name('data.dir', 'd') == name('train.devices', 2)
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


@pytest.mark.parametrize(
    'spec, message',
    [
        ('configs/ablate_poling.py', r"no config file.*Did you mean 'configs/ablate_pooling.py'"),
        ('configs/ablate_pooling.py:mnits', r"unknown argument.*'mnits'. Did you mean 'mnist'"),
        ('README.md', 'is a Python file'),
        ('configs/__init__.py', 'has no get_config'),
    ],
)
def test_a_wrong_path_or_argument_names_the_nearest(root, spec, message):
    with pytest.raises(UserError, match=message):
        configs.load(spec)


def test_a_config_that_fails_to_load_is_reported_with_its_error(tmp_path):
    path = tmp_path / 'broken.py'
    path.write_text('import nothing_of_that_name')
    with pytest.raises(UserError, match='does not load: ModuleNotFoundError'):
        configs.load(str(path))


def test_an_error_stays_short_whatever_was_given():
    with pytest.raises(UserError) as error:
        configs.set_field(base(), 'train.batch', '-' * 20000)
    assert len(str(error.value)) < 200


def test_a_selection_seed_given_twice_is_refused():
    config = base()
    configs.set_field(config, 'protocol.rates', (0.1, 0.2))
    configs.set_field(config, 'protocol.selection_seeds', (3, 3))
    with pytest.raises(UserError, match='must hold different whole numbers'):
        checks.resolve(config)


START = 'from configs import base\n'


@pytest.mark.parametrize(
    'text, message',
    [
        ('def get_config(): raise RuntimeError("two\\nlines")', 'fails: RuntimeError: two lines'),
        ('import sys\ndef get_config(): sys.exit(3)', 'fails: SystemExit: 3'),
        ('import sys\nsys.exit(3)', 'does not load: SystemExit: 3'),
        ('def get_config(: pass', 'does not load: SyntaxError'),
        ('def get_config(): pass', 'returns None; it must return a ConfigDict'),
        ('def get_config(): return {}', 'returns {}; it must return a ConfigDict'),
        (
            'import ml_collections\ndef get_config(): return ml_collections.ConfigDict()',
            'lacks augment.affine, .* and more; start from',
        ),
        (START + 'def get_config(needed): return base.get_config()', 'fails: TypeError: .*needed'),
        (
            START + 'def get_config():\n  c = base.get_config()\n  c.train.epoch = 3',
            'fails: .*epoch',
        ),
        (
            START + 'def get_config():\n  c = base.get_config()\n  with c.ignore_type():\n'
            '    c.train.epochs = "x"\n  return c',
            "'train.epochs' of .* takes a whole number, it is 'x'",
        ),
        (
            START + 'ARGUMENTS = "mnist"\ndef get_config(arg="mnist"): return base.get_config()',
            "ARGUMENTS of .* is 'mnist'",
        ),
    ],
)
def test_a_config_file_that_returns_nonsense_is_reported(tmp_path, text, message):
    path = tmp_path / 'odd.py'
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        configs.load(str(path)).make()


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
    assert checks.fields_of(config) == dict(
        shortcut='A', width=32, blocks=(1, 1, 1, 1), bottleneck=True
    )
    flat = checks.resolve(config)
    assert flat['model.fields.width'] == 32
    other = config.copy_and_resolve_references()
    configs.set_field(other, 'model.fields.width', 16)
    assert checks.digest(flat, 'final') != checks.digest(checks.resolve(other), 'final')


def test_a_sweep_can_set_fields_of_the_net(tmp_path):
    path = tmp_path / 'shortcuts.py'
    path.write_text(
        START + 'def get_config():\n  c = base.get_config()\n'
        '  c.model.name = "resnet20"\n  return c\n'
        'def sweep(add):\n  for kind in "AB":\n'
        '    add(kind, model=dict(fields=dict(shortcut=kind)))'
    )
    plan = runs.plan(configs.load(str(path)))
    assert [checks.fields_of(arm.config) for arm in plan.arms] == [
        {'shortcut': 'A'},
        {'shortcut': 'B'},
    ]


@pytest.mark.parametrize(
    'spec, name',
    [
        ('configs/ablate_pooling.py:smoke', 'ablate_pooling-digits-smoke'),
        ('configs/ablate_pooling.py:mnist,smoke', 'ablate_pooling-mnist-smoke'),
        ('configs/alexnet_cifar10.py:smoke', 'alexnet_cifar10-smoke'),
    ],
)
def test_smoke_goes_with_every_config_and_argument(root, spec, name):
    source = configs.load(spec)
    assert source.name == name
    assert source.make().train.steps == 2


def test_a_misspelt_smoke_names_it(root):
    with pytest.raises(UserError, match="'smok'. Did you mean 'smoke'"):
        configs.load('configs/ablate_pooling.py:smok')


def test_a_command_line_is_flags_and_fields():
    made = configs.parser('program', 'words')
    made.add_argument('--out')
    args, fields = configs.parse(
        made,
        [
            '--config.seed=3',
            '--out',
            'x',
            '--config',
            'a.py:b',
            '--config.data.name',
            'mnist',
            '--config.title=',
        ],
    )
    assert (args.config, args.out) == ('a.py:b', 'x')
    assert fields == [('seed', '3'), ('data.name', 'mnist'), ('title', '')]


@pytest.mark.parametrize(
    'words, part',
    [
        (['--config.seed'], '--config.seed needs a value'),
        (['--config.seed', '--out', 'x'], '--config.seed needs a value'),
        (['--config', 'a.py', '--ouk', 'x'], "unknown flag '--ouk'. Did you mean '--out'?"),
        (['--config', 'a.py', '--conf.seed=3'], "unknown flag '--conf.seed'"),
        ([], 'required: --config'),
    ],
)
def test_a_command_line_in_error_is_named(words, part):
    made = configs.parser('program', 'words')
    made.add_argument('--out')
    with pytest.raises(UserError, match=part.replace('?', r'\?')):
        configs.parse(made, words)
