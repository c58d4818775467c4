"""Which weights share which cluster: the clusters of a tensor, and where in it their members sit."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sws_compress.mixture.mixture import AnyArray
from sws_compress.quantize.palette import Palette, palette_of

FEWEST_WEIGHTS = 16
"""Of a tensor that is looked at."""


MOST = 3
"""Slices of an axis that are named for a cluster."""


@dataclass(frozen=True)
class Where:
    """Where along one axis the members of a cluster are.

    axis       "row" and "column" of a matrix, "output channel", "input channel", "kernel position" (row by row) of a
               convolution, "element" of a vector
    length     number of slices
    holding    how many of them hold a member
    whole      how many hold nothing else
    most       index and number of members of the slices with the most members, at most MOST
    """

    axis: str
    length: int
    holding: int
    whole: int
    most: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Cluster:
    """The weights of a tensor that have one value.

    mean      the value; every member has it exactly
    spread    standard deviation about their own average of the weights that these were before; None if not known
    members   number of weights
    share     of the tensor's weights, 0..1
    """

    mean: float
    spread: float | None
    members: int
    share: float
    where: tuple[Where, ...]


@dataclass(frozen=True, eq=False)
class ClusteredTensor:
    """A tensor of few distinct values."""

    name: str
    palette: Palette
    original: AnyArray | None = None
    """The same weights before they were compressed, of the same shape."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.palette.shape

    @cached_property
    def clusters(self) -> tuple[Cluster, ...]:
        """In the order of their means."""
        counts, size = self.palette.counts, self.palette.indices.size
        places = [(axis, table) for axis, table in self.members_by_axis().items() if len(table) > 1]
        return tuple(
            Cluster(
                mean=float(mean),
                spread=self._spread(k),
                members=int(counts[k]),
                share=int(counts[k]) / size,
                where=tuple(_where(axis, table[:, k], size // len(table)) for axis, table in places),
            )
            for k, mean in enumerate(self.palette.codebook)
        )

    def members_by_axis(self) -> dict[str, npt.NDArray[np.int64]]:
        """For every axis how many members of each cluster each slice has: (slices, clusters)."""
        parts = self.palette.indices.reshape(_spatial(self.shape))
        return {
            name: np.stack([self._count(part) for part in np.moveaxis(parts, axis, 0)])
            for axis, name in enumerate(axis_names(self.shape))
        }

    def live(self) -> npt.NDArray[np.bool_]:
        """Which weights are not zero, in the tensor's shape."""
        return np.asarray(self.palette.codebook != 0)[self.palette.indices].reshape(self.shape)

    def _count(self, part: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        return np.bincount(part.reshape(-1), minlength=len(self.palette.codebook))

    def _spread(self, k: int) -> float | None:
        if self.original is None:
            return None
        return float(self.original.reshape(-1)[self.palette.indices == k].astype(np.float64).std())

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "shape": list(self.shape),
            "clusters": [dataclasses.asdict(cluster) for cluster in self.clusters],
        }


@dataclass(frozen=True, eq=False)
class ClusterReport:
    """The clustered tensors of the file at ``path``; names of the others, whose values are all different, or few."""

    path: Path
    tensors: tuple[ClusteredTensor, ...]
    others: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "tensors": [tensor.to_json() for tensor in self.tensors],
            "others": list(self.others),
        }


@dataclass(frozen=True)
class Picture:
    """The picture that was written: ``drawn`` and ``left_out``, names of clustered tensors."""

    output: Path
    drawn: tuple[str, ...]
    left_out: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "output": str(self.output)}


def clustered(name: str, values: AnyArray, original: AnyArray | None = None) -> ClusteredTensor | None:
    """``values`` as clusters; None if they are few, have more than 256 distinct values, or hardly any twice."""
    if values.size < FEWEST_WEIGHTS:
        return None
    palette = palette_of(values)
    if palette is None or len(palette.codebook) > values.size // 2:
        return None
    return ClusteredTensor(name, palette, None if original is None or original.shape != values.shape else original)


def axis_names(shape: tuple[int, ...]) -> tuple[str, ...]:
    """As in `Where`; the axes of a kernel are one."""
    if len(shape) <= 2:
        return ("element",) if len(shape) < 2 else ("row", "column")
    return ("output channel", "input channel", "kernel position")


def _spatial(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:2], -1) if len(shape) > 2 else shape or (1,)


def _where(axis: str, members: npt.NDArray[np.int64], slice_size: int) -> Where:
    order = np.argsort(-members, kind="stable")[:MOST]
    return Where(
        axis,
        length=len(members),
        holding=int(np.count_nonzero(members)),
        whole=int(np.count_nonzero(members == slice_size)),
        most=tuple((int(i), int(members[i])) for i in order if members[i] > 0),
    )
