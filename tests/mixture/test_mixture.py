"""Mixtures: densities against loops, read-only arrays, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from sws_compress.errors import ArgumentError
from sws_compress.mixture.mixture import CHUNK_VALUES, Mixture
from tests import reference

SCALAR = Mixture(np.array([0.5, 0.0, 0.5]), np.array([0.0, 1.0, -0.3]), np.array([0.01, 0.2, 1e-10]))
VECTOR = Mixture(np.array([0.7, 0.3]), np.array([[0.0, 0.0], [1.0, -2.0]]), np.array([[1.0, 0.1], [3.0, 0.5]]))


def test_log_density_is_the_loop_over_components() -> None:
    values = np.random.default_rng(0).normal(0.2, 0.5, 51)
    expected = [
        reference.log_density([w], [1.0], SCALAR.weights, SCALAR.means[:, None], SCALAR.variances[:, None])
        for w in values
    ]
    np.testing.assert_allclose(SCALAR.log_density(values), expected, rtol=1e-12)


def test_log_density_of_vectors_is_the_loop_over_components() -> None:
    values = np.random.default_rng(1).normal(0.2, 1.5, (37, 2))
    expected = [
        reference.log_density(row, [1.0, 1.0], VECTOR.weights, VECTOR.means, VECTOR.variances) for row in values
    ]
    np.testing.assert_allclose(VECTOR.log_density(values), expected, rtol=1e-12)


def test_density_integrates_to_one() -> None:
    mixture = Mixture(np.array([0.9, 0.1]), np.array([0.0, 1.0]), np.array([0.04, 0.5]))
    grid = np.linspace(-8, 8, CHUNK_VALUES + 1001)  # more than a chunk
    assert np.exp(mixture.log_density(grid)).sum() * (grid[1] - grid[0]) == pytest.approx(1, abs=1e-9)


def test_far_away_is_finite() -> None:
    assert SCALAR.log_density(np.array([1e6]))[0] == pytest.approx(-0.5 * 1e12 / 0.01, rel=1e-6)


def test_arrays_are_copies_and_read_only() -> None:
    means = np.array([0.0, 1.0])
    mixture = Mixture(np.array([0.5, 0.5]), means, np.ones(2))
    means[1] = 7
    assert mixture.means[1] == 1
    with pytest.raises(ValueError, match="read-only"):
        mixture.means[1] = 7


@pytest.mark.parametrize(
    ("weights", "means", "variances", "message"),
    [
        ([0.5, 0.6], [0, 1], [1, 1], "sum to 1"),
        ([-0.5, 1.5], [0, 1], [1, 1], ">= 0"),
        ([0.5, 0.5], [0, np.nan], [1, 1], "means must be finite"),
        ([0.5, 0.5], [0, 1], [1, 0], "variances must be > 0, got 0.0"),
        ([0.5, 0.5], [0, 1, 2], [1, 1, 1], "k = 2"),
        ([0.5, 0.5], [0, 1], [[1], [1]], "shape of the means"),
        ([], [], [], r"shape \(k,\)"),
    ],
)
def test_refuses(weights: list[float], means: list[float], variances: list[float], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Mixture(np.array(weights), np.array(means), np.array(variances))


def test_vectors_need_rows_of_their_length() -> None:
    with pytest.raises(ArgumentError, match=r"shape \(n, 2\), got \(6,\)"):
        VECTOR.log_density(np.zeros(6))
