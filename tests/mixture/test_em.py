"""EM against loops and scikit-learn, the laws it keeps, and the edges of what it is given."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sws_compress.errors import ArgumentError
from sws_compress.mixture.em import EMResult, Prior, em_step, fit, log_responsibilities
from sws_compress.mixture.histogram import WeightHistogram, weight_histogram, weight_range
from sws_compress.mixture.mixture import Mixture
from sws_compress.mixture.sensitivity import Sensitivity
from sws_compress.mixture.statistics import EMData
from sws_compress.mixture.vector_data import VectorData
from sws_compress.quantize.initial import initial_mixture
from tests import reference

PRIOR = Prior(concentration=2.5, precision_shape=3.0, precision_rate=0.02, variance_floor=1e-4)
OFF = Prior(fixed_zero=False)


def lopsided(count: int, seed: int = 0) -> np.ndarray:
    """A spike at zero, a skewed body and a few far weights, none of it symmetric; float32."""
    rng = np.random.default_rng(seed)
    parts = [rng.normal(0, 0.02, count // 3), rng.gamma(2, 0.2, count - count // 3 - 7) - 0.15, rng.normal(3, 1, 7)]
    return rng.permutation(np.concatenate(parts)).astype(np.float32)


def histogram_of(values: np.ndarray, bins: int = 2048, h: np.ndarray | None = None) -> WeightHistogram:
    low, high = weight_range(values)
    return weight_histogram(values, low=low, high=high, bins=bins, sensitivity=None if h is None else Sensitivity(h))


def never_falls(result: EMResult) -> bool:
    return bool(np.all(np.diff(result.history) >= -1e-10 * np.abs(result.history[0])))


def assert_same_mixture(one: Mixture, other: Mixture, rtol: float = 1e-9) -> None:
    for name in ("weights", "means", "variances"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=rtol, atol=1e-12, err_msg=name)


# Oracles


@pytest.mark.parametrize("prior", [PRIOR, OFF, Prior()], ids=["priors", "off", "zero"])
@pytest.mark.parametrize("weighted", [False, True])
def test_step_on_a_bin_per_weight_is_the_loop(prior: Prior, weighted: bool) -> None:
    values = np.array([-0.5, -0.25, 0.0, 0.125, 0.25, 0.75, 1.5, 1.75], np.float32)
    h = np.array([1, 4, 0.5, 0.25, 2, 8, 1, 3], np.float32) if weighted else np.ones(8, np.float32)
    start = Mixture(np.array([0.5, 0.2, 0.3]), np.array([0.0, -0.4, 1.0]), np.array([0.04, 0.09, 0.25]))
    data = weight_histogram(values, low=-1, high=2, bins=3 * 64, sensitivity=Sensitivity(h))
    step = em_step(data, start, prior)
    rows, relative = reference.rows(values), reference.rows(h / h.mean(dtype=np.float64))
    state = (start.weights, start.means[:, None], start.variances[:, None])
    priors = (prior.concentration, prior.precision_shape, prior.precision_rate)
    weights, means, variances = reference.em_step(
        rows, relative, *state, *priors, prior.fixed_zero, prior.variance_floor
    )
    np.testing.assert_allclose(step.mixture.weights, weights, rtol=1e-12)
    np.testing.assert_allclose(step.mixture.means[:, None], means, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(step.mixture.variances[:, None], variances, rtol=1e-12)
    assert step.objective == pytest.approx(reference.log_posterior(rows, relative, *state, *priors), rel=1e-12)


@pytest.mark.parametrize("prior", [PRIOR, OFF], ids=["priors", "off"])
@pytest.mark.parametrize("weighted", [False, True])
def test_step_on_vectors_is_the_loop(prior: Prior, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sws_compress.mixture.vector_data.CHUNK_VALUES", 5)  # 17 rows: three chunks and a short one
    rng = np.random.default_rng(2)
    values = rng.normal([0.1, -0.5, 1.0], [1.0, 0.2, 0.5], (17, 3))
    h = rng.uniform(0.2, 3, (17, 3)) if weighted else np.ones((17, 3))
    start = Mixture(np.array([0.6, 0.4]), np.array([[0, 0, 0], [0.4, -0.4, 1.0]]), np.array([[1, 0.1, 1], [1, 1, 0.3]]))
    step = em_step(VectorData(values, Sensitivity(h) if weighted else None), start, prior)
    state = (start.weights, start.means, start.variances)
    priors = (prior.concentration, prior.precision_shape, prior.precision_rate)
    weights, means, variances = reference.em_step(
        values, h / h.mean(), *state, *priors, prior.fixed_zero, prior.variance_floor
    )
    np.testing.assert_allclose(step.mixture.weights, weights, rtol=1e-12)
    np.testing.assert_allclose(step.mixture.means, means, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(step.mixture.variances, variances, rtol=1e-12)
    assert step.objective == pytest.approx(reference.log_posterior(values, h / h.mean(), *state, *priors), rel=1e-12)


def test_log_responsibilities_are_the_loop_and_sum_to_one() -> None:
    mixture = Mixture(np.array([0.8, 0.2, 0.0]), np.array([0.0, 1.0, 2.0]), np.array([1e-10, 0.5, 1.0]))
    values = np.array([0.0, 1e-5, 0.3, 50.0])
    log_r = log_responsibilities(values, mixture)
    assert log_r.shape == (4, 3)
    expected = [
        reference.responsibilities([w], [1.0], mixture.weights, mixture.means[:, None], mixture.variances[:, None])
        for w in values
    ]
    np.testing.assert_allclose(np.exp(log_r), expected, rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(np.exp(log_r).sum(axis=1), 1, rtol=1e-12)


# scikit-learn


def sklearn_mean_log_likelihood(points: np.ndarray, start: Mixture, iterations: int) -> float:
    from sklearn.mixture import GaussianMixture

    shape = (start.components, -1)
    model = GaussianMixture(
        start.components,
        covariance_type="diag",
        reg_covar=0,
        tol=0,
        max_iter=iterations,
        weights_init=start.weights,
        means_init=start.means.reshape(shape),
        precisions_init=1 / start.variances.reshape(shape),
    )
    return float(model.fit(points).score(points))


@pytest.mark.filterwarnings("ignore:.*did not converge")
def test_agrees_with_sklearn_on_scalars() -> None:
    values = lopsided(12_001)
    data = histogram_of(values, bins=1 << 16)
    start = initial_mixture(data, 5, fixed_zero=False, seed=0)
    result = fit(data, start, OFF, max_iterations=20, tolerance=0)
    expected = sklearn_mean_log_likelihood(values[:, None].astype(np.float64), start, 20)
    assert result.iterations == 20
    assert result.mean_log_likelihood == pytest.approx(expected, abs=1e-6)
    assert result.mixture.log_density(values).mean() == pytest.approx(expected, abs=1e-6)


@pytest.mark.filterwarnings("ignore:.*did not converge")
def test_agrees_with_sklearn_on_vectors() -> None:
    rng = np.random.default_rng(4)
    values = np.concatenate(
        [rng.normal(0.3, [1, 2, 0.5, 0.1], (3001, 4)), rng.normal([3, 0, 1, -1], 1, (500, 4)) * [1, 1, 5, 1]]
    )
    data = VectorData(values)
    start = initial_mixture(data, 4, fixed_zero=False, seed=0)
    result = fit(data, start, OFF, max_iterations=15, tolerance=0)
    assert result.iterations == 15
    assert result.mean_log_likelihood == pytest.approx(sklearn_mean_log_likelihood(values, start, 15), abs=1e-6)


# Laws


@given(
    seed=st.integers(0, 2**16),
    bins=st.sampled_from([3, 16, 257]),
    components=st.integers(2, 9),
    weighted=st.booleans(),
    priors=st.booleans(),
    fixed_zero=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_objective_never_falls(
    seed: int, bins: int, components: int, weighted: bool, priors: bool, fixed_zero: bool
) -> None:
    """However coarse the bins, whatever the sensitivities; the start is poor on purpose."""
    rng = np.random.default_rng(seed)
    values = lopsided(300, seed)
    h = rng.gamma(0.3, 1.0, 300).astype(np.float32) if weighted else None
    means = rng.choice(values, components).astype(np.float64)
    means[0] = 0
    start = Mixture(rng.dirichlet(np.ones(components)), means, rng.uniform(1e-4, 1, components))
    prior = Prior(
        concentration=3.0 if priors else 1.0,
        precision_shape=2.0 if priors else 1.0,
        precision_rate=1e-3 if priors else 0.0,
        fixed_zero=fixed_zero,
        variance_floor=1e-5,
    )
    result = fit(histogram_of(values, bins, h), start, prior, max_iterations=25, tolerance=0)
    assert never_falls(result)
    assert result.history[-1] > result.history[0]
    assert (result.mixture.means[0] == 0) or not fixed_zero


@pytest.mark.parametrize("weighted", [False, True])
def test_objective_never_falls_on_vectors(weighted: bool) -> None:
    values = lopsided(1500).reshape(-1, 3)
    h = np.random.default_rng(0).gamma(0.3, 1.0, values.shape) if weighted else None
    data = VectorData(values, None if h is None else Sensitivity(h))
    result = fit(data, initial_mixture(data, 5, seed=0), PRIOR, max_iterations=30, tolerance=0)
    assert never_falls(result)
    assert np.all(result.mixture.means[0] == 0)


def test_binned_objective_is_a_lower_bound_that_tightens() -> None:
    values = lopsided(3001)
    start = initial_mixture(histogram_of(values), 4, seed=0)
    exact = start.log_density(values).sum()
    gaps = [exact - em_step(histogram_of(values, bins), start, Prior()).log_likelihood for bins in (64, 512, 4096)]
    assert gaps[0] > gaps[1] > gaps[2] > 0
    assert gaps[2] / 3001 < 1e-3


def test_shifting_weights_shifts_means() -> None:
    values = (np.round(lopsided(2001) * 512) / 512).astype(np.float32)  # the shift below is then exact in float32
    moved = values + np.float32(8)
    data, moved_data = (
        weight_histogram(v, low=low, high=low + 16, bins=4096) for v, low in ((values, -4.0), (moved, 4.0))
    )
    start = initial_mixture(data, 4, fixed_zero=False, seed=0)
    moved_start = Mixture(start.weights, start.means + 8, start.variances)
    one = fit(data, start, OFF, max_iterations=20, tolerance=0)
    other = fit(moved_data, moved_start, OFF, max_iterations=20, tolerance=0)
    np.testing.assert_allclose(other.mixture.means, one.mixture.means + 8, rtol=1e-9)
    np.testing.assert_allclose(other.mixture.variances, one.mixture.variances, rtol=1e-7)
    np.testing.assert_allclose(other.mixture.weights, one.mixture.weights, rtol=1e-8)


def test_scaling_weights_scales_means_and_variances() -> None:
    values = lopsided(2001)
    scale = 2.0**-9
    data, scaled = histogram_of(values), histogram_of(values * np.float32(scale))
    one = fit(data, initial_mixture(data, 5, seed=0), PRIOR, max_iterations=20, tolerance=0)
    prior = Prior(
        concentration=PRIOR.concentration,
        precision_shape=PRIOR.precision_shape,
        precision_rate=PRIOR.precision_rate * scale**2,
        variance_floor=PRIOR.variance_floor * scale**2,
    )
    other = fit(scaled, initial_mixture(scaled, 5, seed=0), prior, max_iterations=20, tolerance=0)
    expected = Mixture(one.mixture.weights, one.mixture.means * scale, one.mixture.variances * scale**2)
    assert_same_mixture(other.mixture, expected, rtol=1e-9)


def test_scaling_sensitivities_changes_nothing() -> None:
    values = lopsided(999)
    h = np.random.default_rng(0).gamma(1.0, 1.0, 999).astype(np.float32)
    one, other = histogram_of(values, h=h), histogram_of(values, h=h * np.float32(1 / 64))
    start = initial_mixture(one, 4, seed=0)
    assert_same_mixture(initial_mixture(other, 4, seed=0), start)
    assert_same_mixture(em_step(one, start, PRIOR).mixture, em_step(other, start, PRIOR).mixture)


def test_sensitive_weights_draw_means_but_not_shares() -> None:
    values = np.repeat(np.array([1.0, 2.0], np.float32), 50)
    h = np.repeat(np.array([9.0, 1.0], np.float32), 50)
    start = Mixture(np.array([0.5, 0.5]), np.array([1.5, 40.0]), np.array([1.0, 1.0]))
    mixture = em_step(histogram_of(values, h=h), start, OFF).mixture
    assert mixture.means[0] == pytest.approx(1.1)
    assert mixture.weights[0] == pytest.approx(1.0)


def test_permuting_components_permutes_the_result() -> None:
    data = histogram_of(lopsided(1501))
    start = initial_mixture(data, 5, fixed_zero=False, seed=0)
    order = np.array([3, 0, 4, 1, 2])
    permuted = Mixture(start.weights[order], start.means[order], start.variances[order])
    one = fit(data, start, OFF, max_iterations=10, tolerance=0).mixture
    other = fit(data, permuted, OFF, max_iterations=10, tolerance=0).mixture
    assert_same_mixture(other, Mixture(one.weights[order], one.means[order], one.variances[order]))


def test_fit_of_merged_shards_is_the_fit_of_all() -> None:
    values = lopsided(3001)
    whole = weight_histogram(values, low=-1, high=6, bins=1024)
    shards = [weight_histogram(part, low=-1, high=6, bins=1024) for part in (values[:17], values[17:])]
    start = initial_mixture(whole, 4, seed=0)
    one, other = (fit(data, start, Prior(), max_iterations=15) for data in (whole, shards[0].merge(shards[1])))
    assert_same_mixture(one.mixture, other.mixture)


# Edges


def test_vanishing_components_survive() -> None:
    start = Mixture(np.array([0.5, 0.5, 0.0]), np.array([0.0, 500.0, 7.0]), np.array([1.0, 1e-8, 2.0]))
    mixture = fit(histogram_of(lopsided(500)), start, Prior(), max_iterations=5).mixture
    assert mixture.weights[1] < 1e-100
    assert (mixture.means[1], mixture.variances[1]) == (500.0, 1e-8)
    assert (mixture.weights[2], mixture.means[2], mixture.variances[2]) == (0.0, 7.0, 2.0)


def test_precision_prior_gives_a_variance_to_components_without_weights() -> None:
    start = Mixture(np.array([0.5, 0.5]), np.array([0.0, 500.0]), np.array([1.0, 1e-8]))
    prior = Prior(precision_shape=3.0, precision_rate=0.02)
    mixture = em_step(histogram_of(lopsided(500)), start, prior).mixture
    assert mixture.variances[1] == pytest.approx(0.02 / 2)  # the mode of the Gamma: lambda = (alpha - 1) / beta


@pytest.mark.parametrize("constant", [0.0, 0.5, -1e-30, 3e30])
def test_constant_weights(constant: float) -> None:
    values = np.full(100_003, constant, np.float32)
    data = histogram_of(values)
    result = fit(data, initial_mixture(data, 4, seed=0), Prior(), max_iterations=50)
    assert np.isfinite(result.history).all()
    nearest = np.abs(result.mixture.means - np.float32(constant)).min()
    assert nearest <= 1e-6 * abs(constant)


def test_more_components_than_values() -> None:
    values = np.repeat(np.array([-0.5, 0.0, 0.25], np.float32), [10, 70, 20])
    start = Mixture(np.full(8, 1 / 8), np.r_[0.0, np.linspace(-1, 1, 7)], np.full(8, 0.1))
    result = fit(histogram_of(values), start, Prior(), max_iterations=200)
    assert np.isfinite(result.history).all()
    assert never_falls(result)


def test_heavy_tails() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_cauchy(20_001).astype(np.float32)
    values[0] = 1e30
    data = histogram_of(values)
    result = fit(data, initial_mixture(data, 16, seed=0), Prior(), max_iterations=30)
    assert np.isfinite(result.history).all()
    assert never_falls(result)


def test_variances_stay_above_the_floor() -> None:
    values = np.repeat(np.array([0.0, 1.0], np.float32), 50)
    data = histogram_of(values)
    result = fit(data, initial_mixture(data, 2, seed=0), Prior(variance_floor=1e-3))
    np.testing.assert_allclose(result.mixture.variances, 1e-3, rtol=1e-12)
    assert result.converged


def test_convergence_is_a_value_with_advice() -> None:
    data = histogram_of(lopsided(2001))
    start = initial_mixture(data, 6, seed=0)
    short = fit(data, start, Prior(), max_iterations=2)
    assert not short.converged
    assert "2 iterations" in short.advice
    assert "raise max_iterations" in short.advice
    assert len(short.history) == 3
    full = fit(data, start, Prior(), max_iterations=20_000, tolerance=1e-7)
    assert full.converged
    assert full.advice == ""
    assert (full.history[-1] - full.history[-2]) / 2001 <= 1e-7
    assert full.objective == full.history[-1]
    assert full.mean_log_likelihood * 2001 == pytest.approx(full.objective)  # no prior terms with the priors off


def test_refuses_bad_arguments() -> None:
    data = histogram_of(lopsided(100))
    start = Mixture(np.array([0.5, 0.5]), np.array([0.1, 1.0]), np.ones(2))
    vectors: EMData = VectorData(np.zeros((3, 2)))
    with pytest.raises(ArgumentError, match="mean of component 0 must be 0"):
        fit(data, start, Prior())
    with pytest.raises(ArgumentError, match="dimension must be 1, got 2"):
        fit(data, Mixture(np.ones(1), np.zeros((1, 2)), np.ones((1, 2))), OFF)
    with pytest.raises(ArgumentError, match=r"shape \(k, 2\)"):
        fit(vectors, start, OFF)
    with pytest.raises(ArgumentError, match="max_iterations must be >= 1"):
        fit(data, start, OFF, max_iterations=0)
    with pytest.raises(ArgumentError, match=r"concentration must be finite and >= 1, got 0\.5"):
        Prior(concentration=0.5)
    with pytest.raises(ArgumentError, match="variance_floor"):
        Prior(variance_floor=-1.0)
