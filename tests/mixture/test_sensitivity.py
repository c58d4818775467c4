"""Sensitivities: how they broadcast, what they refuse, and their laws in histograms and EM."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sws_compress.errors import ArgumentError
from sws_compress.mixture.em import Prior, em_step
from sws_compress.mixture.histogram import weight_histogram
from sws_compress.mixture.mixture import Mixture
from sws_compress.mixture.sensitivity import Sensitivity
from tests import reference


def test_slices_along_an_axis_broadcast() -> None:
    for axis in (0, 1, 2, -1):
        size = (2, 3, 4)[axis]
        h = Sensitivity.along(np.arange(1, size + 1), axis=axis, ndim=3)
        every = h.of((2, 3, 4))
        for i in range(size):
            assert (np.take(every, i, axis=axis) == i + 1).all()
        np.testing.assert_array_equal(h.flat((2, 3, 4)), every.reshape(-1))
        assert h.flat((2, 3, 4)).dtype == np.float32
        assert h.mean == every.mean()


def test_nothing_is_copied_if_there_is_one_float32_per_weight() -> None:
    values = np.random.default_rng(0).gamma(1, 1, (30, 7)).astype(np.float32)
    h = Sensitivity(values)
    assert np.shares_memory(h.flat((30, 7)), values)
    assert np.shares_memory(h.of((30, 7)), values)


def test_relative_sensitivities_have_mean_one() -> None:
    h = Sensitivity(np.array([1e-30, 3e-30, 0.0]))
    np.testing.assert_allclose(h.relative.values, [0.75, 2.25, 0])
    assert not h.uniform
    assert Sensitivity(np.full((3, 4), 0.1, np.float32)).uniform


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([1.0, -0.5]), "finite, >= 0 and not all 0, got -0.5 .. 1.0"),
        (np.array([1.0, np.nan]), "got nan .. nan"),
        (np.array([1.0, np.inf]), "got 1.0 .. inf"),
        (np.zeros(3), "got 0.0 .. 0.0"),
        (np.zeros((3, 0)), r"must not be empty, got shape \(3, 0\)"),
    ],
)
def test_refuses(values: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Sensitivity(values)


def test_refuses_shapes_that_do_not_broadcast_and_numbers_that_float32_has_not() -> None:
    with pytest.raises(ArgumentError, match=r"shape of the values \(2, 3\), got \(2,\): give one per weight"):
        Sensitivity(np.ones(2)).of((2, 3))
    with pytest.raises(ArgumentError, match=r"not all 0, got 0.0 .. 0.0"):
        Sensitivity(np.full(3, 1e-60)).flat((3,))


def test_a_histogram_of_broadcast_sensitivities_is_that_of_every_weight() -> None:
    values = (np.random.default_rng(2).gamma(2.0, 0.3, (40, 30)) - 0.2).astype(np.float32)
    rows = np.random.default_rng(3).gamma(1.0, 1.0, (40, 1)).astype(np.float32)
    one, every = (
        weight_histogram(values, low=-1, high=3, bins=50, sensitivity=Sensitivity(h))
        for h in (rows, np.repeat(rows, 30, axis=1))
    )
    for name in ("counts", "sensitivity", "first", "second"):
        np.testing.assert_array_equal(getattr(one, name), getattr(every, name))


def test_merged_shards_with_sensitivities_are_one_histogram() -> None:
    """Shards of different mean sensitivity: sums are merged as given, and divided by the mean of all afterwards."""
    rng = np.random.default_rng(4)
    values, h = rng.normal(0.3, 1, 999).astype(np.float32), rng.gamma(0.5, 1.0, 999).astype(np.float32)
    h[600:] *= 100
    whole, left, right = (
        weight_histogram(values[part], low=-4, high=5, bins=64, sensitivity=Sensitivity(h[part]))
        for part in (slice(None), slice(600), slice(600, None))
    )
    merged = left.merge(right)
    for name in ("counts", "sensitivity", "points", "scatter"):
        np.testing.assert_allclose(getattr(merged.occupied, name), getattr(whole.occupied, name), rtol=1e-9, atol=1e-12)


def test_a_weight_twice_is_sensitivity_two_for_the_means() -> None:
    """One component has all weights, so that responsibilities do not depend on sensitivities."""
    values = np.random.default_rng(5).normal(0.3, 1, 99).astype(np.float32)
    alone = Mixture(np.ones(1), np.zeros(1), np.ones(1))
    twice = Sensitivity(np.where(np.arange(99) % 3 == 0, 2.0, 1.0))
    weighted = weight_histogram(values, low=-4, high=5, bins=64, sensitivity=twice)
    copied = weight_histogram(np.concatenate([values, values[::3]]), low=-4, high=5, bins=64)
    off = Prior(fixed_zero=False)
    np.testing.assert_allclose(
        em_step(weighted, alone, off).mixture.means, em_step(copied, alone, off).mixture.means, rtol=1e-9
    )


def test_weights_without_sensitivity_count_in_shares_only() -> None:
    values = np.array([0.0, 0.25, 1.0, 1.5], np.float32)
    h = np.array([1.0, 3.0, 1.0, 0.0])
    start = Mixture(np.array([0.5, 0.5]), np.array([0.0, 1.0]), np.array([0.1, 0.1]))
    data = weight_histogram(values, low=-1, high=2, bins=192, sensitivity=Sensitivity(h))
    step = em_step(data, start, Prior(fixed_zero=False))
    weights, means, variances = reference.em_step(
        reference.rows(values), reference.rows(h / h.mean()), start.weights, start.means[:, None],
        start.variances[:, None], 1.0, 1.0, 0.0, False, 0.0,
    )  # fmt: skip
    np.testing.assert_allclose(step.mixture.weights, weights, rtol=1e-9)
    np.testing.assert_allclose(step.mixture.means[:, None], means, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(step.mixture.variances[:, None], variances, rtol=1e-9)
