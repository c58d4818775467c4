"""Pull of weights towards the components: EM's quadratic majoriser of -log p(w), minimised in closed form.

At w the majoriser has curvature a(w) = sum_k r_k / sigma_k^2 and centre m(w) = sum_k r_k mu_k / sigma_k^2 / a(w). With
the optimiser's metric H and strength tau, the minimiser of H/2 (w' - w)^2 + tau a/2 (w' - m)^2 is

    w' = (H w + tau a m) / (H + tau a) = w + tau (a m - a w) / (H + tau a).

It lies between w and m however small sigma gets, where a gradient step on -log p would overshoot. Both a and a m are
functions of one scalar. They are tabulated once per EM step and looked up per weight, so that no array of weights times
components exists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from sws_compress.errors import ArgumentError
from sws_compress.mixture.mixture import CHUNK_VALUES, AnyArray, Array, FloatArray, Mixture, log_joint, soft_max
from sws_compress.threads import over_shares

SHARE_WEIGHTS = 1 << 18
"""Weights that are worth a thread: they take about a tenth of a millisecond, twice what the start of one takes."""

LARGEST_CURVATURE = 1e24
"""Cap of curvatures, in 1 / units of w squared (sigma = 1e-12): float32 products with the strength stay finite."""


@dataclass(frozen=True, eq=False)
class PullTable:
    """Table of a(w) and a(w) m(w) on the grid w_i = low + i step, read at the nearest point.

    Values outside the grid read its ends. Both numbers of a point lie side by side, so that one load of eight bytes
    reads them: the loads are what a pull spends its time on.

    Parameters
    ----------
    low, step : float
        The grid, in units of the weights.
    entries : ndarray, shape (t, 2), float32, C-contiguous
        Columns: a, positive, in 1 / units of w squared; a m, in 1 / units of w.
    """

    low: float
    step: float
    entries: FloatArray

    @property
    def curvature(self) -> FloatArray:
        """Curvature a at each point, shape (t,)."""
        return self.entries[:, 0]

    @property
    def target(self) -> FloatArray:
        """Product a m at each point, shape (t,)."""
        return self.entries[:, 1]

    @cached_property
    def words(self) -> npt.NDArray[np.uint64]:
        """The same memory with one word of 64 bits for each point, shape (t,)."""
        return self.entries.view(np.uint64).reshape(-1)


def pull_table(mixture: Mixture, *, low: float, high: float, size: int = 8192) -> PullTable:
    """Tabulate the pull of a scalar mixture.

    A weight gets the pull of the nearest point of the grid: still a pull towards a weighted mean of the components.

    Parameters
    ----------
    mixture : Mixture
        A scalar mixture.
    low, high : float
        Ends of the grid, in units of the weights.
    size : int, >= 2
        Points of the grid.

    Returns
    -------
    PullTable
        For `pull` and `pull_adam`.

    Raises
    ------
    ArgumentError
        If the mixture is over vectors, the range is empty, or there are fewer than two points.
    """
    if mixture.means.ndim != 1:
        raise ArgumentError(f"mixture dimension must be 1, got {mixture.dimension}: a table needs a scalar argument")
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ArgumentError(f"table range must be finite with low < high, got {low} .. {high}: use weight_range")
    if size < 2:
        raise ArgumentError(f"table size must be >= 2, got {size}: a grid has two ends")
    grid = np.linspace(low, high, size)
    curvature, target = np.empty(size), np.empty(size)
    for start in range(0, size, CHUNK_VALUES):
        part = slice(start, start + CHUNK_VALUES)
        curvature[part], target[part] = quadratic_majoriser(grid[part], mixture)
    scale = np.minimum(1.0, LARGEST_CURVATURE / curvature)
    return PullTable(
        low=float(low),
        step=(float(high) - float(low)) / (size - 1),
        entries=np.stack([curvature * scale, target * scale], axis=1).astype(np.float32),
    )


def quadratic_majoriser(values: AnyArray, mixture: Mixture) -> tuple[Array, Array]:
    """Curvature a(w) and target a(w) m(w), each (n,) float64, at scalars (n,); makes an array (k, n)."""
    responsibilities, _ = soft_max(log_joint(values, mixture))
    precisions = responsibilities / mixture.variances[:, None]
    return precisions.sum(axis=0), mixture.means @ precisions


def pull(weights: AnyArray, metric: float, table: PullTable, strength: float) -> None:
    """Pull weights in place, w <- (H w + tau a m) / (H + tau a), to float32 rounding.

    Parameters
    ----------
    weights : ndarray, any shape, float32, C-contiguous
        Overwritten. NaN stays NaN.
    metric : float
        H >= 0 of all weights; for SGD 1 / learning rate.
    table : PullTable
        a and a m of the mixture.
    strength : float, >= 0
        tau; at 0 the weights stay exactly as they are.

    Raises
    ------
    ArgumentError
        If the weights have another type or layout, or the strength is negative.
    """
    from sws_compress.mixture import kernels

    flat, one_metric = _flat(weights, "weights"), np.float32(metric)
    _run(flat, table, strength, lambda part, grid: kernels.pull_scalar(flat[part], one_metric, *grid))


def pull_adam(
    weights: AnyArray,
    second_moment: AnyArray,
    *,
    lr: float,
    eps: float,
    bias_correction2: float,
    table: PullTable,
    strength: float,
) -> None:
    """Pull in Adam's metric H = (sqrt(v / bias_correction2) + eps) / lr, which is computed in the same pass.

    Parameters
    ----------
    weights, table, strength
        As for `pull`.
    second_moment : ndarray, shape and type of the weights
        v, Adam's running mean of squared gradients.
    lr, eps : float
        Adam's learning rate (> 0) and epsilon.
    bias_correction2 : float, in (0, 1]
        1 - beta2^step.

    Raises
    ------
    ArgumentError
        If the arrays have another type, layout or shape, or a number is out of range.

    References
    ----------
    Kingma & Ba 2015, Adam: a method for stochastic optimization.
    """
    from sws_compress.mixture import kernels

    if not (lr > 0 and 0 < bias_correction2 <= 1):
        raise ArgumentError(
            f"lr must be > 0 and bias_correction2 in (0, 1], got {lr} and {bias_correction2}: "
            "take them from the optimiser's state"
        )
    flat, moments = _flat(weights, "weights"), _flat(second_moment, "second_moment")
    if len(moments) != len(flat):
        raise ArgumentError(
            f"second_moment must have one value per weight ({len(flat)}), got {len(moments)}: match the shapes"
        )
    metric = (np.float32(1 / bias_correction2), np.float32(eps), np.float32(1 / lr))
    _run(flat, table, strength, lambda part, grid: kernels.pull_adam(flat[part], moments[part], *metric, *grid))


def _run(flat: FloatArray, table: PullTable, strength: float, kernel: Callable[[slice, tuple[Any, ...]], None]) -> None:
    if not (strength >= 0 and np.isfinite(strength)):
        raise ArgumentError(f"strength must be finite and >= 0, got {strength}: it multiplies -log p")
    if strength == 0:
        return  # the weights stay exactly, even if the metric is 0 as well
    grid = (np.float32(table.low), np.float32(1 / table.step), table.words, np.float32(strength))
    over_shares(lambda part: kernel(part, grid), len(flat), SHARE_WEIGHTS)


def _flat(values: AnyArray, name: str) -> FloatArray:
    """View of the same memory as (n,) float32."""
    if not isinstance(values, np.ndarray) or values.dtype != np.float32 or not values.flags.c_contiguous:
        found = f"{values.dtype}, strides {values.strides}" if isinstance(values, np.ndarray) else type(values).__name__
        raise ArgumentError(f"{name} must be a C-contiguous float32 array, got {found}: they are updated in place")
    return cast(FloatArray, values.reshape(-1))
