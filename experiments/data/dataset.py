"""A data set as training reads it."""

from typing import NamedTuple

import numpy as np

from experiments.data.stream import Split


class Dataset(NamedTuple):
    """What training reads: three splits, each InMemory or Streamed, and what describes them."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    mean: np.ndarray  # float32 [C], of the train split's images / 255
    std: np.ndarray  # float32 [C]
    note: str
    fingerprint: str = ''  # of the names and sizes of what was read, and how it was decoded
    asked: str = ''  # which source and splits the config names
    content: str = ''  # digest of the bytes of all records of those splits, before they are decoded
    found: str = ''  # `content`, and the limit where there is one: what a row was trained on
    stamp: str = ''  # changes with the files, if only with their times
    counted: int | None = None  # most images of the train split that statistics are of; None: any
    cache: str | None = 'off'  # data.cache, where slow statistics are kept

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W, C) of the images as they are fed, before any augmentation."""
        return self.train.shape
