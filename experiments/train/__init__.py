"""The training of one run: the step, its compilation over the devices, the loop over epochs."""

from experiments.train.loop import Diverged, fit, fit_together
from experiments.train.program import device_count, length_of, program_of
from experiments.train.step import State, train_step

__all__ = [
    'Diverged',
    'State',
    'device_count',
    'fit',
    'fit_together',
    'length_of',
    'program_of',
    'train_step',
]
