from __future__ import annotations

import numpy as np
import pytest

from sws_compress.mixture.histogram import WeightHistogram, weight_histogram, weight_range
from sws_compress.quantize.initial import REACH_SHARE, even_mixture


def histogram_of(values: np.ndarray) -> WeightHistogram:
    low, high = weight_range(values)
    return weight_histogram(values, low=low, high=high, bins=4096)


@pytest.mark.parametrize("components", [2, 3, 7, 16])
def test_zero_first_then_even_steps(components: int) -> None:
    values = np.random.default_rng(0).normal(0.1, 1, 20_001).astype(np.float32)
    mixture = even_mixture(histogram_of(values), components, variance=0.01)
    assert mixture.components == components
    assert mixture.means[0] == 0
    assert mixture.weights[0] > mixture.weights[1:].sum()
    np.testing.assert_array_equal(mixture.variances, 0.01)
    reach = np.quantile(np.abs(values), REACH_SHARE)
    for side in (mixture.means[mixture.means > 0], -mixture.means[mixture.means < 0]):
        if side.size:
            assert side.max() == pytest.approx(reach, rel=1e-3)
            np.testing.assert_allclose(np.sort(side), np.arange(1, side.size + 1) / side.size * side.max())


@pytest.mark.parametrize("sign", [1, -1])
def test_the_heavier_tail_gets_the_odd_component(sign: int) -> None:
    values = sign * np.random.default_rng(1).gamma(2, 1, 20_001).astype(np.float32)
    means = even_mixture(histogram_of(values), 6, variance=1e-4).means
    assert (sign * means > 0).sum() == 3
    assert (sign * means < 0).sum() == 2


def test_outliers_do_not_stretch_it() -> None:
    values = np.random.default_rng(2).normal(0, 1, 20_001).astype(np.float32)
    values[:9] = 100
    assert np.abs(even_mixture(histogram_of(values), 7, variance=1e-4).means).max() < 4


def test_it_scales_with_the_weights() -> None:
    values = np.random.default_rng(3).laplace(0.2, 1, 20_001).astype(np.float32)
    plain = even_mixture(histogram_of(values), 5, variance=0.01)
    scaled = even_mixture(histogram_of(values * np.float32(8)), 5, variance=0.64)
    np.testing.assert_allclose(scaled.means, 8 * plain.means, rtol=1e-6)
    np.testing.assert_array_equal(scaled.weights, plain.weights)


@pytest.mark.parametrize("spread", [0.0, 1e-6])
def test_weights_at_zero_do_not_hide_the_others(spread: float) -> None:
    rng = np.random.default_rng(6)
    values = (spread * rng.standard_normal(100_000)).astype(np.float32)
    values[:150] = rng.standard_normal(150)
    means = even_mixture(histogram_of(values), 7, variance=1e-4).means
    assert np.abs(means).max() == pytest.approx(np.abs(values[:150]).max(), rel=0.2)
    assert means.min() < 0 < means.max()
