"""The commands of experiments.data: what they print is what is there, broken records by name."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from experiments import data
from experiments.data import commands
from experiments.data import tfds as prepared
from experiments.errors import UserError

pytestmark = pytest.mark.usefixtures('elsewhere')


def test_list_names_what_is_prepared_and_what_cannot_be_read(tfds_dir, tmp_path, capsys):
    assert commands.main(['list', '--data_dir', tfds_dir]) == 0
    out = capsys.readouterr().out
    assert re.search(r'mnist:3.0.1 +train 60,000, test 10,000', out)
    assert 'digits' in out and 'folder:PATH' in out
    place = tmp_path / 'tfds' / 'mnist' / '3.0.1'
    place.mkdir(parents=True)
    (place / 'dataset_info.json').write_text('{')
    assert commands.main(['list', '--data_dir', str(tmp_path / 'tfds')]) == 0
    assert 'cannot be read' in capsys.readouterr().out


def test_show_describes_a_set_and_draws_it(capsys):
    assert commands.main(['show', 'digits']) == 0
    out = capsys.readouterr().out
    dataset = data.load(data_fields('digits'))
    everything = np.concatenate([dataset.train.images, dataset.validation.images]) / 255
    assert f'mean     {everything.mean():.4f}' in out and f'std      {everything.std():.4f}' in out
    assert '10 classes: 0, 1' in out and 'train: 1,437 images' in out and '32x32x1' in out
    counts = np.bincount(np.concatenate([dataset.train.labels, dataset.validation.labels]))
    assert f'0 {counts[0]}, 1 {counts[1]}, 2 {counts[2]}' in out
    with Image.open('digits.png') as sheet:
        assert np.asarray(sheet.convert('L')).std() > 10


def data_fields(name, **changes):
    from experiments.data.sources import fields_of

    return fields_of(name, **changes)


def test_show_reports_mixed_sizes_and_broken_files(folder, capsys):
    (folder / 'dark' / '3.png').write_bytes(b'')
    (folder / 'dark' / 'a.png').write_bytes(b'no image')
    assert commands.main(['show', f'folder:{folder}', '--out', 'sheet.png']) == 0
    out = capsys.readouterr().out
    assert 'mixed sizes: set data.resize' in out and 'not decoded: ' in out
    assert 'height   8 to 9, median' in out


@pytest.mark.parametrize(
    'old, new', [('dark', 'a\x1b[2J\nb'), ('light/0.png', 'light/c\x1b[3J\nd.png')]
)
def test_no_name_of_a_class_or_file_acts_on_the_terminal(folder, capsys, old, new):
    (folder / old).rename(folder / new)
    for command in (
        ['show', f'folder:{folder}', '--out', 'sheet.png'],
        ['check', f'folder:{folder}'],
    ):
        assert commands.main(command) == 2
        out, err = capsys.readouterr()
        assert err.startswith('error: ') and err.count('\n') == 1 and r'\x1b[' in err
        assert '\x1b' not in out + err


def test_check_names_every_broken_record_and_fails(folder, capsys):
    assert commands.main(['check', f'folder:{folder}', '--workers', '0']) == 0
    assert '0 of them broken' in capsys.readouterr().out
    for name in ('dark/3', 'light/9'):
        (folder / f'{name}.png').write_bytes((folder / f'{name}.png').read_bytes()[:40])
    for workers in ('0', '1'):
        assert commands.main(['check', f'folder:{folder}', '--workers', workers]) == 1
        out = capsys.readouterr().out
        assert set(re.findall(r'(\w+/\d).png does not decode', out)) == {'dark/3', 'light/9'}


def test_check_says_which_images_it_does_not_read(folder, capsys):
    (folder / 'lost.png').write_bytes(b'in no folder of a class')
    assert commands.main(['check', f'folder:{folder}']) == 0
    assert 'ignored, such as lost.png' in capsys.readouterr().out


def test_check_says_that_sizes_differ_where_they_do(folder, capsys):
    assert commands.main(['check', f'folder:{folder}']) == 0
    out = capsys.readouterr().out
    assert 'train: sizes differ, height 8 to 9, width 8 to 8: set data.resize' in out
    assert commands.main(['check', 'digits']) == 0
    assert 'differ' not in capsys.readouterr().out


def test_check_names_a_truncated_shard_once(tfds_dir, tmp_path, capsys):
    shutil.copytree(f'{tfds_dir}/mnist', tmp_path / 'tfds' / 'mnist')
    shard = tmp_path / 'tfds' / 'mnist' / '3.0.1' / 'mnist-train.array_record-00000-of-00001'
    shard.write_bytes(shard.read_bytes()[:500_000])
    assert commands.main(['check', 'mnist', '--data_dir', str(tmp_path / 'tfds')]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert sum('is damaged' in line for line in lines) == 1
    assert 'test: 10,000 records read, 0 of them broken' in lines


def test_check_names_every_image_in_two_splits_and_fails(folder, capsys):
    copies = []
    for index in range(10):
        name = f'{folder}/dark/{index}'
        shutil.copy(f'{name}.png', f'{name}, again.png')
        copies.append({f'{name}.png', f'{name}, again.png'})
    with pytest.raises(UserError, match='equal'):
        data.load(data_fields(f'folder:{folder}', resize=8))
    assert commands.main(['check', f'folder:{folder}']) == 1
    lines = capsys.readouterr().out.splitlines()
    pairs = [set(line.split(' = ')) for line in lines if ' = ' in line]
    assert pairs and all(pair in copies for pair in pairs)
    counts = [int(line.split()[0]) for line in lines if 'images also in the' in line]
    assert sum(counts) == len(pairs)
    shutil.move(folder / 'dark' / '3, again.png', folder / 'light' / '3.png')
    commands.main(['check', f'folder:{folder}'])
    assert f'{folder}/light/3.png, of another class' in capsys.readouterr().out


def test_the_sheet_holds_few_and_small_images(tmp_path, monkeypatch):
    from experiments.data import contact

    for name in ('dark', 'light'):
        (tmp_path / 'set' / name).mkdir(parents=True)
        for index in range(30):
            Image.new('RGB', (700, 400)).save(tmp_path / 'set' / name / f'{index}.png')
    drawn = []
    monkeypatch.setattr(contact, 'samples', lambda images, *_: drawn.extend(images))
    assert (
        commands.main(['show', f'folder:{tmp_path / "set"}', '--out', str(tmp_path / 'a.png')]) == 0
    )
    assert len(drawn) == 32 and {image.shape for image in drawn} == {(146, 256, 3)}


def test_check_names_a_damaged_record_of_a_tfds_set(tfds_dir, tmp_path, capsys):
    shutil.copytree(f'{tfds_dir}/mnist', tmp_path / 'tfds' / 'mnist')
    place = tmp_path / 'tfds' / 'mnist' / '3.0.1'
    (place / 'mnist-train.array_record-00000-of-00001').unlink()
    shutil.copy(
        place / 'mnist-test.array_record-00000-of-00001',
        place / 'mnist-train.array_record-00000-of-00001',
    )
    info = json.loads((place / 'dataset_info.json').read_text())
    info['splits'] = [split for split in info['splits'] if split['name'] == 'test']
    (place / 'dataset_info.json').write_text(json.dumps(info))
    shard = place / 'mnist-test.array_record-00000-of-00001'
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.write_bytes(content)
    assert commands.main(['check', 'mnist', '--data_dir', str(tmp_path / 'tfds')]) == 1
    out = capsys.readouterr().out
    named = re.findall(r'record (\d+) of mnist-test.array_record-\S+ does not decode', out)
    assert 1 <= len(named) <= 10 and 4000 < int(named[0]) < 6000
    assert f'10,000 records read, {len(named)} of them broken' in out


@pytest.mark.parametrize(
    'words, message',
    [
        (['show', 'mnits'], "unknown data set 'mnits'. Did you mean 'mnist'"),
        (['check', 'folder:nowhere'], 'no such folder'),
        (['show', 'synthetic:many'], 'synthetic takes COUNTxSIDExCHANNELS'),
        (['speed', 'synthetic:50x10x1', '--batch', '51'], '50 images, fewer than --batch=51'),
        (['speed', 'digits', '--out', '/dev/null/x.json'], '/dev/null/x.json cannot be written'),
        (['speed', 'digits', '--seconds', 'nan'], '--seconds positive'),
        (['show', 'digits', '--out', 'x' * 300 + '.png'], 'cannot be written (File name too long)'),
        (['show', ''], "unknown data set ''"),
        (['speed', 'digits', '--epochs', '-1'], '--epochs is -1, it must be between 0 and'),
        (['show', 'digits', '--resize', '-3'], '--resize is -3, it must be between 0 and 4096'),
        (['check', 'digits', '--workers', '-1'], '--workers is -1'),
        (['show', 'digits', '--out', 'a.jpg'], 'Let it end in .png'),
        (['speed'], 'needs the name of a set'),
        (['speed', '--markdown', 'nowhere.json'], 'nowhere.json cannot be read'),
        (['speed', 'digits', '--rounds', '0'], '--rounds and --batch must be at least 1'),
    ],
)
def test_mistakes_are_one_line_and_status_2(words, message, capsys):
    assert commands.main(words) == 2
    err = capsys.readouterr().err
    assert err.startswith('error: ') and message in err and 'Traceback' not in err


def test_an_unprepared_set_ends_at_once_with_the_command_to_run(tmp_path):
    """In a process of its own, import included, in processor time: others may be busy."""
    code = (
        'import resource, sys; from experiments.data import commands; '
        'status = commands.main(sys.argv[1:]); used = resource.getrusage(resource.RUSAGE_SELF); '
        'print(used.ru_utime + used.ru_stime); '
        'sys.exit(status)'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, 'show', 'imagenet2012', '--data_dir', str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=prepared.pathlib.Path(__file__).parent.parent,
    )
    assert done.returncode == 2
    assert 'experiments.data prepare imagenet2012' in done.stderr
    assert float(done.stdout) < 2  # seconds of processor time


def test_another_version_or_config_names_what_is_there(tfds_dir, capsys):
    for name in ('imagenette', 'imagenette/320px-v2'):
        assert commands.main(['show', name, '--data_dir', tfds_dir]) == 2
        assert 'Prepared here: imagenette/160px-v2:1.0.0' in capsys.readouterr().err
