"""Images that stand in a data set twice: in two splits, or in two classes."""

import itertools
import shlex
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from experiments.data.records import Records
from experiments.errors import UserError, listed

_NAMED = 3  # pairs of copies that a message names


class Part(NamedTuple):
    """The images of a split, and what tells whether two are equal."""

    records: Records
    rows: np.ndarray  # int64 [N], places among the records
    labels: np.ndarray  # int32 [N]
    marks: np.ndarray  # uint64 [N], equal for equal pixels

    def cut(self, low: int, high: int) -> 'Part':
        """The images from place low to place high."""
        cut = slice(low, high)
        return Part(self.records, self.rows[cut], self.labels[cut], self.marks[cut])


def pairs(one: Part, two: Part) -> list[tuple[str, str]]:
    """(name of an image of `one`, name of an equal one of `two`) for each of `two` in `one`."""
    marks, first = np.unique(one.marks, return_index=True)
    shared = np.flatnonzero(np.isin(two.marks, marks))
    places = first[np.searchsorted(marks, two.marks[shared])]
    name = lambda part, place: part.records.where(int(part.rows[place]))
    return [(name(one, here), name(two, there)) for here, there in zip(places, shared)]


def between_splits(parts: Mapping[str, Part]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """(split, other split, `pairs` of them) for every two splits that share images."""
    found = [
        (one, two, pairs(parts[one], parts[two])) for one, two in itertools.combinations(parts, 2)
    ]
    return [each for each in found if each[2]]


def between_classes(parts: Mapping[str, Part]) -> list[tuple[str, str]]:
    """Pairs of names of equal images of which one has another class than the first of its kind."""
    if not parts:
        return []
    marks, labels = (
        np.concatenate([getattr(part, what) for part in parts.values()])
        for what in ('marks', 'labels')
    )
    _, first, kind = np.unique(marks, return_index=True, return_inverse=True)
    others = np.flatnonzero(labels != labels[first[kind]])

    def name(place):
        for part in parts.values():
            if place < len(part.rows):
                return part.records.where(int(part.rows[place]))
            place -= len(part.rows)

    return [(name(first[kind[place]]), name(place)) for place in others]


def check(name: str, parts: Mapping[str, Part], refuse: bool) -> list[str]:
    """What is to be said about equal images.

    name: data.name; refuse: whether an image in two splits is an error.

    Raises:
      UserError: two splits share images, and `refuse`.
    """
    notes = []
    for one, two, same in between_splits(parts):
        count = f'{len(same):,} {two} image{"s" if len(same) > 1 else ""}'
        if refuse:
            verb = 'equal' if len(same) > 1 else 'equals'
            raise UserError(
                f'{name}: {count} {verb} one of the {one} split, pixel for pixel: {_some(same)}. '
                f'So the {two} error is not that of new images. Remove one of each two (all that '
                'are equal at full size are named by python -m experiments.data check '
                f'{shlex.quote(name)}), or set --config.data.allow_copies=true.'
            )
        notes.append(f'{count} also in the {one} split, such as {_some(same[:1])}')
    twice = between_classes(parts)
    if twice:
        words = 'images equal one' if len(twice) > 1 else 'image equals one'
        notes.append(f'{len(twice):,} {words} of another class, such as {_some(twice[:1])}')
    return notes


def _some(same) -> str:
    return listed([f'{one} = {two}' for one, two in same], _NAMED)
