"""Errors that are the user's to mend, and the helper that words them."""

import difflib


class UserError(Exception):
    """A mistake the user can mend: printed without a traceback, exit status 2.

    The message says what was given, what is allowed and what to change.
    """


def nearest(given, allowed) -> str:
    """Returns ' Did you mean X?' for the closest of `allowed`, or '' when none is close."""
    match = difflib.get_close_matches(str(given), [str(name) for name in allowed], n=1)
    return f' Did you mean {match[0]!r}?' if match else ''


def one_of(what, given, allowed) -> UserError:
    """Returns the error for a name outside a closed list: the nearest name first, then all."""
    names = ', '.join(str(name) for name in allowed)
    return UserError(f'unknown {what} {given!r}.{nearest(given, allowed)} Allowed: {names}.')
