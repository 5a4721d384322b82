"""Every command of README runs, every link leads to a file, every number is a stored one."""

import pathlib
import re
import shlex

import pytest

import cnns
from cnns.layers import Net
from experiments import launch, run, status, workdir
from experiments.benchmark import command as benchmark
from experiments.claims import command as claims
from experiments.claims import ledger
from experiments.data import commands
from experiments.evaluation import command as evaluate
from experiments.evaluation import predict
from experiments.models import command as models
from experiments.models import export
from experiments.preprocess import sheets
from experiments.report import figures, result_table
from experiments.report import page as report
from experiments.report.summary import summarise

ROOT = pathlib.Path(__file__).parent.parent
TEXT = (ROOT / 'README.md').read_text()
BLOCKS = re.findall(r'^```\w*\n(.*?)^```', TEXT, re.M | re.S)
# The blocks of 'Run it' and 'Test it' install and run the project as they stand, in CI.
INSTALLING = [line for block in BLOCKS for line in block.splitlines() if 'pip install' in line]
COMMANDS = [
    line.split('#')[0].strip()
    for block in BLOCKS
    for line in block.splitlines()
    if line.startswith('python -m experiments.')
]


def test_the_two_headings_have_one_block_each():
    for heading in ('## Run it', '## Test it'):
        section = TEXT.split(f'\n{heading}\n')[1].split('\n## ')[0]
        assert section.count('```') == 2, heading
    assert len(INSTALLING) == 2


@pytest.mark.parametrize('command', COMMANDS)
def test_every_command_is_one_the_program_takes(command, root, tmp_path, monkeypatch, capsys):
    _, _, module, *words = shlex.split(command)
    if 'finetune_folder.py' in command:
        assert run.main(words) == 2  # takes the words, and finds no such weights here
        assert 'resnet18.pth' in capsys.readouterr().err
    elif module == 'experiments.run':
        assert run.main([*words, '--dry_run', '--workdir', str(tmp_path / 'w')]) == 0
    elif module == 'experiments.models':
        # test_nets.py traces all of them
        monkeypatch.setattr(cnns, 'names', lambda: ('lenet5', 'alexnet_32px'))
        words = [word.replace('runs/', f'{tmp_path}/') for word in words]
        assert models.main(words) == 0
    elif module == 'experiments.predict':
        assert predict.main(words) == 2  # takes the words, and finds no such image here
        assert re.search(r'image.jpg|no weights', capsys.readouterr().err)
    elif module == 'experiments.evaluate':
        assert evaluate.main(words) == 2  # takes the words; nothing was trained here
        assert 'lenet_mnist-modern' in capsys.readouterr().err
    elif module == 'experiments.export':
        assert export.main(words) == 2  # takes the words, and finds no such file here
        assert 'resnet18.pth' in capsys.readouterr().err
    elif module == 'experiments.launch':
        assert launch.main([*words, '--workdir', str(tmp_path / 'w')]) == 0
        assert '#SBATCH' in capsys.readouterr().out
    elif module == 'experiments.status':
        assert status.main(words) == 0
    elif module == 'experiments.claims':
        # test_claims.py computes all
        monkeypatch.setattr(claims, 'CLAIMS', {name: ledger.CLAIMS[name] for name in ('L4', 'V1b')})
        assert claims.main(words) == 0
    elif module == 'experiments.sheets':
        assert sheets.main([word.replace('runs/', f'{tmp_path}/') for word in words]) == 0
    elif module == 'experiments.benchmark':
        if '--figure' in words:
            assert benchmark.main([word.replace('runs/', f'{tmp_path}/') for word in words]) == 0
        else:  # minutes
            benchmark.check(benchmark.parser().parse_args(words))
    elif module == 'experiments.data':
        asked = []
        monkeypatch.setattr(commands, 'prepare', lambda name, folder: asked.append(name) or name)
        assert commands.main([word.replace('runs/', f'{tmp_path}/') for word in words]) == 0
        assert bool(asked) == (words[0] == 'prepare')
    else:
        (stored,) = words[:1]
        (tmp_path / 'copy').mkdir()
        for path in (root / stored).rglob('*.json*'):
            copy = tmp_path / 'copy' / path.relative_to(root / stored)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
        main = {'experiments.figures': figures, 'experiments.report': report}[module].main
        assert main([str(tmp_path / 'copy'), *words[1:]]) == 0
        assert list((tmp_path / 'copy').glob('*.html' if module.endswith('report') else '*.png'))


def test_every_path_it_names_exists():
    for link in re.findall(r'\]\(([^)#]+)\)', TEXT):
        assert (ROOT / link).exists(), link
    for path in re.findall(r'`((?:cnns|configs|experiments|tests)/[\w./-]+)`', TEXT):
        assert (ROOT / path).exists(), path


def test_the_field_list_in_an_override_is_real():
    from configs import base
    from experiments.plan.config import flatten

    fields = flatten(base.get_config())
    for field in re.findall(r'--config\.([a-z][\w.]+)=', TEXT):
        if field.startswith('model.fields.'):
            assert hasattr(Net, field.split('.')[-1]), field
        else:
            assert field in fields, field


def test_the_python_example_runs():
    (example,) = re.findall(r'^```python\n(.*?)^```', TEXT, re.M | re.S)
    names = {}
    exec(example, names)
    assert names['logits'].shape == (1, 10)
    assert names['hidden'].shape == (1, 84)


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip('| ').split('|')]


def test_the_table_of_findings_is_that_of_the_stored_rows(root):
    stored = workdir.read_experiment(root / 'experiments/stored/ablate_pooling-fashion_mnist')
    printed = result_table.markdown(summarise(stored)).split('\n\n')[0]
    assert '| overlapping max pooling | 0.03 | 5/5 |' in printed and printed.strip() in TEXT


@pytest.mark.parametrize(
    'folder, words',
    [
        ('lenet_mnist-modern', ['0.80 ± 0.10 %']),
        ('lenet_mnist-1998', ['1.23 ± 0.25 %']),
        ('cuda_convnet_cifar10-80sec', ['27.78 %']),
    ],
)
def test_the_other_errors_are_those_of_the_stored_rows(root, folder, words):
    ((*_, error, _, _, _),) = result_table.cells(
        summarise(workdir.read_experiment(root / 'experiments/stored' / folder))
    )
    assert words == [f'{error} %'] and words[0] in TEXT.replace('\n', ' ')


def test_the_answer_on_relu_and_tanh_is_that_of_the_stored_rows():
    found = ledger.verdict(ledger.CLAIMS['A1'])
    words = f'{found.effect:.2f} times as many steps, [{found.low:.2f}, {found.high:.2f}]'
    said = TEXT.replace('\n', ' ')
    assert words in said and found.verdict == 'equivalent' and found.seeds == 5
    early = found.text.partition("With cuda-convnet's initialisation")[2]
    assert 'To 40 % training error: tanh takes 3.30 times as long as relu, [3.00, no upper' in early
    assert early.count('5 of 5 runs of tanh never got there') == 3  # to 25, 30 and 10 %
    assert (
        'it never gets there, and takes 3.30 times as many to 40 %, [3.00, no upper bound]' in said
    )


def test_the_table_of_speeds_holds_columns_of_the_stored_benchmark(root):
    whole = (root / 'experiments/benchmark/README.md').read_text()
    table = [line for line in TEXT.split('\n## Speed\n')[1].split('\n') if line.startswith('|')]
    headings, _, *rows = map(cells_of, table)
    lines = [line for line in whole.split('\n') if line.startswith('|')]
    first = next(index for index, line in enumerate(lines) if 'ratio to plain' in line)
    known = cells_of(lines[first])
    stored = {cells[0]: cells for cells in map(cells_of, lines[first + 2 : first + 15])}
    assert len(rows) == 8 and len(headings) == 7
    for row in rows:
        assert row == [stored[row[0]][known.index(heading)] for heading in headings]


def test_it_fits_three_screens():
    assert len(TEXT.splitlines()) <= 220
