"""The claims that are computed: against numbers of the papers, plain loops and theory.

Every claim is computed once here; a wrong net must change its verdict.
"""

import functools
import itertools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cnns
from cnns.alexnet import ONE_TOWER
from experiments.claims import ledger, page
from experiments.claims.claim import CONTRADICTED, CORRECTED, SUPPORTED, Verdict, settle
from experiments.claims.computed import alexnet, googlenet, gradients, lenet, reading, resnet, vgg
from experiments.models import description

SLOW = ('R3', 'V3')  # they have tests of their own, on smaller nets
COMPUTED = [one.id for one in ledger.CLAIMS.values() if one.compute and one.id not in SLOW]


@functools.cache
def found(name):
    return ledger.verdict(ledger.CLAIMS[name])


@pytest.fixture
def other(monkeypatch):
    """Changes fields of a named net, or puts another in its place."""

    def change(name, instead=None, **fields):
        entry = cnns.NETS[instead or name]
        monkeypatch.setitem(cnns.NETS, name, entry._replace(fields=entry.fields | fields))
        description._as_published.cache_clear()

    yield change
    monkeypatch.undo()
    description._as_published.cache_clear()


def test_a_sentence_that_holds_is_supported_and_else_its_correction_is_asked_for():
    assert settle(True, '', correction=True).verdict == SUPPORTED
    assert settle(False, '', correction=True).verdict == CORRECTED
    assert settle(False, '').verdict == CONTRADICTED
    assert settle(True, 'words', 3) == Verdict(SUPPORTED, 'words', 3.0)


def test_words_hold_no_rounding_error_of_one_machine():
    assert reading.rounding(9e-8) == reading.rounding(4e-7) == 'within 1e-05'
    assert reading.rounding(2e-5) == 'off by 2e-05'


@pytest.mark.parametrize('name', COMPUTED)
def test_a_computed_claim_is_corrected_where_the_notes_err_and_supported_elsewhere(name):
    corrected = name in ('L3', 'L5', 'L6', 'A3c', 'A5b', 'A7', 'A8', 'V1b', 'V4', 'G2', 'G5')
    assert found(name).verdict == (CORRECTED if corrected else SUPPORTED)
    assert corrected == bool(ledger.CLAIMS[name].correction)


# From the papers, or by hand
# fmt: off
EFFECTS = {
    'L2': 156 + 12 + 1516 + 32 + 48_120 + 10_164,
    'L3': 1.7159 * 2 / 3,
    'L4': 32 - 5 + 1,
    'L5': 2 * (6 + 16),
    'L6': 25 * (6 * 3 + 9 * 4 + 6) + 16,
    'L7': (((36 - 4) // 2 - 4) // 2) - 4,
    'L8': 121 * 84,
    'A0': 26.2 - 15.3,
    'A2b': 100,
    'A3a': 4,
    'A3c': 3 - 2,
    'A4a': 5 - 1,
    'A5b': 33 * 33 * 2,
    'A6': 100 * (1 - 724_406_816 / 1_135_256_096),
    'A7': (227 - 11) // 4 + 1,
    'A8': 60_965_224,
    'V1a': 11,
    'V1b': 28 / 9,
    'V4': 0,
    'G1': 163_328 + 64 + 96 + 128 + 16 + 32 + 32,
    'G2': 25 * 192 * 32 / (192 * 16 + 25 * 16 * 32),
    'G3': 138_357_544 / 6_998_552,
    'G5': 0,
    'R6': 2 * 9 * 256**2 / (256 * 64 + 9 * 64**2 + 64 * 256),
}
# fmt: on


@pytest.mark.parametrize('name', COMPUTED)
def test_the_effect_of_a_computed_claim_is_the_one_by_hand(name):
    assert found(name).effect == pytest.approx(EFFECTS[name], rel=1e-6 if name == 'L3' else 1e-12)
    assert '{' not in found(name).text
    assert (found(name).low, found(name).high) == (None, None)
    # seeds are those of a trained half
    assert found(name).seeds == {'L3': 5, 'L5': 12, 'L6': 12, 'A6': 5}.get(name, 0)


@pytest.mark.parametrize(
    'name, words',
    [
        ('L2', '340,908 connections'),
        ('L3', 'slope 1.144 at 0'),
        ('L5', '28 to 14 and 10 to 5. Trainable parameters: S2 12, S4 32'),
        ('L6', '1,516 parameters with the links of Table I, 2,416 with all'),
        ('L6', 'read 3, 4, 6 maps of S2: 60 links of 96'),
        ('A5b', 'crops of 227 would give 1,682'),
        ('A6', '1,135 to 724 million'),
        ('A7', 'gives 54'),
        ('A8', '96.2 %'),
        ('V1b', '9 (D 3), 199 (D 64), 298 (D 96), 796 (D 256)'),
        ('V1b', '334,368 weights instead of 34,848: 9.6 times more'),
        ('V4', 'maps of 1, 2, 3, 6, 10'),
        ('G2', '15,872 weights instead of 153,600 (9.7 times fewer)'),
        ('G2', '163,328 instead of 387,072'),
        ('G3', '14,714,688, 2.1 times'),
        ('R6', '3.86 billion multiply-adds, ResNet-34 3.66'),
    ],
)
def test_the_words_hold_the_numbers_of_the_papers(name, words):
    assert words in found(name).text


@pytest.mark.parametrize(
    'name, net, fields',
    [
        ('L2', 'lenet5_1998', dict(instead='lenet5')),
        ('L3', 'lenet5_1998', dict(activation='relu')),
        ('L5', 'lenet5_1998', dict(subsampling='average')),
        ('A3c', 'alexnet', dict(overlap=False)),
        ('A3c', 'lenet5', dict(overlap=True)),
        ('A6', 'alexnet_32px', dict(groups=1)),
        ('A7', 'alexnet', dict(conv1_padding=0)),
        ('A8', 'alexnet', dict(widths=ONE_TOWER, groups=1)),
        ('G1', 'googlenet', dict(third_kernel=3)),
        ('G1', 'googlenet', dict(block='naive')),
        ('G3', 'vgg16', dict(instead='resnet20')),
        ('V1a', 'alexnet', dict(instead='alexnet_32px')),
        ('R6', 'resnet50', dict(bottleneck=False)),
    ],
)
def test_a_wrong_net_changes_the_verdict(name, net, fields, other):
    before = found(name).verdict
    other(net, **fields)
    assert before != ledger.verdict(ledger.CLAIMS[name]).verdict == CONTRADICTED


def test_another_window_of_lrn_or_another_winner_changes_the_verdict(monkeypatch):
    assert found('A4a').verdict == found('A0').verdict == SUPPORTED
    monkeypatch.setattr(cnns.layers, 'lrn', functools.partial(cnns.layers.lrn, n=7))
    monkeypatch.setitem(alexnet.ILSVRC_2012, 'second-best entry', 10.0)
    assert alexnet.a4a().verdict == alexnet.a0().verdict == CONTRADICTED


def test_dropout_in_inference_contradicts_a2b(monkeypatch):
    class Always(nn.Dropout):
        @nn.compact
        def __call__(self, inputs):
            return jnp.where(jnp.arange(inputs.shape[-1]) % 2, 2 * inputs, 0)

    monkeypatch.setattr(nn, 'Dropout', Always)
    assert alexnet.a2b().verdict == CONTRADICTED


def test_a_linear_activation_or_fewer_crops_change_the_verdict(monkeypatch):
    assert found('G5').verdict == found('A5b').verdict == CORRECTED
    monkeypatch.setitem(cnns.axes.ACTIVATIONS, 'relu', lambda x: x)
    monkeypatch.setattr(alexnet, 'places', lambda size: 257 - size - 16)
    assert googlenet.g5().verdict == alexnet.a5b().verdict == CONTRADICTED


# --- against plain loops ---------------------------------------------------------------------


def test_c5_is_a_plain_loop_over_places():
    _, variables, outputs = lenet.through_c5(reading.noise(1, 36, 36, 1))
    c5, maps = variables['params']['C5']['conv'], np.asarray(outputs['S4'][0])
    for row, column in itertools.product(range(2), repeat=2):
        window = maps[row : row + 5, column : column + 5]
        sums = [(window * c5['kernel'][..., unit]).sum() + c5['bias'][unit] for unit in range(120)]
        np.testing.assert_allclose(outputs['C5'][0, row, column], np.tanh(sums), atol=1e-5)


def test_the_jacobian_of_lrn_is_that_of_finite_differences():
    a = 30 * np.exp(np.asarray(reading.noise(12), np.float64) / 4)

    def lrn(a):  # Sec. 3.3, channel by channel
        out = np.zeros(12)
        for i in range(12):
            out[i] = a[i] / (2 + 1e-4 * sum(a[max(0, i - 2) : i + 3] ** 2)) ** 0.75
        return out

    step = 1e-4 * np.eye(12)
    numeric = np.stack([(lrn(a + one) - lrn(a - one)) / 2e-4 for one in step], -1)
    np.testing.assert_allclose(alexnet.lrn_jacobian(), numeric, atol=1e-5)


def test_a_crop_begins_at_every_place_that_exists():
    assert alexnet.places(4, side=6) == len({top for top in range(6) if top + 4 <= 6}) == 3
    assert alexnet.places(227) == 30


@pytest.mark.parametrize('count, kernel, side', [(1, 3, 3), (2, 3, 5), (3, 3, 7), (2, 5, 9)])
def test_the_support_of_the_gradient_is_the_receptive_field(count, kernel, side):
    assert vgg.seen(count, kernel) == side


def test_the_stack_saves_up_to_the_widest_n_and_not_beyond():
    for depth in (3, 64):
        arithmetic = {
            n: 9 * depth * n + 4 * 9 * n * n < 121 * depth * n for n in range(1, 5 * depth)
        }
        widest = max(n for n, saves in arithmetic.items() if saves)
        for n in (widest, widest + 1):
            ours = vgg.weights([3] * 5, depth, n) < vgg.weights([11], depth, n)
            assert ours == arithmetic[n] == (n == widest)


def test_shards_of_two_columns_differ_from_one_column():
    """What A6 compares is not the same for any kernels: groups that see all channels differ."""
    net, variables, images = alexnet._small()
    kernel = variables['params']['conv2']['conv']['kernel']
    assert kernel.shape[2] * 2 == reading.apply(net, variables, images, features='pool1').shape[-1]


def test_a_reduction_hides_what_is_orthogonal_to_its_kernels():
    net = cnns.build('googlenet_32px', fast=False)
    kernel = reading.drawn(net, 32)['params']['inception_3a']['5x5_reduce']['conv']['kernel'][0, 0]
    assert kernel.shape == (192, 16)
    basis, _ = np.linalg.qr(np.asarray(kernel, np.float64))
    x = np.random.default_rng(0).standard_normal(192)
    hidden = x - basis @ (basis.T @ x)  # nothing of it along the kernels
    assert np.linalg.norm(hidden) > 10
    np.testing.assert_allclose(hidden @ np.asarray(kernel), 0, atol=1e-6)


def test_two_linear_convolutions_are_one_and_a_relu_between_makes_them_two():
    linear, rectified = vgg.additivity()
    assert linear < 1e-5 and 0.1 < rectified


# --- gradients at the start -------------------------------------------------------------------


@pytest.mark.parametrize(
    'activation, initialiser, factor',
    [
        ('relu', 'he', 1.0),
        ('relu', 'glorot', math.sqrt(1 / 2)),
        ('relu', 'std 0.01', 0.01 * math.sqrt(gradients.WIDTH / 2)),
        ('sigmoid', 'std 0.01', 0.25 * 0.01 * math.sqrt(gradients.WIDTH)),
    ],
)
def test_a_layer_multiplies_the_gradient_as_theory_says(activation, initialiser, factor):
    """He 2015 Eq. 14: half the inputs of a ReLU count; at 0 a sigmoid has slope 1/4."""
    norms = gradients.signal(10, activation, initialiser)
    assert len(norms) == 10
    assert gradients.signal(10, activation, initialiser) is norms  # for the figure
    assert gradients.per_layer(norms) == pytest.approx(factor, rel=0.1)


def test_the_slopes_of_activations_are_bounded():
    x = np.linspace(-6, 6, 1201)
    sigmoid = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(gradients._slopes('sigmoid'), sigmoid * (1 - sigmoid), atol=1e-6)
    assert gradients._slopes('sigmoid').max() == 0.25 and gradients._slopes('tanh').max() == 1
    assert set(gradients._slopes('relu')) == {0.0, 1.0}


def test_v3_is_corrected_where_relu_vanishes_too(monkeypatch):
    def signals(vanish):
        def signal(depth, activation, initialiser):
            factor = 0.1 if activation == 'sigmoid' or (activation, initialiser) in vanish else 1.0
            return tuple(factor ** (depth - 1 - layer) for layer in range(depth))

        return signal

    expected = {
        (('relu', 'std 0.01'),): CORRECTED,
        (): SUPPORTED,
        (('relu', 'std 0.01'), ('relu', 'he')): CONTRADICTED,
    }
    for vanish, verdict in expected.items():
        monkeypatch.setattr(gradients, 'signal', signals(vanish))
        assert gradients.v3().verdict == verdict
    monkeypatch.setattr(gradients, 'signal', signals((('relu', 'std 0.01'),)))
    assert gradients.v3().effect == pytest.approx(0.1)
    assert '{' not in gradients.v3().text


def test_r3_is_contradicted_by_a_gradient_below_a_thousandth(monkeypatch):
    for least, verdict in ((1 / 500, SUPPORTED), (1 / 2000, CONTRADICTED)):
        for worse, other in (('plain56', 'resnet56'), ('resnet56', 'plain56')):
            norms = {(worse, 'batch'): (3.0, least, 1.0), (other, 'batch'): (3.0, 0.5, 1.0)}
            given = lambda net, norm, norms=norms: norms.get((net, norm), (1e-9, 1e-9, 1.0))
            monkeypatch.setattr(gradients, 'kernel_norms', given)
            found = gradients.r3()
            assert found.verdict == verdict and '{' not in found.text
            assert found.effect == (least if worse == 'plain56' else 0.5)


def test_norms_of_kernels_run_from_the_first_convolution_to_the_last(other):
    other('plain20', blocks=1)
    norms = gradients.kernel_norms('plain20', 'none', width=2)
    net = cnns.build('plain20', norm='none', width=2, fast=False)
    variables = reading.drawn(net, 32, biases=0.0)
    images = reading.noise(gradients.IMAGES, 32, 32, 3)
    assert len(norms) == 7  # the eighth layer is fully connected
    for place, path in ((0, ('conv1',)), (6, ('conv4_1', 'conv2'))):

        def loss(kernel, path=path):
            params = jax.tree.map(lambda leaf: leaf, variables['params'])
            functools.reduce(dict.get, path, params)['conv']['kernel'] = kernel
            logits = net.apply({'params': params}, images, train=False)
            chances = jax.nn.softmax(logits)[np.arange(16), np.arange(16) % 10]
            return -jnp.log(chances).mean()

        layer = functools.reduce(dict.get, path, variables['params'])
        gradient = jax.grad(loss)(layer['conv']['kernel'])
        assert norms[place] == pytest.approx(math.sqrt((gradient**2).sum()), rel=1e-3)


# --- beside trained claims ---------------------------------------------------------------------


@pytest.mark.parametrize(
    'facts, words',
    [
        (lenet.l1_sizes, '784-300-10 238,510, 784-300-100-10 266,610, LeNet-5 60,000'),
        (alexnet.a3b_choices, 'LeNet-5 has average pooling'),
        (vgg.v1c_weights, '18 weights where the 5x5 has 25'),
        (vgg.v6_sizes, 'vgg19 143,667,240'),
        (vgg.v6_sizes, '370,000 steps'),
        (googlenet.g7_heads, '1,025,000 parameters'),
        (resnet.r2_sizes, 'the same number of parameters (20: 269,722, 32: 464,154'),
        (resnet.r5_sizes, 'A 269,722, B 272,474'),
    ],
)
def test_facts_beside_trained_claims_are_those_of_the_papers(facts, words):
    assert words in facts()


def test_the_table_of_verdicts_in_the_readme_is_what_the_command_finds(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # rows in runs of the project's folder are not its stored ones
    text = (root / 'README.md').read_text()
    head, _, *lines = text[text.index('| paper | supported') :].split('\n\n')[0].splitlines()
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in (head, *lines)]
    said = {
        name: kind
        for line in cells[1:]
        for kind, cell in zip(cells[0], line)
        for name in cell.split()
    }
    assert all(said[name] == found(name).verdict for name in COMPUTED)
    trained = {one.id: ledger.verdict(one) for one in ledger.CLAIMS.values() if not one.compute}
    assert all(said[name] == one.verdict for name, one in trained.items())
    assert set(ledger.CLAIMS) == set(said) - {*ledger.SECTIONS}
    # the whole text of those that rows judge; of the others the last digits may differ by machine
    stored = (root / 'experiments/stored/README.md').read_text().splitlines()
    for line in page.markdown(
        [(ledger.CLAIMS[name], one) for name, one in trained.items()]
    ).splitlines():
        assert line in stored, line
