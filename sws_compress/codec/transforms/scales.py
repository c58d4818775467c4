"""Tensors with scales: a factor for each channel multiplies what is decoded.

The product is computed in float32 and then cast to the tensor's type. It stands outside of the functions that tensors
share, so the graph shows the tensor before it is scaled, and its factors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sws_compress.codec.interpreter import A, Array, ArrayOps
from sws_compress.codec.load_cost import LoadCost

_CAST_NODE_BYTES = 16
"""Bytes of the file that one more Cast takes."""


@dataclass(frozen=True, eq=False)
class Scales:
    """Factors of one tensor, as they are stored.

    Parameters
    ----------
    factors : ndarray, float16 or float32
        Their shape broadcasts to that of the tensor.
    dtype : dtype
        Type of the scaled tensor.
    """

    factors: Array
    dtype: np.dtype[Any]

    @classmethod
    def stored(cls, factors: Array, dtype: np.dtype[Any]) -> Scales:
        """Scales in the smaller type that is exact.

        Parameters
        ----------
        factors : ndarray, float32
            Their shape broadcasts to that of the tensor.
        dtype : dtype
            Type of the scaled tensor.

        Returns
        -------
        Scales
            In float16 if that is exact and saves more bytes than the Cast that widens it takes.
        """
        with np.errstate(over="ignore"):
            half = factors.astype(np.float16)
        exact = half.astype(np.float32).tobytes() == factors.tobytes()
        return cls(half if exact and factors.nbytes - half.nbytes > _CAST_NODE_BYTES else factors, dtype)

    def applied(self, ops: ArrayOps[A], tensor: A) -> A:
        """The scaled tensor, of type ``dtype``; ``tensor`` is float32."""
        factors = ops.constant(self.factors)
        if self.factors.dtype != np.float32:
            factors = ops.cast(factors, np.float32)
        product = ops.multiply(tensor, factors)
        return product if self.dtype == np.float32 else ops.cast(product, self.dtype)

    def load_cost(self, weights: int) -> LoadCost:
        """Estimated cost of the product of so many weights, and of its cast."""
        cast_bytes = 0 if self.dtype == np.float32 else self.dtype.itemsize
        return LoadCost(0.0, (4.0 + cast_bytes) * weights)


def scaled_name(encoding: str) -> str:
    """Name of an encoding whose values are then scaled."""
    return f"{encoding}+scales"
