"""A clustered tensor as a matrix of cells, small enough to be looked at."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from sws_compress.report.clustered import ClusteredTensor
from sws_compress.report.colours import cluster_strengths

FULL_COLOUR_PERCENTILE = 99.5
"""Percentile of the cells' strengths that gets the full colour."""

Floats = npt.NDArray[np.float64]


def cell_strengths(tensor: ClusteredTensor, most: tuple[int, int]) -> tuple[Floats, tuple[int, int]]:
    """Strengths of the colours of a tensor's weights, or of their means where there are too many weights.

    Parameters
    ----------
    tensor : ClusteredTensor
        A tensor of two axes or more; those after the first are joined.
    most : (int, int)
        Rows and columns of cells at most.

    Returns
    -------
    strengths : ndarray, shape (rows, columns), float64
        Values for `diverging`, mostly within -1..1.
    cell : (int, int)
        Rows and columns of weights that a cell stands for. Cells at the far edges may have fewer.
    """
    indices = tensor.palette.indices.reshape(tensor.shape[0], -1)
    tall, wide = (math.ceil(n / limit) for n, limit in zip(indices.shape, most, strict=True))
    strengths = cluster_strengths(tensor.palette.codebook)
    if (tall, wide) == (1, 1):
        return strengths[indices], (1, 1)
    cells = np.stack([_cell_means(strengths[indices[i : i + tall]], wide) for i in range(0, len(indices), tall)])
    full = float(np.percentile(np.abs(cells), FULL_COLOUR_PERCENTILE)) or float(np.abs(cells).max()) or 1.0
    return cells / full, (tall, wide)


def _cell_means(band: Floats, wide: int) -> Floats:
    starts = np.arange(0, band.shape[1], wide)
    columns = np.diff(starts, append=band.shape[1])
    means: Floats = np.add.reduceat(band.sum(0), starts) / (columns * len(band))
    return means
