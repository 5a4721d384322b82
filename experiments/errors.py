"""Errors that the user can repair, and the helpers that find and word them."""

import difflib
import functools
import os
import pathlib
import reprlib
import sys
from collections.abc import Callable, Collection, Iterable

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80

_LIST = 12  # names; a longer list hides the nearest one


class UserError(Exception):
    """A mistake the user can repair: printed without a traceback, exit status 2.

    The message says what was given, what is allowed and what to change.
    """


def command(main: Callable[..., int]) -> Callable[..., int]:
    """A command's main that shows no traceback for a mistake of a user.

    Exit status: 2 a mistake or a machine that lacks something, in one line on standard error; 130
    interrupted; 141 nobody reads the output any more.
    """

    @functools.wraps(main)
    def guarded(*args, **given):
        try:
            return main(*args, **given)
        except BrokenPipeError:  # the reader, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except (UserError, OSError) as error:
            print(f'error: {error}', file=sys.stderr)
            return 2
        except MemoryError as error:
            words = f' ({error})' if str(error) else ''
            remedy = 'Ask for less at a time: smaller images or a smaller batch.'
            print(f'error: not enough memory{words}. {remedy}', file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print('interrupted', file=sys.stderr)
            return 130

    return guarded


def check_writable(path: str | os.PathLike) -> None:
    """UserError unless the file --out can be written; leaves what is there as it is.

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
        raise UserError(f'{path} cannot be written ({words}). Name another --out.') from error


def shown(value: object) -> str:
    """repr(value), cut in the middle where it is long."""
    return _short.repr(value)


def printable(text: str) -> str:
    r"""The text with its control characters, and bytes that are no text, escaped as in '\x1b'."""
    return ''.join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def reason(error: BaseException) -> str:
    """'KeyError: ...' in one line, for the middle of a message."""
    text = ' '.join(str(error).split())
    return f'{type(error).__name__}: {text}' if text else type(error).__name__


def nearest(given: object, allowed: Iterable[object]) -> str:
    """Returns ' Did you mean X?' for the closest of `allowed`, or '' when none is close."""
    match = difflib.get_close_matches(str(given), [str(name) for name in allowed], n=1)
    return f' Did you mean {match[0]!r}?' if match else ''


def one_of(what: str, given: object, allowed: Collection[object]) -> UserError:
    """Returns the error for a name outside a closed list: the nearest name, and all unless long."""
    close = nearest(given, allowed)
    known = f' Allowed: {", ".join(map(str, allowed))}.'
    hint = close if close and len(allowed) > _LIST else close + known
    return UserError(f'unknown {what} {shown(given)}.{hint}')
