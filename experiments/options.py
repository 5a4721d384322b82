"""Command lines: every option has one name, and every mistake is one line."""

import argparse
import ast
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from experiments.errors import UserError, one_of, shown


class _Lines(argparse.HelpFormatter):
    """Help whose texts keep their lines, each wrapped for itself; the rest of an indented one
    stands further in."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        found = []
        for line in text.splitlines():
            own = indent + line[: len(line) - len(line.lstrip())]
            further = own + '  ' * (own != indent)
            found.append(
                textwrap.fill(line.strip(), width, initial_indent=own, subsequent_indent=further)
            )
        return '\n'.join(found)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose mistakes are UserErrors of one line.

    No option can be abbreviated; --dry-run is --dry_run. Unknown options are errors that name the
    nearest one, unless `others`: then parse_known_args returns them.
    """

    def __init__(self, *, others: bool = False, **given: Any):
        super().__init__(allow_abbrev=False, formatter_class=_Lines, **given)
        self.others = others

    def parse_known_args(self, args: Sequence[str] | None = None, namespace=None):  # type: ignore[override]
        words = [*(sys.argv[1:] if args is None else args)]
        for index, word in enumerate(words):
            flag, equals, value = word.partition('=')
            if word == '--':
                break
            if not flag.startswith('--') or flag in self._option_string_actions:
                continue
            own = '--' + flag[2:].replace('-', '_')
            if own in self._option_string_actions:
                words[index] = own + equals + value
            elif not self.others and not self._subparsers:
                raise one_of('option', flag, self._option_string_actions)
        return super().parse_known_args(words, namespace)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """UserError for what is not among an option's choices: argparse names no nearest one."""
        if action.choices is not None and value not in (choices := [*action.choices]):
            raise one_of(
                action.option_strings[0] if action.option_strings else str(action.dest),
                value,
                choices,
                len(choices),
            )

    def error(self, message: str):
        raise UserError(f'{message}. See {self.prog} --help.')


def field(text: str) -> tuple[str, Any]:
    """The value of --field: 'pool=max' -> ('pool', 'max').

    Raises:
      UserError: it is not NAME=VALUE.
    """
    name, equals, value = text.partition('=')
    if not equals or not name.isidentifier():
        raise UserError(f'--field is {shown(text)}, it must be NAME=VALUE such as pool=max.')
    try:
        return name, ast.literal_eval(value.capitalize() if value in ('true', 'false') else value)
    except (ValueError, SyntaxError):
        return name, value
