"""Checkpoints of large states, written by orbax while the training goes on.

    points/NAME/checkpoints/N    the last two, while a run is trained

N is twice the steps done, and one more after the validation of an epoch.

Measured once, on 2 CPU cores that did other work, of made-up states, and not stored: the seconds
for which a training waits for one checkpoint.

    state       of           file of checkpoint.py   orbax   orbax, until it is written
      0.5 MB    LeNet-5                 0.01          0.05             0.3
      2.2 MB    ResNet-20               0.11          0.26             1.3
      8.0 MB                            0.14          0.21             1.0
     94   MB    ResNet-18               1.8           0.20             2.1
    496   MB    AlexNet                14             0.11             7

Importing orbax takes 1.8 s besides, 3 % of the first minute, after which the first checkpoint is
written. One a minute, the file costs 2 % of the time at about 60 MB. So states from FROM bytes on
are written by orbax, and others to the file.

Every checkpoint holds a checksum of its arrays. One that is damaged is left out, and the training
continues from the one before it.
"""

import json
import logging
import pathlib
import shutil
import warnings
import zlib
from typing import Any

import jax
import numpy as np
from flax import serialization, traverse_util

from experiments.errors import reason
from experiments.train import checkpoint

FROM = 2**25  # bytes of a state
_KEPT = 2
_EMPTY = traverse_util.empty_node


def size_of(snapshot: checkpoint.Snapshot) -> int:
    """Bytes of the state."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(snapshot.state))


class Large:
    """The checkpoints of a training in a folder, which is made with the first."""

    def __init__(self, folder: pathlib.Path):
        import orbax.checkpoint as orbax  # here, since it takes seconds that few runs need

        logging.getLogger('absl').setLevel(logging.ERROR)
        folder.mkdir(exist_ok=True)
        self.orbax, self.folder = orbax, folder
        here = jax.process_index()  # of several processes, this one alone writes
        alone = orbax.options.MultiprocessingOptions(
            primary_host=here, active_processes={here}, barrier_sync_key_prefix=f'cnns{here}'
        )
        options = orbax.CheckpointManagerOptions(
            max_to_keep=_KEPT, create=False, multiprocessing_options=alone
        )
        self.manager = orbax.CheckpointManager(
            folder.absolute(), options=options, item_names=('header', 'arrays')
        )

    def save(self, made_of: dict[str, Any], snapshot: checkpoint.Snapshot, wait: bool) -> None:
        """Begins to write a checkpoint, after the last one is written; wait: until it is there.

        Raises OSError (disk full, read-only), of this checkpoint or of the last one.
        """
        partial = snapshot.partial or {}
        tree = serialization.to_state_dict(jax.device_get(snapshot.state))
        tree = {'state': tree, 'partial': {k: v for k, v in partial.items() if k != 'seconds'}}
        flat = traverse_util.flatten_dict(tree, keep_empty_nodes=True)
        arrays = {path: np.asarray(leaf) for path, leaf in flat.items() if leaf is not _EMPTY}
        header = {
            'made_of': made_of,
            'progress': checkpoint.progress_of(snapshot),
            'arrays': [list(path) for path in arrays],
            'empty': [list(path) for path, leaf in flat.items() if leaf is _EMPTY],
            'seconds': partial.get('seconds'),
            'checksum': _checksum(arrays.values()),
        }
        text = json.dumps(header)
        said = {'text': text, 'digest': checkpoint.digest_of(text.encode())}
        args, number = self.orbax.args, 2 * snapshot.step + (snapshot.partial is None)
        try:
            for later in self.manager.all_steps():
                if later >= number:  # of a training that starts over
                    self.manager.delete(later)
            self.manager.save(
                number,
                args=args.Composite(
                    header=args.JsonSave(said),
                    arrays=args.PyTreeSave({str(n): a for n, a in enumerate(arrays.values())}),
                ),
                force=True,
            )
            if wait:
                self.manager.wait_until_finished()
        except OSError:
            raise
        except Exception as error:  # tensorstore has kinds of its own
            raise OSError(reason(error)) from error

    def read(self, made_of: dict[str, Any]) -> tuple[checkpoint.Snapshot | None, str]:
        """The last snapshot that can be used or None, and what was wrong, '' where nothing was."""
        faults = []
        for step in sorted(self.manager.all_steps(), reverse=True):
            place = self.folder / str(step)
            try:
                snapshot, of = self._read(step)
            except Exception as error:  # a damaged one raises many kinds
                faults.append(f'{place} is damaged ({reason(error)[:200]})')
                shutil.rmtree(place, ignore_errors=True)
                continue
            if differ := checkpoint.differing(of, made_of):
                return None, f'{place} is of another {differ}; the training starts over'
            if faults:
                faults.append(f'the training continues from step {snapshot.step}')
            if moved := checkpoint.moved(of, made_of):
                faults.append(moved)
            return snapshot, '; '.join(faults)
        self.manager.reload()
        return None, '; '.join(faults) + '; the training starts over' if faults else ''

    def _read(self, step: int) -> tuple[checkpoint.Snapshot, dict[str, Any]]:
        args = self.orbax.args
        found = self.manager.restore(step, args=args.Composite(header=args.JsonRestore()))
        text = found['header']['text']
        if checkpoint.digest_of(text.encode()) != found['header']['digest']:
            raise ValueError('it is not what was written')
        header = json.loads(text)
        as_numpy = self.orbax.RestoreArgs(restore_type=np.ndarray)
        names = {str(number): as_numpy for number in range(len(header['arrays']))}
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # it asks for shardings
            found = self.manager.restore(
                step,
                args=args.Composite(
                    arrays=args.PyTreeRestore(item=dict.fromkeys(names, 0), restore_args=names)
                ),
            )
        arrays = [np.asarray(found['arrays'][name]) for name in names]
        if _checksum(arrays) != header['checksum']:
            raise ValueError('it is not what was written')
        flat: dict[tuple, Any] = {tuple(path): _EMPTY for path in header['empty']}
        flat |= {tuple(path): array for path, array in zip(header['arrays'], arrays)}
        tree = traverse_util.unflatten_dict(flat)
        seconds = header['seconds']
        partial = None if seconds is None else {**tree['partial'], 'seconds': seconds}
        made = checkpoint.snapshot_of(header['progress'], tree['state'], partial)
        return made, header['made_of']

    def close(self) -> None:
        """Waits for what is being written."""
        self.manager.close()


def _checksum(arrays) -> int:
    """CRC-32 of shapes, dtypes and bytes of arrays."""
    total = 0
    for array in arrays:
        total = zlib.crc32(f'{array.dtype}{array.shape}'.encode(), total)
        total = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8), total)
    return total
