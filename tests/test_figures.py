"""Every figure draws, from complete, incomplete and empty experiments; no word is clipped."""

import json
import re
import xml.etree.ElementTree

import pytest
import rows as made_up
from rows import row, with_runs

from experiments import files, style
from experiments.report import figures
from experiments.report.summary import summarise

ARMS = (
    'non-overlapping average pooling',
    'overlapping average pooling',
    'non-overlapping max pooling',
    'overlapping max pooling',
)


def experiment(rows, arms, seeds=(0, 1, 2), curves=True, **plan):
    lines = {}
    for index, one in enumerate(rows):
        epochs = 3 if one['status'] == 'diverged' else 5
        if curves and one['status'] != 'failed':
            lines[one['point']] = [
                {
                    'epoch': e,
                    'train/error': 0.9 / e**2 + index / 900,
                    'seconds': 1.5,
                    'validation/error': 0.8 / e**1.5 + index / 900,
                }
                for e in range(1, epochs + 1)
            ]
    named = {
        'title': 'Pooling in LeNet-5 on made-up data',
        'dataset_note': 'made up, 3 images',
        'curves': lines,
    }
    return made_up.experiment(rows, arms, seeds, **named | plan)


def complete(arms=ARMS):
    return experiment(
        [
            row(arm, seed, 0.02 + 0.004 * index + 0.001 * (seed * 7 % 3))
            for index, arm in enumerate(arms)
            for seed in range(3)
        ],
        arms,
    )


def running():
    """One arm with a finished and a running seed, one with a trial alone, one without a run."""
    made = experiment([row(ARMS[0], 0, 0.1)], ARMS[:3], seeds=[0, 1], epochs=9)
    lines = {
        'b' * 12: [{'epoch': e, 'validation/error': 0.6 / e} for e in (1, 2)],
        'c' * 12: [{'epoch': 1, 'validation/error': 0.7}],
    }
    made = made._replace(curves=made.curves | lines)
    return with_runs(made, ('b' * 12, ARMS[0], 'final', 1), ('c' * 12, ARMS[1], 'select', 7))


CASES = {
    'running': running(),
    'three rows': experiment(
        [row('LeNet-5', seed, 0.01 + seed / 1000) for seed in range(3)], ['LeNet-5']
    ),
    'one row': experiment([row('LeNet-5', 0, 0.01)], ['LeNet-5'], seeds=[0]),
    'complete': complete(),
    'no rows': experiment([], ARMS),
    'one arm of four': experiment([row(ARMS[1], seed, 0.1) for seed in range(2)], ARMS),
    'baseline only': experiment([row(ARMS[0], seed, 0.1) for seed in range(3)], ARMS),
    'no pairs': experiment([row('a', 0, 0.1), row('b', 1, 0.1)], ['a', 'b']),
    'diverged arm': experiment(
        [row(ARMS[0], seed, 0.02 + seed / 500) for seed in range(3)]
        + [
            row(ARMS[1], 0, 0.03),
            row(ARMS[1], 1, status='diverged'),
            row(ARMS[1], 2, status='failed'),
        ]
        + [row(ARMS[2], seed, status='diverged') for seed in range(3)],
        ARMS,
    ),
    'no curves': experiment(
        [row(arm, seed, 0.1 + seed / 100) for arm in ARMS for seed in range(3)], ARMS, curves=False
    ),
    'zero error': experiment(
        [row(arm, seed, 0.0) for arm in ('a', 'b') for seed in range(3)], ['a', 'b']
    ),
    'nine arms': complete([f'{word} pooling' for word in 'a b c d e f g h i'.split()]),
    'long legend': complete(
        [
            f'{word} with overlapping max pooling and batch norm and a little more'
            for word in 'one two three four'.split()
        ]
    ),
    'long words': experiment(
        [
            row(arm, 0, 0.1)
            for arm in (
                'an arm with a label that is far longer than anyone should write but someone does',
                '$x_1$ <b>&',
            )
        ],
        [
            'an arm with a label that is far longer than anyone should write but someone does',
            '$x_1$ <b>&',
        ],
        title='A title ' + 'that goes on and on ' * 9,
        dataset_note='a note ' + 'that goes on ' * 30,
    ),
}


@pytest.fixture(scope='module', params=CASES, ids=lambda name: name.replace(' ', '_'))
def drawn(request):
    made = CASES[request.param]
    figure = figures.render(made)
    figure.canvas.draw()
    return made, figure


def texts(figure):
    """Every visible text artist with its box, in pixels of the canvas."""
    shown = [*figure.texts]
    for legend in figure.legends:
        shown += legend.get_texts()
    for axes in figure.axes:
        shown += [*axes.texts, axes.title]
        for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
            low, high = sorted(axis.get_view_interval())
            shown += [
                axis.label,
                *(
                    tick.label1
                    for tick in axis.get_major_ticks()
                    if low <= tick.get_loc() <= high and tick.label1.get_visible()
                ),
            ]
    return [(artist, artist.get_window_extent()) for artist in shown if artist.get_text().strip()]


def test_every_figure_draws_with_no_word_clipped_and_no_two_texts_overlap(drawn):
    _, figure = drawn
    width, height = figure.canvas.get_width_height()
    found = texts(figure)
    assert len(found) > 5
    assert_inside(found, width, height)
    assert_apart(found)


def assert_inside(found, width, height):
    for artist, box in found:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, (
            artist.get_text()
        )


def assert_apart(found):
    found = [(artist, box.padded(-1)) for artist, box in found]
    for index, (one, box) in enumerate(found):
        for two, other in found[index + 1 :]:
            assert not box.overlaps(other), (one.get_text(), two.get_text())


def test_no_word_of_a_panel_that_is_drawn_alone_is_clipped_or_overlaps(drawn):
    made, _ = drawn
    found = dict(figures.panels(made))
    assert ('Learning curves' in found) == bool(made.curves)
    assert ('Paired difference' in found) == (len(made.plan['arms']) > 1)
    for heading, figure in found.items():
        figure.canvas.draw()
        boxes = texts(figure)
        assert_inside(boxes, *figure.canvas.get_width_height())
        assert_apart(boxes)
        words = ' '.join(artist.get_text() for artist, _ in boxes).replace('\n', ' ')
        for arm in made.plan['arms'] if heading != 'Learning curves' else ():
            assert style.plain(arm) in words


def test_running_runs_are_drawn_and_marked():
    made = CASES['running']
    figure = figures.render(made)
    lines = panels(figure)['Learning curves'].lines
    ring, trial = [line for line in lines if line.get_marker() == 'o']
    assert ring.get_ydata().tolist() == pytest.approx([60, 30])
    assert trial.get_linestyle() == ':'
    assert trial.get_ydata().tolist() == pytest.approx([70])
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert f'{ARMS[0]} (n = 1 of 2; 1 unfinished)' in labels
    assert {'a run that has not finished', 'a trial of a learning rate'} <= set(labels)
    assert not {'a run that broke off'} & set(labels)
    first, second, _ = summarise(made)
    assert first['unfinished'] == ['seed 1, epoch 2 of 9']
    assert second['unfinished'] == ['seed 7 at learning rate 0.1 (trial), epoch 1 of 9']


def test_the_first_epoch_does_not_rule_the_axis_of_the_learning_curves():
    # 90 % after epoch 1; 2 and 3 % at the end, a hundredth of an axis from 0 apart
    rows = [row(arm, 0, end) for arm, end in (('a', 0.02), ('b', 0.03))]
    lines = {
        one['point']: [
            {'epoch': epoch, 'validation/error': 0.9 / epoch if epoch < 9 else one['test/error']}
            for epoch in range(1, 10)
        ]
        for one in rows
    }
    made = made_up.experiment(rows, ['a', 'b'], (0,), curves=lines)
    axes = panels(figures.render(made))['Learning curves']
    low, high = axes.transAxes.inverted().transform(axes.transData.transform([(9, 2), (9, 3)]))[
        :, 1
    ]
    assert high - low > 0.08 and 'log scale' in axes.get_ylabel()
    assert len(axes.get_yticks()) >= 4


def test_an_axis_that_is_cut_says_so():
    rows = [row(arm, 0, end) for arm, end in (('a', 0.60), ('b', 0.62))]
    lines = {
        one['point']: [{'epoch': epoch, 'validation/error': one['test/error']} for epoch in (1, 2)]
        for one in rows
    }
    made = made_up.experiment(rows, ['a', 'b'], (0,), curves=lines)
    axes = panels(figures.render(made))['Learning curves']
    assert axes.get_ylabel() == 'error, % (axis not from 0)' and axes.get_ylim()[0] > 50


@pytest.mark.parametrize('colour', [*style.COLOURS, style.GREY, '#000000', '#b0b0b0'])
def test_every_colour_can_be_seen_on_a_dark_page(colour):
    assert style.contrast(style.darkened(colour), style.DARK) >= 4.5


def test_a_svg_in_a_page_takes_all_its_colours_from_the_page():
    for _, figure in figures.panels(CASES['complete']):
        text = style.inline(figure)
        assert not re.search(r'#[0-9a-f]{6}', text.replace('#m', '')) and 'white' not in text
        defined = style.variables(text)
        for name in set(re.findall(r'var\((--c\w+)\)', text)):
            assert defined.count(f'{name}: ') == 2  # light and dark
    assert '--cffffff: #ffffff' in defined and f'--cffffff: {style.DARK}' in defined


def test_every_arm_is_named_in_the_legend_with_its_seeds_and_what_it_lacks(drawn):
    made, figure = drawn
    labels = [
        text.get_text().replace('\n', ' ').replace(r'\$', '$')
        for text in figure.legends[0].get_texts()
    ]
    for arm in summarise(made):
        (label,) = [label for label in labels if label.startswith(f'{arm["arm"]} (')]
        assert f'n = {arm["seeds"]}' in label
        assert arm['missing'] in label


def test_the_svg_is_xml_without_scripts_and_the_same_each_time(drawn):
    made, figure = drawn
    text = style.svg(figure)
    xml.etree.ElementTree.fromstring(text)
    assert 'script' not in text
    if made in (CASES['complete'], CASES['diverged arm']):  # to draw all twice takes long
        assert style.svg(figures.render(made)) == text


def test_the_words_of_the_svg_can_be_searched():
    # Letters are drawn as paths, so that no font is needed; the text stands beside them.
    words = ' '.join(
        re.findall('<!-- (.*?) -->', style.svg(figures.render(CASES['complete'])), re.S)
    )
    words = ' '.join(words.split()).replace('\N{NO-BREAK SPACE}', ' ')
    for arm in ARMS:
        assert f'{arm} (n = 3)' in words
    for text in (
        'Learning curves',
        'Test error',
        'Paired difference',
        'epoch',
        'made up, 3 images',
        'not corrected for several comparisons',
    ):
        assert text in words, text


BAD = 'max \x1b[31m\x00\x07\n\ud800 --> ]]> &<b> pooling'


def test_a_label_with_control_characters_leaves_the_svg_well_formed():
    made = experiment([row(BAD, seed, 0.1) for seed in range(2)], [BAD, 'b'], title=BAD)
    alone = [style.inline(figure) for _, figure in figures.panels(made)[1:]]  # curves have no label
    for text in (style.svg(figures.render(made)), *alone):
        xml.etree.ElementTree.fromstring(text.replace('xlink:', ''))
        assert not re.search('[\x00-\x08\x0b-\x1f\ud800]', text) and r'\x1b[31m' in text


def test_letters_that_the_font_lacks_are_named_once_and_draw_no_warning(capsys, recwarn):
    style._named.clear()
    label = 'overlapping \N{CJK UNIFIED IDEOGRAPH-65E5} pooling'
    figures.render(experiment([row(label, seed, 0.1) for seed in range(2)], [label]))
    style.png(figures.render(experiment([row(label, 0, 0.1)], [label])))
    err = capsys.readouterr().err
    assert err.count('\n') == 1 and err.startswith('note: ') and f"'{label}'" in err
    assert not recwarn.list


def panels(figure):
    return {axes.get_title(): axes for axes in figure.axes}


def test_dots_and_intervals_lie_at_the_numbers_of_the_summary():
    made = CASES['complete']
    axes = panels(figures.render(made))['Test error']
    summary = summarise(made)
    assert len(axes.containers) == len(ARMS)
    for y, (bar, arm) in enumerate(zip(axes.containers, summary)):
        (dot, _, (line,)) = bar.lines
        assert dot.get_xydata()[0].tolist() == pytest.approx([100 * arm['test_error'].mean, y])
        ends = line.get_segments()[0][:, 0]
        assert ends.tolist() == pytest.approx(
            [100 * arm['test_error'].low, 100 * arm['test_error'].high]
        )


def test_differences_lie_at_the_paired_numbers():
    axes = panels(figures.render(CASES['complete']))['Paired difference']
    means = [bar.lines[0].get_xdata()[0] for bar in axes.containers]
    assert means == pytest.approx([0.4, 0.8, 1.2])  # made so: 0.004 an arm, for every seed


def test_the_curve_is_the_mean_over_seeds_at_each_epoch():
    made = CASES['three rows']
    axes = panels(figures.render(made))['Learning curves']
    epochs, values = axes.lines[0].get_data()
    assert list(epochs) == [1, 2, 3, 4, 5]
    # made-up curves: 0.8 / e^1.5 + index / 900, index 0, 1, 2
    assert list(values) == pytest.approx([100 * (0.8 / e**1.5 + 1 / 900) for e in range(1, 6)])


def test_one_arm_has_one_colour_and_no_two_arms_share_one():
    for name in ('complete', 'nine arms'):
        made = CASES[name]
        axes = panels(figures.render(made))['Test error']
        dots = [bar.lines[0].get_color() for bar in axes.containers]
        assert len(set(dots)) == len(made.plan['arms'])
        assert [label.get_color() for label in axes.get_yticklabels()] == dots


def test_a_seed_that_broke_off_ends_in_a_cross_and_an_arm_without_result_says_why():
    figure = figures.render(CASES['diverged arm'])
    crosses = [line for line in panels(figure)['Learning curves'].lines if line.get_marker() == 'x']
    assert [line.get_xdata()[-1] for line in crosses] == [3] * 4
    remarks = [text.get_text() for text in panels(figure)['Test error'].texts]
    assert remarks == ['1 diverged, 1 failed', 'no result: 3 diverged', 'no result: 3 not run']


def test_drawing_writes_both_files_and_the_command_line_redraws_them(tmp_path, capsys):
    made = CASES['three rows']
    (tmp_path / 'plan.json').write_text(json.dumps(made.plan))
    for one in made.rows:
        files.append(tmp_path / 'results.jsonl', one)
    assert figures.main([str(tmp_path)]) == 0
    assert (tmp_path / 'figure.png').read_bytes().startswith(b'\x89PNG')
    first = (tmp_path / 'figure.svg').read_text()
    assert figures.main([str(tmp_path), '--out', str(tmp_path / 'other.svg')]) == 0
    assert (tmp_path / 'other.svg').read_text() == first
    assert not list(tmp_path.glob('.*')) and 'other.png' in capsys.readouterr().out


@pytest.mark.parametrize(
    'words, message',
    [
        (['nowhere'], 'no plan.json in nowhere'),
        (['.', '--out', ''], "--out '' names no file"),
        (['.', '--out', '.png'], "--out '.png' names no file"),
        (['.', '--out', '/dev/null/x'], 'no plan.json'),
        (['w', '--out', '/dev/null/x'], '/dev/null/x.png cannot be written'),
        (['w', './w'], 'a work directory was given twice'),
    ],
)
def test_a_mistake_on_the_command_line_is_one_error(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'w').mkdir()
    (tmp_path / 'w' / 'plan.json').write_text(json.dumps(CASES['three rows'].plan))
    monkeypatch.setattr(figures, 'render', None)  # no work before the mistake is named
    assert figures.main(words) == 2 and not (tmp_path / 'nowhere').exists()
    err = capsys.readouterr().err
    assert re.match(f'error: {message}', err) and 'Traceback' not in err
