"""Contact sheets: images of any size, with their classes."""

import numpy as np
import pytest
from PIL import Image

from experiments.data import contact
from experiments.errors import UserError


def test_samples_of_any_size_and_of_one_channel_are_shown(tmp_path):
    images = [np.full((h, w, c), 90, np.uint8) for h, w, c in ((8, 9, 1), (30, 20, 3), (5, 5, 1))]
    path = contact.samples(images, [0, 1, 0], ('cat', 'a$b'), tmp_path / 'new' / 's.png', 'title')
    with Image.open(path) as image:
        assert image.format == 'PNG' and image.width > 300


def test_a_sheet_that_cannot_be_written_is_a_users_error(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='cannot be written'):
        contact.samples([np.zeros((4, 4, 1), np.uint8)], [0], ('a',), tmp_path / 'file' / 's.png')
