"""Inputs: what does not fit the papers or older rows is reported in one line."""

import types

import pytest

from experiments.runner import inputs


@pytest.mark.parametrize(
    'name, channels, words',
    [
        ('resnet20', 1, 'built for the 1 of pictures; --config.data.channels=3 repeats grey'),
        ('lenet5', 3, 'built for the 3 of pictures; --config.data.channels=1 turns the images'),
        ('resnet20', 3, ''),
        ('lenet5', 1, ''),
    ],
)
def test_other_channels_than_the_papers_are_reported(name, channels, words):
    config = types.SimpleNamespace(model=types.SimpleNamespace(name=name))
    line = inputs.channels(config, types.SimpleNamespace(name='pictures', shape=(9, 9, channels)))
    assert bool(line) == bool(words) and words in line


def test_rows_of_other_code_are_named_by_their_revision():
    now = {'code': 'new', 'git_revision': 'b' * 40 + '+changes'}
    rows = [
        {'code': 'old', 'git_revision': 'a' * 40},
        {'code': 'new', 'git_revision': 'c' * 40},
        {'git_revision': 'd' * 40},  # of a time without digests
        {'code': 'older', 'git_revision': None},
    ]
    note = inputs.other_code(rows, now)
    assert f'of revision {"a" * 12}, unknown; this is {"b" * 12}+changes;' in note
    assert inputs.other_code(rows[1:3], now) == ''
