"""Sensitivity: what a unit of squared error costs at each weight, h_i in every objective of this package.

EM            sum_i log sum_k pi_k N(w_i; mu_k, sigma_k^2 / h_i)         mixture/em.py
assignment    argmin_k h_i (w_i - mu_k)^2 - bit_price log2 pi_k          quantize/assign.py
codebook      mu_k = sum_i h_i w_i / sum_i h_i over the members of k     quantize/assign.py
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from sws_compress.errors import ArgumentError
from sws_compress.mixture.mixture import AnyArray


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Sensitivities h >= 0 of the weights of a tensor.

    Without a price per bit only their ratios matter; a price per bit is in units of h w^2. Where a function takes a
    Sensitivity, None means 1 for all weights.

    Parameters
    ----------
    values : ndarray
        One number per weight, or of a shape that broadcasts to the tensor's: (rows, 1) gives one number per row of a
        matrix, (1, columns) one per column. float32 and float64 are kept as they are, other types become float64.

    Raises
    ------
    ArgumentError
        If there are no values, one is negative, NaN or infinite, or all are 0.

    Examples
    --------
    >>> import numpy as np
    >>> import sws_compress as sws
    >>> per_row = sws.Sensitivity(np.array([[4.0], [1.0]]))
    >>> per_row.of((2, 3)).tolist()
    [[4.0, 4.0, 4.0], [1.0, 1.0, 1.0]]
    >>> per_row.mean
    2.5
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
        """One sensitivity per slice along an axis of a tensor.

        Parameters
        ----------
        values : array_like, shape (slices,)
            The sensitivities.
        axis : int
            The axis along which the slices lie, for example that of the output channels.
        ndim : int
            Number of axes of the tensor.

        Returns
        -------
        Sensitivity
            Its values have ``ndim`` axes, all of length 1 but ``axis``.
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
        """The sensitivities divided by their mean, float64."""
        return Sensitivity(self.values.astype(np.float64) / self.mean)

    def of(self, shape: tuple[int, ...]) -> AnyArray:
        """Sensitivities of the weights of a tensor of this shape, as a read-only view.

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
        """Sensitivities of the weights of a tensor of this shape in C order, (n,) float32: what compiled loops read."""
        single = self if self.values.dtype == np.float32 else Sensitivity(self.values.astype(np.float32))
        return np.ascontiguousarray(single.of(shape)).reshape(-1)

    def rows(self, shape: tuple[int, ...], length: int) -> AnyArray:
        """Sensitivities of the vectors of ``length`` consecutive weights of a tensor of this shape, (n, length)."""
        return self.of(shape).reshape(-1, length)
