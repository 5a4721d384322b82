"""Every layer kind with an odd convention, against small PyTorch modules: outputs and gradients."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnns import convert, layers

torch = pytest.importorskip('torch', reason='needs PyTorch, to compare with')


def images(*shape, seed=0, scale=1.0):
    return (scale * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def theirs(x):
    """[N, H, W, C] as PyTorch's [N, C, H, W], and a leaf of its graph."""
    return torch.tensor(np.moveaxis(x, -1, 1).copy(), requires_grad=True)


def ours(x):
    return np.moveaxis(x.detach().numpy(), 1, -1)


def hwio(weight):
    return weight.detach().numpy().transpose(2, 3, 1, 0)


def close(got, expected, tolerance):
    assert got.shape == expected.shape
    np.testing.assert_allclose(
        got, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max()
    )


def agree(function, module, x):
    """Outputs to 1e-5; gradients of x to 1e-4, weighted so that every output counts otherwise."""
    y = theirs(x)
    expected = module(y)
    got, pull = jax.vjp(function, x)
    close(got, ours(expected), 1e-5)
    weights = images(*got.shape, seed=9)
    expected.backward(torch.from_numpy(np.moveaxis(weights, -1, 1).copy()))
    close(pull(weights)[0], ours(y.grad), 1e-4)


# --- convolution -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    'kernel, stride, padding, groups, side',
    [
        (3, 1, 1, 2, 6),  # AlexNet's columns: each half of the channels reads its own half
        (3, 1, 1, 4, 5),
        (7, 2, 3, 1, 14),  # padding at stride 2: SAME would pad 2 before and 3 after
        (3, 2, 1, 1, 8),  # ... and 0 before and 1 after
        (3, 2, 1, 1, 7),
        (1, 2, 0, 1, 8),
        (1, 2, 0, 1, 7),  # shortcuts: the even pixels
        (11, 4, 2, 1, 20),  # the last rows are read by no window
    ],
)
def test_convolutions_agree_in_padding_strides_and_groups(kernel, stride, padding, groups, side):
    torch.manual_seed(0)
    there = torch.nn.Conv2d(4, 8, kernel, stride, padding, groups=groups)
    here = layers.Conv(8, kernel, None, 'none', stride, padding, groups)
    x = images(2, side, side, 4)

    def apply(params, x):
        return here.apply({'params': {'conv': params}}, x, train=True)

    params = {'kernel': jnp.asarray(hwio(there.weight)), 'bias': jnp.asarray(there.bias.detach())}
    agree(lambda x: apply(params, x), there, x)
    there.zero_grad()
    weights = images(*jax.eval_shape(apply, params, x).shape, seed=9)
    there(theirs(x)).backward(torch.from_numpy(np.moveaxis(weights, -1, 1).copy()))
    (gradient,) = jax.vjp(lambda params: apply(params, x), params)[1](weights)
    close(gradient['kernel'], hwio(there.weight.grad), 1e-4)
    close(gradient['bias'], there.bias.grad.numpy(), 1e-4)


# --- pooling ---------------------------------------------------------------------------------


@pytest.mark.parametrize('side', [5, 8, 13, 14])
@pytest.mark.parametrize('overlap', [False, True])
def test_max_pooling_is_that_of_ceil_mode_in_even_and_plain_in_odd_maps(overlap, side):
    there = torch.nn.MaxPool2d(2 + overlap, 2, ceil_mode=overlap)
    x = images(2, side, side, 3) - 5  # padding of zeros would win every maximum
    agree(lambda x: layers.pool(x, 'max', overlap), there, x)


@pytest.mark.parametrize('side', [5, 8, 13, 14])
@pytest.mark.parametrize('overlap', [False, True])
def test_average_pooling_does_not_count_padding(overlap, side):
    there = torch.nn.AvgPool2d(2 + overlap, 2, ceil_mode=overlap, count_include_pad=False)
    agree(lambda x: layers.pool(x, 'average', overlap), there, images(2, side, side, 3))


@pytest.mark.parametrize('side', [8, 12, 13, 15])
def test_padding_before_is_that_of_resnets_stem_on_even_and_odd_maps(side):
    x = images(2, side, 9, 3) - 5
    agree(lambda x: layers.pool(x, 'max', True, edges='before'), torch.nn.MaxPool2d(3, 2, 1), x)


@pytest.mark.parametrize('side', [8, 9, 14, 15])
def test_windows_up_and_none_are_those_of_ceil_mode_and_of_the_default(side):
    x = images(2, side, 11, 3) - 5
    for edges, up in (('up', True), ('none', False)):
        for overlap in (False, True):
            there = torch.nn.MaxPool2d(2 + overlap, 2, ceil_mode=up)
            if edges == 'none' or not overlap:  # overlapping, ceil_mode has n // 2 windows
                agree(lambda x, o=overlap, e=edges: layers.pool(x, 'max', o, edges=e), there, x)


@pytest.mark.parametrize('side', [1, 3, 6, 7, 8, 9, 13])
def test_adaptive_averages_agree(side):
    x = images(2, side, 10, 3)
    agree(lambda x: layers.adaptive_average(x, 6), torch.nn.AdaptiveAvgPool2d(6), x)


class Stem(torch.nn.Module):
    """The maps of torchvision's ResNet and GoogLeNet up to a pool that rounds otherwise."""

    def __init__(self, *sizes):
        super().__init__()
        self.pools = torch.nn.ModuleList(sizes)

    def forward(self, x):
        for pool in self.pools:
            x = pool(x)
        return x


@pytest.mark.parametrize('side', [224, 225, 232, 240, 250, 288])
def test_converted_nets_have_torchvisions_maps_at_every_size(side):
    def conv(kernel, stride):
        return torch.nn.Conv2d(1, 1, kernel, stride, kernel // 2)

    def pool(kernel, **how):
        return torch.nn.MaxPool2d(kernel, 2, **how)

    up = dict(ceil_mode=True)
    cases = {
        ('resnet18', 'pool1'): (conv(7, 2), pool(3, padding=1)),
        ('googlenet', 'pool4'): (conv(7, 2), *(pool(3, **up),) * 3, pool(2, **up)),
        ('alexnet', 'pool5'): (torch.nn.Conv2d(1, 1, 11, 4, 2), *(pool(3),) * 3),
        ('vgg11', 'pool5'): (pool(2),) * 5,
    }
    for (model, layer), there in cases.items():
        height, width = Stem(*there)(torch.zeros(1, 1, side, 230)).shape[2:]
        net = convert.build(model)
        x = jax.ShapeDtypeStruct((1, side, 230, 3), jnp.float32)
        known = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
        init = lambda x, net=net: net.init(jax.random.key(0), x, train=False)
        variables = jax.eval_shape(init, known)
        apply = lambda v, x, net=net, **how: net.apply(v, x, train=False, **how)
        inner = functools.partial(apply, features=layer)
        maps = jax.eval_shape(inner, variables, x)
        assert maps.shape[1:3] == (height, width), model
        assert jax.eval_shape(apply, variables, x).shape == (1, 1000), model


def test_windows_agree_with_those_of_googlenets_blocks_and_classifiers():
    x = images(2, 14, 14, 3) - 5
    agree(
        lambda x: layers.pool_windows(x, 'max', 3, 1, ((1, 1), (1, 1))),
        torch.nn.MaxPool2d(3, 1, 1),
        x,
    )
    agree(
        lambda x: layers.pool_windows(x, 'average', 5, 3, ((0, 0), (0, 0))),
        torch.nn.AvgPool2d(5, 3),
        x,
    )


# --- LRN -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'constants, there',
    [
        (dict(k=1.0, alpha_over_n=True), (5, 1e-4, 0.75, 1.0)),  # PyTorch's own
        (dict(), (5, 5e-4, 0.75, 2.0)),  # the printed formula: alpha is not divided by n
        (dict(alpha_over_n=True), (5, 1e-4, 0.75, 2.0)),
        (dict(n=3, k=1.5, alpha=0.01, beta=0.5), (3, 0.03, 0.5, 1.5)),
    ],
)
def test_both_conventions_of_lrn_agree(constants, there):
    x = images(2, 3, 3, 9, scale=60)  # large enough for alpha to matter
    assert np.abs(layers.lrn(x, **constants) / (x * constants.get('k', 2) ** -0.75) - 1).max() > 0.1
    agree(lambda x: layers.lrn(x, **constants), torch.nn.LocalResponseNorm(*there), x)


# --- batch norm ------------------------------------------------------------------------------


@pytest.mark.parametrize('epsilon', [1e-5, 1e-3])
@pytest.mark.parametrize('train', [True, False])
def test_batch_norm_agrees_in_training_and_inference(train, epsilon):
    rng = np.random.default_rng(3)
    scale, bias, mean = (rng.normal(size=5).astype(np.float32) for _ in range(3))
    var = rng.uniform(0.005, 0.02, 5).astype(np.float32)  # near that of the images
    there = torch.nn.BatchNorm2d(5, eps=epsilon)
    there.load_state_dict(
        {
            key: torch.tensor(value)
            for key, value in dict(
                weight=scale, bias=bias, running_mean=mean, running_var=var, num_batches_tracked=0
            ).items()
        }
    )
    there.train(train)
    # The kernel of a 1x1 convolution that changes nothing
    here = layers.Conv(5, 1, None, 'batch', epsilon=epsilon)
    params = {'conv': {'kernel': jnp.eye(5)[None, None]}, 'norm': {'scale': scale, 'bias': bias}}
    stats = {'norm': {'mean': mean, 'var': var}}
    x = images(2, 3, 4, 5, scale=0.1) + 0.5  # epsilon shows beside this variance

    def apply(params, x):
        return here.apply(
            {'params': params, 'batch_stats': stats}, x, train=train, mutable=['batch_stats']
        )

    agree(lambda x: apply(params, x)[0], there, x)
    weights = images(2, 3, 4, 5, seed=9)
    (gradient,) = jax.vjp(lambda params: apply(params, x)[0], params)[1](weights)
    close(gradient['norm']['scale'], there.weight.grad.numpy(), 1e-4)
    close(gradient['norm']['bias'], there.bias.grad.numpy(), 1e-4)

    new = apply(params, x)[1]['batch_stats']['norm']
    close(new['mean'], there.running_mean.numpy(), 1e-5)
    if not train:
        assert (new['var'] == var).all()
        return
    # There the running variance is the unbiased one, here the biased one: m values per channel
    m = 2 * 3 * 4
    biased = 0.9 * var + (there.running_var.numpy() - 0.9 * var) * (m - 1) / m
    close(new['var'], biased, 1e-5)
    assert not np.allclose(new['var'], there.running_var.numpy(), rtol=1e-3)


# --- dropout, flattening ---------------------------------------------------------------------


@pytest.mark.parametrize('rate', [0.4, 0.5, 0.7])
def test_dropout_scales_what_it_keeps_as_pytorch_does(rate):
    x = images(64, 100)
    here = nn.Dropout(rate)

    def train(x):
        return here.apply({}, x, deterministic=False, rngs={'dropout': jax.random.key(0)})

    kept = np.asarray(train(x)) != 0
    assert abs(kept.mean() - (1 - rate)) < 0.03
    there = torch.nn.Dropout(rate)
    y = torch.tensor(x, requires_grad=True)
    expected = there(y)
    expected.sum().backward()
    both = kept & (expected.detach().numpy() != 0)  # the masks differ, the scale must not
    assert both.mean() > 0.05
    close(train(x)[both], expected.detach().numpy()[both], 1e-6)
    gradient = jax.grad(lambda x: train(x).sum())(x)
    close(gradient[both], y.grad.numpy()[both], 1e-6)
    assert (np.asarray(gradient)[~kept] == 0).all()
    assert (here.apply({}, x, deterministic=True) == x).all()
    assert (there.eval()(y).detach().numpy() == x).all()


def test_flattening_takes_the_channel_last_where_pytorch_takes_it_first():
    there = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 4 * 5, 6))
    x = images(2, 4, 5, 3)
    weight = there[1].weight.detach().numpy()
    kernel = np.empty((4 * 5 * 3, 6), np.float32)
    for h in range(4):
        for w in range(5):
            for c in range(3):
                kernel[(h * 5 + w) * 3 + c] = weight[:, (c * 4 + h) * 5 + w]
    params = {'kernel': kernel, 'bias': there[1].bias.detach().numpy()}
    got = nn.Dense(6).apply({'params': params}, x.reshape(2, -1))
    close(got, there(theirs(x)).detach().numpy(), 1e-5)
