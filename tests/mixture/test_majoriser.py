"""The pull is the exact minimiser of the surrogate, in place, however small sigma gets."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from sws_compress import threads
from sws_compress.errors import ArgumentError
from sws_compress.mixture import majoriser as module
from sws_compress.mixture.em import log_responsibilities
from sws_compress.mixture.majoriser import PullTable, pull, pull_adam, pull_table
from sws_compress.mixture.mixture import Mixture
from tests import reference

MIXTURE = Mixture(np.array([0.6, 0.3, 0.1]), np.array([0.0, 0.3, -0.5]), np.array([0.01, 0.02, 0.04]))
TABLE = pull_table(MIXTURE, low=-1.5, high=2.0, size=1 << 20)  # so fine that the nearest point is exact to 1e-5


def lopsided(count: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).gamma(2.0, 0.3, count) - 0.5).clip(-1.4, 1.9).astype(np.float32)


def expected(weights: np.ndarray, metric: np.ndarray, strength: float, mixture: Mixture = MIXTURE) -> list[float]:
    return [
        reference.pull(w, h, strength, mixture.weights, mixture.means, mixture.variances)
        for w, h in zip(weights.astype(np.float64), metric.astype(np.float64), strict=True)
    ]


def pull_in_each(weights: np.ndarray, metric: np.ndarray, strength: float) -> None:
    """Pull every weight in a metric of its own: H = sqrt(H^2)."""
    pull_adam(weights, metric**2, lr=1.0, eps=0.0, bias_correction2=1.0, table=TABLE, strength=strength)


@pytest.mark.parametrize("strength", [1e-3, 1.0, 1e4])
def test_is_the_exact_minimiser(strength: float) -> None:
    weights = lopsided(1031)  # two blocks and a short one
    metric = np.random.default_rng(1).uniform(0.1, 300, 1031).astype(np.float32)
    moved = weights.copy()
    pull_in_each(moved, metric, strength)
    np.testing.assert_allclose(moved, expected(weights, metric, strength), atol=1e-5)


def test_minimiser_of_the_surrogate_by_scipy() -> None:
    for w, h, tau in ((0.21, 5.0, 0.3), (-0.8, 40.0, 2.0), (1.7, 0.5, 0.01)):
        r = np.exp(log_responsibilities(np.array([w]), MIXTURE))[0]
        a = (r / MIXTURE.variances).sum()
        m = (r * MIXTURE.means / MIXTURE.variances).sum() / a
        best = minimize_scalar(lambda x, h=h, w=w, a=a, m=m, tau=tau: h / 2 * (x - w) ** 2 + tau * a / 2 * (x - m) ** 2)
        moved = np.array([w], np.float32)
        pull(moved, h, TABLE, tau)
        assert moved[0] == pytest.approx(best.x, abs=1e-5)


def test_lowers_the_objective_it_majorises() -> None:
    """H/2 (w' - w)^2 - tau log p(w') is at most -tau log p(w)."""
    weights = lopsided(2001)
    moved = weights.copy()
    pull(moved, 3.0, TABLE, 0.5)
    before = -0.5 * MIXTURE.log_density(weights)
    after = 1.5 * (moved.astype(np.float64) - weights) ** 2 - 0.5 * MIXTURE.log_density(moved)
    assert np.all(after <= before + 1e-6)
    assert after.mean() < before.mean() - 0.01


def test_one_metric_is_the_same_metric_everywhere() -> None:
    one, many = lopsided(777), lopsided(777)
    pull(one, 12.5, TABLE, 0.7)
    pull_in_each(many, np.full(777, 12.5, np.float32), 0.7)
    np.testing.assert_allclose(one, many, rtol=1e-6, atol=1e-8)  # the compiler may round a sum of products otherwise


def test_adam_metric_is_computed_in_the_same_pass() -> None:
    weights = lopsided(1500)
    second_moment = np.random.default_rng(2).gamma(0.5, 1e-4, 1500).astype(np.float32)
    metric = ((np.sqrt(second_moment / 0.3) + 1e-8) / 2e-3).astype(np.float32)
    one, other = weights.copy(), weights.copy()
    pull_in_each(one, metric, 0.05)
    pull_adam(other, second_moment, lr=2e-3, eps=1e-8, bias_correction2=0.3, table=TABLE, strength=0.05)
    np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-7)
    assert np.abs(other - weights).max() > 1e-2


def test_shape_is_kept_and_shares_are_one_array(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = lopsided(6000)
    whole = weights.copy()
    pull(whole, 5.0, TABLE, 0.5)
    monkeypatch.setattr(module, "SHARE_WEIGHTS", 700)
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 4)
    tensor = weights.reshape(20, 30, 10).copy()
    pull(tensor, 5.0, TABLE, 0.5)
    np.testing.assert_array_equal(tensor.reshape(-1), whole)


@pytest.mark.parametrize("sigma", [1e-3, 1e-6, 1e-12, 1e-14, 1e-25])
def test_stable_however_small_sigma(sigma: float) -> None:
    """Weights land between where they were and the means, where a gradient step would be thrown out."""
    mixture = Mixture(np.array([0.5, 0.5]), np.array([0.0, 0.25]), np.full(2, sigma**2))
    table = pull_table(mixture, low=-0.5, high=0.5)
    weights = np.random.default_rng(0).uniform(-0.5, 0.5, 5001).astype(np.float32)
    moved = weights.copy()
    pull(moved, 1e-5, table, 1.0)
    nearest = np.where(weights < 0.125, 0.0, 0.25)
    away = np.abs(weights - 0.125) > table.step
    np.testing.assert_allclose(moved[away], nearest[away], atol=1e-7)
    assert moved.min() >= -1e-7
    assert moved.max() <= 0.25 + 1e-7


def test_ends_are_clamped() -> None:
    weights = np.array([-1e30, -40.0, 30.0, 1e30], np.float32)
    moved = weights.copy()
    pull(moved, 1.0, TABLE, 1.0)
    for index, w, end in ((1, -40.0, 0), (2, 30.0, -1)):
        a, target = float(TABLE.curvature[end]), float(TABLE.target[end])
        assert moved[index] == pytest.approx((w + target) / (1 + a), rel=1e-5)
    assert np.isfinite(moved).all()


def test_nan_stays_nan_and_harms_no_other() -> None:
    weights = lopsided(100)
    moved, poisoned = weights.copy(), weights.copy()
    poisoned[7] = np.nan
    pull(moved, 1.0, TABLE, 1.0)
    pull(poisoned, 1.0, TABLE, 1.0)
    assert np.isnan(poisoned[7])
    np.testing.assert_array_equal(np.delete(poisoned, 7), np.delete(moved, 7))


def test_strength_zero_moves_nothing() -> None:
    weights = lopsided(100)
    moved = weights.copy()
    pull(moved, np.zeros(100, np.float32), TABLE, 0.0)
    np.testing.assert_array_equal(moved, weights)


def test_metric_zero_moves_all_the_way() -> None:
    weights = lopsided(100)
    moved = weights.copy()
    pull(moved, 0.0, TABLE, 1e-3)
    np.testing.assert_allclose(moved, expected(weights, np.zeros(100), 1.0), atol=1e-5)


def test_no_array_of_weights_times_components() -> None:
    weights = lopsided(400_000)
    pull(weights[:10].copy(), 1.0, TABLE, 1.0)  # compile
    tracemalloc.start()
    pull(weights, 1.0, TABLE, 1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < weights.nbytes / 10


def test_table_matches_responsibilities() -> None:
    table = pull_table(MIXTURE, low=-1, high=1, size=33)
    grid = table.low + table.step * np.arange(33)
    assert grid[-1] == pytest.approx(1)
    r = np.exp(log_responsibilities(grid, MIXTURE))
    np.testing.assert_allclose(table.curvature, r @ (1 / MIXTURE.variances), rtol=1e-6)
    np.testing.assert_allclose(table.target, r @ (MIXTURE.means / MIXTURE.variances), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pull(np.zeros(4), 1.0, TABLE, 1.0), "weights must be a C-contiguous float32 array, got float64"),
        (lambda: pull(np.zeros((4, 4), np.float32).T[:2], 1.0, TABLE, 1.0), "C-contiguous"),
        (lambda: pull_in_each(np.zeros(4, np.float32), np.ones(3, np.float32), 1.0), r"second_moment .* got 3"),
        (lambda: pull(np.zeros(4, np.float32), 1.0, TABLE, -1.0), "strength must be finite and >= 0, got -1.0"),
        (
            lambda: pull_adam(
                np.zeros(4, np.float32),
                np.zeros(4, np.float32),
                lr=0.0,
                eps=1e-8,
                bias_correction2=1.0,
                table=TABLE,
                strength=1.0,
            ),
            "lr must be > 0",
        ),
        (lambda: pull_table(MIXTURE, low=1, high=1), "low < high"),
        (lambda: pull_table(MIXTURE, low=0, high=1, size=1), "size must be >= 2"),
        (lambda: pull_table(Mixture(np.ones(1), np.zeros((1, 2)), np.ones((1, 2))), low=0, high=1), "dimension"),
    ],
)
def test_refuses(call: Callable[[], PullTable | None], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        call()
