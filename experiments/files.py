"""Files: written whole or not at all, rows of JSON, digests of content, the user's cache folder."""

import contextlib
import hashlib
import json
import math
import os
import re
import secrets
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from experiments import schema
from experiments.errors import UserError

_HASHED_AT_ONCE = 64 * 2**20  # bytes of an array that are copied to be hashed


def append(path: str | os.PathLike, row: dict[str, Any]) -> None:
    """Adds one row as one JSON line and forces it to the disk.

    A last line without its newline was cut off by a crash. The new row then starts on a line of its
    own, so that the fragment stays alone and `read` can skip it. JSON has no nan and no infinity:
    such a value is stored as null.

    Raises OSError (disk full, read-only), TypeError (row is not JSON).
    """
    row = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }
    line = json.dumps(sealed(row), sort_keys=True).encode() + b'\n'  # ASCII: one row is one line
    with open(path, 'ab+') as file:
        if file.seek(0, os.SEEK_END) > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b'\n':
                line = b'\n' + line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def read(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Rows of a file of JSON lines, in order; [] if there is no such file.

    A line that is not a JSON object (what a crash leaves), or that was changed since it was
    written, is skipped with a warning that names file and line.
    """
    return read_from(path, 0)[0]


def read_from(path: str | os.PathLike, start: int) -> tuple[list[dict[str, Any]], int]:
    """`read` from a byte on, and the byte after the last whole line, where to go on later."""
    try:
        with open(path, 'rb') as file:
            file.seek(start)
            content = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return [], 0
    rows = []
    for number, line in enumerate(content.split(b'\n'), start=1):
        try:
            if line.strip():
                rows.append(unsealed(line, 'row'))
        except ValueError as error:
            warnings.warn(f'{path}, line {number}: {error}, skipped', stacklevel=3)
    return rows, start + content.rfind(b'\n') + 1


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """A JSON object with a digest of its other fields, so that a changed one is noticed."""
    return content | {'digest': _digest_of(content)}


def unsealed(text: bytes, what: str) -> dict[str, Any]:
    """The JSON object of a text without its digest; one of older code has none.

    Raises:
      ValueError: it is no object, or not the one that was written. what: its name in the message.
    """
    try:
        content = schema.parse(text)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ValueError(f'not a complete {what}')
    rest = {key: value for key, value in content.items() if key != 'digest'}
    if 'digest' in content and content['digest'] != _digest_of(rest):
        raise ValueError('changed since it was written')
    return rest


def _digest_of(content: dict[str, Any]) -> str:
    return digest(json.dumps(content, sort_keys=True).encode())


def write_whole(path: str | os.PathLike, *parts: bytes | str) -> None:
    """Writes a file so that it is the old one or the new one, never half of it.

    Raises OSError (disk full, read-only).
    """
    path = Path(path)
    sweep(path.parent, path.name)
    temporary, file = _temporary(path)
    try:
        with file:
            for part in parts:
                file.write(part.encode() if isinstance(part, str) else part)
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _temporary(path: Path) -> tuple[Path, BinaryIO]:
    """A new file beside this one, of a random name, locked for as long as it is open."""
    while True:
        temporary = path.with_name(f'.{path.name}.{secrets.token_hex(8)}.part')
        file = open(temporary, 'xb')  # 'x' follows no link and takes no file that exists
        lock(file.fileno(), wait=True)
        if os.fstat(file.fileno()).st_nlink:  # else swept before it was locked
            return temporary, file
        file.close()


def is_temporary(name: str, of: str = '') -> bool:
    """Whether a file name is that of a temporary file of `write_whole`; of: of this file."""
    return re.fullmatch(rf'\.{re.escape(of) or ".+"}\.[0-9a-f]{{16}}\.part', name) is not None


def sweep(folder: Path, of: str = '') -> None:
    """Removes the temporary files that killed processes left in a folder: no one locks them."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if is_temporary(name, of):
                _remove_unlocked(folder / name)


def _remove_unlocked(path: Path) -> None:
    with contextlib.suppress(OSError):  # it is gone, or no file
        found = os.open(path, os.O_RDONLY | getattr(os, 'O_NOFOLLOW', 0) | os.O_NONBLOCK)
        try:
            if lock(found, wait=False):
                path.unlink()
        finally:
            os.close(found)


def lock(file: int, wait: bool) -> bool:
    """Locks an open file until it is closed; False where another process has, or where there are
    no locks."""
    try:
        import fcntl  # of Unix

        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (ImportError, OSError):
        return False
    return True


def digest(*parts: object) -> str:
    """Sixteen hexadecimal digits: a hash of bytes, arrays, and anything with a stable repr."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            total.update(part.nbytes.to_bytes(8, 'little'))
            step = max(1, _HASHED_AT_ONCE // max(part[:1].nbytes, 1))
            for start in range(0, len(part), step):  # not all of a large array copied at once
                total.update(np.ascontiguousarray(part[start : start + step]).data)
            continue
        part = part if isinstance(part, bytes) else repr(part).encode()
        total.update(len(part).to_bytes(8, 'little'))
        total.update(part)
    return total.hexdigest()[:16]


def cache_folder(setting: str | None) -> Path | None:
    """data.cache -> the folder, or None for 'off'. Default: $XDG_CACHE_HOME/cnns, ~/.cache/cnns.

    'read' is the default too; experiments.data.cache writes nothing there then.

    Raises UserError for the home of a user that does not exist.
    """
    if setting == 'off':
        return None
    try:
        if setting and setting != 'read':
            return Path(setting).expanduser()
        return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'cnns'
    except RuntimeError as error:  # no home, or none of that user
        if not setting:
            return None
        raise UserError(
            f"data.cache is {setting!r}: {error} Name a folder that can be made, or 'off'."
        ) from error
