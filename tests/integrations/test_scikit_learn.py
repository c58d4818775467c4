"""The mixture as an estimator: scikit-learn's own checks, its own mixture as an oracle, and what zero means."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.base import clone
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import sws_compress as sws
from sws_compress.integrations.scikit_learn import WeightMixture


def lopsided(count: int = 3000, seed: int = 0) -> np.ndarray:
    """Three heaps of different sizes, one about zero."""
    rng = np.random.default_rng(seed)
    heap = rng.choice(3, count, p=[0.6, 0.3, 0.1])
    return (np.array([0.0, 0.4, -1.1])[heap] + np.array([0.05, 0.1, 0.02])[heap] * rng.standard_normal(count))[:, None]


@pytest.mark.parametrize("fixed_zero", [True, False])
def test_scikit_learns_own_checks(fixed_zero: bool) -> None:
    told = check_estimator(WeightMixture(components=4, fixed_zero=fixed_zero), on_skip=None)
    assert len(told) > 40
    assert {each["check_name"] for each in told if each["status"] != "passed"} <= {"check_array_api_input"}


@pytest.mark.parametrize("columns", [1, 2])
def test_scikit_learns_mixture_finds_the_same(columns: int) -> None:
    x = np.hstack([lopsided(seed=0), lopsided(seed=0)[:, ::-1] * 0.5 + 0.2])[:, :columns]
    ours = WeightMixture(components=3, fixed_zero=False, max_iter=500, tol=1e-10, random_state=0).fit(x)
    theirs = GaussianMixture(
        3, covariance_type="diag", means_init=ours.means_, tol=1e-10, max_iter=500, reg_covar=0, random_state=0
    ).fit(x)
    assert ours.converged_
    np.testing.assert_allclose(ours.means_, theirs.means_, atol=1e-3)
    np.testing.assert_allclose(ours.weights_, theirs.weights_, atol=1e-3)
    np.testing.assert_allclose(ours.variances_, theirs.covariances_, rtol=0.02)
    assert ours.score(x) == pytest.approx(theirs.score(x), abs=1e-4)
    assert ours.score(x) == pytest.approx(ours.lower_bound_, abs=1e-3)
    np.testing.assert_allclose(ours.predict_proba(x[:50]), theirs.predict_proba(x[:50]), atol=5e-3)


def test_the_first_component_stays_at_zero() -> None:
    moved = lopsided() + 0.01
    assert WeightMixture(components=3).fit(moved).means_[0] == 0
    assert WeightMixture(components=3, fixed_zero=False, random_state=0).fit(moved).means_.all()
    far = WeightMixture(components=3).fit(lopsided() + 9)
    assert far.means_[0] == 0
    assert far.weights_[0] < 0.05


def test_densities_are_those_of_the_parameters() -> None:
    x = lopsided(200)
    found = WeightMixture(components=3).fit(x)
    deviations = np.sqrt(found.variances_[:, 0])
    parts = found.weights_ * norm.pdf(x, found.means_[:, 0], deviations)  # (n, k)
    np.testing.assert_allclose(found.score_samples(x), np.log(parts.sum(1)), rtol=1e-9)
    np.testing.assert_allclose(found.predict_proba(x), parts / parts.sum(1, keepdims=True), rtol=1e-7, atol=1e-12)
    np.testing.assert_array_equal(found.predict(x), parts.argmax(1))
    np.testing.assert_array_equal(found.transform(x)[:, 0], found.means_[parts.argmax(1), 0])


def test_the_order_of_samples_does_not_count() -> None:
    x = lopsided()
    first, second = WeightMixture(components=4).fit(x), WeightMixture(components=4).fit(x[::-1])
    np.testing.assert_allclose(first.means_, second.means_, atol=1e-9)


def test_many_samples_are_read_in_pieces() -> None:
    x = lopsided(40_000)
    found = WeightMixture(components=3).fit(x)
    assert found.predict(x).shape == (40_000,)
    np.testing.assert_array_equal(found.predict(x)[20_000:20_010], found.predict(x[20_000:20_010]))


def test_it_is_an_estimator_like_others() -> None:
    x = lopsided()
    pipeline = make_pipeline(StandardScaler(with_mean=False), WeightMixture(components=3))
    assert np.unique(pipeline.fit_transform(x)).size == 3
    found = pickle.loads(pickle.dumps(WeightMixture(components=3).fit(x)))
    assert isinstance(found.mixture_, sws.Mixture)
    assert clone(found).get_params() == found.get_params()


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"components": 1}, "components must be >= 2, got 1"),
        ({"components": 2.5}, "components must be a whole number"),
        ({"concentration": 0.5}, "concentration must be finite and >= 1"),
        ({"max_iter": 0}, "max_iterations must be >= 1"),
        ({"bins": 0}, "bins must be >= 1"),
    ],
)
def test_parameters_out_of_range_are_value_errors(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as told:
        WeightMixture(**parameters).fit(lopsided(50))
    assert isinstance(told.value, sws.ArgumentError)
