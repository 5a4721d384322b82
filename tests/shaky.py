"""Records of which some raise, for the tests of reading."""

import numpy as np

from experiments.data.records import Records


class Shaky(Records):
    """Grey images; some raise when they are read."""

    name, size, fingerprint = 'shaky', (4, 4, 1), 'made up'

    def __init__(self, faults):
        self.faults, self.asked = faults, []

    def __len__(self):
        return 300

    def fetch(self, indices):
        self.asked.append(len(indices))
        for index in indices:
            if index in self.faults:
                raise self.faults[index]
        return [(np.full((4, 4, 1), index % 250, np.uint8), 0) for index in indices]
