"""The clusters of a tensor, and where in it their members are."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from sws_compress.mixture.mixture import AnyArray
from sws_compress.quantize.palette import Palette, palette_of

MIN_CLUSTERED_WEIGHTS = 16
"""Smaller tensors are not looked at: few weights have few values in any case."""


PIECE_WEIGHTS = 1 << 22
"""Weights that are looked at together where a tensor is not needed whole."""


MAX_NAMED_SLICES = 3
"""Slices of an axis that are named for a cluster."""


@dataclass(frozen=True)
class Place:
    """The slices along one axis that hold the members of a cluster.

    Parameters
    ----------
    axis : str
        "row" or "column" of a matrix; "output channel", "input channel" or "kernel position" (row by row) of a
        convolution; "element" of a vector.
    length : int
        Number of slices.
    holding : int
        Number of slices with a member.
    whole : int
        Number of slices with nothing but members.
    most : tuple of (int, int)
        Index and number of members of the slices with the most members, at most `MAX_NAMED_SLICES` of them.
    """

    axis: str
    length: int
    holding: int
    whole: int
    most: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Cluster:
    """All weights of a tensor that have one value.

    Parameters
    ----------
    mean : float
        The value.
    spread : float or None
        Standard deviation, about their own average, of the weights that these were before; None if that is not known.
    members : int
        Number of weights.
    share : float
        Their share of the tensor's weights, 0..1.
    where : tuple of Place
        Where they are, along every axis of the tensor that has more than one slice.
    """

    mean: float
    spread: float | None
    members: int
    share: float
    where: tuple[Place, ...]


@dataclass(frozen=True, eq=False)
class ClusteredTensor:
    """A tensor of few distinct values.

    Parameters
    ----------
    name : str
        Name of the weight.
    palette : Palette
        Its values.
    original : ndarray, optional
        The same weights before they were compressed, in the same shape.
    """

    name: str
    palette: Palette
    original: AnyArray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return self.palette.shape

    @cached_property
    def clusters(self) -> tuple[Cluster, ...]:
        """The clusters, in the order of their means."""
        counts, size = self.palette.counts, self.palette.indices.size
        places = [(axis, table) for axis, table in self.members_by_axis().items() if len(table) > 1]
        spreads = None if self.original is None else self._spreads(self.original.reshape(-1))
        return tuple(
            Cluster(
                mean=float(mean),
                spread=None if spreads is None else float(spreads[k]),
                members=int(counts[k]),
                share=int(counts[k]) / size,
                where=tuple(_place(axis, table[:, k], size // len(table)) for axis, table in places),
            )
            for k, mean in enumerate(self.palette.codebook)
        )

    def members_by_axis(self) -> dict[str, npt.NDArray[np.int64]]:
        """Members of every cluster in every slice.

        Returns
        -------
        dict of str to ndarray, shape (slices, clusters), int64
            A table for each axis, by the names of `axis_names`.
        """
        parts = self.palette.indices.reshape(_joined_kernel_axes(self.shape))
        return {
            name: np.stack([self._count(part) for part in np.moveaxis(parts, axis, 0)])
            for axis, name in enumerate(axis_names(self.shape))
        }

    def live(self) -> npt.NDArray[np.bool_]:
        """Whether each weight is other than zero, in the tensor's shape."""
        live: npt.NDArray[np.bool_] = (self.palette.codebook != 0)[self.palette.indices].reshape(self.shape)
        return live

    def _count(self, part: npt.NDArray[np.unsignedinteger]) -> npt.NDArray[np.int64]:
        return np.bincount(part.reshape(-1), minlength=len(self.palette.codebook))

    def _spreads(self, original: AnyArray) -> npt.NDArray[np.float64]:
        """Standard deviations of the original weights of every cluster, shape (clusters,), in the memory of pieces."""
        count = len(self.palette.codebook)
        starts = range(0, original.size, PIECE_WEIGHTS)
        members = np.maximum(self.palette.counts, 1)
        means, squares = np.zeros(count), np.zeros(count)
        for start in starts:
            indices, values = self._piece(original, start)
            means += np.bincount(indices, values, count) / members
        for start in starts:
            indices, values = self._piece(original, start)
            squares += np.bincount(indices, (values - means[indices]) ** 2, count)
        return np.sqrt(squares / members)

    def _piece(self, original: AnyArray, start: int) -> tuple[npt.NDArray[np.unsignedinteger], npt.NDArray[np.float64]]:
        """Clusters and original values of some weights."""
        part = slice(start, start + PIECE_WEIGHTS)
        return self.palette.indices.reshape(-1)[part], original[part].astype(np.float64)

    def summary(self) -> TensorClusters:
        """The clusters without the weights."""
        return TensorClusters(self.name, self.shape, self.clusters)


@dataclass(frozen=True)
class TensorClusters:
    """The clusters of a tensor.

    Parameters
    ----------
    name : str
        Name of the weight.
    shape : tuple of int
        Its shape.
    clusters : tuple of Cluster
        The clusters, in the order of their means.
    """

    name: str
    shape: tuple[int, ...]
    clusters: tuple[Cluster, ...]

    @property
    def compared(self) -> bool:
        """Whether spreads are known: those of the weights before they were compressed."""
        return any(cluster.spread is not None for cluster in self.clusters)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "clusters": [dataclasses.asdict(cluster) for cluster in self.clusters],
        }


def clustered(name: str, values: AnyArray, original: AnyArray | None = None) -> ClusteredTensor | None:
    """Take a tensor as clusters.

    Parameters
    ----------
    name : str
        Name of the weight.
    values : ndarray, any shape, floating point
        The weights.
    original : ndarray, optional
        The weights before compression; they are not used unless they have the same shape.

    Returns
    -------
    ClusteredTensor or None
        None for fewer than `MIN_CLUSTERED_WEIGHTS` weights, for more than 256 distinct values, and where there are more
        than half as many distinct values as weights.
    """
    if values.size < MIN_CLUSTERED_WEIGHTS:
        return None
    palette = palette_of(values)
    if palette is None or len(palette.codebook) > values.size // 2:
        return None
    return ClusteredTensor(name, palette, None if original is None or original.shape != values.shape else original)


def axis_names(shape: tuple[int, ...]) -> tuple[str, ...]:
    """Names of the axes of a weight, as in `Place`; the axes of a kernel count as one."""
    if len(shape) <= 2:
        return ("element",) if len(shape) < 2 else ("row", "column")
    return ("output channel", "input channel", "kernel position")


def _joined_kernel_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:2], -1) if len(shape) > 2 else shape or (1,)


def _place(axis: str, members: npt.NDArray[np.int64], slice_size: int) -> Place:
    order = np.argsort(-members, kind="stable")[:MAX_NAMED_SLICES]
    return Place(
        axis,
        length=len(members),
        holding=int(np.count_nonzero(members)),
        whole=int(np.count_nonzero(members == slice_size)),
        most=tuple((int(i), int(members[i])) for i in order if members[i] > 0),
    )
