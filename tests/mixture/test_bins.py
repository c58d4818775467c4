"""Fine bins: every weight is in one of them, and none of them is crowded."""

from __future__ import annotations

import numpy as np
import pytest

from sws_compress.mixture.bins import BINS_PER_GRID, MAX_BIN_SHARE, fine_bins
from sws_compress.mixture.sensitivity import Sensitivity
from tests.draws import DRAWS


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("n", [1, 100, BINS_PER_GRID + 1, 100_003])
def test_bins_hold_every_weight_once(name: str, n: int) -> None:
    values = DRAWS[name](np.random.default_rng(10), max(n, 9))[-n:].astype(np.float32)
    bins = fine_bins(values.reshape(-1, 1))
    assert bins.counts.sum() == n
    assert (np.diff(bins.points) > 0).all()
    exact = values.astype(np.float64)
    magnitude = np.abs(exact).sum()
    assert bins.counts @ bins.points == pytest.approx(exact.sum(), abs=1e-9 * magnitude)
    about_mean = bins.scatter.sum() + bins.counts @ (bins.points - exact.mean()) ** 2
    assert about_mean == pytest.approx(((exact - exact.mean()) ** 2).sum(), rel=1e-6)
    if n > BINS_PER_GRID:
        assert bins.counts.max() <= max(MAX_BIN_SHARE * n, 1)


def test_weights_that_are_all_one_value_are_one_bin() -> None:
    """However many there are: they cannot be told apart by a finer grid."""
    random = np.random.default_rng(11)
    values = np.r_[np.zeros(80_000), random.normal(0, 1, 20_000), 500.0].astype(np.float32)
    bins = fine_bins(values)
    zero = np.abs(bins.points).argmin()
    assert bins.counts[zero] == pytest.approx(80_000, abs=10)
    assert bins.points[zero] == pytest.approx(0, abs=1e-6)
    assert np.delete(bins.counts, zero).max() <= MAX_BIN_SHARE * values.size


@pytest.mark.parametrize("count", [900, BINS_PER_GRID + 3000])
def test_weighted_bins_keep_the_sums(count: int) -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_t(2, count).astype(np.float32)
    sensitivities = rng.gamma(1.0, 3.0, count).astype(np.float32)
    bins = fine_bins(values, Sensitivity(sensitivities))
    scaled = sensitivities.astype(np.float64) / sensitivities.mean(dtype=np.float64)
    w = values.astype(np.float64)
    assert bins.counts.sum() == count
    np.testing.assert_allclose(bins.sensitivity.sum(), count, rtol=1e-6)
    np.testing.assert_allclose(bins.sensitivity @ bins.points, scaled @ w, rtol=1e-6, atol=1e-6 * count)
    second = (bins.sensitivity @ bins.points**2) + bins.scatter.sum()
    np.testing.assert_allclose(second, scaled @ w**2, rtol=1e-6)
    assert np.all(np.diff(bins.points) >= 0)


def test_weights_without_sensitivity_are_counted() -> None:
    """A tail of a crowded tensor has none: its weights have bins of no mass."""
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.normal(0, 1e-3, 60_000), rng.uniform(1, 2, 40_000)]).astype(np.float32)
    bins = fine_bins(values, Sensitivity(np.repeat(np.array([2.0, 0.0]), [60_000, 40_000])))
    assert bins.counts.sum() == 100_000
    assert bins.sensitivity.sum() == pytest.approx(100_000)
    assert bins.sensitivity[bins.points > 0.5].sum() == 0
    assert bins.counts[bins.points > 0.5].sum() == 40_000


def test_the_unit_of_sensitivities_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    values, h = rng.standard_t(2, 40_000).astype(np.float32), rng.gamma(1.0, 1.0, 40_000).astype(np.float32)
    one, other = fine_bins(values, Sensitivity(h)), fine_bins(values, Sensitivity(64 * h))
    assert one.scatter.sum() > 0
    for name in ("counts", "sensitivity", "points", "scatter"):
        np.testing.assert_allclose(getattr(other, name), getattr(one, name), rtol=1e-9, atol=1e-15)
