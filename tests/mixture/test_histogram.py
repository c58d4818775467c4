"""Histograms against loops: they add up, whatever the pieces, types and strides."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sws_compress.errors import ArgumentError, ModelError
from sws_compress.mixture import histogram as module
from sws_compress.mixture.histogram import WeightHistogram, weight_histogram, weight_range
from sws_compress.mixture.sensitivity import Sensitivity
from tests import reference

FIELDS = ("counts", "sensitivity", "first", "second")


def lopsided(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.gamma(2.0, 0.3, count) - 0.2).astype(np.float32)


def assert_close(one: WeightHistogram, other: WeightHistogram, atol: float = 1e-12) -> None:
    for name in FIELDS:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-12, atol=atol, err_msg=name)


def as_float32(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, width=32)


@given(
    values=arrays.arrays(np.float32, st.integers(1, 40), elements=as_float32(-4, 4)),
    sensitivity=as_float32(0.125, 3),
    low=as_float32(-3, 0),
    width=as_float32(0.5, 5),
    bins=st.integers(1, 9),
)
@settings(deadline=None)
def test_is_the_loop(values: np.ndarray, sensitivity: float, low: float, width: float, bins: int) -> None:
    h = sensitivity * (1 + np.arange(len(values), dtype=np.float32) % 3)
    histogram = weight_histogram(values, low=low, high=low + width, bins=bins, sensitivity=Sensitivity(h))
    totals = reference.histogram([float(w) for w in values], [float(s) for s in h], low, low + width, bins)
    # A value on an edge may fall to either side by rounding; what the sums say about all weights does not change.
    positions = (values.astype(np.float64) - low) / (width / bins)
    if np.all(np.abs(positions - np.round(positions)) > 1e-9):
        for name, expected in zip(FIELDS, totals, strict=True):
            np.testing.assert_allclose(getattr(histogram, name), expected, rtol=1e-9, atol=1e-12, err_msg=name)
    mean = (histogram.sensitivity @ histogram.centres + histogram.first.sum()) / histogram.sensitivity.sum()
    np.testing.assert_allclose(mean, np.average(values.astype(np.float64), weights=h), rtol=1e-9, atol=1e-9)


def test_without_sensitivities_is_all_ones() -> None:
    values = lopsided(5001)
    plain = weight_histogram(values, low=-1, high=2, bins=37)
    ones = weight_histogram(values, low=-1, high=2, bins=37, sensitivity=Sensitivity(np.ones_like(values)))
    assert_close(plain, ones)
    assert plain.count == 5001


def test_merging_shards_is_one_histogram() -> None:
    values = lopsided(4099)
    h = lopsided(4099, seed=1) + np.float32(0.3)
    whole = weight_histogram(values, low=-0.5, high=2, bins=64, sensitivity=Sensitivity(h))
    cuts = [0, 13, 1024, 4099]
    shards = [
        weight_histogram(values[a:b], low=-0.5, high=2, bins=64, sensitivity=Sensitivity(h[a:b]))
        for a, b in pairwise(cuts)
    ]
    assert_close(shards[0].merge(shards[1]).merge(shards[2]), whole)


def test_order_of_weights_does_not_matter() -> None:
    values = lopsided(2003)
    shuffled = np.random.default_rng(3).permutation(values)
    assert_close(weight_histogram(values, low=-1, high=3, bins=50), weight_histogram(shuffled, low=-1, high=3, bins=50))


def test_pieces_on_threads_are_one_histogram(monkeypatch: pytest.MonkeyPatch) -> None:
    values = lopsided(10_007)
    whole = weight_histogram(values, low=-0.5, high=2, bins=64)
    monkeypatch.setattr(module, "PIECE_WEIGHTS", 1000)
    pieces = weight_histogram(values, low=-0.5, high=2, bins=64)
    assert_close(pieces, whole)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    alone = weight_histogram(values, low=-0.5, high=2, bins=64)
    for name in FIELDS:  # the number of threads changes no bit
        np.testing.assert_array_equal(getattr(alone, name), getattr(pieces, name))


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_shapes_strides_and_dtypes(dtype: type) -> None:
    values = lopsided(24 * 35).astype(np.float16)  # exact in every float type
    flat = weight_histogram(values.astype(np.float32), low=-1, high=3, bins=50)
    tensor = values.astype(dtype).reshape(24, 5, 7)
    assert_close(weight_histogram(tensor, low=-1, high=3, bins=50), flat)
    assert_close(weight_histogram(tensor.transpose(2, 0, 1)[:, ::-1], low=-1, high=3, bins=50), flat)


def test_moments_do_not_cancel_far_from_zero() -> None:
    rng = np.random.default_rng(0)
    values = (1 + 1e-5 * rng.standard_normal(5000)).astype(np.float32)
    low, high = weight_range(values)
    bins = weight_histogram(values, low=low, high=high, bins=16).occupied
    mean = bins.sensitivity @ bins.points / 5000
    variance = (bins.scatter.sum() + bins.sensitivity @ (bins.points - mean) ** 2) / 5000
    assert variance == pytest.approx(values.astype(np.float64).var(), rel=1e-9)


def test_range_is_the_extremes_and_widens_a_constant() -> None:
    values = lopsided(200_001)
    assert weight_range(values.reshape(3, -1)) == (values.min(), values.max())
    for constant in (0.0, -2.5, 1e-20):
        low, high = weight_range(np.full(5, constant, np.float32))
        assert low < np.float32(constant) < high
        assert weight_histogram(np.full(5, constant, np.float32), low=low, high=high, bins=4).count == 5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_counts_what_is_not_finite(bad: float) -> None:
    values = lopsided(1000)
    values[[3, 500]] = bad
    with pytest.raises(ModelError, match="got 2 NaN or infinite of 1000"):
        weight_histogram(values, low=-1, high=1, bins=10)
    without = Sensitivity((np.arange(1000) > 500).astype(np.float32))  # the bad values have no sensitivity
    with pytest.raises(ModelError, match="got 2 NaN or infinite of 1000"):
        weight_histogram(values, low=-1, high=1, bins=10, sensitivity=without)
    with pytest.raises(ModelError, match="got 2 NaN or infinite of 1000"):
        weight_range(values)


def test_refuses_bad_arguments() -> None:
    values = lopsided(10)
    with pytest.raises(ArgumentError, match="low < high"):
        weight_histogram(values, low=1, high=1, bins=10)
    with pytest.raises(ArgumentError, match="bins must be >= 1, got 0"):
        weight_histogram(values, low=0, high=1, bins=0)
    with pytest.raises(ArgumentError, match=r"shape of the values \(10,\), got \(9,\)"):
        weight_histogram(values, low=0, high=1, bins=3, sensitivity=Sensitivity(np.ones(9)))
    with pytest.raises(ArgumentError, match="positive sensitivity, got 0 weights"):
        weight_histogram(values[:0], low=0, high=1, bins=3)
    with pytest.raises(ArgumentError, match="got 0"):
        weight_range(values[:0])
    with pytest.raises(ArgumentError, match="same grid"):
        weight_histogram(values, low=0, high=1, bins=3).merge(weight_histogram(values, low=0, high=1, bins=4))
