"""Sensitivity: what a unit of squared error costs at each weight, the h_i of all objectives in this package.

Every room that weighs weights takes one of these, or None where all weights count alike:

    EM              sum_i log sum_k pi_k N(w_i; mu_k, sigma_k^2 / h_i)              (mixture/em.py)
    assignment      argmin_k h_i (w_i - mu_k)^2 - bit_price log2 pi_k               (quantize/assign.py)
    codebook        mu_k = sum_i h_i w_i / sum_i h_i over the members of k
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from sws_compress.errors import ArgumentError
from sws_compress.mixture.mixture import AnyArray, Array


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Sensitivities h >= 0 of the weights of a tensor.

    Only ratios matter, except beside a price per bit, which is in units of h w^2.

    Parameters
    ----------
    values : ndarray, real numbers
        One number per weight, or of a shape that broadcasts to the tensor's: (rows, 1) gives one per row of a matrix,
        (1, columns) one per column. float32 and float64 are kept as they are, other types become float64.

    Raises
    ------
    ArgumentError
        If a value is negative, NaN or infinite, or all are 0.

    Examples
    --------
    >>> import numpy as np
    >>> import sws_compress as sws
    >>> sws.Sensitivity(np.array([[4.0], [1.0]])).of((2, 3)).tolist()
    [[4.0, 4.0, 4.0], [1.0, 1.0, 1.0]]
    >>> sws.Sensitivity.along([4.0, 1.0], axis=0, ndim=2).values.shape
    (2, 1)
    """

    values: AnyArray

    def __post_init__(self) -> None:
        values = np.asarray(self.values)
        if values.dtype not in (np.float32, np.float64):
            values = values.astype(np.float64)
        object.__setattr__(self, "values", values)
        if values.size == 0:
            raise ArgumentError(f"sensitivities must not be empty, got shape {values.shape}: give one per weight")
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and 0 < high < np.inf):
            raise ArgumentError(
                f"sensitivities must be finite, >= 0 and not all 0, got {low} .. {high}: clip them, or leave them out"
            )

    @classmethod
    def along(cls, values: npt.ArrayLike, *, axis: int, ndim: int) -> Sensitivity:
        """Sensitivities of the slices along one axis.

        Parameters
        ----------
        values : array_like, shape (slices,)
            One number per slice.
        axis : int
            The axis along which the slices lie, for example that of the output channels.
        ndim : int
            Number of axes of the tensor.

        Returns
        -------
        Sensitivity
            Its values broadcast to the tensor.
        """
        column = np.asarray(values).reshape(-1)
        return cls(column.reshape([column.size if i == axis % ndim else 1 for i in range(ndim)]))

    @cached_property
    def mean(self) -> float:
        """Mean over the weights."""
        return float(self.values.mean(dtype=np.float64))

    @cached_property
    def uniform(self) -> bool:
        """Whether all weights have the same sensitivity."""
        return bool((self.values == self.values.flat[0]).all())

    @property
    def relative(self) -> Sensitivity:
        """The same divided by their mean; EM knows only these."""
        return Sensitivity(self.values.astype(np.float64) / self.mean)

    def of(self, shape: tuple[int, ...]) -> AnyArray:
        """The sensitivities of all weights of a tensor, as a read-only view of this shape.

        Raises
        ------
        ArgumentError
            If the values do not broadcast to the shape.
        """
        try:
            return np.broadcast_to(self.values, shape)
        except ValueError:
            raise ArgumentError(
                f"sensitivities must broadcast to the shape of the values {shape}, got {self.values.shape}: "
                "give one per weight, or one per slice along an axis"
            ) from None

    def flat(self, shape: tuple[int, ...]) -> AnyArray:
        """The sensitivities of all weights in C order, shape (n,), float32: what compiled loops read."""
        with np.errstate(over="ignore", under="ignore"):
            single = Sensitivity(self.values.astype(np.float32, copy=False))  # may have become infinite, or all 0
        return np.ascontiguousarray(single.of(shape)).reshape(-1)

    def times(self, factors: Array) -> Sensitivity:
        """The sensitivities times ``factors``, which broadcast with them."""
        return Sensitivity(self.values.astype(np.float64) * factors)
