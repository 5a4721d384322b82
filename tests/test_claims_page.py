"""The page of all claims: every claim is there with what stands behind it, offline."""

import html as markup
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from test_trained_claims import (
    branches,
    colours,
    curve,
    deviations,
    experiment,
    norms,
    norms_of,
    shifts,
    sizes,
)

from experiments import style
from experiments.claims import command, drawings, figures, ledger, page, trained
from experiments.claims.claim import Verdict
from experiments.claims.words import effect as effect_of
from experiments.claims.words import full
from experiments.plan.config import read_config
from experiments.plan.runs import plan_of

FOUND = Verdict('supported', 'Found <so> & so.', 2.0, 1.5, 2.5, 5, 'mnist', 'seeds')


@pytest.fixture
def pairs(monkeypatch):
    """All claims with made-up verdicts, rows for one of them, and one computed figure."""
    monkeypatch.setattr(drawings, 'DRAWINGS', {'V1b': drawings.DRAWINGS['V1b']})
    arms = {'lenet5': (1.0, shifts(0.05)), 'mlp_300': (3.0, shifts(0.2))}
    arms['mlp_300_100'] = (2.5, shifts(0.2))
    more = dict(dataset_note='60,000 digits', command='python -m experiments.run --config x')
    more['arm_rates'] = {'lenet5': [0.3, 0.1], 'mlp_300': [0.1], 'mlp_300_100': [0.1, 0.03, 0.3]}
    made = {'lenet_shift.py:small': experiment(arms, **more)}
    monkeypatch.setattr(trained, 'stored', made.get)
    kinds = ('supported', 'not resolved', 'corrected')
    return [
        (claim, FOUND._replace(verdict=kinds[place % 3]))
        for place, claim in enumerate(ledger.CLAIMS.values())
    ]


def test_every_claim_is_a_line_of_the_table_and_opens_below_it(pairs):
    text = page.html(pairs)
    for claim, _ in pairs:
        assert text.count(f'<details id="{claim.id}">') == 1
        assert text.count(f'<a href="#{claim.id}">') == 1
        assert text.count(markup.escape(claim.sentence)) >= 2
    assert re.findall(r'<a href="#(\w+)">', text) == list(ledger.CLAIMS)  # the order of the notes
    assert 'Found &lt;so&gt; &amp; so.' in text
    assert '47 claims: 16 supported, 16 not resolved, 15 corrected' in text


def test_a_claim_with_rows_shows_figure_command_data_and_rows(pairs):
    (claim, found), *others = pairs
    text = page.html([(claim, found._replace(data='60,000 digits')), *others])
    block = text[text.index('<details id="L1">') : text.index('<details id="L2">')]
    assert block.count('<svg') == 3  # the paper's form, test errors, and the effect
    terms = terms_of(block)
    assert 'margin' in terms and 'images' not in terms
    assert terms['config'] == 'lenet_shift.py:small'
    assert terms['command'] == 'python -m experiments.run --config x'
    assert terms['data'] == '60,000 digits'
    assert terms['seeds'] == '0 to 4 of each arm; the interval covers seeds'
    assert terms['learning rates'] == 'lenet5 0.1*, 0.3; mlp_300_100 0.03, 0.1*, 0.3 (* chosen)'
    assert terms['rows'] == '15 runs in experiments/stored/lenet_shift-small'
    other = text[text.index('<details id="R5">') : text.index('<details id="R6">')]
    assert '<svg' not in other
    computed = text[text.index('<details id="V1b">') : text.index('<details id="V1c">')]
    assert computed.count('<svg') == 1 and 'Where five 3x3' in computed
    terms = terms_of(other)
    assert terms['rows'] == 'none: not run yet' and 'learning rates' not in terms
    assert terms['command'] == 'python -m experiments.run --config configs/ablate_shortcut.py:small'


def terms_of(block):
    """What stands behind a claim, by its name on the page."""
    return dict(re.findall('<dt>(.*?)</dt><dd>(.*?)</dd>', block))


def test_a_computed_claim_says_its_command_and_that_it_has_no_data(pairs):
    text = page.html([(claim, found._replace(data='')) for claim, found in pairs])
    block = text[text.index('<details id="L4">') : text.index('<details id="L5">')]
    terms = terms_of(block)
    assert terms['command'] == 'python -m experiments.claims L4'
    assert terms['data'] == 'none: computed' and 'rows' not in terms and 'config' not in terms
    block = text[text.index('<details id="A6">') : text.index('<details id="A7">')]
    trains = 'python -m experiments.run --config configs/ablate_groups.py:small'
    assert terms_of(block)['command'] == f'python -m experiments.claims A6; {trains}'


def test_the_length_of_the_runs_is_that_of_their_rows():
    made = experiment(
        {'a': (1, {'epochs': 16, 'steps': 1872}), 'b': (2, {'epochs': 1, 'steps': 1})}
    )
    line = lambda own: dict(full(ledger.CLAIMS['R5'], FOUND, own)).get('length')
    assert line(made) == '1 epoch, 1 step to 16 epochs, 1,872 steps'
    assert line(made._replace(rows=made.rows[:5])) == '16 epochs, 1,872 steps'
    assert line(made._replace(rows=[])) is None


@pytest.mark.parametrize(
    'change, words',
    [
        ({}, '0 to 4 of each arm'),
        ({'seed': 7}, 'a 0, 1, 2, 3, 7; b 0 to 4'),
        ({'status': 'diverged'}, 'a 0 to 3; b 0 to 4'),
    ],
)
def test_the_seeds_that_finished_are_listed(change, words):
    made = experiment({'a': (1, {}), 'b': (2, {})})
    made.rows[4].update(change)
    lines = dict(full(ledger.CLAIMS['R5'], FOUND._replace(covers=''), made))
    assert lines['seeds'] == words and 'learning rates' not in lines
    lines = dict(full(ledger.CLAIMS['R5'], FOUND, made._replace(rows=[])))
    assert lines['seeds'].startswith('none of each arm')


def test_the_markdown_names_arms_that_are_not_trained_yet(monkeypatch):
    made = experiment({'a': (1, {}), 'b': (2, {})})
    made = made._replace(rows=made.rows[:5])
    monkeypatch.setattr(page.trained, 'stored', lambda config: made)
    claim = ledger.CLAIMS['R5']
    assert '(mnist; seeds a 0 to 4; b none; configs/' in page.markdown(
        [(claim, FOUND._replace(seeds=5))]
    )


def test_the_table_sorts_effects_of_one_unit_by_their_size_and_those_without_one_last():
    effects = {'L1': 2.0, 'L3': -0.5, 'L5': -10.0, 'L6': 10.0, 'V6': 0.0, 'L9': None, 'A1': 1.5}
    lows = {'V6': -20.0, 'A4b': 4.0}  # A4b: at least 4 times
    pairs = [
        (ledger.CLAIMS[name], Verdict('supported', '', effects.get(name), lows.get(name)))
        for name in (*effects, 'A4b', 'R7')
    ]
    text = page.html(pairs)
    heading = 'data-heading="effect" data-key="'
    keys = re.findall(f'href="#(\\w+)".*?{heading}(\\w+)"', text)
    # localeCompare with numeric: whole numbers by their value
    order = [name for name, _ in sorted(keys, key=lambda pair: int(pair[1]))]
    assert order == 'L5 L6 V6 L1 L3 A1 A4b L9 R7'.split()


def test_a_correction_stands_below_its_sentence_in_the_table(pairs):
    text = page.html(pairs)
    table = text[: text.index('<details')]
    for claim, _ in pairs:
        both = (
            f'{markup.escape(claim.sentence)}<small>{markup.escape(claim.correction)}</small></td>'
        )
        assert (both in table) == bool(claim.correction), claim.id
    assert 'td small { display: block; color: var(--c666666); }' in text


def test_what_the_notes_lack_stands_below_the_heading_of_the_paper(pairs):
    for title, words in ledger.LACKS.items():
        assert f'<h2>{title}</h2>\n<p>{markup.escape(words)}</p>' in page.html(pairs)
        assert f'### {title}\n\n{words}' in page.markdown(pairs)


def test_the_page_needs_no_network_and_defines_its_colours(pairs):
    text = page.html(pairs)
    assert not re.findall(r'(?:src|href)="(?!#)', text.replace('xlink:href', ''))
    assert 'http' not in text.replace('http://www.w3.org', '')
    for name in set(re.findall(r'var\((--c[0-9a-f]{6})\)', text)):
        assert f'{name}:' in text


def test_the_table_is_markdown_too_and_the_command_writes_both(
    pairs, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(command, 'verdict', lambda claim: FOUND)
    assert command.main(['--page', str(tmp_path / 'p')]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / 'p/claims.html')
    lines = (tmp_path / 'p/claims.md').read_text().splitlines()
    assert lines[2].startswith('| L1 | supported | 2 [1.5, 2.5] perc') and lines[49] == ''
    claims = [line for line in lines[49:] if line.startswith('- ')]
    assert len(claims) == 47 and claims[0].startswith('- **L1** supported: At fewer weights')
    assert [line for line in lines if line.startswith('###')][1] == '### AlexNet'


def lines_of(figure):
    return {
        line.get_label(): line
        for axes in figure.axes
        for line in axes.get_lines()
        if not line.get_label().startswith('_')
    }


def test_training_curves_are_solid_for_relu_and_dashed_for_tanh_over_epochs():
    more = {'epochs': 4, 'steps': 80}
    made = experiment({'relu': (20, curve(10) | more), 'tanh': (20, curve(10) | more)})
    _, draw = figures.PAPERS['A1']
    found = lines_of(draw(made))
    relu, tanh = found['relu (n = 5)'], found['tanh (n = 5)']
    assert (relu.get_linestyle(), tanh.get_linestyle()) == ('-', '--')
    np.testing.assert_allclose(relu.get_xdata(), np.array([0.5, 1.5, 2.5, 3.5, 6]) * 10 * 4 / 80)
    np.testing.assert_allclose(relu.get_ydata(), [50, 40, 30, 25, 10])


def test_the_error_is_drawn_over_the_number_of_images():
    _, draw = figures.PAPERS['L9']
    axes = draw(experiment(sizes(1.6, 1.1, 0.9))).axes[0]
    found = [bars[0].get_xydata() for bars in axes.containers]
    np.testing.assert_allclose(found[0], [[15_000, 1.6], [30_000, 1.1], [54_000, 0.9]])
    np.testing.assert_allclose(found[1], [[54_000, 0.5]])  # what there is
    paper = lines_of(axes.figure)["the paper's own"].get_xydata()
    np.testing.assert_array_equal(paper, [[60_000, 0.95], [60_000, 0.8]])
    assert '0.95 % with 60,000, 0.8 % distorted' in ledger.CLAIMS['L9'].paper


def test_responses_are_drawn_from_the_first_layer_to_the_last_without_the_classifier():
    made = experiment({'plain-20': (30, deviations(1.0)), 'resnet-20': (25, deviations(0.5))})
    _, draw = figures.PAPERS['R4']
    found = lines_of(draw(made))
    assert [line.get_linestyle() for line in found.values()] == ['--', '-']
    np.testing.assert_allclose(list(found.values())[0].get_ydata(), [1.0, 3.0])


def test_depth_has_a_panel_for_each_family(monkeypatch):
    made = experiment({name: (30, {}) for name in ('plain-20', 'resnet-20')})
    for place, row in enumerate(made.rows):
        row['point'] = f'{place:012}'
        made.curves[row['point']] = [
            {'epoch': epoch, 'train/error': 0.5 / epoch, 'validation/error': 0.6 / epoch}
            for epoch in (1, 2)
        ]
    _, draw = figures.PAPERS['R1']
    plain, residual = draw(made).axes
    assert (plain.get_title(), residual.get_title()) == ('plain', 'residual')
    assert figures.PAPERS['R2'] == figures.PAPERS['R1']
    for axes in (plain, residual):
        dashed, solid = axes.get_lines()
        np.testing.assert_allclose(dashed.get_ydata(), [50, 25])
        np.testing.assert_allclose(solid.get_ydata(), [60, 30])


def test_the_errors_of_all_learning_rates_are_drawn_and_a_diverged_one_at_the_top():
    trials = [('norm lrn', 0.1, 0.24), ('norm lrn', 0.01, 0.26), ('norm lrn', 0.3, None)]
    _, draw = figures.PAPERS['A4c']
    line = lines_of(draw(norms((25, 24, 20, 20), trials=trials)))['norm lrn (n = 1)']
    np.testing.assert_allclose(line.get_xydata(), [[0.01, 26], [0.1, 24], [0.3, 100]])


def test_rows_of_another_config_have_their_figure_beside_a_claim(monkeypatch):
    arms = {'norm none': (2.5, {}), 'norm batch': (2.0, {})}
    at = {'response_percentiles': {'0': {'fc3': [-1, 0, 1]}, '2': {'fc3': [-3, 0, 2]}}}
    made = experiment({name: (error, {'measures': at}) for name, (error, _) in arms.items()})
    for place, row in enumerate(made.rows):
        row['point'] = f'{place:012}'
        made.curves[row['point']] = [{'step': 900, 'validation/error': 0.02}]
    only = {'batchnorm_mnist.py:full': made}
    monkeypatch.setattr(trained, 'stored', only.get)
    ((caption, figure),) = page.pictures(ledger.CLAIMS['A4c'], FOUND, None)
    assert 'Fig. 1' in caption and len(figure.axes) == 3
    np.testing.assert_allclose(figure.axes[2].get_lines()[2].get_ydata(), [1, 2])
    colours = [line.get_color() for line in figure.axes[2].get_lines()]
    assert colours == [style.colour(index) for index in range(3)]
    assert page.pictures(ledger.CLAIMS['A4b'], FOUND, None) == []


def test_what_each_branch_costs_is_a_map_of_blocks_and_branches():
    made = experiment({'GoogLeNet': (30, branches(1, 9, 4, 2))})
    _, draw = figures.PAPERS['G4']
    axes = draw(made).axes[0]
    np.testing.assert_allclose(axes.get_images()[0].get_array(), [[1, 9, 4, 2]] * 2)
    assert [text.get_text() for text in axes.texts[:4]] == ['+1.0', '+9.0', '+4.0', '+2.0']
    assert [label.get_text() for label in axes.get_xticklabels()][3] == 'pool_proj'


def test_how_alike_maps_are_is_drawn_in_the_order_of_the_layers():
    layers = {'C1': 0.1, 'C3': 0.3, 'C5': 0.5, 'F6': 0.6, 'S2': 0.2, 'S4': 0.4}  # as stored
    made = {'all links': (2, {'measures': {'channel_correlations': {'4': layers}}})}
    _, draw = figures.PAPERS['L6']
    axes = draw(experiment(made)).axes[0]
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert [label.get_text() for label in axes.get_xticklabels()] == 'C1 S2 C3 S4 C5 F6'.split()


@pytest.mark.parametrize(
    'name, arms, threshold',
    [
        ('A2a', ('no dropout', 'dropout 0.5'), 50),
        ('V5', ('no dropout', 'dropout 0.5'), 50),
        ('R7', ('no warm-up', 'warm-up'), 80),
        ('A4b', ('norm none', 'norm lrn'), 40),
    ],
)
def test_curves_are_solid_without_and_dashed_with_what_is_tested(name, arms, threshold):
    more = {'epochs': 4, 'steps': 80}
    _, draw = figures.PAPERS[name]
    axes = draw(experiment({arm: (20, curve(10) | more) for arm in arms})).axes[0]
    assert [line.get_linestyle() for line in axes.get_lines()] == ['-', '--', ':']
    assert axes.get_lines()[-1].get_ydata()[0] == threshold


def test_the_colours_of_two_columns_are_drawn_for_each_seed():
    arms = {'two columns': (30, colours(0.1, 0.6)), 'one column, equal width': (29, colours(0, 0))}
    _, draw = figures.PAPERS['A6']
    tiles, axes, _ = draw(experiment(arms)).axes
    picture = tiles.get_images()[0].get_array()  # six filters of 2x2, a frame of 1, a gap of 2
    assert picture.shape == (3 + 2 + 3, 3 * 3, 3)
    np.testing.assert_array_equal(picture[0, 0], [0, 0.5, 1])
    np.testing.assert_array_equal(picture[2:5], 1)
    np.testing.assert_array_equal(picture[:, 2], 1)
    first, second, *others = axes.get_lines()
    np.testing.assert_allclose(first.get_xydata(), [[0, 0.1]] * 3)
    np.testing.assert_allclose(second.get_ydata(), [0.6] * 3)
    assert len(others) == 8  # two of each of the other four seeds


def test_gradients_are_drawn_on_a_logarithm_in_the_order_of_the_layers():
    names = ['fc1', 'fc10', 'fc2']  # as rows are stored
    made = {'30 layers, relu, he, norm none': (90, norms_of(1, 100, 10, names=names))}
    _, draw = figures.PAPERS['V3']
    axes = draw(experiment(made)).axes[0]
    assert axes.get_yscale() == 'log'
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), [1, 10, 100])
    (arm,) = made
    scattered = experiment(made)
    for row in scattered.rows:  # half of the seeds a hundredth; the first layer has none in one
        factor = 0.01 if row['seed'] % 2 else 1.0
        norms = {name: factor * value for name, value in zip(names, (1, 10, 100))}
        row['measures'] = {'gradient_norms': {'0': norms | ({} if row['seed'] else {'fc1': 0.0})}}
    (line,) = draw(scattered).axes[0].get_lines()
    assert line.get_label().startswith('relu, he, norm none') and arm.startswith('30 layers')
    mean = 0.01 ** (2 / 5)  # geometric, of two seeds of five
    np.testing.assert_allclose(line.get_ydata(), [100 * mean, 10 * mean])
    np.testing.assert_allclose(line.get_xdata(), [0.5, 1.0])


@pytest.mark.parametrize('argument', ['small', 'full'])
def test_the_nets_of_gradient_flow_are_of_two_depths_and_those_of_30_layers_are_drawn(argument):
    arms = [arm.label for arm in plan_of(read_config(f'configs/gradient_flow.py:{argument}')).arms]
    mlps = [arm for arm in arms if 'layers' in arm]
    assert len(mlps) == 36 and sum(arm.startswith('5 layers, ') for arm in mlps) == 18
    names = [f'fc{layer}' for layer in range(1, 32)]
    made = {arm: (90, norms_of(*range(1, 32), names=names)) for arm in mlps}
    names = ['conv1', 'conv2_1/conv1', 'fc']
    made |= {arm: (90, norms_of(1, 2, 3, names=names)) for arm in arms if arm not in mlps}
    for claim, count in (('V3', 6), ('R3', 4)):
        (axes,) = figures.PAPERS[claim][1](experiment(made)).axes
        drawn = [line.get_label() for line in axes.get_lines()]
        assert len(drawn) == count and not any(label.startswith('5 layers') for label in drawn)


def test_an_effect_is_drawn_with_interval_margin_and_the_value_of_the_paper():
    claim = ledger.CLAIMS['A3d']
    axes = figures.effect(claim, FOUND).axes[0]
    lines = {line.get_label(): line.get_xdata() for line in axes.get_lines()}
    assert list(lines['measured, n = 5']) == [2.0] and list(lines["the paper's own"]) == [0.4]
    assert any(list(line.get_xdata()) == [FOUND.low, FOUND.high] for line in axes.get_lines())
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ['counts as nothing', 'measured, n = 5', "the paper's own"]


POOLS = {
    'overlapping max pooling': (40, {}),
    'non-overlapping max pooling': (40.5, {}),
    'overlapping average pooling': (38, {}),
    'non-overlapping average pooling': (37.7, {}),
}


def test_differences_are_drawn_by_seed_with_the_mean_and_the_value_of_the_paper():
    made = experiment(POOLS)
    row = next(row for row in made.rows if row['arm'] == 'overlapping max pooling')
    row['test/error'] += 0.01  # of one seed
    _, draw = figures.PAPERS['A3d']
    axes = draw(made).axes[0]
    dots = axes.get_lines()[0].get_xdata()
    np.testing.assert_allclose(dots, [-0.5, 0.5, 0.5, 0.5, 0.5], atol=1e-9)
    means = [bars[0].get_xdata()[0] for bars in axes.containers]
    np.testing.assert_allclose(means, [0.3, -0.3], atol=1e-9)
    assert lines_of(axes.figure)["the paper's own"].get_xdata() == [0.4]
    fewer = made._replace(rows=[one for one in made.rows if one is not row])
    axes = draw(fewer).axes[0]
    assert axes.get_yticklabels()[0].get_text() == 'max pooling (n = 4)'


def test_bars_are_the_mean_errors_of_each_arm_from_zero():
    arms = {'none': (35, {}), 'flip': (33, {})}
    _, draw = figures.ERRORS['A5a']
    axes = draw(experiment(arms)).axes[0]
    assert [bar.get_x() for bar in axes.patches] == [0] * 4
    # test errors, then training errors, which the made-up rows have at a half
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], [35, 33, 17.5, 16.5])
    assert axes.patches[2].get_y() > axes.patches[0].get_y() + axes.patches[0].get_height()


@pytest.mark.parametrize('name', ['L3', 'L5', 'A3b', 'V1c', 'V2', 'G2', 'G6', 'G7', 'R5'])
def test_test_errors_are_dots_with_intervals_from_zero_at_the_least(name):
    made = experiment({'one': (2, {}), 'other': (3, {})}, dataset_note='60,000 digits')
    next(row for row in made.rows if row['arm'] == 'other')['test/error'] = 0.9  # of one seed
    _, draw = figures.ERRORS[name]
    axes = draw(made).axes[0]
    means = [bars[0].get_xdata()[0] for bars in axes.containers]
    np.testing.assert_allclose(means, [2.0, (90 + 4 * 3 + 0.02) / 5], atol=1e-9)
    assert axes.get_xlim()[0] >= 0


def test_a_caption_says_what_bands_and_intervals_cover_where_there_are_any():
    made = experiment({'relu': (20, curve(10) | {'epochs': 4, 'steps': 80})})
    caption, draw = figures.PAPERS['A1']
    assert figures.with_intervals(caption, draw(made), 0.95).endswith(
        'Bands: 95 % over seeds, each alone.'
    )
    alone = made._replace(rows=made.rows[:1])
    assert figures.with_intervals(caption, draw(alone), 0.95) == caption
    caption, draw = figures.PAPERS['A3d']
    text = figures.with_intervals(caption, draw(experiment(POOLS)), 0.9)
    assert text.endswith('Intervals: 90 % over seeds, each alone.')


@pytest.mark.parametrize('middle', [4.0, None])
def test_a_ratio_without_an_upper_bound_is_drawn_as_an_arrow(middle):
    open_end = FOUND._replace(effect=middle, low=3.0, high=None)
    axes = figures.effect(ledger.CLAIMS['A1'], open_end).axes[0]
    marks = {line.get_marker(): line.get_xdata()[0] for line in axes.get_lines()}
    assert marks['|'] == 3.0 and marks['>'] > (middle or 3.0)
    assert ('o' in marks) == (middle is not None)
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert words[1] == 'measured, no upper bound, n = 5'


@pytest.mark.parametrize(
    'effect, low, high, marks, words',
    [
        (2.0, 0.0, 3.0, {'o': 2.0, '<': 1.6, '|': 3.0}, 'measured, no lower bound, n = 5'),
        (
            2.0,
            0.0,
            None,
            {'o': 2.0, '<': 1.6, '>': 2.5},
            'measured, no lower or upper bound, n = 5',
        ),
        (0.0, 0.0, 0.5, {'<': 0.4, '|': 0.5}, 'measured, no lower bound, n = 5'),
    ],
)
def test_a_ratio_without_a_lower_bound_is_drawn_as_an_arrow(effect, low, high, marks, words):
    found = FOUND._replace(effect=effect, low=low, high=high)
    axes = figures.effect(ledger.CLAIMS['R7'], found).axes[0]
    drawn = {line.get_marker(): line.get_xdata()[0] for line in axes.get_lines()}
    assert {mark: drawn.get(mark) for mark in 'o<>|' if mark in drawn} == pytest.approx(marks)
    assert [text.get_text() for text in axes.get_legend().get_texts()][1] == words


@pytest.mark.parametrize(
    'effect, low, high, words',
    [
        (0.0, 0.0, 2.0, 'at most 2 times'),
        (0.0, 0.0, 0.0, ''),
        (None, 0.0, None, ''),
        (None, 4.0, None, 'at least 4 times'),
        (1.0, 0.9, 1.1, '1 [0.9, 1.1] times'),
    ],
)
def test_a_ratio_is_said_as_far_as_it_is_known(effect, low, high, words, monkeypatch):
    claim, found = ledger.CLAIMS['R7'], FOUND._replace(effect=effect, low=low, high=high)
    assert effect_of(claim, found) == words
    monkeypatch.setattr(figures, 'PAPERS', {})
    drawn = page.pictures(claim, found, experiment({'a': (1, {})}))
    assert bool(drawn) == bool(words)  # a figure only of what was measured


def test_the_svg_of_a_figure_is_well_formed(pairs):
    text = page.html(pairs)
    for svg in re.findall(r'<svg.*?</svg>', text, re.S):
        ElementTree.fromstring(svg.replace('xlink:', ''))
