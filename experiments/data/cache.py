"""Decoded sets kept on disk, so that the next run starts within seconds.

One uncompressed .npz file per split, written under another name and renamed when it is whole. Its
CRC-32 sums are checked when it is read, and its header holds which files, at which times, it was
made of: a damaged or stale file is made again, with a printed note.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Sequence

import numpy as np

from experiments.errors import reason
from experiments.files import cache_folder, digest
from experiments.progress import note

_VERSION = 3  # of the files; others are made again
_SPARE = 64 * 2**20  # bytes left free on the disk
_CHEAP = 64 * 2**20  # bytes of files that are hashed whenever a set is opened
_FILE = 16 * 2**10  # bytes that can be read in the time that opening a file takes
_ABANDONED = 24 * 3600  # seconds after which an unfinished file is removed


def read(setting: str | None, what: str, key: tuple, made_of: tuple) -> dict | None:
    """The arrays kept under (what, key), or None: there are none, or not of these files.

    setting: data.cache. what: short name in front of the file name. made_of: fingerprint and
    stamp of the source.
    """
    path = _path(setting, what, key)
    if path is None:
        return None
    try:
        if not path.is_file():
            return None
    except OSError as error:  # no permission to look
        note(
            f'{path} cannot be read ({reason(error)}); it is made again. Set data.cache to '
            "another folder or to 'off'."
        )
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(bytes(file['header']))
            if header != _header(key, made_of):
                note(f'{path} is not of the data as they are now; it is made again')
                return None
            return {name: file[name] for name in file.files if name != 'header'}
    except Exception as error:  # zipfile and NumPy raise many kinds for a damaged file
        words = 'cannot be read' if isinstance(error, PermissionError) else 'is damaged'
        note(f'{path} {words} ({reason(error)}); it is made again')
        return None


def write(setting: str | None, what: str, key: tuple, made_of: tuple, arrays: dict) -> None:
    """Keeps arrays under (what, key). Prints a note where room or rights are missing."""
    path = None if setting == 'read' else _path(setting, what, key)
    if path is None:
        return
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    need = sum(array.nbytes for array in arrays.values())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob('.*.npz.*'):
            if time.time() - old.stat().st_mtime > _ABANDONED:
                old.unlink(missing_ok=True)
        free = shutil.disk_usage(path.parent).free
        if need + _SPARE > free:
            note(
                f'decoded images are not kept: {need / 2**20:,.0f} MiB and {path.parent} has '
                f'{free / 2**20:,.0f} MiB free. Make room, or set data.cache to another folder or '
                "to 'off'."
            )
            return
        header = json.dumps(_header(key, made_of)).encode()
        with open(temporary, 'wb') as file:
            np.savez(file, header=np.frombuffer(header, np.uint8), **arrays)
        os.replace(temporary, path)
    except OSError as error:
        note(
            f'decoded images are not kept in {path.parent} ({reason(error)}). Make room, or set '
            "data.cache to another folder or to 'off'."
        )
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def stamp_of(paths: Sequence[str | os.PathLike], stats: Sequence[os.stat_result]) -> str:
    """What changes with every change of these files; `stats` are theirs.

    A program can give a file the size and the time that another had, but not the time of the last
    change of its status. Where even that says little, as on some sticks and network folders, the
    bytes tell, of sets that are small enough to be read again in a moment.
    """
    told = [(one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino) for one in stats]
    if sum(max(one.st_size, _FILE) for one in stats) > _CHEAP:
        return digest(told)
    contents = hashlib.sha256()
    for path in paths:
        try:
            with open(path, 'rb') as file:
                contents.update(hashlib.file_digest(file, 'sha256').digest())
        except OSError as error:  # named where the record is read
            contents.update(repr(error.errno).encode())
    return digest(told, contents.digest())


def _header(key, made_of):
    return json.loads(json.dumps([_VERSION, key, made_of]))


def _path(setting, what, key):
    place = cache_folder(setting)
    if place is None:
        return None
    slug = re.sub(r'[^\w.-]+', '_', what).strip('_.')[-60:]
    return place / f'{slug}-{digest(key)}.npz'
