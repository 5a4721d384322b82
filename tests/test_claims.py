"""The command that shows the claims: its table, its JSON and its errors."""

import configparser
import io
import json
import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from experiments import run as training
from experiments import tables
from experiments.claims import command, ledger, page, trained
from experiments.claims import words as texts
from experiments.claims.claim import Verdict
from experiments.plan import runs
from experiments.plan.config import read_config

CORRECTED = Verdict('corrected', 'N < 3.11 D.', 28 / 9)
TRAINED = Verdict('supported', 'Lower.', 0.43, 0.2, 0.66, 5, 'CIFAR-10', 'seeds')


@pytest.fixture
def quick(monkeypatch):
    """Verdicts that cost nothing."""
    known = {'V1b': CORRECTED, 'A3d': TRAINED, 'L2': Verdict('supported', 'Exact.', 60_000.0)}
    pending = Verdict('not resolved', 'not run yet')
    monkeypatch.setattr(command, 'verdict', lambda claim: known.get(claim.id, pending))
    return known


def run(capsys, *words):
    status = command.main(list(words))
    return status, *capsys.readouterr()


def test_the_table_has_every_claim_in_order(quick, capsys):
    status, out, err = run(capsys)
    assert status == 0
    lines = [line for line in out.splitlines() if line.split() and line.split()[0] in ledger.CLAIMS]
    assert [line.split()[0] for line in lines] == list(ledger.CLAIMS)
    assert out.startswith('47 claims: 2 supported, 44 not resolved, 1 corrected')
    assert '3.11 N / D' in out and '60,000 parameters' in out
    assert 'experiments.claims ID' in err


def test_the_table_loses_no_word_at_80_columns(quick):
    pairs = [(claim, command.verdict(claim)) for claim in ledger.CLAIMS.values()]
    for width in (80, 200):
        file = io.StringIO()
        Console(width=width, file=file).print(tables.Terminal(texts.HEADINGS, texts.table(pairs)))
        text = file.getvalue()
        assert max(map(len, text.splitlines())) <= width and '…' not in text
        words = [word for line in texts.table(pairs) for cell in line for word in cell.split()]
        below = text[text.rindex('─') + 1 :]  # headings of two words may fold, too
        assert sorted(words) == sorted(below.split())


def test_the_json_is_a_list_of_objects(quick, capsys):
    status, out, err = run(capsys, '--json')
    assert status == 0 and err == ''
    objects = json.loads(out)
    assert [one['id'] for one in objects] == list(ledger.CLAIMS)
    trained = objects[list(ledger.CLAIMS).index('A3d')]
    assert trained == {
        'id': 'A3d',
        'verdict': 'supported',
        'effect': 0.43,
        'low': 0.2,
        'high': 0.66,
        'unit': 'percentage points',
        'seeds': 5,
        'config': 'ablate_pooling.py:small',
        'data': 'CIFAR-10',
        'pair': '',
        'text': 'Lower.',
    }
    assert run(capsys, 'A3d', '--json')[1] == json.dumps([trained], indent=2) + '\n'


def test_one_claim_is_shown_in_full(quick, capsys):
    status, out, _ = run(capsys, 'V1b')
    text = ' '.join(out.split())
    claim = ledger.CLAIMS['V1b']
    for words in (claim.sentence, claim.correction, claim.source, claim.measure, claim.paper):
        assert words in text
    assert status == 0 and 'verdict corrected' in text and 'effect 3.11 N / D' in text
    text = ' '.join(run(capsys, 'a3d')[1].split())  # small letters will do
    assert '0.43 [0.2, 0.66] percentage points' in text
    assert 'margin 0.3 percentage points' in text and 'seeds 0 to 4 of each arm; ' in text


def test_the_page_of_one_claim_has_its_figures_as_files(tmp_path, capsys):
    status, out, _ = run(capsys, 'A6', '--page', str(tmp_path))
    assert status == 0
    names = [Path(line).name for line in out.splitlines()]
    assert names[0] == 'claims.html' and {'A6-1.png', 'A6-1.svg'} <= {*names}
    assert sorted(names + ['claims.md']) == sorted(path.name for path in tmp_path.iterdir())
    assert (tmp_path / 'A6-1.png').read_bytes().startswith(b'\x89PNG')
    assert '<svg' in (tmp_path / 'A6-1.svg').read_text()
    assert 'id="A6"' in (tmp_path / 'claims.html').read_text()
    assert 'id="A7"' not in (tmp_path / 'claims.html').read_text()


@pytest.mark.parametrize('given, nearest', [('A3e', "'A3d'"), ('v1', "'V1"), ('R8', 'R7')])
def test_an_unknown_id_is_one_line_with_the_nearest(given, nearest, capsys):
    status, out, err = run(capsys, given)
    assert (status, out, err.count('\n')) == (2, '', 1)
    assert nearest in err and repr(given.capitalize()) in err


def test_progress_is_said_when_it_takes_long(quick, capsys, monkeypatch):
    clock = iter(range(0, 1000, 3))
    monkeypatch.setattr(command.time, 'perf_counter', lambda: next(clock))
    found = command.judged(list(ledger.CLAIMS.values())[:6])
    assert [claim.id for claim, *_ in found] == ['L1', 'L2', 'L3', 'L4', 'L5', 'L6']
    notes = capsys.readouterr().err.splitlines()
    assert notes and notes[0] == 'note: 2 of 6 claims'


@pytest.mark.parametrize(
    'words, config',
    [
        (['A3d', '--run'], 'configs/ablate_pooling.py:small'),
        (['a3d', '--run', '--scale', 'full'], 'configs/ablate_pooling.py:full'),
        (['L1', '--run', '--scale=full'], 'configs/lenet_shift.py:full'),
    ],
)
def test_a_claim_is_trained_by_its_config_at_the_scale_asked_for(
    words, config, monkeypatch, capsys
):
    asked = []
    monkeypatch.setattr(command.subprocess, 'call', lambda given: asked.append(given) or 3)
    assert command.main(words) == 3
    assert asked[0][1:] == ['-m', 'experiments.run', '--config', config]
    assert runs.plan_of(read_config(config)).arms
    assert capsys.readouterr().out.strip() == f'python -m experiments.run --config {config}'


def test_a_claim_whose_config_is_not_written_says_so(monkeypatch, capsys):
    claim = ledger.CLAIMS['V6']._replace(config='ablate_more.py')
    monkeypatch.setitem(ledger.CLAIMS, 'V6', claim)
    assert command.main(['V6', '--run']) == 2
    words = 'ablate_more.py, which would measure V6, is not written yet'
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    'words, message',
    [
        (['--run'], '--run is of one claim: name it, as in A1 --run'),
        (['--scale', 'full'], 'name it, as in A1 --scale full'),
        (['--scale', 'full', '--json'], 'name it'),
        (['L4', '--scale', 'full'], 'L4 is computed, it trains nothing: leave --scale full out'),
        (['L4', '--run'], 'L4 is computed, it trains nothing'),
        (['A3d', '--run', '--scale', 'huge'], 'huge'),
    ],
)
def test_what_cannot_be_trained_or_judged_is_one_line(words, message, capsys):
    assert command.main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ') and message in error and error.count('\n') == 1


@pytest.mark.parametrize(
    'words, message',
    [
        (['L4', '--run', '--json'], 'argument --json: not allowed with argument --run'),
        (['L4', '--run', '--page', 'p'], 'argument --page: not allowed with argument --run'),
        (['--page', 'p', '--json'], 'argument --json: not allowed with argument --page'),
        (['X4', '--page', 'p'], 'X4'),
        (['--page', 'p', '--scale', 'full'], '--scale full is of one claim: name it'),
        (['--page', ''], "--page '' names no folder: give one such as --page runs/claims."),
        (
            ['--page', 'file'],
            'file/claims.html cannot be written (File exists). Name another --page.',
        ),
    ],
)
def test_options_that_do_not_go_together_and_pages_without_a_place_are_one_line(
    words, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').write_text('')
    monkeypatch.setattr(
        command, 'judged', lambda claims, drawn: 1 / 0
    )  # before anything is computed
    status, out, err = run(capsys, *words)
    assert (status, out, err.count('\n')) == (2, '', 1) and message in err
    assert [path.name for path in tmp_path.iterdir()] == ['file']


@pytest.fixture
def rows(root, tmp_path, monkeypatch):
    """Puts the stored rows of lenet_c3 where experiments.run would write them at a scale."""
    stored = trained.STORED / 'lenet_c3-small'
    monkeypatch.setattr(trained, 'STORED', tmp_path / 'stored')
    monkeypatch.chdir(tmp_path)

    def put(scale):
        spec = f'configs/lenet_c3.py:{scale}'
        args, _ = training.parse(['--config', spec])
        folder = training.workdir_of(args, runs.plan_of(read_config(spec)))
        shutil.copytree(stored, folder)

    return put


def test_rows_that_are_not_stored_are_read_where_they_were_trained(rows, capsys):
    assert 'Not run yet' in run(capsys, 'L6')[1]
    rows('small')
    text = ' '.join(run(capsys, 'L6')[1].split())
    assert 'links of Table I minus all links: ' in text and 'Not run yet' not in text
    assert 'The rows are in runs/lenet_c3-small.' in text
    assert re.search(
        r'trained 20\d\d-\d\d-\d\d; .* core.* rows \d+ runs in runs/lenet_c3-small', text
    )
    (found,) = json.loads(run(capsys, 'L6', '--json')[1])
    assert found['seeds'] == 12 and 'runs/lenet_c3-small' in found['text']
    pair = ledger.CLAIMS['L6'], ledger.verdict(ledger.CLAIMS['L6'])
    assert 'runs in runs/lenet_c3-small' in page.html([pair])


def test_rows_of_the_full_scale_are_judged_where_they_are_asked_for(rows, capsys):
    rows('full')
    assert 'Not run yet' in run(capsys, 'L6')[1]
    text = ' '.join(run(capsys, 'L6', '--scale', 'full')[1].split())
    assert 'config lenet_c3.py:full' in text and 'runs in runs/lenet_c3-full' in text
    assert 'Not run yet' not in text
    text = ' '.join(run(capsys, 'R1', '--scale', 'full')[1].split())
    assert 'Not run yet: python -m experiments.claims R1 --run --scale full (' in text


def test_a_claim_is_judged_once_its_runs_have_ended(rows, monkeypatch, capsys):
    monkeypatch.setattr(command.subprocess, 'call', lambda words: rows('small') or 0)
    status, out, err = run(capsys, 'L6', '--run')
    assert (status, err) == (0, '')
    assert out.startswith('python -m experiments.run --config configs/lenet_c3.py:small\n')
    assert out.split('\n', 1)[1] == run(capsys, 'L6')[1]
    assert 'links of Table I minus all links: ' in out


def test_rows_that_are_stored_go_before_those_just_trained_and_it_is_said(monkeypatch, capsys):
    monkeypatch.setattr(command.subprocess, 'call', lambda words: 0)
    status, out, err = run(capsys, 'L6', '--run')
    assert status == 0 and 'experiments/stored/lenet_c3-small' in out
    words = 'rows in experiments/stored/lenet_c3-small, not of those in runs/lenet_c3-small'
    assert err == f'note: the verdict is of the {words}\n'


def test_a_run_that_has_just_begun_is_a_note(rows, tmp_path, capsys):
    folder = tmp_path / 'runs/lenet_c3-small'
    folder.mkdir(parents=True)
    (folder / 'plan.json').write_text('{"experiment": "lenet_c3-small"}')
    status, out, err = run(capsys, 'L6')
    assert status == 0 and 'Not run yet' in out
    assert err.startswith('note: runs/lenet_c3-small/plan.json cannot be used (it lacks title')


@pytest.mark.parametrize('scale', command.SCALES)
def test_every_claim_that_trains_has_both_scales(scale):
    for claim in ledger.CLAIMS.values():
        if claim.config:
            config = command.at_scale(claim, scale, '--run').config
            assert config.partition(':')[2].startswith(scale)
            assert read_config(f'configs/{config}').name == trained.folder_of(config).name


def test_an_installed_copy_has_the_rows_that_claims_are_judged_by(root):
    given = configparser.ConfigParser()
    given.read(root / 'setup.cfg')
    patterns = given['options.package_data']['experiments'].split(', ')
    packed = {path for one in patterns for path in (root / 'experiments').glob(one)}
    kept = {path for path in (root / 'experiments/stored').rglob('*.json*')}
    assert len(kept) > 100 and kept <= packed
