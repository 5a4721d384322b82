"""Commands: no mistake of a user shows a traceback, and every ending has its status."""

import importlib
import io
import os
import re
import sys

import pytest

import experiments
from experiments import errors
from experiments.errors import UserError


@pytest.mark.parametrize(
    'error, status, words',
    [
        (None, 0, ''),
        (UserError('give less'), 2, 'error: give less'),
        (OSError(28, 'No space left on device'), 2, 'error: [Errno 28] No space left'),
        (
            MemoryError('Unable to allocate 9 GiB'),
            2,
            'not enough memory (Unable to allocate 9 GiB)',
        ),
        (KeyboardInterrupt(), 130, 'interrupted'),
    ],
)
def test_the_end_of_a_command_is_its_status_and_one_line(error, status, words, capsys):
    @errors.command
    def main(argv=None):
        if error:
            raise error
        return 0

    assert main([]) == status
    err = capsys.readouterr().err
    assert words in err and err.count('\n') == bool(words)


def test_a_defect_of_ours_keeps_its_traceback():
    with pytest.raises(KeyError):
        errors.command(lambda: {}['nothing'])()


def test_one_thing_has_no_plural():
    counts = (1, 0, 1234)
    assert [errors.counted(n, 'run') for n in counts] == ['1 run', '0 runs', '1,234 runs']
    assert errors.counted(2, 'class', 'classes') == '2 classes'


@pytest.mark.parametrize('name', experiments.commands())
def test_every_command_is_guarded(name):
    package = importlib.import_module(f'experiments.{name}')
    if hasattr(package, '__path__'):
        package = importlib.import_module(f'experiments.{name}.__main__')
    assert package.main.__wrapped__.__name__ == 'main'


def test_no_command_needs_its_docstrings(root):
    """python -OO has none."""
    for path in root.glob('experiments/**/*.py'):
        assert not re.search(r'__doc__(?! or [a-z])', path.read_text()), path


class Pipe(io.StringIO):
    """A stream whose reader leaves after `lines` lines."""

    def __init__(self, lines):
        super().__init__()
        self.lines = lines

    def write(self, text):
        if self.getvalue().count('\n') >= self.lines:
            raise BrokenPipeError
        return super().write(text)


@pytest.mark.parametrize('stream', ['stdout', 'stderr'])
def test_a_reader_that_leaves_ends_a_command_quietly(stream, monkeypatch, capsys):
    @errors.command
    def main():
        for number in range(9):
            try:
                print(number, file=getattr(sys, stream))
            except Exception:  # what guards a run from its own errors is no guard from this
                pytest.fail('went on')

    with monkeypatch.context() as patched:
        patched.setattr(sys, stream, Pipe(3))
        assert main() == 141
        assert getattr(sys, stream).getvalue() == '0\n1\n2\n'
    assert capsys.readouterr() == ('', '')


def test_an_error_that_nobody_reads_ends_a_command_quietly(monkeypatch):
    @errors.command
    def main():
        raise UserError('give less')

    monkeypatch.setattr(sys, 'stderr', Pipe(0))
    assert main() == 141


def test_a_full_disk_is_one_line_at_the_end_too(monkeypatch, capfd):
    with open('/dev/full', 'w') as full, monkeypatch.context() as patched:
        patched.setattr(sys, 'stdout', full)
        assert errors.command(lambda: print('something') or 0)() == 2
        full.flush()  # what could not be written is gone: else Python ends with a traceback
    assert capfd.readouterr().err == 'error: [Errno 28] No space left on device\n'


def test_closed_streams_take_everything_and_are_closed_again(monkeypatch):
    def main():
        print('a result')
        print('an error', file=sys.stderr)
        return int(sys.stdout.isatty())

    monkeypatch.setattr(sys, 'stdout', None)
    monkeypatch.setattr(sys, 'stderr', None)
    assert errors.command(main)() == 0
    assert (sys.stdout, sys.stderr) == (None, None)


@pytest.mark.parametrize(
    'encoding, written',
    [('ascii', r'1.5 ? 0.2 a\x1b[2Jb\ud800'), ('utf-8', r'1.5 ± 0.2 a\x1b[2Jb\ud800')],
)
@pytest.mark.parametrize('stream', ['stdout', 'stderr'])
def test_every_text_can_be_written_and_none_moves_the_cursor(
    encoding, written, stream, monkeypatch
):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, stream, io.TextIOWrapper(raw, encoding=encoding))

    @errors.command
    def main():
        print('1.5 ± 0.2 a\x1b[2Jb\ud800', 'next', sep='\n', file=getattr(sys, stream))
        return 0

    assert main() == 0
    assert raw.getvalue().decode(encoding) == written + '\nnext\n'


def test_a_file_that_can_be_written_is_left_as_it_is(tmp_path):
    errors.check_writable(tmp_path / 'new' / 'a.png')
    assert os.listdir(tmp_path / 'new') == []
    (tmp_path / 'b.png').write_text('kept')
    errors.check_writable(tmp_path / 'b.png')
    assert (tmp_path / 'b.png').read_text() == 'kept'


@pytest.mark.parametrize('path', ['/dev/null/a.png', 'x' * 300 + '.png', 'a\0b.png'])
def test_a_file_that_cannot_be_written_is_an_error_before_the_work(path):
    with pytest.raises(UserError, match='cannot be written .* Name another --out'):
        errors.check_writable(path)


def test_a_message_from_elsewhere_is_one_line_that_a_terminal_does_not_act_on(capsys):
    bad = 'caf\u00e9\n\x1b[2J\x07\u202e\ud800'
    assert errors.printable(bad) == r'café \x1b[2J\x07\u202e\ud800'

    @errors.command
    def main():
        raise errors.UserError(bad)

    assert main() == 2
    err = capsys.readouterr().err
    assert err.count('\n') == 1 and err.strip().isprintable()


def test_a_long_list_is_cut_and_says_how_many_are_left():
    assert errors.listed('ab') == 'a, b'
    assert errors.listed('abcd', most=2, between='; ') == 'a; b and 2 more'
    assert errors.listed(['a\x1b[0m']) == r'a\x1b[0m'
