"""How much memory a decoded set may take."""

import pytest

from experiments.data import memory


def test_pages_that_the_system_can_give_back_count_as_free(tmp_path):
    (tmp_path / 'memory.max').write_text('1000\n')
    (tmp_path / 'memory.current').write_text('900\n')
    (tmp_path / 'memory.stat').write_text('anon 300\ninactive_file 400\nactive_file 200\n')
    assert memory._container(str(tmp_path)) == 700
    (tmp_path / 'memory.max').write_text('max\n')
    with pytest.raises(ValueError):
        memory._container(str(tmp_path))
