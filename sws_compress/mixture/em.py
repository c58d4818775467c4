"""MAP-EM for Gaussian mixtures: responsibilities in the log domain, two-pass variances, an objective that never falls.

What is maximised, in nats, with sensitivities h_i divided by their mean (1 when unknown):

    sum_i log sum_k pi_k N(w_i; mu_k, Sigma_k / h_i) + (a - 1) sum_k log pi_k
        + sum_kd ((alpha - 1) log lambda_kd - beta lambda_kd),     lambda = 1 / sigma^2

A sensitive weight is one that sees narrower components: its misfit h (w - mu)^2 / (2 sigma^2) is the cost in loss, and
-log pi_k the price of its symbol, so with tied sigma the hard limit is entropy-constrained quantization,
argmin_k h (w - mu_k)^2 / 2 - lambda log pi_k. The M-step follows:

    N_k = sum_i r_ik              pi_k ~ N_k + a - 1              mu_k = sum_i h_i r_ik w_i / sum_i h_i r_ik
    sigma_k^2 = (sum_i h_i r_ik (w_i - mu_k)^2 + 2 beta) / (N_k + 2 (alpha - 1))

Sensitivities weigh means and scatter but not counts: pi stays the share of weights, which is what an entropy coder
pays for. Weighing the counts of sigma as well, as one might, has no objective in common with pi from plain counts, and
EM would not be monotone. For h = 1 all of this is ordinary MAP-EM. Nowlan & Hinton 1992; Murphy 2012, 11.4.2.8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sws_compress.errors import ArgumentError
from sws_compress.mixture.mixture import AnyArray, Array, Mixture, as_points, log_joint, soft_max
from sws_compress.mixture.statistics import EMData, ExpectedStatistics, smallest_variance

SMALLEST_MASS = 1e-100
"""Below this expected number of weights a component keeps its mean and variances: nothing is known about them."""


@dataclass(frozen=True, kw_only=True)
class Prior:
    """Priors of the fit; the defaults switch them off (maximum likelihood), except for the component at zero.

    ``concentration`` a >= 1 of a symmetric Dirichlet on pi; ``precision_shape`` alpha >= 1 and ``precision_rate``
    beta >= 0, in units of the weights squared, of a Gamma on every precision; ``fixed_zero``: component 0 has mean
    exactly 0 and keeps it; ``variance_floor`` >= 0: no variance goes below, in units of the weights squared.

    Raises ArgumentError where one of these rules is broken.
    """

    concentration: float = 1.0
    precision_shape: float = 1.0
    precision_rate: float = 0.0
    fixed_zero: bool = True
    variance_floor: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (
            ("concentration", 1.0),
            ("precision_shape", 1.0),
            ("precision_rate", 0.0),
            ("variance_floor", 0.0),
        ):
            value = getattr(self, name)
            if not least <= value < np.inf:
                raise ArgumentError(f"{name} must be finite and >= {least:g}, got {value}: {least:g} switches it off")


@dataclass(frozen=True, eq=False)
class EMStep:
    """``mixture`` after one EM step; ``objective`` and ``log_likelihood`` (nats, all data) of the mixture before it."""

    mixture: Mixture
    objective: float
    log_likelihood: float


@dataclass(frozen=True, eq=False)
class EMResult:
    """A fitted mixture.

    ``objective``: log posterior of the data and parameters in nats, up to constants (module docstring);
    ``mean_log_likelihood``: nats per weight (per vector if d > 1), without priors; ``iterations``: EM steps taken;
    ``converged``: whether the last step gained at most the tolerance; ``advice``: what to do if not, else empty;
    ``history``: the objective before the first step and after each.
    """

    mixture: Mixture
    objective: float
    mean_log_likelihood: float
    iterations: int
    converged: bool
    advice: str
    history: tuple[float, ...]


def log_responsibilities(values: AnyArray, mixture: Mixture) -> Array:
    """Log-responsibilities, shape (n, k); each row log-sum-exps to 0. Ullrich et al. 2017, Eq. 5.

    ``values`` (n,), or (n, d), of sensitivity 1. For inspection and tests: fits and the pull never hold this array.
    """
    joint = log_joint(as_points(values, mixture), mixture)
    log_density = soft_max(joint.copy())[1]
    log_ratios: Array = (joint - log_density).T
    return log_ratios


def em_step(data: EMData, mixture: Mixture, prior: Prior) -> EMStep:
    """One EM step. Variances below the floor are raised to it first; from there the objective never falls.

    Raises ArgumentError if ``prior.fixed_zero`` and the mean of component 0 is not 0, or the dimensions differ.
    """
    if prior.fixed_zero and np.any(mixture.means[0] != 0):
        raise ArgumentError(
            f"mean of component 0 must be 0, got {mixture.means[0]}: start from initial_mixture or set fixed_zero=False"
        )
    floor = max(prior.variance_floor, smallest_variance(data))
    if mixture.variances.min() < floor:
        mixture = Mixture(mixture.weights, mixture.means, np.maximum(mixture.variances, floor))
    statistics = data.expected_statistics(mixture)
    return EMStep(
        mixture=m_step(statistics, mixture, prior, floor),
        objective=statistics.log_likelihood + log_prior(mixture, prior),
        log_likelihood=statistics.log_likelihood,
    )


def m_step(statistics: ExpectedStatistics, mixture: Mixture, prior: Prior, floor: float) -> Mixture:
    """The maximiser of the expected log posterior; ``mixture`` gives what components without weights keep."""
    weights = statistics.mass + (prior.concentration - 1)
    means = np.where(statistics.sensitivity > SMALLEST_MASS, statistics.means, mixture.means)
    if prior.fixed_zero:
        means[0] = 0.0
    scatter = statistics.scatter + statistics.sensitivity * (means - statistics.means) ** 2
    counts = statistics.mass.reshape(-1, *[1] * (means.ndim - 1)) + 2 * (prior.precision_shape - 1)
    variances = np.where(
        counts > SMALLEST_MASS,
        (scatter + 2 * prior.precision_rate) / np.maximum(counts, SMALLEST_MASS),
        mixture.variances,
    )
    return Mixture(weights / weights.sum(), means, np.maximum(variances, floor))


def log_prior(mixture: Mixture, prior: Prior) -> float:
    """Log density of the mixture under the Dirichlet and Gamma priors, in nats, up to constants."""
    total = -prior.precision_rate * (1 / mixture.variances).sum()
    total -= (prior.precision_shape - 1) * np.log(mixture.variances).sum()
    if prior.concentration > 1:
        with np.errstate(divide="ignore"):
            total += (prior.concentration - 1) * np.log(mixture.weights).sum()
    return float(total)


def fit(data: EMData, start: Mixture, prior: Prior, *, max_iterations: int = 100, tolerance: float = 1e-7) -> EMResult:
    """EM from ``start`` until a step gains at most ``tolerance`` nats per weight (per vector if d > 1).

    Not converging within ``max_iterations`` steps is told in the result. The objective never falls (up to rounding).

    Raises ArgumentError as `em_step` does, or if ``max_iterations < 1`` or ``tolerance < 0``.
    """
    if max_iterations < 1 or not tolerance >= 0:
        raise ArgumentError(
            f"max_iterations must be >= 1 and tolerance >= 0, got {max_iterations} and {tolerance}: allow a step"
        )
    count = data.count
    step = em_step(data, start, prior)
    history = [step.objective]
    gain = np.inf
    mixture = start
    while len(history) <= max_iterations and gain > tolerance:
        mixture = step.mixture
        step = em_step(data, mixture, prior)
        history.append(step.objective)
        gain = (history[-1] - history[-2]) / count
    converged = bool(gain <= tolerance)
    return EMResult(
        mixture=mixture,
        objective=history[-1],
        mean_log_likelihood=step.log_likelihood / count,
        iterations=len(history) - 1,
        converged=converged,
        advice="" if converged else _advice(len(history) - 1, gain, tolerance),
        history=tuple(history),
    )


def _advice(iterations: int, gain: float, tolerance: float) -> str:
    return (
        f"not converged after {iterations} iterations: the last one gained {gain:.3g} nats per weight, "
        f"more than the tolerance {tolerance:g}; raise max_iterations or the tolerance"
    )
