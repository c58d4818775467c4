"""Colours of clusters: blue below zero, red above, the stronger the further from zero; zero itself is white."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps

PALEST = 0.3
"""Strength of the cluster next to zero: it must not pass for zero."""
LONE = 0.8
"""Strength of a cluster that has its side for itself."""


def cluster_colours(means: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """RGB, shape (k, 3), 0..1."""
    return diverging(cluster_strengths(means))


def cluster_strengths(means: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """-1..1, shape (k,). By rank, not by value, on each side of zero: neighbours can be told apart."""
    values = np.asarray(means, dtype=np.float64)
    strength = np.zeros(len(values))
    for side in (-1, 1):
        chosen = np.flatnonzero(side * values > 0)
        order = chosen[np.argsort(np.abs(values[chosen]), kind="stable")]
        strength[order] = side * (np.linspace(PALEST, 1.0, len(order)) if len(order) > 1 else LONE)
    return strength


def diverging(strength: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """RGB, shape (..., 3), of values in -1..1; white for 0."""
    values = np.clip(np.asarray(strength, dtype=np.float64), -1, 1)
    colours: npt.NDArray[np.float64] = colormaps["RdBu_r"](0.5 + values / 2)[..., :3]
    return np.where(values[..., None] == 0, 1.0, colours)
