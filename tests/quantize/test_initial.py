"""Starts of fits: optimal on histograms, at zero where zero is held, even for training."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sws_compress.errors import ArgumentError
from sws_compress.mixture.em import Prior, fit
from sws_compress.mixture.histogram import WeightHistogram, weight_histogram, weight_range
from sws_compress.mixture.mixture import Mixture
from sws_compress.mixture.sensitivity import Sensitivity
from sws_compress.mixture.vector_data import VectorData
from sws_compress.quantize.initial import EVEN_MIXTURE_QUANTILE, even_mixture, initial_mixture
from tests import reference


def histogram_of(values: np.ndarray, bins: int = 4096, h: np.ndarray | None = None) -> WeightHistogram:
    low, high = weight_range(values)
    return weight_histogram(values, low=low, high=high, bins=bins, sensitivity=None if h is None else Sensitivity(h))


def within_cluster_distortion(mixture: Mixture, count: float) -> float:
    return float(mixture.weights @ mixture.variances) * count


@given(seed=st.integers(0, 2**16), components=st.integers(2, 6))
@settings(deadline=None, max_examples=30)
def test_start_on_a_histogram_is_optimal(seed: int, components: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.sort(rng.choice(4096, 23, replace=False)).astype(np.float32) / 512 + 0.5
    counts = rng.integers(1, 50, 23)
    data = weight_histogram(np.repeat(values, counts), low=0.5, high=8.5, bins=4096)
    mixture = initial_mixture(data, components, fixed_zero=False, seed=0)
    expected = reference.least_distortion([float(v) for v in values], [float(c) for c in counts], components)
    assert mixture.components == components
    assert within_cluster_distortion(mixture, counts.sum()) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_sensitivities_weigh_means_but_not_shares() -> None:
    values = np.repeat(np.array([-3.0, 1.0, 2.0, 8.0], np.float32), [10, 30, 30, 30])
    h = np.repeat(np.array([1.0, 9.0, 1.0, 2.0], np.float32), [10, 30, 30, 30])
    mixture = initial_mixture(histogram_of(values, h=h), 3, fixed_zero=False, seed=0)
    np.testing.assert_allclose(mixture.means, [-3, 1.1, 8], atol=1e-6)
    np.testing.assert_allclose(mixture.weights, [0.1, 0.6, 0.3])


def test_finer_histograms_are_coarsened_but_moments_are_not() -> None:
    values = np.random.default_rng(0).normal(0.3, 1, 60_001).astype(np.float32)
    fine = initial_mixture(histogram_of(values, bins=1 << 17), 3, fixed_zero=False, seed=0)
    coarse = initial_mixture(histogram_of(values, bins=2048), 3, fixed_zero=False, seed=0)
    np.testing.assert_allclose(fine.means, coarse.means, atol=5e-3)
    mean = fine.weights @ fine.means
    variance = fine.weights @ (fine.variances + (fine.means - mean) ** 2)
    assert mean == pytest.approx(values.mean(dtype=np.float64), abs=1e-9)
    assert variance == pytest.approx(values.var(dtype=np.float64), rel=1e-9)


def test_nearest_cluster_moves_to_zero() -> None:
    values = np.random.default_rng(0).normal(0.02, 1, 20_001).astype(np.float32)
    free = initial_mixture(histogram_of(values), 5, fixed_zero=False, seed=0)
    fixed = initial_mixture(histogram_of(values), 5, seed=0)
    assert fixed.components == 5
    assert fixed.means[0] == 0
    nearest = np.abs(free.means).argmin()
    np.testing.assert_allclose(np.sort(fixed.means[1:]), np.delete(free.means, nearest))
    assert fixed.variances[0] == pytest.approx(free.variances[nearest] + free.means[nearest] ** 2)
    assert fixed.weights[0] == pytest.approx(free.weights[nearest])


def test_zero_is_added_where_no_weights_are() -> None:
    values = np.random.default_rng(0).normal(10, 1, 20_001).astype(np.float32)
    free = initial_mixture(histogram_of(values), 4, fixed_zero=False, seed=0)
    fixed = initial_mixture(histogram_of(values), 5, seed=0)
    assert fixed.means[0] == 0
    assert 0 < fixed.weights[0] < 0.01
    np.testing.assert_allclose(fixed.means[1:], free.means)
    result = fit(histogram_of(values), fixed, Prior())
    assert result.mixture.weights[0] < 1e-6  # and EM lets it go


@pytest.mark.parametrize(("deviations", "moves"), [(1.8, True), (2.2, False)])
def test_a_cluster_moves_to_zero_from_within_two_standard_deviations(deviations: float, moves: bool) -> None:
    pair = np.array([deviations - 1, deviations + 1], np.float32)  # of standard deviation 1
    values = np.concatenate([np.repeat(pair, 300), np.full(400, 100, np.float32)])
    share = initial_mixture(histogram_of(values), 2, seed=0).weights[0]
    assert share == pytest.approx(0.6) if moves else share < 0.01


@pytest.mark.parametrize("components", [2, 5, 256])
def test_fewer_values_than_components(components: int) -> None:
    values = np.repeat(np.array([-0.5, 0.0, 0.25], np.float32), [10, 70, 20])
    mixture = initial_mixture(histogram_of(values), components, seed=0)
    assert mixture.components == min(components, 3)
    assert mixture.means[0] == 0
    vectors = VectorData(np.repeat(np.array([[-0.5, 1.0], [0.0, 0.0], [0.25, 0.5]]), [10, 70, 20], axis=0))
    mixture = initial_mixture(vectors, components, seed=0)
    assert mixture.components == min(components, 3)
    assert np.all(mixture.means[0] == 0)


def test_start_for_vectors() -> None:
    rng = np.random.default_rng(5)
    centres = np.array([[0.0, 0.0, 0.0, 0.0], [4, 0, 1, 1], [0, -5, 2, 0]])
    values = np.concatenate([rng.normal(c, 0.1, (n, 4)) for c, n in zip(centres, (501, 77, 40_000), strict=True)])
    mixture = initial_mixture(VectorData(values.astype(np.float32)), 3, seed=3)
    assert np.all(mixture.means[0] == 0)
    order = np.argsort(mixture.weights)
    np.testing.assert_allclose(mixture.means[order], centres[[1, 0, 2]], atol=0.05)
    np.testing.assert_allclose(mixture.weights[order] * 40_578, [77, 501, 40_000])
    np.testing.assert_allclose(mixture.variances, 0.01, rtol=0.5)
    same = initial_mixture(VectorData(values.astype(np.float32)), 3, seed=3)
    np.testing.assert_array_equal(same.means, mixture.means)


def test_large_vector_data_is_sampled_but_measured_whole() -> None:
    values = np.random.default_rng(0).normal(0.5, 1, (100_001, 2)).astype(np.float32)
    h = np.random.default_rng(1).uniform(0.5, 1.5, values.shape).astype(np.float32)
    mixture = initial_mixture(VectorData(values, Sensitivity(h)), 4, fixed_zero=False, seed=0)
    again = initial_mixture(VectorData(values, Sensitivity(h)), 4, fixed_zero=False, seed=0)
    np.testing.assert_array_equal(mixture.means, again.means)
    np.testing.assert_allclose(mixture.weights @ mixture.means, np.average(values, axis=0, weights=h), atol=0.02)
    assert mixture.weights.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("components", "message"),
    [(1, "components must be >= 2, got 1: one is reserved for zero"), (257, "components must be <= 256, got 257")],
)
def test_refuses(components: int, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        initial_mixture(histogram_of(np.arange(9, dtype=np.float32)), components, seed=0)


# Even mixtures


@pytest.mark.parametrize("components", [2, 3, 7, 16])
def test_zero_first_then_even_steps(components: int) -> None:
    values = np.random.default_rng(0).normal(0.1, 1, 20_001).astype(np.float32)
    mixture = even_mixture(histogram_of(values), components, variance=0.01)
    assert mixture.components == components
    assert mixture.means[0] == 0
    np.testing.assert_allclose(mixture.weights, [0.9, *[0.1 / (components - 1)] * (components - 1)])
    np.testing.assert_array_equal(mixture.variances, 0.01)
    reach = np.quantile(np.abs(values), EVEN_MIXTURE_QUANTILE)
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


def test_outliers_do_not_stretch_an_even_mixture() -> None:
    values = np.random.default_rng(2).normal(0, 1, 20_001).astype(np.float32)
    values[:9] = 100
    assert np.abs(even_mixture(histogram_of(values), 7, variance=1e-4).means).max() < 4


def test_an_even_mixture_scales_with_the_weights() -> None:
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


def test_a_single_other_value_is_reached() -> None:
    values = np.zeros(1000, np.float32)
    values[7] = -2.5
    means = even_mixture(histogram_of(values), 4, variance=1e-4).means
    assert np.abs(means).max() == pytest.approx(2.5, rel=1e-3)
