"""Command lines: one name for one thing, in all commands, and one line for a mistake."""

import argparse
import subprocess
import sys

import pytest

import experiments
from experiments import launch, options, status
from experiments.benchmark import command as benchmark
from experiments.claims import command as claims
from experiments.data import commands as data
from experiments.errors import UserError
from experiments.evaluation import command as evaluate
from experiments.evaluation import predict
from experiments.models import command as models
from experiments.models import export
from experiments.plan import config
from experiments.preprocess import sheets

# Every option with what it means wherever it is. Those of figures and report are in their mains.
OPTIONS = {
    '--again': 'measures again what is stored',
    '--against': 'what is measured beside ours',
    '--ablation': 'what is measured',
    '--all': 'what is measured',
    '--budget': 'seconds after which nothing new is measured',
    '--batch': 'images a step',
    '--cancel': 'ends what was started',
    '--class_names': 'file of names, one a line',
    '--cluster': 'where workers are started',
    '--compilation_cache': 'folder',
    '--compile': 'cases that torch.compile is tried on',
    '--config': 'config file',
    '--constraint': "Slurm's",
    '--cpus': 'processors of a worker',
    '--crops': 'what is measured',
    '--csv': 'prints CSV',
    '--data_dir': 'folder of TFDS sets, as data.dir',
    '--devices': 'number of devices that share a batch, as train.devices',
    '--distributed': 'the processes of a training',
    '--draws': 'draws of an image',
    '--dry_run': 'prints what would be done',
    '--dtype': 'of the computation',
    '--each': 'which sheet',
    '--enlarge': 'height and width in pixels of the images that are made',
    '--epochs': 'number of epochs',
    '--field': 'a field of a net, NAME=VALUE',
    '--figure': 'file of a figure that is drawn instead',
    '--gpus': 'GPUs of a worker',
    '--images': 'number of images of a sheet',
    '--json': 'prints JSON',
    '--markdown': 'prints a GitHub table',
    '--mean': 'of pixels in 0..1',
    '--memory': 'of a worker, GB',
    '--model': "the net of PyTorch's weights",
    '--only': 'part of a plan',
    '--operations': 'what is measured',
    '--out': 'where the result is written',
    '--parallel': 'workers at a time',
    '--partition': "Slurm's",
    '--print_script': 'prints what would be submitted',
    '--page': 'folder that a page is written to',
    '--part': 'train, validation or test',
    '--profile': 'what is measured',
    '--resize': 'pixels of the shorter side, as data.resize',
    '--rounds': 'repetitions of a measurement',
    '--run': 'trains what is shown',
    '--runs_per_task': 'how many workers are started',
    '--scale': 'how large what is trained is',
    '--seconds': 'length of a measurement',
    '--setup': 'line of shell before a worker',
    '--show': 'prints what is stored',
    '--side': 'pixels of an image',
    '--sizes': 'what is measured',
    '--slurm': 'other fields of sbatch',
    '--status': 'prints how far a sweep is',
    '--time': 'of a worker, minutes',
    '--std': 'of pixels in 0..1',
    '--to': 'format',
    '--torch_python': 'interpreter',
    '--views': 'the views of a test image: which, or as a sheet',
    '--weights': 'file of weights',
    '--workdir': 'work directory',
    '--workers': 'processes that decode, as data.workers',
}


def parsers(monkeypatch):
    """Every parser of a command, those of subcommands included."""
    from experiments import run

    made, plain = [], config.parse
    monkeypatch.setattr(
        config, 'parse', lambda parser, argv: made.append(parser) or plain(parser, argv)
    )
    run.parse(['--config', 'a.py'])
    launch.parse(['--config', 'a.py'])
    commands = (benchmark, claims, evaluate, export, models, predict, sheets, status)
    made += [command.parser() for command in commands]
    top = data.parser()
    (several,) = (one for one in top._actions if isinstance(one, argparse._SubParsersAction))
    return [*made, top, *several.choices.values()]


def test_every_option_has_one_name_and_one_meaning_in_all_commands(monkeypatch):
    found = {}
    for parser in parsers(monkeypatch):
        assert isinstance(parser, options.Parser)
        for action in parser._actions:
            for name in action.option_strings:
                if name not in ('-h', '--help'):
                    found.setdefault(name, []).append(action)
    assert sorted(found) == sorted(OPTIONS)
    for name, actions in found.items():
        assert not name.count('-', 2), name  # words are joined by underscores
        # the same kind of value, in the same number, called the same
        kinds = {(one.type, one.nargs, one.metavar) for one in actions}
        assert len(kinds) == 1 or name == '--views', (name, kinds)
    # a field of a net is set as an option of its name
    from cnns import NETS

    fields = {f'--{field}' for entry in NETS.values() for field in entry.net.__dataclass_fields__}
    assert not fields & (found.keys() - {'--dtype'})


def test_every_help_fits_in_80_columns(monkeypatch):
    monkeypatch.setenv('COLUMNS', '80')
    for parser in parsers(monkeypatch):
        assert max(map(len, parser.format_help().splitlines())) < 80, parser.prog


@pytest.mark.parametrize(
    'words, message',
    [
        (['--batc', '3'], "unknown option '--batc'. Did you mean '--batch_size'"),
        (['--batch_size', 'x'], "argument --batch_size: invalid int value: 'x'. See prog --help."),
        (['--batch_size', '1', 'a', 'b'], 'unrecognized arguments: b. See prog --help.'),
        (['--batch_size', '1'], 'required: name. See prog --help.'),
        (['--batch_size'], 'argument --batch_size: expected one argument. See prog --help.'),
        (['--kind', 'reed', 'a'], "unknown --kind 'reed'. Did you mean 'red'? Allowed: red, blue"),
    ],
)
def test_a_mistake_is_one_line(words, message):
    with pytest.raises(UserError) as found:
        parser().parse_args(words)
    assert message in str(found.value) and '\n' not in str(found.value)


def parser(**given):
    made = options.Parser(prog='prog', **given)
    made.add_argument('name')
    made.add_argument('--batch_size', type=int)
    made.add_argument('--kind', choices=('red', 'blue'))
    return made


def test_words_of_an_option_may_be_joined_by_hyphens():
    for words in (['--batch-size', '3', 'a-b'], ['--batch-size=3', 'a-b']):
        assert vars(parser().parse_args(words)) == {'name': 'a-b', 'batch_size': 3, 'kind': None}
    assert parser().parse_args(['--', '--batch-size']).name == '--batch-size'
    found, others = parser(others=True).parse_known_args(['a', '--batch-size=3', '--x-y=1'])
    assert (found.batch_size, others) == (3, ['--x-y=1'])


def called(root, *words):
    done = subprocess.run(
        [sys.executable, '-m', *words], capture_output=True, text=True, cwd=root, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    'module', ['', '.train', '.progress', '.plan.config', '.report.page', '.nothing']
)
def test_a_module_without_a_command_says_which_there_are(root, module):
    status, out, err = called(root, f'experiments{module}')
    assert (status, out) == (2, '') and err.count('\n') == 1
    assert err.startswith(f'error: experiments{module} is no command. The commands are: ')
    for name in ('run', 'data', 'models', 'report', 'figures', 'sheets', 'predict', 'benchmark'):
        assert f'experiments.{name}' in err
    assert set(experiments.commands()) >= {'run', 'data', 'models'}


def test_the_help_of_run_names_configs_fields_and_exit_statuses(root):
    status, out, _ = called(root, 'experiments.run', '--help')
    words = ' '.join(out.split())
    assert status == 0
    for part in ('ablate_pooling', 'resnet_cifar10', 'train.epochs', 'phase', '130 interrupted'):
        assert part in words, part
