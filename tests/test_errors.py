"""Commands: no mistake of a user shows a traceback, and every ending has its status."""

import os

import pytest

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


@pytest.mark.parametrize(
    'module',
    ['data.__main__', 'figures', 'models.__main__', 'predict', 'report.__main__', 'run', 'sheets'],
)
def test_every_command_is_guarded(module):
    import importlib

    main = importlib.import_module(f'experiments.{module}').main
    assert main.__wrapped__.__name__ == 'main'


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
