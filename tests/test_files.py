"""Files are whole, or what they were before; stored rows survive crashes."""

import json
import math
import subprocess
import sys

import pytest
from conftest import ROOT

from experiments import files


def test_rows_come_back_as_they_were_appended(tmp_path):
    rows = [{'a': 1, 'b': 'ü\n"'}, {'a': 0.1 + 0.2}]
    for one in rows:
        files.append(tmp_path / 'r.jsonl', one)
    assert files.read(tmp_path / 'r.jsonl') == rows
    assert (tmp_path / 'r.jsonl').read_bytes().count(b'\n') == 2


def test_no_file_is_no_rows(tmp_path):
    assert files.read(tmp_path / 'none.jsonl') == []


def test_a_truncated_last_line_is_skipped_with_a_warning_that_names_it(tmp_path):
    path = tmp_path / 'r.jsonl'
    path.write_text('{"a": 1}\n{"a": 2}\n{"a": ')
    with pytest.warns(UserWarning, match=r'r\.jsonl, line 3: not a complete row'):
        assert files.read(path) == [{'a': 1}, {'a': 2}]


@pytest.mark.parametrize('fragment', [b'{"a": ', b'{"a": "\xc3', b'17', b'\x00\x00'])
def test_a_row_appended_after_a_fragment_is_whole(tmp_path, fragment):
    path = tmp_path / 'r.jsonl'
    path.write_bytes(b'{"a": 1}\n' + fragment)
    files.append(path, {'a': 3})
    assert path.read_bytes().startswith(b'{"a": 1}\n' + fragment)  # only ever added to
    with pytest.warns(UserWarning, match='line 2'):
        assert files.read(path) == [{'a': 1}, {'a': 3}]


def test_a_number_that_is_not_finite_is_stored_as_null(tmp_path):
    files.append(tmp_path / 'r.jsonl', {'loss': math.nan, 'top': math.inf, 'n': 1, 'e': 0.5})
    refuse = lambda word: pytest.fail(f'{word} is no JSON')
    stored = json.loads((tmp_path / 'r.jsonl').read_text(), parse_constant=refuse)
    del stored['digest']
    assert stored == {'loss': None, 'top': None, 'n': 1, 'e': 0.5}


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / 'f'
    files.write_whole(path, 'old')

    def broken(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(files.os, 'replace', broken)
    with pytest.raises(OSError):
        files.write_whole(path, 'new')
    assert path.read_text() == 'old' and [p.name for p in tmp_path.iterdir()] == ['f']


KILLED = """
import os, pathlib, signal, sys
from experiments import files
files.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
files.write_whole(pathlib.Path(sys.argv[1]), 'x' * 100)
"""


def killed_while_writing(path):
    assert subprocess.run([sys.executable, '-c', KILLED, path], cwd=ROOT).returncode == -9
    (left,) = [p for p in path.parent.iterdir() if p.suffix == '.part']
    return left


def test_what_a_killed_write_leaves_is_swept_by_the_next_and_a_write_in_progress_is_not(tmp_path):
    left = killed_while_writing(tmp_path / 'f')
    temporary, file = files._temporary(tmp_path / 'f')  # of a process that lives
    with file:
        files.write_whole(tmp_path / 'f', 'new')
        assert not left.exists() and temporary.exists()
    assert (tmp_path / 'f').read_text() == 'new'


def test_a_write_follows_no_planted_link(tmp_path, monkeypatch):
    """Its temporary file has a name that cannot be guessed; where it is there, it is not opened."""
    (tmp_path / 'other').write_text('precious')
    names = iter(['0' * 16, '1' * 16])
    monkeypatch.setattr(files.secrets, 'token_hex', lambda size: next(names))
    (tmp_path / f'.f.{"0" * 16}.part').symlink_to(tmp_path / 'other')
    monkeypatch.setattr(files, 'sweep', lambda *_: None)
    with pytest.raises(FileExistsError):
        files.write_whole(tmp_path / 'f', 'new')
    assert (tmp_path / 'other').read_text() == 'precious' and not (tmp_path / 'f').exists()


def test_a_sweep_removes_a_link_and_not_what_it_names(tmp_path):
    (tmp_path / 'other').write_text('precious')
    (tmp_path / '.mine.12').write_text('not of ours')
    (tmp_path / f'.f.{"0" * 16}.part').symlink_to(tmp_path / 'other')
    files.sweep(tmp_path)
    assert (tmp_path / 'other').read_text() == 'precious' and (tmp_path / '.mine.12').exists()


@pytest.mark.parametrize('change', [lambda row: row | {'error': 0.2}, lambda row: row | {'b': 1}])
def test_a_row_that_was_changed_is_skipped_with_a_warning(tmp_path, change):
    path = tmp_path / 'r.jsonl'
    files.append(path, {'error': 0.1})
    files.append(path, {'error': 0.3})
    first, second = map(json.loads, path.read_text().splitlines())
    path.write_text(json.dumps(change(first)) + '\n' + json.dumps(second) + '\n')
    with pytest.warns(UserWarning, match='line 1: changed since it was written'):
        assert files.read(path) == [{'error': 0.3}]
