"""Colours of clusters: blue below zero, red above, stronger further from zero; zero itself is white."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MIN_STRENGTH = 0.3
"""Strength of the cluster next to zero, 0..1: it must not pass for zero."""

LONE_STRENGTH = 0.8
"""Strength of a cluster that is the only one on its side of zero, 0..1."""

BLUE_TO_RED = "053061 2166ac 4393c3 92c5de d1e5f0 f7f7f7 fddbc7 f4a582 d6604d b2182b 67001f"
"""ColorBrewer's RdBu from -1 to 1, evenly spaced; colours between them are interpolated."""


def cluster_colours(means: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """RGB colours of clusters, 0..1, shape (k, 3), by their means, shape (k,)."""
    return diverging(cluster_strengths(means))


def cluster_strengths(means: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Strengths of the colours of clusters.

    On each side of zero they follow the rank of a mean, not its value, so that neighbours can be told apart.

    Parameters
    ----------
    means : array_like, shape (k,)
        The means, in any order.

    Returns
    -------
    ndarray, shape (k,), float64
        Values in -1..1 with the signs of the means.
    """
    values = np.asarray(means, dtype=np.float64)
    strength = np.zeros(len(values))
    for side in (-1, 1):
        chosen = np.flatnonzero(side * values > 0)
        order = chosen[np.argsort(np.abs(values[chosen]), kind="stable")]
        strength[order] = side * (np.linspace(MIN_STRENGTH, 1.0, len(order)) if len(order) > 1 else LONE_STRENGTH)
    return strength


def diverging(strength: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """RGB colours, 0..1, shape (..., 3), of strengths in -1..1; white for 0."""
    values = np.clip(np.asarray(strength, dtype=np.float64), -1, 1)
    anchors = np.array([list(bytes.fromhex(colour)) for colour in BLUE_TO_RED.split()]) / 255
    places = np.linspace(-1, 1, len(anchors))
    colours = np.stack([np.interp(values, places, channel) for channel in anchors.T], axis=-1)
    return np.where(values[..., None] == 0, 1.0, colours)
