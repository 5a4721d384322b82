"""The speed of feeding: every number is stored, and stored numbers become one table."""

import json
import pathlib
import re

import numpy as np
import pytest

from experiments.data import commands, speed
from experiments.data.decode import Decoding

ROOT = pathlib.Path(__file__).parent.parent
README = ROOT / 'experiments/data/README.md'


pytestmark = pytest.mark.usefixtures('elsewhere')


def test_speed_stores_every_round_and_the_environment(folder, monkeypatch):
    monkeypatch.setattr(speed, 'WORKERS', ())  # they take seconds to start
    words = [
        'speed',
        f'folder:{folder}',
        '--resize',
        '8',
        '--batch',
        '4',
        '--rounds',
        '2',
        '--seconds',
        '0.1',
        '--out',
        'out/speed.json',
    ]
    assert commands.main(words) == 0
    stored = json.loads(open('out/speed.json').read())
    assert stored['images a second'].keys() == {'in memory', 'decode', 'streamed, 0'}
    for name in ('images a second', 'ms of CPU an image'):
        for values in stored[name].values():
            assert len(values) == 2 and min(values) > 0
    assert stored['environment']['versions']['numpy'] == np.__version__
    assert stored['shape'] == [8, 8, 3] and stored['batch'] == 4


def test_crops_of_enlarged_images_are_measured(folder, monkeypatch, capsys):
    monkeypatch.setattr(speed, 'WORKERS', ())
    words = f'speed folder:{folder} --batch 4 --rounds 1 --seconds 0.1 --out out.json'.split()
    assert commands.main([*words, '--crops', '--resize', '8', '--enlarge', '30x40']) == 0
    found = json.loads(open('out.json').read())
    assert found['images a second'].keys() == {'decode', 'streamed, 0'}
    assert found['crops'] and found['set'].endswith(', enlarged to 30x40')
    assert 300 < found['bytes of an image'] < 3000  # a JPEG of 30x40
    assert 'crops of whole images to 8×8' in speed.markdown(['out.json'])
    for more, message in (
        (['--crops'], '--crops are scaled to --resize'),
        (['--enlarge', '30'], "--enlarge is '30', it must be HEIGHTxWIDTH"),
        (['--enlarge', '0x9'], "--enlarge is '0x9', it must be HEIGHTxWIDTH"),
    ):
        assert commands.main([*words, *more]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize('sides', [(375, 500), (30, 400), (400, 30)])
def test_pillows_crop_has_the_areas_and_aspects_of_torchvisions(sides):
    crop, boxes = speed.PillowCrop(16), []

    class Spy:
        size = sides[::-1]

        def crop(self, box):
            boxes.append(box)
            return self

        def resize(self, size, way):
            assert size == (16, 16)

    for _ in range(300):
        crop(Spy())
    left, top, right, bottom = np.array(boxes).T
    assert left.min() >= 0 and top.min() >= 0
    assert right.max() <= sides[1] and bottom.max() <= sides[0]
    width, height = right - left, bottom - top
    assert (np.abs(np.log(width / height)) < np.log(4 / 3) + 2 / min(sides)).all()
    if sides == (375, 500):
        share = width * height / (375 * 500)
        # even from 8 to 100 %, but large ones are often drawn again, for they rarely fit
        assert 0.07 < share.min() < 0.2 and 0.38 < share.mean() < 0.48


def stored(path, rates, memory=None, **environment):
    path.write_text(
        json.dumps(
            {
                'set': path.stem,
                'shape': [8, 8, 3],
                'batch': 4,
                'images a second': rates,
                'plain loader': 'a queue',
                'highest MiB in each epoch': memory,
                'environment': {
                    'cpu': 'a chip',
                    'cores': 2,
                    'python': '3.1',
                    'date': 'today',
                    'load': [0, 1.26, 2],
                    'versions': dict(grain=1, Pillow=2, jax=3),
                }
                | environment,
            }
        )
    )
    return str(path)


def test_stored_speeds_become_one_table(tmp_path, capsys):
    one = stored(
        tmp_path / 'one.json',
        {'decode': [3000.4, 1000, 2000], 'plain, 1': [7, 7, 8]},
        {'streamed, 1': [600.4, 1601, 602]},
    )
    two = stored(tmp_path / 'two.json', {'decode': [10, 20, 30]}, cores=9)
    costs = json.loads(pathlib.Path(two).read_text()) | {
        'ms of CPU an image': {'decode': [4, 2, 3]}
    }
    pathlib.Path(two).write_text(json.dumps(costs))
    assert commands.main(['speed', '--markdown', one, two]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:7] == [
        '| images a second | one, 8×8 | two, 8×8 |',
        '| --- | ---: | ---: |',
        '| decode | 2,000 (1,000 to 3,000) | 20 (10 to 30) |',
        '| plain, 1 | 7 (7 to 8) |  |',
        '| ms of CPU an image, decode |  | 3 (2 to 4) |',
        '| MiB in each epoch, streamed, 1 | 600, 1,601, 602 |  |',
        '',
    ]
    assert 'one, 8×8: batches of 4' in lines[7] and 'a chip, 2 cores' in lines[7]
    assert '9 cores' in lines[8] and lines[9].endswith(': 1.3, 1.3.')


def test_the_plain_loader_gives_whole_batches_of_the_files(folder):
    files = [
        (str(path), label)
        for label, name in enumerate(('dark', 'light'))
        for path in sorted((folder / name).iterdir())
    ]
    images = speed.Images(files, 8, 3)
    assert len(images) == 20 and images[0][0].shape == (8, 8, 3)
    pytest.importorskip('torch')
    batches = speed.plain(files, Decoding(3, resize=8), 4, 1)
    for pixels, labels in (next(batches) for _ in range(7)):
        assert pixels.shape == (4, 8, 8, 3) and ((pixels[:, -1, -1, 0] > 127) == labels).all()
    batches.close()


def test_without_pytorch_the_plain_loader_is_skipped_with_the_reason(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(speed, '_torch_version', lambda: None)
    monkeypatch.setattr(speed, 'WORKERS', (0,))
    words = ['speed', 'digits', '--rounds', '1', '--seconds', '0.1', '--out', 's.json']
    assert commands.main(words) == 0
    found = json.loads((tmp_path / 'work' / 's.json').read_text())
    assert found['plain loader'] == 'skipped, since PyTorch is not installed'
    assert 'plain, 0' not in found['images a second']
    assert 'plain: skipped, since PyTorch is not installed' in capsys.readouterr().out
    monkeypatch.setattr(speed, '_torch_version', lambda: '1')
    assert commands.main(words) == 0
    assert 'plain: skipped, since the set holds no image files' in capsys.readouterr().out


def test_the_stored_input_speeds_are_quoted_as_the_command_prints_them():
    files = sorted((ROOT / 'experiments/stored/input_speed').glob('*.json'))
    if not files:
        pytest.skip('no input speeds are stored')
    assert speed.markdown(files) in README.read_text()


def test_every_path_that_the_readme_of_the_data_names_exists():
    links = re.findall(r'\]\(([^)#]+)\)', README.read_text())
    assert len(links) > 20 and all((README.parent / link).exists() for link in links)
