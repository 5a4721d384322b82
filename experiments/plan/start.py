"""The file of weights that train.start names, and its digest, which names the run.

    train.start = 'resnet18.pth'                  a file: our own, safetensors, PyTorch's
    train.start = 'runs/resnet_imagenette'        a work directory with the weights of one run
    train.start = 'runs/.../points/92f1de71b314'  a run of it

A run is named by the content of the file, not by its path: another file is another run.
"""

import functools
import hashlib
import json
import pathlib
from typing import Any

from experiments.errors import UserError, listed, nearest, reason, shown

_WEIGHTS = ('weights.safetensors', 'weights.msgpack')  # of a finished run, the first that is there
_NAMED = 5  # runs of a work directory that an error names


def check(flat: dict[str, Any]) -> dict[str, Any]:
    """Checks the fields of a start and returns what names the run beside them: its digest.

    Raises:
      UserError: names of layers that are none, no such file.
    """
    for path in ('train.start_layers', 'train.freeze'):
        if not all(isinstance(name, str) and name for name in flat[path]):
            raise UserError(f"{path} is {shown(flat[path])}, it must hold layers such as 'conv1'.")
    if flat['train.start'] is not None:
        return {'train.start_digest': digest(file_of(flat['train.start']))}
    return {}


def file_of(given: str, what: str = 'train.start') -> pathlib.Path:
    """The file of weights that a file, a work directory or a run of it means.

    what: the field or option that names it, for messages.

    Raises:
      UserError: there is none, or there are several.
    """
    path = pathlib.Path(given)
    if path.is_file():
        return path
    what = f'{what} is {shown(given)}'
    if not path.is_dir():
        close = nearest(path.name, [one.name for one in path.parent.glob('*')])
        raise UserError(
            f'{what}: there is no such file or folder.{close} It takes a file of weights, or a '
            'work directory whose final runs are done.'
        )
    if own := weights_of(path):
        return own
    found = [file for run in sorted(path.glob('points/*')) if (file := weights_of(run))]
    if len(found) == 1:
        return found[0]
    if found:
        runs = _runs(path)
        named = [f'{file.parent} ({runs.get(file.parent.name, "?")})' for file in found]
        raise UserError(f'{what}, which has several weights; name one: {listed(named, _NAMED)}.')
    raise UserError(
        f'{what}: it has no {" or ".join(_WEIGHTS)}, nor points/RUN with one. Final runs that are '
        'done leave them in their work directory.'
    )


def weights_of(folder: pathlib.Path) -> pathlib.Path | None:
    """The file of weights in the folder of a run; older code wrote .msgpack."""
    return next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)


def _runs(workdir: pathlib.Path) -> dict[str, str]:
    """What plan.json says of each run, for people; {} where it says nothing."""
    try:
        runs = json.loads((workdir / 'plan.json').read_bytes())['runs']
        return {name: f'{run["arm"]}, seed {run["seed"]}' for name, run in runs.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def digest(path: pathlib.Path) -> str:
    """Twelve hexadecimal digits of the content of a file of weights, and of the files it lists.

    Raises:
      UserError: it cannot be read.
    """
    try:
        return _content(tuple((str(one), *_stamp(one)) for one in (path, *_shards(path))))
    except OSError as error:
        raise UserError(f'train.start: {path} cannot be read ({reason(error)}).') from error


def _stamp(path):
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _shards(path: pathlib.Path) -> list[pathlib.Path]:
    """The other files of sharded weights."""
    if path.suffix != '.json':
        return []
    try:
        names = {str(name) for name in json.loads(path.read_bytes())['weight_map'].values()}
    except (ValueError, TypeError, KeyError, AttributeError):  # named where it is read
        return []
    return [path.parent / name for name in sorted(names) if (path.parent / name).is_file()]


@functools.lru_cache(maxsize=32)
def _content(files: tuple[tuple[str, int, int], ...]) -> str:
    """Read again only where the size or the time of a file has changed."""
    digests = []
    for name, *_ in files:
        with open(name, 'rb') as file:
            digests.append(hashlib.file_digest(file, 'sha256').digest())
    return digest_of(*digests)


def digest_of(*digests: bytes) -> str:
    """What `digest` gives of files with these SHA-256 digests."""
    return hashlib.sha256(b''.join(digests)).hexdigest()[:12]
