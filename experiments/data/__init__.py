"""Data sets: opened, read, described and fed in batches."""

from experiments.data.dataset import Dataset, asked, load, moments, parts_of, sample
from experiments.data.feed import (
    Split,
    Streamed,
    eval_batches,
    order,
    shard,
    steps_per_epoch,
    train_batches,
)
from experiments.data.records import Arrays, Records, Source
from experiments.data.sources import SOURCES

__all__ = [
    'SOURCES',
    'Arrays',
    'Dataset',
    'Records',
    'Source',
    'Split',
    'Streamed',
    'asked',
    'eval_batches',
    'load',
    'moments',
    'order',
    'parts_of',
    'sample',
    'shard',
    'steps_per_epoch',
    'train_batches',
]
