"""The pull: EM's quadratic majoriser of -log p(w), minimised in closed form in the optimiser's own metric.

At w the majoriser has curvature a(w) = sum_k r_k / sigma_k^2 and centre m(w) = sum_k r_k mu_k / sigma_k^2 / a(w). The
minimiser of H/2 (w' - w)^2 + tau a/2 (w' - m)^2 is

    w' = (H w + tau a m) / (H + tau a) = w + tau (a m - a w) / (H + tau a),

a point between w and m however small sigma gets, where a gradient step on -log p would overshoot. Both a and a m are
functions of one scalar, tabulated once per EM step and looked up per weight; no array of weights times components
exists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from sws_compress.errors import ArgumentError
from sws_compress.mixture.mixture import CHUNK_VALUES, AnyArray, Array, Mixture, log_joint, soft_max
from sws_compress.threads import over_pieces

FloatArray = npt.NDArray[np.float32]


PIECE_WEIGHTS = 1 << 19
"""Fewer weights than this are not worth starting a thread for (about half a millisecond of work)."""


LARGEST_CURVATURE = 1e24
"""Curvatures are capped here, so that float32 products with the strength stay finite; it means sigma = 1e-12."""


@dataclass(frozen=True, eq=False)
class PullTable:
    """a(w) and a(w) m(w) on the grid w_i = low + i step, i = 0 .. t-1, read at the nearest point.

    ``curvature`` (t,) float32, positive, in 1 / units of w squared; ``target`` (t,) float32, in 1 / units of w. Outside
    the grid its end values hold.
    """

    low: float
    step: float
    curvature: FloatArray
    target: FloatArray


def pull_table(mixture: Mixture, *, low: float, high: float, size: int = 8192) -> PullTable:
    """Tabulate the pull of a scalar mixture on ``size`` points from ``low`` to ``high``.

    Within one step the pull is that of the nearest point: still a pull towards a weighted mean of the components.

    Raises ArgumentError if the mixture is over vectors, ``low >= high`` or ``size < 2``.
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
        curvature=(curvature * scale).astype(np.float32),
        target=(target * scale).astype(np.float32),
    )


def quadratic_majoriser(values: AnyArray, mixture: Mixture) -> tuple[Array, Array]:
    """a(w) and a(w) m(w), each shape (n,) float64, of scalar ``values`` (n,); makes a (k, n) array."""
    responsibilities, _ = soft_max(log_joint(values, mixture))
    precisions = responsibilities / mixture.variances[:, None]
    return precisions.sum(axis=0), mixture.means @ precisions


def pull(weights: AnyArray, metric: AnyArray | float, table: PullTable, strength: float) -> None:
    """w <- (H w + tau a m) / (H + tau a) in place, to float32 rounding.

    ``weights`` float32, C-contiguous, any shape; ``metric`` H >= 0 of the same shape and dtype, or one number (SGD:
    1 / learning rate); ``strength`` tau >= 0, which leaves the weights as they are when 0. A NaN weight stays NaN.

    Raises ArgumentError on another dtype, layout or shape, or a negative strength.
    """
    from sws_compress.mixture import kernels

    flat = _flat(weights, "weights")
    if isinstance(metric, np.ndarray) and metric.ndim > 0:
        metric_flat = _flat(metric, "metric")
        _check_same_length(metric_flat, flat, "metric")
        _run(flat, table, strength, lambda part, grid: kernels.pull_array(flat[part], metric_flat[part], *grid))
    else:
        one_metric = np.float32(metric)
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
    """`pull` in Adam's metric H = (sqrt(v / bias_correction2) + eps) / lr, computed in the same pass.

    ``second_moment`` v is Adam's running mean of squared gradients, float32 and shaped like ``weights``;
    ``bias_correction2`` = 1 - beta2^step. Kingma & Ba 2015. Errors as for `pull`.
    """
    from sws_compress.mixture import kernels

    if not (lr > 0 and 0 < bias_correction2 <= 1):
        raise ArgumentError(
            f"lr must be > 0 and bias_correction2 in (0, 1], got {lr} and {bias_correction2}: "
            "take them from the optimiser's state"
        )
    flat, moments = _flat(weights, "weights"), _flat(second_moment, "second_moment")
    _check_same_length(moments, flat, "second_moment")
    metric = (np.float32(1 / bias_correction2), np.float32(eps), np.float32(1 / lr))
    _run(flat, table, strength, lambda part, grid: kernels.pull_adam(flat[part], moments[part], *metric, *grid))


def _run(flat: FloatArray, table: PullTable, strength: float, kernel: Callable[[slice, tuple[Any, ...]], None]) -> None:
    if not (strength >= 0 and np.isfinite(strength)):
        raise ArgumentError(f"strength must be finite and >= 0, got {strength}: it multiplies -log p")
    if strength == 0:
        return  # exactly unmoved, even where the metric is 0 as well
    grid = (np.float32(table.low), np.float32(1 / table.step), table.curvature, table.target, np.float32(strength))
    for _ in over_pieces(lambda part: kernel(part, grid), len(flat), PIECE_WEIGHTS):
        pass


def _flat(values: AnyArray, name: str) -> FloatArray:
    """The same memory as (n,) float32."""
    if not isinstance(values, np.ndarray) or values.dtype != np.float32 or not values.flags.c_contiguous:
        found = f"{values.dtype}, strides {values.strides}" if isinstance(values, np.ndarray) else type(values).__name__
        raise ArgumentError(f"{name} must be a C-contiguous float32 array, got {found}: they are updated in place")
    return cast(FloatArray, values.reshape(-1))


def _check_same_length(values: FloatArray, weights: FloatArray, name: str) -> None:
    if len(values) != len(weights):
        raise ArgumentError(
            f"{name} must have one value per weight ({len(weights)}), got {len(values)}: match the shapes"
        )
