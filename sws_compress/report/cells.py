"""A tensor as a matrix of cells, small enough to be looked at."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sws_compress.mixture.mixture import AnyArray
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
    strengths = cluster_strengths(tensor.palette.codebook)
    return _cells(indices, lambda band: strengths[band], most)


def value_strengths(values: AnyArray, most: tuple[int, int]) -> tuple[Floats, tuple[int, int]]:
    """The same of a tensor of many values, whose strengths are proportional to them.

    Parameters
    ----------
    values : ndarray, two axes or more, floating point
        The weights.
    most : (int, int)
        Rows and columns of cells at most.
    """
    matrix = values.reshape(len(values), -1)
    strengths, cell = _cells(matrix, lambda band: np.nan_to_num(band.astype(np.float64), posinf=0, neginf=0), most)
    return (_full(strengths) if cell == (1, 1) else strengths), cell


def _cells(
    matrix: AnyArray, strengths: Callable[[AnyArray], Floats], most: tuple[int, int]
) -> tuple[Floats, tuple[int, int]]:
    """Strengths of the elements of a matrix, or of the means of cells of it, in the memory of a row of cells."""
    tall, wide = (math.ceil(n / limit) for n, limit in zip(matrix.shape, most, strict=True))
    if (tall, wide) == (1, 1):
        return strengths(matrix), (1, 1)
    bands = (strengths(matrix[start : start + tall]) for start in range(0, len(matrix), tall))
    return _full(np.stack([_cell_means(band, wide) for band in bands])), (tall, wide)


def _full(cells: Floats) -> Floats:
    """Strengths of which the largest, but for a few, are 1."""
    full = float(np.percentile(np.abs(cells), FULL_COLOUR_PERCENTILE)) or float(np.abs(cells).max()) or 1.0
    return cells / full


def _cell_means(band: Floats, wide: int) -> Floats:
    starts = np.arange(0, band.shape[1], wide)
    columns = np.diff(starts, append=band.shape[1])
    means: Floats = np.add.reduceat(band.sum(0), starts) / (columns * len(band))
    return means
