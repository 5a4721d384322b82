"""Damaged files of a work directory: no traceback, and no table that changes without a word."""

import json
import pathlib
import random
import shutil
import warnings

import numpy as np
import pytest

from experiments import files
from experiments.errors import UserError
from experiments.report import compare, page
from experiments.report.__main__ import main
from experiments.report.figures import render
from experiments.train import checkpoint, optim
from experiments.workdir import WorkDir

STORED = pathlib.Path(__file__).parent.parent / 'experiments/stored/lenet_mnist-modern'
ODD = (
    None,
    True,
    -1,
    -0.5,
    2.0,
    10**400,
    '',
    'x',
    '1',
    '\x1b[31m',
    '\ud800',
    [],
    [1],
    {},
    {'a': []},
)
FILES = ('results.jsonl', 'plan.json', 'metrics.jsonl', 'config.json', 'environment.json')
COUNT = 400


def damaged(random, content: bytes) -> bytes:
    """Content with one random fault: of its bytes, or of its JSON."""
    kind = random.randrange(7)
    if kind == 0:
        return content[: random.randrange(len(content))]
    if kind == 1:
        place = random.randrange(len(content))
        return (
            content[:place]
            + bytes([content[place] ^ 1 << random.randrange(8)])
            + content[place + 1 :]
        )
    if kind == 2:
        return random.choice([b'', b'null', b'[' * 50_000, b'\xff\xfe', b'{"a": NaN}', b'[]\n[]'])
    lines = content.split(b'\n') if content.count(b'}\n') > 1 else [content]
    place = random.randrange(len([line for line in lines if line.strip()]))
    value = json.loads(lines[place])
    key = random.choice(sorted(value))
    if kind == 3:
        del value[key]
    elif kind == 4 and isinstance(value[key], list) and value[key]:
        value[key][random.randrange(len(value[key]))] = random.choice(ODD)
    else:
        value[key] = random.choice(ODD)
    lines[place] = json.dumps(value).encode()
    return b'\n'.join(lines)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """A work directory as today's code writes it, with digests in rows and plan."""
    folder = tmp_path_factory.mktemp('fuzz') / 'w'
    shutil.copytree(STORED, folder)
    for path in folder.rglob('*.jsonl'):
        rows = files.read(path)
        path.unlink()
        for row in rows:
            files.append(path, row)
    plan = json.loads((folder / 'plan.json').read_text())
    rows = {row['point']: row for row in files.read(folder / 'results.jsonl')}
    names = ('arm', 'phase', 'seed', 'learning_rate', 'overrides')
    plan['runs'] = {name: {key: rows[name][key] for key in names} for name in plan['points']}
    (folder / 'plan.json').write_text(json.dumps(files.sealed(plan)))
    return folder


def test_damaged_files_end_in_one_line_or_change_nothing_unsaid(whole, tmp_path, capsys):
    rng = random.Random(20261126)
    assert main([str(whole), '--markdown']) == 0
    sound = capsys.readouterr().out
    outcomes = {'same': 0, 'refused': 0, 'warned': 0}
    for number in range(COUNT):
        path = rng.choice(sorted(whole.rglob(rng.choice(FILES))))
        before = path.read_bytes()
        path.write_bytes(damaged(rng, before))
        try:
            status = main([str(whole), '--markdown'])
            out, err = capsys.readouterr()
            if status == 0 and number % 40 == 0:  # drawing takes long
                render(compare.read([whole]))
                with warnings.catch_warnings():
                    warnings.simplefilter('ignore')
                    page.write(whole)
        finally:
            path.write_bytes(before)
        told = err.splitlines()
        assert status in (0, 2) and (status == 0 or err.count('error: ') == 1), err
        assert all(line.startswith(('note: ', 'error: ')) for line in told), err
        assert all(line.isprintable() for line in told)
        if status == 2:
            outcomes['refused'] += 1
        elif out == sound:
            outcomes['same'] += 1
        else:
            outcomes['warned'] += 1
            # a row that is not there at all is a run that is not finished
            fewer = '3/3' not in out and '/3 |' in out
            assert fewer or any(path.name in words for words in told), (path, out)
    assert min(outcomes.values()) > 20, outcomes


def test_rows_that_a_run_goes_on_from_are_the_sound_ones_or_it_is_said(whole, capsys):
    """As experiments.run opens a work directory: its rows decide what is trained, and how."""
    rng = random.Random(20261127)
    name = json.loads((whole / 'plan.json').read_text())['experiment']
    sound = WorkDir(whole, name).rows
    outcomes = {'same': 0, 'refused': 0, 'fewer': 0}
    for number in range(200):
        path = whole / rng.choice(('results.jsonl', 'results.jsonl', 'plan.json'))
        before = path.read_bytes()
        bad = damaged(rng, before)
        path.write_bytes(bad)
        capsys.readouterr()
        try:
            rows = WorkDir(whole, name).rows
        except UserError as error:
            outcomes['refused'] += 1
            assert path.name == 'plan.json' or 'holds no experiment' in str(error), number
            continue
        finally:
            path.write_bytes(before)
        err = capsys.readouterr().err
        assert all(line.startswith('note: ') and line.isprintable() for line in err.splitlines())
        assert all(sound[run] == row for run, row in rows.items()), number
        outcomes['same' if rows == sound else 'fewer'] += 1
        cut = before.startswith(bad) and bad.endswith((b'\n', b'}'))  # runs that are not finished
        assert rows == sound or 'results.jsonl' in err or cut or not bad, (number, err)
    assert min(outcomes['same'], outcomes['fewer']) > 20, outcomes


def test_a_damaged_checkpoint_is_never_gone_on_from(tmp_path):
    rng = random.Random(20261128)
    path, made_of = tmp_path / 'checkpoint.msgpack', {'code': 'x'}
    state = {'w': np.arange(50, dtype=np.float32), 'step': np.int32(3)}
    control = (optim.Control(),)
    checkpoint.save(path, made_of, checkpoint.Snapshot(1, 3, control, ({'error': 0.5},), state))
    sound = path.read_bytes()
    assert checkpoint.read(path, made_of)[0] is not None
    for number in range(200):
        place, more = rng.randrange(len(sound)), rng.randbytes(rng.randrange(1, 9))
        bad = rng.choice(
            (
                sound[:place],
                sound[:place] + bytes([sound[place] ^ 1 << rng.randrange(8)]) + sound[place + 1 :],
                sound[:place] + more + sound[place + 1 :],
                sound + more,
                more * 20,
            )
        )
        path.write_bytes(bad)
        found, note = checkpoint.read(path, made_of)
        assert bad == sound or found is None and 'is damaged' in note, number
