"""Data of vectors: sums over chunks, sensitivities that broadcast, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from sws_compress.errors import ArgumentError, ModelError
from sws_compress.mixture.em import Prior, em_step
from sws_compress.mixture.mixture import Mixture
from sws_compress.mixture.sensitivity import Sensitivity
from sws_compress.mixture.vector_data import VectorData

MIXTURE = Mixture(np.array([0.6, 0.4]), np.array([[0.0, 0.0], [0.4, -0.4]]), np.array([[1, 0.1], [1, 0.3]]))


def step(data: VectorData) -> Mixture:
    return em_step(data, MIXTURE, Prior(fixed_zero=False)).mixture


def test_sensitivities_per_column_are_the_same_for_every_row() -> None:
    values = np.random.default_rng(0).normal([0.1, -0.5], 1, (17, 2))
    columns = np.array([[3.0, 0.25]])
    one, every = (step(VectorData(values, Sensitivity(h))) for h in (columns, np.repeat(columns, 17, axis=0)))
    np.testing.assert_allclose(one.means, every.means, rtol=1e-12)
    np.testing.assert_allclose(one.variances, every.variances, rtol=1e-12)


def test_a_vector_twice_is_a_vector_of_sensitivity_two_for_the_means() -> None:
    """One component has all of both, so that responsibilities do not depend on sensitivities."""
    values = np.random.default_rng(1).normal([0.1, -0.5], 1, (9, 2))
    alone = Mixture(np.ones(1), np.zeros((1, 2)), np.ones((1, 2)))
    twice = np.where(np.arange(9) % 3 == 0, 2.0, 1.0)[:, None]
    weighted = em_step(VectorData(values, Sensitivity(twice)), alone, Prior(fixed_zero=False)).mixture
    copied = em_step(VectorData(np.concatenate([values, values[::3]])), alone, Prior(fixed_zero=False)).mixture
    np.testing.assert_allclose(weighted.means, copied.means, rtol=1e-12)


def test_vector_data_refuses() -> None:
    with pytest.raises(ModelError, match="got 1 NaN or infinite of 4"):
        VectorData(np.array([[0.0, np.nan], [1.0, 2.0]]))
    with pytest.raises(ArgumentError, match=r"shape \(n, d\), got \(4,\)"):
        VectorData(np.zeros(4))
    with pytest.raises(ArgumentError, match=r"shape of the values \(2, 2\), got \(3,\)"):
        VectorData(np.zeros((2, 2)), Sensitivity(np.ones(3)))
