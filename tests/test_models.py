"""The command that describes the nets: its tables, its figure and its errors."""

import json

import pytest

from experiments import tables
from experiments.models import command, description, figure


@pytest.fixture
def few(monkeypatch):
    """The whole table, made of a few quick nets."""
    names = ('lenet5', 'lenet5_1998', 'mlp_300', 'alexnet', 'vgg11', 'vgg11_lrn', 'resnet20')
    nets = [description.describe(name) for name in names]
    for net in nets:
        del net['rows']
    monkeypatch.setattr(description, 'zoo', lambda: nets)
    return nets


def run(capsys, *words):
    status = command.main(list(words))
    out, err = capsys.readouterr()
    return status, out, err


def test_the_json_of_all_nets_is_a_list_of_objects(few, capsys):
    status, out, _ = run(capsys, '--json')
    assert status == 0 and json.loads(out) == few
    first = json.loads(out)[0]
    assert (first['name'], first['input'], first['receptive_field']) == ('lenet5', [32, 32, 1], 32)
    assert json.loads(out)[2]['receptive_field'] is None  # an MLP


def test_markdown_and_console_show_the_same_cells(few, capsys):
    _, text, _ = run(capsys, '--markdown')
    head, rule, *lines = text.splitlines()
    assert head.count('|') == rule.count('|') and set(rule) <= set('|-: ')
    read = [tuple(cell.strip() for cell in line.strip('|').split('|')) for line in lines]
    assert read == description.cells(few)
    assert read[3][:5] == ('alexnet', '227×227×3', '60,965,224', '60 million', '724,406,816')
    status, text, _ = run(capsys)
    assert status == 0
    for line, cells in zip([line for line in text.splitlines() if '×' in line], read, strict=True):
        assert line.split() == ' '.join(cells).split()


def test_a_narrow_console_loses_no_digit(few):
    from rich.console import Console

    console = Console(width=60, record=True, file=open('/dev/null', 'w'))
    with console.file:
        console.print(tables.Terminal(description.HEADINGS, description.cells(few)))
    assert '…' not in console.export_text()


def test_one_net_prints_its_rows_and_total(capsys):
    status, text, _ = run(capsys, 'lenet5')
    assert status == 0 and text.startswith('lenet5: ')
    lines = [line.split() for line in text.splitlines() if line.strip()]
    assert ['C3', 'conv', '5', '1', '0', '1', '10×10×16', '2,416', '240,000', '14'] in lines
    assert ['total', '61,706', '416,520'] in lines
    _, text, _ = run(capsys, 'lenet5', '--markdown')
    assert '| F6 | dense | 1 | 1 | 0 | 1 | 84 | 10,164 | 10,080 |  |' in text


def test_the_json_of_one_net_has_its_rows(capsys):
    status, out, _ = run(capsys, 'lenet5', '--json')
    net = json.loads(out)
    assert status == 0 and net == description.describe('lenet5')
    assert sum(row['parameters'] for row in net['rows']) == net['parameters'] == 61_706
    assert net['rows'][1] == {
        'layer': 'S2',
        'kind': 'average pool',
        'kernel': [2, 2],
        'stride': [2, 2],
        'padding': [[0, 0], [0, 0]],
        'groups': 1,
        'output': [14, 14, 6],
        'parameters': 0,
        'macs': 0,
        'receptive_field': 6,
    }


def test_fields_and_side_change_the_net(capsys):
    _, out, _ = run(capsys, 'lenet5', '--norm=batch', '--classes=7', '--overlap=true', '--json')
    net = json.loads(out)
    # 3 norms have 2 (6 + 16 + 120) parameters for 142 biases; OUT has 3 * 85 fewer
    assert net['parameters'] == 61_706 + 142 - 255
    assert net['rows'][1]['kernel'] == [3, 3]
    _, out, _ = run(capsys, 'resnet20', '--side=16', '--dtype=bfloat16', '--json')
    net = json.loads(out)
    assert (net['input'], net['macs']) == ([16, 16, 3], (40_551_040 - 640) // 4 + 640)


@pytest.mark.parametrize(
    'words, hints',
    [
        (['lenet'], ["'lenet'", "'lenet5'"]),
        (['lenet5', '--nrom=batch'], ["'nrom'", "'norm'"]),
        (['lenet5', '--norm=bach'], ["'bach'", "'batch'"]),
        (['lenet5_1998', '--pool=max'], ['trainable']),
        (['lenet5', '--side=28'], ['28', '32']),
        (['lenet5', '--side=0'], ['--side', 'at least 1']),
        (['lenet5', '--classes=ten'], ['classes', 'whole number', "'ten'"]),
        (['lenet5', '--overlap=1'], ['overlap', 'True']),
        (['lenet5', '--classes=-1'], ['classes', '-1']),
        (['alexnet', '--groups=7'], ['7 groups', 'do not divide']),
        (['vgg16', '--widths=64'], ['widths', 'tuple', '(64, 128']),
        (['lenet5', '--dtype=floaty'], ["'floaty'", 'bfloat16']),
        (['lenet5', '--norm'], ["'--norm'", '--FIELD=VALUE']),
        (['lenet5', 'alexnet'], ["'alexnet'"]),
        (['--norm=batch'], ['name it']),
        (['--side=32'], ['name it']),
        (['lenet5', '--figure=x.png'], ['leave out the name']),
        (['--figure=x.jpg'], ['.png or .svg', "'x.jpg'"]),
        (['--figure=no/such/folder/x.png'], ['no/such/folder']),
    ],
)
def test_a_mistake_is_one_line_and_status_2(words, hints, few, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *words)
    assert (status, out) == (2, '')
    assert err.startswith('error: ') and 'Traceback' not in err
    for hint in hints:
        assert hint in err
    assert not list(tmp_path.iterdir())


# ---- figure


def test_every_net_is_a_mark_inside_the_canvas_and_no_text_covers_it(few):
    drawn = figure.render(few)
    drawn.canvas.draw()
    (axes,) = drawn.axes
    marks = [tuple(place) for line in axes.lines for place in line.get_xydata()]
    assert sorted(marks) == sorted((net['macs'], net['parameters']) for net in few)
    legend, box = axes.get_legend().get_window_extent(), drawn.get_tightbbox()
    assert legend.x0 >= axes.get_window_extent().x1
    width, height = drawn.get_size_inches()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height


def test_families_have_looks_of_their_own_and_axes_their_units(few):
    (axes,) = figure.render(few).axes
    assert axes.get_xscale() == axes.get_yscale() == 'log'
    assert (axes.get_xlabel(), axes.get_ylabel()) == ('multiply-adds per image', 'parameters')
    legend = axes.get_legend()
    looks = [(line.get_color(), line.get_marker()) for line in legend.legend_handles]
    assert [text.get_text() for text in legend.get_texts()] == [
        'LeNet5',
        'LeNet5Original',
        'MLP',
        'AlexNet',
        'VGG',
        'CifarResNet',
    ]
    assert len(set(looks)) == 6


def test_the_figure_is_written_as_its_ending_says(few, tmp_path, capsys):
    for name, start in (('a.png', b'\x89PNG'), ('a.svg', b'<?xml')):
        status, out, _ = run(capsys, '--figure', str(tmp_path / name))
        assert status == 0 and out.strip() == str(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
