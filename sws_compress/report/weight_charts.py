"""What is drawn of the weights of a tensor: histogram, mixture, codebook, and the clusters on the matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from sws_compress.mixture.mixture import AnyArray, Mixture
from sws_compress.report.cells import cell_strengths, value_strengths
from sws_compress.report.clustered import ClusteredTensor
from sws_compress.report.colours import diverging
from sws_compress.report.indexed_png import indexed_png

BINS = 80
"""Bins of a histogram."""

MAX_CELLS = (96, 192)
"""Rows and columns of cells of a matrix: at most 18 kB of PNG."""

COLOURS = 255
"""Colours of a picture; the one in the middle is zero's."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class WeightChart:
    """What is drawn of one tensor. A tensor with scales is shown before scaling.

    Parameters
    ----------
    name : str
        Name of the weight.
    low, high : float
        Range of the histogram.
    counts : ndarray, shape (`BINS`,), int64
        The weights before compression; where these are not known, those in the file.
    before : bool
        Whether the histogram is of the weights before compression.
    codebook : ndarray, shape (k,), float64
        Values of the clusters, rising; empty where there are none.
    members : ndarray, shape (k,), int64
        Weights that have each value.
    mixture : Mixture, optional
        The mixture that the weights were clustered by.
    png : bytes
        The matrix in the colours of its clusters, or of its values where these are too many; empty for a vector.
    cell : (int, int)
        Rows and columns of weights that a point of it stands for.
    """

    name: str
    low: float
    high: float
    counts: npt.NDArray[np.int64]
    before: bool
    codebook: Floats
    members: npt.NDArray[np.int64]
    mixture: Mixture | None = None
    png: bytes = b""
    cell: tuple[int, int] = (1, 1)

    @property
    def expected(self) -> Floats:
        """Weights in each bin of the histogram as the mixture has it, shape (`BINS`,); empty without a mixture."""
        if self.mixture is None:
            return np.zeros(0)
        edges = np.linspace(self.low, self.high, len(self.counts) + 1)
        deviations = np.sqrt(self.mixture.variances)
        below = ndtr((edges[:, None] - self.mixture.means) / deviations) @ self.mixture.weights
        expected: Floats = np.diff(below) * self.counts.sum()
        return expected

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON; without the picture."""
        mixture = self.mixture
        return {
            "histogram": {
                "of": "weights before" if self.before else "weights in the file",
                "low": self.low,
                "high": self.high,
                "counts": self.counts.tolist(),
            },
            "codebook": [
                {"value": value, "members": members}
                for value, members in zip(self.codebook.tolist(), self.members.tolist(), strict=True)
            ],
            "mixture": None
            if mixture is None
            else {name: getattr(mixture, name).tolist() for name in ("weights", "means", "variances")},
        }


def weight_chart(
    name: str, values: AnyArray, clusters: ClusteredTensor | None, original: AnyArray | None, mixture: Mixture | None
) -> WeightChart | None:
    """Make the chart of a tensor.

    Parameters
    ----------
    name : str
        Name of the weight.
    values : ndarray, any shape
        The weights in the file, before scaling.
    clusters : ClusteredTensor, optional
        The same as clusters.
    original : ndarray, optional
        The weights before compression, divided by the same scales. They may be more: idle units are left out of files.
    mixture : Mixture, optional
        The mixture of scalars that they were clustered by.

    Returns
    -------
    WeightChart or None
        None where no weight is finite.
    """
    stored = _flat(values)
    shown = stored if original is None else _flat(original)
    ends = [_ends(shown), _ends(stored)]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    if low > high:
        return None
    margin = 0.02 * (high - low) or max(abs(low), 1e-3)
    low, high = low - margin, high + margin
    counts = np.histogram(shown, bins=BINS, range=(low, high))[0]
    codebook, members = np.zeros(0), np.zeros(0, dtype=np.int64)
    png, cell = b"", (1, 1)
    if clusters is not None:
        codebook, members = clusters.palette.codebook.astype(np.float64), clusters.palette.counts.astype(np.int64)
    if sum(length > 1 for length in values.shape) > 1:
        png, cell = _picture(values if clusters is None else clusters)
    scalars = mixture is not None and mixture.means.ndim == 1
    return WeightChart(
        name=name,
        low=low,
        high=high,
        counts=counts.astype(np.int64),
        before=original is not None,
        codebook=codebook,
        members=members,
        mixture=mixture if scalars else None,
        png=png,
        cell=cell,
    )


def _flat(values: AnyArray) -> npt.NDArray[np.float32]:
    """All weights in a row, copied unless they are float32."""
    return values.reshape(-1).astype(np.float32, copy=False)


def _ends(values: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Least and largest finite value; infinite, the wrong way round, where there is none."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (math.inf, -math.inf)


def _picture(weights: AnyArray | ClusteredTensor) -> tuple[bytes, tuple[int, int]]:
    """The weights as a picture, in the colours of their clusters if they have them, else of their values."""
    if isinstance(weights, ClusteredTensor):
        strengths, cell = cell_strengths(weights, MAX_CELLS)
    else:
        strengths, cell = value_strengths(weights, MAX_CELLS)
    middle = COLOURS // 2
    indices = np.rint(middle + middle * np.clip(strengths, -1, 1)).astype(np.uint8)
    colours = np.rint(255 * diverging(np.arange(-middle, middle + 1) / middle)).astype(np.uint8)
    return indexed_png(indices, colours), cell
