"""Some classes of a set are a set of their own: their images, in their order, labelled anew."""

import pickle

import numpy as np
import pytest

from experiments import data
from experiments.data import classes, loading, records, sources
from experiments.errors import UserError


class Unlabelled(records.Records):
    """Records that tell a label only with the image, as those of TFDS do."""

    name, fingerprint, embedded, size = 'unlabelled', 'x', True, (2, 2, 1)
    read = 0

    def __len__(self):
        return 50

    def fetch(self, indices):
        self.read += len(indices)
        return [(np.full((2, 2, 1), i, np.uint8), int(i) % 5) for i in indices]


def test_the_images_of_the_classes_are_those_of_the_whole_set_in_its_order():
    names = ('7', '3', '4')
    whole = data.load(sources.fields_of('digits'))
    some = data.load(sources.fields_of('digits', classes=(7, '3', '4')))
    assert some.classes == names and '3 of its 10 classes' in some.note
    for split in ('train', 'test'):
        parts = [whole.train, whole.validation] if split == 'train' else [whole.test]
        images = np.concatenate([part.images for part in parts])
        labels = np.concatenate([part.labels for part in parts])
        chosen = np.isin(labels, [7, 3, 4])
        own = [some.train, some.validation] if split == 'train' else [some.test]
        np.testing.assert_array_equal(np.concatenate([p.images for p in own]), images[chosen])
        got = np.array([7, 3, 4])[np.concatenate([p.labels for p in own])]
        np.testing.assert_array_equal(got, labels[chosen])


def test_labels_that_come_with_the_images_are_read_and_workers_get_the_records():
    part = classes.Kept(Unlabelled(), classes._labels(Unlabelled(), 'off'), (4, 1))
    again = pickle.loads(pickle.dumps(part))
    assert len(again) == 20 and again.where(1) == 'record 4'
    found = again.fetch([0, 1, 19])
    assert [(int(raw[0, 0, 0]), int(label)) for raw, label in found] == [(1, 1), (4, 0), (49, 0)]


def test_labels_are_kept_on_disk(tmp_path):
    records = Unlabelled()
    one = classes._labels(records, str(tmp_path))
    two = classes._labels(records, str(tmp_path))
    assert records.read == 50
    np.testing.assert_array_equal(one, two)


def test_other_classes_are_other_data():
    fields = [sources.fields_of('digits', classes=c) for c in ((), ('1', '2'), ('2', '1'))]
    assert len({loading.asked(one) for one in fields}) == 3
    found = [loading.open_splits(one)[1]['train'].fingerprint for one in fields]
    assert len(set(found)) == 3


@pytest.mark.parametrize(
    'names, message',
    [
        (('1', 'ten'), "unknown class of digits in data.classes 'ten'. Allowed: 0, 1"),
        (('1',), 'it must hold at least two'),
        (('1', '1'), 'it must hold at least two, each once'),
    ],
)
def test_classes_that_are_none_are_refused(names, message):
    with pytest.raises(UserError, match=message):
        data.load(sources.fields_of('digits', classes=names))
