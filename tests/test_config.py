"""Configs: every field named once, overrides typed, mistakes answered with the nearest name."""

import os
import pathlib
import re
import subprocess
import sys

import pytest
from conftest import ROOT

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
    return configs.read_config(str(path)).arguments


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


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_no_config_sets_a_field_that_has_no_effect(path):
    default = configs.flatten(base())
    for argument in ['', *arguments(path)]:
        file = configs.read_config(f'{path}:{argument}' if argument else str(path))
        flat = configs.flatten(file.make())
        changed = [name for name in default if flat[name] != default[name]]
        assert [why for name in changed if (why := checks.idle(name, flat))] == []


def test_every_field_of_base_has_a_comment():
    text = (FILES[0].parent / 'base.py').read_text().partition('return config.lock()')[0]
    lines = [
        line
        for line in text.splitlines()
        if re.match(r'\s+(config|data)\.\w+(\.\w+)? = ', line)
        and 'ConfigDict()' not in line
        and 'get_data()' not in line
    ]
    assert len(lines) == len(configs.flatten(base())) - len(cnns.axes.AXES)  # made in a loop
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
        ('def get_config(): pass', 'is None; it must be a ConfigDict made by'),
        ('def get_config(): return {}', 'is {}; it must be a ConfigDict made by'),
        (
            'import ml_collections\ndef get_config(): return ml_collections.ConfigDict()',
            r'lacks augment.affine, .* and \d+ more; start from',
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
        (['--config', 'a.py', '--ouk', 'x'], "unknown option '--ouk'. Did you mean '--out'?"),
        (['--config', 'a.py', '--conf.seed=3'], "unknown option '--conf.seed'"),
        ([], 'required: --config'),
    ],
)
def test_a_command_line_in_error_is_named(words, part):
    made = configs.parser('program', 'words')
    made.add_argument('--out')
    with pytest.raises(UserError, match=part.replace('?', r'\?')):
        configs.parse(made, words)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Another folder, where a user has packages of the names of ours."""
    for name in ('configs', 'cnns'):
        (tmp_path / name).mkdir()
        (tmp_path / name / '__init__.py').write_text('')
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize('spec', ['configs/ablate_pooling.py', 'ablate_pooling.py:mnist', 'base'])
def test_a_packaged_config_is_found_by_name_from_another_folder(project, spec):
    assert configs.read_config(spec).make().model.name == 'lenet5'


def test_a_file_of_the_user_comes_before_a_packaged_config_of_its_name(project):
    (project / 'configs/base.py').write_text('def get_config(): 1 / 0')
    with pytest.raises(UserError, match='ZeroDivisionError'):
        configs.read_config('configs/base.py').make()
    with pytest.raises(UserError, match='There are: .*configs/mine.py'):
        (project / 'configs/mine.py').write_text('')
        configs.read_config('lenet')
    with pytest.raises(UserError, match="'configs/ablate_poolin.py'.*mean 'configs/ablate_pooling"):
        configs.read_config('configs/ablate_poolin.py')
    for elsewhere in ('other/ablate_pooling.py', str(project / 'ablate_pooling.py')):
        with pytest.raises(UserError, match='no config file'):
            configs.read_config(elsewhere)


def test_with_python_P_a_package_experiments_of_the_user_does_not_hide_ours(project):
    (project / 'experiments.py').write_text('')
    for flags in ([], ['-P']):
        done = subprocess.run(
            [sys.executable, *flags, '-c', 'import experiments; print(experiments.__file__)'],
            env=os.environ | {'PYTHONPATH': str(ROOT)},
            capture_output=True,
            text=True,
        )
        found = pathlib.Path(done.stdout.strip())
        assert found == (ROOT / 'experiments/__init__.py' if flags else project / 'experiments.py')


@pytest.mark.parametrize('first, status', [('', 0), ('import configs; ', 1)])
def test_packages_of_the_user_do_not_hide_ours(project, first, status):
    code = (
        'import experiments, importlib.util, configs.base; '
        "print(configs.base.__file__, importlib.util.find_spec('cnns').origin)"
    )
    done = subprocess.run(
        [sys.executable, '-c', first + code],
        env=os.environ | {'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status
    if status:
        assert 'is imported already and hides the package configs of' in done.stderr
    else:
        assert done.stdout.split() == [
            str(ROOT / 'configs/base.py'),
            str(ROOT / 'cnns/__init__.py'),
        ]


def test_none_on_the_command_line_is_none_wherever_it_can_be():
    fields = configs.flatten(base())
    optional = [name for name, value in fields.items() if value is None]
    assert {'data.cache', 'data.dir', 'model.pool', 'model.norm', 'title'} <= set(optional)
    for name in optional:
        config = base()
        text, value = ('true', True) if name == 'model.overlap' else ('none', 'none')
        for none in ('None', None):
            configs.set_field(config, name, text)
            assert configs.flatten(config)[name] == value
            configs.set_field(config, name, none)
            assert configs.flatten(config)[name] is None
    configs.set_field(config, 'data.name', 'None')
    assert config.data.name == 'None'


def written(tmp_path, text):
    path = tmp_path / 'mine.py'
    path.write_text('from configs import base\nget_config = base.get_config\n' + text)
    return runs.plan_of(configs.read_config(str(path)))


SWEEP = "sweep = lambda add: [add(pool, model=dict(pool=pool)) for pool in ('average', 'max')]\n"


def test_a_config_declares_the_comparisons_that_are_corrected_together(tmp_path):
    plan = written(tmp_path, SWEEP + "COMPARISONS = (('average', 'max'),)")
    assert plan.comparisons == (('average', 'max'),)
    assert written(tmp_path, SWEEP).comparisons == ()


@pytest.mark.parametrize(
    'text, words',
    [
        ("(('average', 'maxx'),)", "arm in COMPARISONS of mine 'maxx'. Did you mean 'max'"),
        ("('average', 'max')", 'must be a tuple of pairs'),
        ("(('max', 'max'),)", 'must be a tuple of pairs'),
        ('7', 'must be a tuple of pairs'),
    ],
)
def test_comparisons_of_no_arms_are_errors(tmp_path, text, words):
    with pytest.raises(UserError, match=words):
        written(tmp_path, SWEEP + f'COMPARISONS = {text}')


def test_a_sweep_may_take_the_argument_of_its_config(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(
        'from configs import base\n'
        "ARGUMENTS = ('few', 'many')\n"
        "def get_config(arg='few'):\n    return base.get_config()\n"
        'def sweep(add, arg):\n'
        "    for seed in range(2 if arg == 'few' else 5):\n        add('a', seed=seed)\n"
    )
    for argument, count in (('', 2), (':few', 2), (':many', 5)):
        plan = runs.plan_of(configs.read_config(f'{path}{argument}'))
        assert len(plan.arms[0].seeds) == count
