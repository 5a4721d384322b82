"""Data sets: opened, read, described and fed in batches.

Worker processes import this package: it imports neither jax nor matplotlib.
"""

from experiments.data.batch_plan import order, shard, steps_per_epoch
from experiments.data.batches import eval_batches, train_batches
from experiments.data.crops import Crop
from experiments.data.dataset import Dataset
from experiments.data.loading import asked, found_of, load, open_splits
from experiments.data.memory import InMemory
from experiments.data.records import Arrays, Records, Source
from experiments.data.sources import SOURCES
from experiments.data.statistics import Components, Statistics, moments, sample, statistics_of
from experiments.data.stream import Streamed

__all__ = [
    'SOURCES',
    'Arrays',
    'Components',
    'Crop',
    'Dataset',
    'InMemory',
    'Records',
    'Source',
    'Statistics',
    'Streamed',
    'asked',
    'eval_batches',
    'found_of',
    'load',
    'moments',
    'open_splits',
    'order',
    'sample',
    'shard',
    'statistics_of',
    'steps_per_epoch',
    'train_batches',
]
