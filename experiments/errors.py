"""Errors that the user can repair, the helpers that find and word them, and how commands end."""

import contextlib
import difflib
import functools
import os
import pathlib
import reprlib
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80

_LIST = 12  # names; a longer list hides the nearest one


class UserError(Exception):
    """A mistake the user can repair: printed without a traceback, exit status 2.

    The message says what was given, what is allowed and what to change.
    """


class Unread(SystemExit):
    """Nobody reads the output any more.

    No Exception: the training of a run whose progress cannot be printed has not failed.
    """

    def __init__(self, status: int = 141):  # as another process sends it
        super().__init__(status)


class _Stream:
    """A text stream of a command that takes every text.

    What a terminal would act on is written as `printable` shows it; a character that its encoding
    lacks becomes '?'. A command's streams are never None.
    """

    def __init__(self, stream: Any):
        # None: closed by the caller. The file takes the free number, before a file of ours does.
        self.rich_proxied_file = stream = stream or open(os.devnull, 'w')  # what rich writes to
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors='replace')

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)

    def write(self, text: str) -> int:
        lines = '\n'.join(map(printable, text.split('\n')))
        with self._read():
            return self.rich_proxied_file.write(lines)

    def flush(self) -> None:
        with self._read():
            self.rich_proxied_file.flush()

    @contextlib.contextmanager
    def _read(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise Unread from None


@contextlib.contextmanager
def _streams() -> Iterator[None]:
    """Standard output and errors are _Streams inside; what cannot be written is dropped at last."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = made = _Stream(sys.stdout), _Stream(sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in made:
            try:
                stream.flush()
            except (Unread, OSError):  # else Python tries again at its end, with a traceback
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def command(main: Callable[..., int]) -> Callable[..., int]:
    """A command's main that shows no traceback for a mistake of a user.

    Exit status: 2 a mistake or a machine that lacks something, in one line on standard error; 130
    interrupted; 141 nobody reads the output any more.
    """

    @functools.wraps(main)
    def guarded(*args, **given):
        with _streams():
            try:
                return status_of(main, *args, **given)
            except (Unread, BrokenPipeError):  # the reader, such as `head`, has seen enough
                return 141

    return guarded


def status_of(main: Callable[..., int], *args, **given) -> int:
    """The exit status of a main; prints the error that ends it."""
    try:
        status = main(*args, **given)
        sys.stdout.flush()  # here, where a full disk is an error like any other
        return status
    except BrokenPipeError:
        raise
    except (UserError, OSError) as error:
        print(f'error: {printable(error)}', file=sys.stderr)
        return 2
    except MemoryError as error:
        words = f' ({printable(error)})' if str(error) else ''
        remedy = 'Ask for less at a time: smaller images or a smaller batch.'
        print(f'error: not enough memory{words}. {remedy}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130


def check_writable(path: str | os.PathLike, option: str = '--out') -> None:
    """UserError unless the file of this option can be written; leaves what is there as it is.

    For commands that work long before they write. Makes the missing folders.
    """
    path = pathlib.Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not os.path.lexists(path)
        open(path, 'ab').close()
        if new:
            path.unlink()
    except (OSError, ValueError) as error:
        words = getattr(error, 'strerror', None) or error
        raise UserError(f'{path} cannot be written ({words}). Name another {option}.') from error


def printable(text: object) -> str:
    r"""The text in one line, with r'\x1b' for a character that a terminal or a file would act on.

    Labels, names and reasons come from configs, folders and files that anyone may have written.
    """
    if (text := str(text)).isprintable():
        return text
    kept = '\N{NO-BREAK SPACE}'
    return ''.join(
        char if char.isprintable() or char == kept else ' ' if char.isspace() else ascii(char)[1:-1]
        for char in text
    )


def counted(count: int, what: str, several: str = '') -> str:
    """'1 run', '1,234 runs'; several: where it is not `what` with an s."""
    return f'{count:,} {what if count == 1 else several or what + "s"}'


def listed(words: Iterable[object], most: int = 3, between: str = ', ') -> str:
    """The first words in one line: 'a, b, c and 4 more'; none may act on a terminal."""
    lines = [printable(word) for word in words]
    more = len(lines) - most
    return between.join(lines[:most]) + (f' and {more:,} more' if more > 0 else '')


def shown(value: object) -> str:
    """repr(value), cut in the middle where it is long."""
    return _short.repr(value)


def reason(error: BaseException) -> str:
    """'KeyError: ...' in one line, for the middle of a message."""
    text = ' '.join(str(error).split())
    return f'{type(error).__name__}: {text}' if text else type(error).__name__


def nearest(given: object, allowed: Iterable[object]) -> str:
    """Returns ' Did you mean X?' for the closest of `allowed`, or '' when none is close."""
    match = difflib.get_close_matches(str(given), [str(name) for name in allowed], n=1)
    return f' Did you mean {match[0]!r}?' if match else ''


def one_of(
    what: str, given: object, allowed: Collection[object], longest: int = _LIST
) -> UserError:
    """Returns the error for a name outside a closed list.

    It has the nearest name, and all of them unless they are more than `longest`.
    """
    close = nearest(given, allowed)
    known = f' Allowed: {", ".join(map(str, allowed))}.'
    hint = close if close and len(allowed) > longest else close + known
    return UserError(f'unknown {what} {shown(given)}.{hint}')
