"""Configs: every field named once, overrides typed, mistakes answered with the nearest name."""

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
def test_every_config_and_argument_resolves_and_is_locked(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for argument in ['', *arguments(path)]:
        file = configs.read_config(f'{path}:{argument}' if argument else str(path))
        config = file.make()
        assert config.is_locked
        if config.train.start:
            _weights(pathlib.Path(config.train.start))
        assert checks.resolve(config)['model.name']
        suffix = argument or ''.join(arguments(path)[:1])
        assert file.name == f'{path.stem}-{suffix}'.rstrip('-')


def _weights(workdir):
    """A work directory with the weights of one run."""
    (workdir / 'points/0123456789ab').mkdir(parents=True, exist_ok=True)
    (workdir / 'points/0123456789ab/weights.msgpack').write_bytes(b'')


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
        ('train.freeze', 'conv1,conv2_1/conv1', ('conv1', 'conv2_1/conv1')),
        ('data.classes', 'English springer,tench', ('English springer', 'tench')),
        ('measure.names', 'dead_units', ('dead_units',)),
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


def test_the_axes_are_those_of_the_layers():
    assert set(checks.AXES) == set(cnns.axes.AXES) == set(checks.AXES) & set(base().model)


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
        configs.read_config(spec)


def test_a_config_that_fails_to_load_is_reported_with_its_error(tmp_path):
    path = tmp_path / 'broken.py'
    path.write_text('import nothing_of_that_name')
    with pytest.raises(UserError, match='does not load: ModuleNotFoundError'):
        configs.read_config(str(path))


def test_an_error_stays_short_whatever_was_given():
    with pytest.raises(UserError) as error:
        configs.set_field(base(), 'train.batch', '-' * 20000)
    assert len(str(error.value)) < 200


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
        configs.read_config(str(path)).make()


def test_a_sweep_can_set_fields_of_the_net(tmp_path):
    path = tmp_path / 'shortcuts.py'
    path.write_text(
        START + 'def get_config():\n  c = base.get_config()\n'
        '  c.model.name = "resnet20"\n  return c\n'
        'def sweep(add):\n  for kind in "AB":\n'
        '    add(kind, model=dict(fields=dict(shortcut=kind)))'
    )
    plan = runs.plan_of(configs.read_config(str(path)))
    assert [configs.fields_of(arm.config) for arm in plan.arms] == [
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
    file = configs.read_config(spec)
    assert file.name == name
    assert file.make().train.steps == 2


def test_a_misspelt_smoke_names_it(root):
    with pytest.raises(UserError, match="'smok'. Did you mean 'smoke'"):
        configs.read_config('configs/ablate_pooling.py:smok')


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
