"""Clustering to scalars: as good as can be without a price, cheaper with one."""

from __future__ import annotations

import ckwrap
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sws_compress.mixture.bins import fine_bins
from sws_compress.mixture.histogram import OccupiedBins, weight_histogram
from sws_compress.mixture.mixture import Mixture
from sws_compress.mixture.sensitivity import Sensitivity
from sws_compress.quantize import scalar
from sws_compress.quantize.assign import snap
from sws_compress.quantize.cluster import cluster
from sws_compress.quantize.initial import mixture_of_bins
from sws_compress.quantize.palette import MAX_HALF_ERROR_SHARE
from sws_compress.quantize.scalar import hard_em
from tests.draws import DRAWS


def squared_error(values: np.ndarray, components: int) -> float:
    """Before the codebook is rounded; rounding adds little to it."""
    found = cluster(values, components, seed=0)
    assert len(found.palette.codebook) <= components
    assert found.mixture is not None
    rounded, exact = (
        float(((palette.expand().astype(np.float64) - values) ** 2).sum())
        for palette in (found.palette, snap(values, found.mixture))
    )
    assert rounded <= exact * (1 + 1.01 * MAX_HALF_ERROR_SHARE)
    return exact


def least_squared_error(values: np.ndarray, components: int) -> float:
    """Of all clusterings of the values themselves, with the means of the clusters rounded to float32."""
    labels = np.asarray(ckwrap.ckmeans(np.sort(values).astype(np.float64), components).labels)
    ordered = np.sort(values).astype(np.float64)
    means = (np.bincount(labels, weights=ordered) / np.bincount(labels)).astype(np.float32)
    return float(((ordered - means[labels]) ** 2).sum())


@given(name=st.sampled_from(sorted(DRAWS)), seed=st.integers(0, 99), n=st.integers(300, 3000), k=st.integers(2, 20))
def test_small_tensors_are_clustered_as_well_as_can_be(name: str, seed: int, n: int, k: int) -> None:
    values = DRAWS[name](np.random.default_rng(seed), n).astype(np.float32)
    assert squared_error(values, k) <= least_squared_error(values, k) * (1 + 1e-6)


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize(("components", "slack"), [(16, 1e-4), (256, 3e-3)])
def test_large_tensors_almost(name: str, components: int, slack: float) -> None:
    values = DRAWS[name](np.random.default_rng(1), 30_001).astype(np.float32)
    assert squared_error(values, components) <= least_squared_error(values, components) * (1 + slack)


@pytest.mark.parametrize("distance", [40.0, 1e3, 1e6])
def test_outliers_do_not_blur_the_bulk(distance: float) -> None:
    """Three far weights cost three components and nothing else."""
    bulk = np.random.default_rng(2).normal(0, 1, 30_000).astype(np.float32)
    values = np.append(bulk, np.array([distance, -1.5 * distance, 2 * distance], np.float32))
    for components in (16, 256):
        assert squared_error(values, components) <= 1.003 * least_squared_error(bulk, components - 3)


def lloyd(points: list[float], counts: list[float], means: list[float]) -> list[float]:
    """Nearest mean (the left one of two as near), then means of members, until nothing changes."""
    while True:
        sums, masses = [0.0] * len(means), [0.0] * len(means)
        for point, count in zip(points, counts, strict=True):
            best = min(range(len(means)), key=lambda k: (abs(point - means[k]), means[k]))
            sums[best] += count * point
            masses[best] += count
        new = [total / mass if mass else mean for total, mass, mean in zip(sums, masses, means, strict=True)]
        if all(abs(a - b) < 1e-12 for a, b in zip(new, means, strict=True)):
            return new
        means = new


@given(seed=st.integers(0, 999), k=st.integers(2, 9))
@settings(max_examples=30)
def test_hard_em_is_lloyd(seed: int, k: int) -> None:
    random = np.random.default_rng(seed)
    points = np.sort(random.normal(0.5, 1, 60))
    counts = random.integers(1, 9, 60).astype(float)
    bins = OccupiedBins(counts=counts, sensitivity=counts, points=points, scatter=np.zeros(60))
    means = random.choice(points, k, replace=False)
    start = Mixture(np.full(k, 1 / k), means, np.full(k, 1e-12))
    found = hard_em(bins, start, 0.0, fixed_zero=False)
    np.testing.assert_allclose(found.means, lloyd(points.tolist(), counts.tolist(), means.tolist()), atol=1e-9)
    nearest = found.means[np.abs(points[:, None] - found.means).argmin(axis=1)]
    assert found.variances[0] == pytest.approx(counts @ (points - nearest) ** 2 / counts.sum())


@given(seed=st.integers(0, 2**16), k=st.integers(2, 12), price=st.sampled_from([0.0, 0.01, 0.3]), fixed=st.booleans())
@settings(max_examples=40, deadline=None)
def test_hard_em_never_raises_its_objective(seed: int, k: int, price: float, fixed: bool) -> None:
    """sum h (w - mu)^2 - price log2 pi of the assignment, whatever the sensitivities; the start is poor on purpose."""
    rng = np.random.default_rng(seed)
    values = (rng.gamma(2.0, 0.3, 200) - 0.4).astype(np.float32)
    h = rng.gamma(0.5, 1.0, 200).astype(np.float32)
    bins = fine_bins(values, Sensitivity(h))
    means = rng.choice(values, k).astype(np.float64)
    means[0] = 0
    mixture = Mixture(rng.dirichlet(np.ones(k)), means, np.full(k, 1e-6))

    def objective(mixture: Mixture) -> float:
        errors = bins.sensitivity[:, None] * (bins.points[:, None] - mixture.means) ** 2
        with np.errstate(divide="ignore"):
            prices = -price * np.log2(mixture.weights) if price else np.where(mixture.weights > 0, 0, np.inf)
        return float((errors + bins.counts[:, None] * prices).min(axis=1).sum())

    history = [objective(mixture)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scalar, "MAX_HARD_STEPS", 1)
        for _ in range(10):
            mixture = hard_em(bins, mixture, price, fixed_zero=fixed)
            history.append(objective(mixture))
    assert np.all(np.diff(history) <= 1e-9 * abs(history[0]))
    assert mixture.means[0] == 0 or not fixed


def cost(values: np.ndarray, mixture: Mixture, bit_price: float) -> float:
    palette = snap(values, mixture, bit_price=bit_price)
    error = ((palette.expand() - values) ** 2).sum()
    return float(error + bit_price * values.size * palette.entropy_bits)


@pytest.mark.parametrize("bit_price", [2e-3, 0.04, 0.6])
def test_a_price_on_bits_lowers_error_plus_price(bit_price: float) -> None:
    values = np.random.default_rng(3).laplace(0.1, 1, 30_000).astype(np.float32)
    start = mixture_of_bins(fine_bins(values), 16, fixed_zero=True)
    found = cluster(values, 16, bit_price=bit_price, seed=0)
    assert found.mixture is not None
    assert cost(values, found.mixture, bit_price) < cost(values, start, bit_price)
    assert found.palette.entropy_bits < cluster(values, 16, seed=0).palette.entropy_bits
    assert found.palette.zeros > 0  # component 0 stays where pruning wants it
    snapped = snap(values, found.mixture, bit_price=bit_price)
    np.testing.assert_array_equal(found.palette.indices, snapped.indices)


def test_zeros_of_a_pruned_tensor_stay_zero() -> None:
    random = np.random.default_rng(4)
    values = random.normal(0.01, 1, (100, 300)).astype(np.float32)
    values[random.random(values.shape) < 0.4] = 0
    expanded = cluster(values, 16, seed=0).palette.expand()
    assert (expanded[values == 0] == 0).all()


def test_no_component_is_wasted_on_zero() -> None:
    values = np.random.default_rng(5).normal(10, 1, 3000).astype(np.float32)
    palette = cluster(values, 4, seed=0).palette
    assert len(palette.codebook) == 4
    assert palette.codebook.min() > 7


def test_few_values_are_kept_bit_for_bit() -> None:
    values = np.random.default_rng(6).choice(np.array([-0.0, 0.0, 1 / 3, 7e-30], np.float32), (31, 47))
    found = cluster(values, 4, seed=0)
    assert found.mixture is None
    assert found.palette.expand().tobytes() == values.tobytes()
    assert len(cluster(values, 3, seed=0).palette.codebook) <= 3


@pytest.mark.parametrize("value", [0.0, 1e-38, -3.5])
def test_constant_tensors(value: float) -> None:
    values = np.full((20, 30), value, np.float32)
    assert cluster(values, 2, seed=0).palette.expand().tobytes() == values.tobytes()


def test_more_components_never_cost_error() -> None:
    values = np.random.default_rng(7).standard_t(3, 40_000).astype(np.float32)
    errors = [squared_error(values, k) for k in (2, 3, 5, 8, 16, 33, 64, 128, 256)]
    assert errors == sorted(errors, reverse=True)


def test_order_scale_and_shape_do_not_matter() -> None:
    random = np.random.default_rng(8)
    values = random.standard_t(2, 40_000).astype(np.float32)
    found = cluster(values, 16, seed=0).palette
    order = random.permutation(values.size)
    shuffled = cluster(values[order].reshape(200, 200), 16, seed=0).palette
    np.testing.assert_allclose(shuffled.codebook, found.codebook, rtol=1e-6)
    scaled = cluster(values * np.float32(-1024), 16, seed=0).palette
    np.testing.assert_allclose(np.sort(-scaled.codebook / 1024), found.codebook, rtol=1e-3)
    assert squared_error(values * np.float32(-1024), 16) == pytest.approx(1024**2 * squared_error(values, 16), rel=1e-4)


def test_every_run_gives_the_same() -> None:
    values = np.random.default_rng(9).normal(0, 1, (211, 301)).astype(np.float32)
    first, second = cluster(values, 16, seed=0).palette, cluster(values.copy(), 16, seed=7).palette
    assert first.codebook.tobytes() == second.codebook.tobytes()
    assert first.indices.tobytes() == second.indices.tobytes()


def test_the_variance_is_that_of_the_weights_however_coarse_the_bins() -> None:
    values = np.random.default_rng(13).gamma(2.0, 0.3, 3001).astype(np.float32)
    bins = weight_histogram(values, low=0, high=4, bins=5).occupied
    found = hard_em(bins, Mixture(np.ones(1), np.zeros(1), np.full(1, 1e-12)), 0.0, fixed_zero=False)
    assert found.means[0] == pytest.approx(values.mean(dtype=np.float64))
    assert found.variances[0] == pytest.approx(values.var(dtype=np.float64))


@pytest.mark.parametrize(("spread", "halves"), [(1e-2, True), (1e-4, False)])
def test_codebooks_are_halves_if_that_adds_at_most_a_hundredth_of_the_error(spread: float, halves: bool) -> None:
    """Entries lie between 1 and 2, where rounding them has a mean square of 2^-20 / 12, about 8e-8."""
    rng = np.random.default_rng(14)
    values = (1 + 0.12345 * rng.integers(0, 8, 4000) + spread * rng.standard_normal(4000)).astype(np.float32)
    codebook = cluster(values, 8, seed=0).palette.codebook
    assert np.array_equal(codebook.astype(np.float16).astype(np.float32), codebook) is halves


def test_codebooks_are_halves_where_that_costs_next_to_nothing() -> None:
    values = np.random.default_rng(12).normal(0, 1, 5000).astype(np.float32)
    for scale, halves in ((1, True), (1e-12, False), (1e6, False)):
        codebook = cluster(values * np.float32(scale), 256, seed=0).palette.codebook
        with np.errstate(over="ignore"):
            assert np.array_equal(codebook.astype(np.float16).astype(np.float32), codebook) is halves
