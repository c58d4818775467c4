"""Tensors with scales: one factor for every channel, or for every element, multiplies what is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sws_compress.codec.interpreter import Array


@dataclass(frozen=True, eq=False)
class Scales:
    """Factors of one tensor.

    The product is computed in float32 and then cast.

    Parameters
    ----------
    factors : ndarray, float16 or float32
        Their shape broadcasts to that of the tensor.
    dtype : dtype
        Type of the tensor.
    """

    factors: Array
    dtype: np.dtype[Any]


def scaled_name(encoding: str) -> str:
    """Name of an encoding whose values are then scaled."""
    return f"{encoding}+scales"
