"""Statistics of the train split: moments, mean image, principal components, a fixed sample."""

import numpy as np
import pytest

from experiments import data
from experiments.data import statistics
from experiments.data.sources import fields_of


@pytest.fixture(scope='module')
def digits():
    return data.load(fields_of('digits'))


def pictures(n=4, height=12, width=10, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, channels), np.uint8)


def test_the_moments_are_those_of_the_train_split_only(digits):
    pixels = digits.train.images.astype(np.float64) / 255
    np.testing.assert_allclose(digits.mean, pixels.mean(), rtol=1e-6)
    np.testing.assert_allclose(digits.std, pixels.std(), rtol=1e-6)
    everything = np.concatenate([digits.train.images, digits.test.images]) / 255
    assert abs(everything.mean() - digits.mean[0]) > 1e-5


def test_moments_are_per_channel_and_a_constant_channel_keeps_its_zero():
    images = np.zeros((2, 1, 2, 2), np.uint8)
    images[..., 0] = [[[0, 255]], [[0, 255]]]
    images[..., 1] = 51
    mean, std = data.moments(images)
    np.testing.assert_allclose(mean, [0.5, 0.2], rtol=1e-6)
    np.testing.assert_allclose(std, [0.5, 1.0], rtol=1e-6)


def test_a_sample_is_fixed_and_of_different_images(digits):
    drawn = data.sample(digits.train, 100)
    assert drawn.shape == (100, 32, 32, 1) and (drawn == data.sample(digits.train, 100)).all()
    assert len({image.tobytes() for image in drawn}) > 95
    assert len(data.sample(digits.train, 10**6)) == len(digits.train.labels)


def test_components_are_those_of_numpys_covariance():
    mixed = pictures(9) @ np.array([[5, 1, 0], [4, 2, 1], [3, 0, 2]]) // 12
    images = mixed.astype(np.uint8)
    components = statistics.of_images(images).components
    covariance = np.cov(images.reshape(-1, 3).T / 255, bias=True)
    rebuilt = (components.vectors * components.values) @ components.vectors.T
    np.testing.assert_allclose(rebuilt, covariance, atol=1e-6)
    assert (np.diff(components.values) < 0).all()
    # the eigenvalues share out the variance of the channels
    np.testing.assert_allclose(
        components.values.sum(), (images / 255).var((0, 1, 2)).sum(), rtol=1e-5
    )


def test_statistics_are_computed_once_for_a_known_data_set(monkeypatch):
    split = data.InMemory(pictures(8), np.zeros(8, np.int32))
    dataset = data.Dataset('a', split, split, split, (), *data.moments(split.images), '', 'a')
    first = statistics.sums_of(dataset)
    monkeypatch.setattr(statistics, '_sums', None)
    assert statistics.sums_of(dataset) is first


def test_the_mean_image_is_numpys_mean():
    images = pictures(700, 2, 3)
    np.testing.assert_allclose(
        statistics.of_images(images).mean_image, images.mean(0) / 255, rtol=1e-6
    )


def test_only_the_statistics_that_are_needed_are_counted(digits, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(statistics, 'sums_of', None)
        found = data.statistics_of(digits)
    assert found == (digits.mean, digits.std, None, None)
    all_of_them = statistics.of_images(digits.train.images)
    found = data.statistics_of(digits, {'mean_image'})
    np.testing.assert_array_equal(found.mean_image, all_of_them.mean_image)
    assert found.components is None
    components = data.statistics_of(digits, {'components'}).components
    np.testing.assert_array_equal(components.values, all_of_them.components.values)
