"""The clusters of a model, and a picture of them: as data, as plain values for JSON, and as tables."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sws_compress.report.clustered import Place, TensorClusters
from sws_compress.report.printed import Printed
from sws_compress.report.tables import summary

MAX_CLUSTER_LINES = 16
"""Lines for the clusters of one tensor."""


@dataclass(frozen=True, eq=False, repr=False)
class ClusterReport(Printed):
    """The clusters of all weights of a model.

    Parameters
    ----------
    path : Path
        The model file.
    tensors : tuple of TensorClusters
        The weights that hold few distinct values.
    others : tuple of str
        Names of the weights whose values are nearly all different, or that are very small.
    """

    path: Path
    tensors: tuple[TensorClusters, ...]
    others: tuple[str, ...]

    def __rich__(self) -> RenderableType:
        parts: list[RenderableType] = []
        for tensor in self.tensors:
            shape = "x".join(map(str, tensor.shape))
            count = len(tensor.clusters)
            heading = f"{tensor.name}  {shape}, {count} cluster{'s' if count > 1 else ''}"
            parts += [Text(f"\n{heading}", "bold"), _cluster_rows(tensor)]
            if len(tensor.clusters) > MAX_CLUSTER_LINES:
                parts.append(Text(f"and {len(tensor.clusters) - MAX_CLUSTER_LINES} smaller ones: see --json", "dim"))
        if self.others:
            parts.append(Text(f"\nnot clustered: {', '.join(self.others)}", "dim"))
        return Group(*parts)

    def __repr__(self) -> str:
        return f"<ClusterReport {self.path}: {len(self.tensors)} tensors of few values>"

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "path": str(self.path),
            "tensors": [tensor.to_json() for tensor in self.tensors],
            "others": list(self.others),
        }


@dataclass(frozen=True, repr=False)
class Picture(Printed):
    """A picture of clusters that was written.

    Parameters
    ----------
    output : Path
        The PNG file.
    drawn, left_out : tuple of str
        Names of the clustered tensors that are in it, and of those that are not.
    """

    output: Path
    drawn: tuple[str, ...]
    left_out: tuple[str, ...]

    def __rich__(self) -> RenderableType:
        left = [("left out", ", ".join(self.left_out) + " (see --tensor)")] if self.left_out else []
        return summary([("picture", str(self.output)), ("drawn", ", ".join(self.drawn)), *left])

    def __repr__(self) -> str:
        return f"<Picture {self.output}: {len(self.drawn)} tensors>"

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**dataclasses.asdict(self), "output": str(self.output)}


def _cluster_rows(tensor: TensorClusters) -> Table:
    table = Table(box=None, pad_edge=False, header_style="")
    spread = tensor.compared
    for heading in ("mean", *(["spread before"] if spread else []), "weights", "share"):
        table.add_column(heading, justify="right")
    table.add_column("where most of them are", overflow="fold")
    by_size = sorted(tensor.clusters, key=lambda cluster: -cluster.members)[:MAX_CLUSTER_LINES]
    for cluster in sorted(by_size, key=lambda cluster: cluster.mean):
        known = [f"{cluster.spread:.3g}"] if cluster.spread is not None else []
        table.add_row(
            f"{cluster.mean:.4g}",
            *known,
            f"{cluster.members:,}",
            f"{100 * cluster.share:.2f} %",
            Text("; ".join(map(place_text, cluster.where))),
        )
    return table


def place_text(place: Place) -> str:
    """Describe a place in words.

    Examples
    --------
    >>> place_text(Place("row", 300, 85, 0, ((81, 9), (168, 8), (6, 7))))
    '85 rows, most in 81, 168, 6'
    >>> place_text(Place("row", 300, 250, 200, ((0, 784), (1, 784), (2, 784))))
    '200 whole rows'
    """
    if place.axis == "element":
        more = ", ..." if place.holding > len(place.most) else ""
        return f"{_slices('element', place.holding)}: {_indices(place)}{more}"
    if place.whole:
        return f"{_slices('whole ' + place.axis, place.whole)}"
    link = ", most in" if place.holding > len(place.most) else ":"
    return f"{_slices(place.axis, place.holding)}{link} {_indices(place)}"


def _slices(name: str, count: int) -> str:
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def _indices(place: Place) -> str:
    return ", ".join(str(index) for index, _ in place.most)
