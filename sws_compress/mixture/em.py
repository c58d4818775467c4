"""MAP-EM for Gaussian mixtures: responsibilities in the log domain, two-pass variances, an objective that never falls.

The objective, in nats, with sensitivities h_i divided by their mean (1 if unknown):

    sum_i log sum_k pi_k N(w_i; mu_k, Sigma_k / h_i)  +  (a - 1) sum_k log pi_k
        +  sum_kd ((alpha - 1) log lambda_kd - beta lambda_kd),        lambda = 1 / sigma^2

A sensitive weight sees narrower components. The M-step:

    N_k = sum_i r_ik              pi_k ~ N_k + a - 1              mu_k = sum_i h_i r_ik w_i / sum_i h_i r_ik
    sigma_k^2 = (sum_i h_i r_ik (w_i - mu_k)^2 + 2 beta) / (N_k + 2 (alpha - 1))

Sensitivities weigh means and scatter, but not counts: pi stays the share of weights, which is what an entropy coder
pays for. If they weighed the counts of sigma as well, that and pi from plain counts would have no objective in common,
and EM would not be monotone. For h = 1 all of this is ordinary MAP-EM.

**The price of a bit.** Let all components share one variance sigma^2. The component with the greatest responsibility is

    argmax_k  log pi_k - h (w - mu_k)^2 / (2 sigma^2)  =  argmin_k  h (w - mu_k)^2 - 2 sigma^2 ln 2 log2 pi_k

(multiply by -2 sigma^2, and write log pi_k = ln 2 log2 pi_k). Hard EM is therefore entropy-constrained quantization,

    argmin_k  h (w - mu_k)^2 - bit_price log2 pi_k          with          bit_price = 2 sigma^2 ln 2,

in units of h w^2 per bit. The package has this one convention. Here h has mean 1; for sensitivities of another mean the
same assignment has bit_price = 2 sigma^2 ln 2 mean(h).

Soft EM on any data is here. Hard EM, which assigns every weight to one component, stands where it is used: on the bins
of a tensor in ``quantize.scalar``, on grids in ``quantize.affine``, and on torch tensors in training in
``train.stages.hard_em``.

References: Nowlan & Hinton 1992; Chou, Lookabaugh & Gray 1989; Murphy 2012, 11.4.2.8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sws_compress.errors import ArgumentError
from sws_compress.mixture.mixture import AnyArray, Array, Mixture, as_points, log_joint, soft_max
from sws_compress.mixture.statistics import EMData, ExpectedStatistics, smallest_variance

LEAST_EXPECTED_COUNT = 1e-100
"""A component with fewer expected weights keeps its mean and variances: nothing is known about them."""


@dataclass(frozen=True, kw_only=True)
class Prior:
    """Priors of a fit. By default they are off (maximum likelihood), but component 0 is held at zero.

    Parameters
    ----------
    concentration : float, >= 1
        a of a symmetric Dirichlet prior on pi.
    precision_shape : float, >= 1
        alpha of a Gamma prior on every precision.
    precision_rate : float, >= 0
        beta of that prior, in units of the weights squared.
    fixed_zero : bool
        Whether component 0 has mean exactly 0 and keeps it.
    variance_floor : float, >= 0
        Least variance of a component, in units of the weights squared.

    Raises
    ------
    ArgumentError
        If a number is out of its range.
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
    """One step of EM.

    Parameters
    ----------
    mixture : Mixture
        The mixture after the step.
    objective : float
        Log posterior of the mixture before the step, in nats over all data, up to constants.
    log_likelihood : float
        Log-likelihood of the mixture before the step, in nats over all data.
    """

    mixture: Mixture
    objective: float
    log_likelihood: float


@dataclass(frozen=True, eq=False)
class EMResult:
    """A fitted mixture.

    Parameters
    ----------
    mixture : Mixture
        The mixture after the last step.
    objective : float
        Its log posterior, in nats over all data, up to constants.
    mean_log_likelihood : float
        Its log-likelihood without priors, in nats per weight (per vector if d > 1).
    iterations : int
        Steps taken.
    converged : bool
        Whether the last step gained at most the tolerance.
    advice : str
        What to do if it did not converge; empty if it did.
    history : tuple of float
        The objective before the first step and after each.
    """

    mixture: Mixture
    objective: float
    mean_log_likelihood: float
    iterations: int
    converged: bool
    advice: str
    history: tuple[float, ...]


def log_responsibilities(values: AnyArray, mixture: Mixture) -> Array:
    """Log-responsibilities; each row log-sum-exps to 0. Ullrich et al. 2017, Eq. 5.

    For inspection and tests: fits and the pull never hold this array.

    Parameters
    ----------
    values : ndarray, shape (n,), or (n, d) for vectors
        Weights of sensitivity 1.
    mixture : Mixture
        A mixture of k components.

    Returns
    -------
    ndarray, shape (n, k), float64
        log r, in nats.
    """
    joint = log_joint(as_points(values, mixture), mixture)
    log_density = soft_max(joint.copy())[1]
    log_ratios: Array = (joint - log_density).T
    return log_ratios


def em_step(data: EMData, mixture: Mixture, prior: Prior) -> EMStep:
    """One EM step; the objective never falls.

    Variances below the floor are raised to it before the step.

    Parameters
    ----------
    data : WeightHistogram or VectorData
        The weights.
    mixture : Mixture
        The mixture before the step.
    prior : Prior
        Priors and constraints.

    Returns
    -------
    EMStep
        The mixture after the step, and the objective before it.

    Raises
    ------
    ArgumentError
        If ``prior.fixed_zero`` and the mean of component 0 is not 0, or data and mixture differ in dimension.
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
    """Maximise the expected log posterior; components without weights keep what they have in ``mixture``."""
    weights = statistics.mass + (prior.concentration - 1)
    means = np.where(statistics.sensitivity > LEAST_EXPECTED_COUNT, statistics.means, mixture.means)
    if prior.fixed_zero:
        means[0] = 0.0
    scatter = statistics.scatter + statistics.sensitivity * (means - statistics.means) ** 2
    counts = statistics.mass.reshape(-1, *[1] * (means.ndim - 1)) + 2 * (prior.precision_shape - 1)
    variances = np.where(
        counts > LEAST_EXPECTED_COUNT,
        (scatter + 2 * prior.precision_rate) / np.maximum(counts, LEAST_EXPECTED_COUNT),
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
    """Run EM until a step gains hardly anything.

    Parameters
    ----------
    data : WeightHistogram or VectorData
        The weights.
    start : Mixture
        Where to start, for example from `initial_mixture`.
    prior : Prior
        Priors and constraints.
    max_iterations : int, >= 1
        Steps at most.
    tolerance : float
        Gain in nats per weight (per vector if d > 1) at which the fit ends.

    Returns
    -------
    EMResult
        The mixture, and whether the fit converged: running out of iterations is no error.

    Raises
    ------
    ArgumentError
        If ``max_iterations`` is less than 1, the tolerance is negative, or as for `em_step`.
    """
    if max_iterations < 1 or not tolerance >= 0:
        raise ArgumentError(
            f"max_iterations must be >= 1 and tolerance >= 0, got {max_iterations} and {tolerance}: allow one step"
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
