"""The notebooks run from the first cell to the last, and hold the outputs of such a run."""

import base64
import json
import pathlib

import matplotlib
import matplotlib.pyplot as plt
import pytest

FOLDER = pathlib.Path(__file__).parent.parent / 'experiments/notebooks'
NOTEBOOKS = sorted(FOLDER.glob('*.ipynb'))
# A set that comes with the project, in place of what the cell tagged 'parameters' names
PARAMETERS = "DATA, LIMIT, EPOCHS = 'digits', 200, 2"


def code_of(path):
    """The code cells: (source, tags, outputs)."""
    cells = json.loads(path.read_text())['cells']
    return [
        (''.join(cell['source']), cell['metadata'].get('tags', []), cell['outputs'])
        for cell in cells
        if cell['cell_type'] == 'code'
    ]


def figures_of(outputs):
    return [one['data']['image/png'] for one in outputs if 'image/png' in one.get('data', {})]


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_draws_what_it_shows(path, elsewhere, monkeypatch, capsys):
    matplotlib.use('agg')
    drawn, names = [], {}

    def show():
        figure = plt.gcf()
        figure.canvas.draw()
        drawn.append(figure)
        width, height = figure.bbox.size
        for text in figure.findobj(matplotlib.text.Text):
            if text.get_text() and text.get_visible():
                box = text.get_window_extent()
                inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
                assert inside or not text.axes or not text.axes.axison, text.get_text()
        plt.close(figure)

    monkeypatch.setattr(plt, 'show', show)
    for number, (source, tags, outputs) in enumerate(code_of(path), start=1):
        before = len(drawn)
        source = PARAMETERS if 'parameters' in tags else source
        exec(compile(source, f'{path.name}, code cell {number}', 'exec'), names)
        assert len(drawn) - before == len(figures_of(outputs))
    assert {'curve', 'rows'} <= set(dir(names['result'])) and len(names['result'].curve) == 2
    assert 'test error: ' in capsys.readouterr().out
    assert not [*pathlib.Path.cwd().iterdir()]  # nothing is written


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_ran_whole_and_names_no_machine(path):
    text = path.read_text()
    assert len(text) < 300_000
    assert not [word for word in ('/home', '/tmp', '/work', '/Users', 'Traceback') if word in text]
    book = json.loads(text)
    assert (book['nbformat'], book['nbformat_minor']) == (4, 5)
    counts = [cell['execution_count'] for cell in book['cells'] if cell['cell_type'] == 'code']
    assert counts == list(range(1, len(counts) + 1))
    figures = [figure for _, _, outputs in code_of(path) for figure in figures_of(outputs)]
    assert len(figures) == 4
    assert all(base64.b64decode(figure)[:4] == b'\x89PNG' for figure in figures)
