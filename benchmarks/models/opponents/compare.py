"""Bytes at equal quality: our curve, read at the quality of another's file."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]

SMALL_LOSS = 0.5
"""Scores that fall by less say nothing about quality: errors of the outputs are compared instead."""

USABLE_LOSS = 10.0
"""Files that lose more points are not compared with: nobody would use them."""


@dataclass(frozen=True)
class Point:
    """A file: its bytes, and its quality, which is better where it is higher."""

    size: float
    quality: float


def front(points: Iterable[Point]) -> list[Point]:
    """The points that are better than all smaller ones, the smallest first."""
    found: list[Point] = []
    for point in sorted(points, key=lambda point: (point.size, -point.quality)):
        if not found or point.quality > found[-1].quality:
            found.append(point)
    return found


def size_at(points: Iterable[Point], quality: float) -> float | None:
    """Bytes of a curve at a quality: logarithms are interpolated between its best points.

    Below and above the curve it is None.
    """
    best = front(points)
    if not best or not best[0].quality <= quality <= best[-1].quality:
        return None
    for lower, upper in itertools.pairwise(best):
        if lower.quality < quality <= upper.quality:
            part = (quality - lower.quality) / (upper.quality - lower.quality)
            return math.exp((1 - part) * math.log(lower.size) + part * math.log(upper.size))
    return best[0].size


@dataclass(frozen=True)
class Comparison:
    """Bytes of ours over bytes of another's file of the same quality; None where all of ours are better, or worse.

    ``measure`` is what quality meant: the score, or the error of the outputs where the score hardly fell. ``beyond``
    tells that all of ours are worse.
    """

    way: str
    family: str
    measure: str
    plain: float | None
    brotli: float | None
    beyond: bool


def comparisons(rows: Iterable[Row], ours: str) -> Iterator[Comparison]:
    """Compare those of our rows whose way begins with ``ours`` with every usable file of others."""
    rows = succeeded(rows)
    curve = [row for row in rows if row["family"] == "ours" and row["way"].startswith(ours)]
    for row in rows:
        loss = loss_of(rows, row)
        if row["family"] in ("dense", "ours") or loss > USABLE_LOSS or not math.isfinite(row["error_db"]):
            continue
        measure = "error_db" if loss < SMALL_LOSS else "score"
        ratios: dict[str, float | None] = {}
        for kind in ("bytes", "brotli_bytes"):
            size = size_at((Point(each[kind], each[measure]) for each in curve), row[measure])
            ratios[kind] = None if size is None else size / row[kind]
        beyond = all(each[measure] < row[measure] for each in curve)
        yield Comparison(row["way"], row["family"], measure, ratios["bytes"], ratios["brotli_bytes"], beyond)


def smallest_within(rows: Sequence[Row], ours: str, points: float, *, kind: str = "bytes") -> Row | None:
    """The smallest of our files whose score falls by at most so many points."""
    fitting = (row for row in succeeded(rows) if row["family"] == "ours" and row["way"].startswith(ours))
    return min((row for row in fitting if loss_of(rows, row) <= points), key=lambda row: row[kind], default=None)


def succeeded(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if "failure" not in row]


def loss_of(rows: Sequence[Row], row: Row) -> float:
    """Points that a file loses against the dense model."""
    base: float = next(each["score"] for each in rows if each["family"] == "dense")
    return round(base - row["score"], 9)
