"""Bytes at equal accuracy and at equal error of the outputs: our files beside each of another's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
KINDS = ("bytes", "brotli_bytes")

LEAST_TOLERANCE = 0.1
"""Points by which scores may differ and count as equal, however many answers they count."""

CHANGED_ANSWERS = 0.01
"""Share of the answers in which two files differ, for the standard error of the difference of their scores."""

ANSWERS = {
    "lenet": 10_000, "resnet20": 10_000, "resnet56": 10_000, "magika": 1_176, "minilm": 400, "captcha_reader": 400,
    "ocr_recognition": 4_156, "nudenet": 218, "basic_pitch": 756,
}  # fmt: skip
"""Answers that a score counts, where they are few: images, files, texts, captchas, characters, boxes, notes."""

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
    """Bytes of ours over bytes of another's file that is as good; None where there is no such file of ours.

    ``beyond`` tells that there is none since all of ours are worse.
    """

    way: str
    family: str
    plain: float | None
    brotli: float | None
    beyond: bool


Compare = Callable[[Sequence[Row], str], Iterator[Comparison]]
"""What compares those of our rows whose way begins with a word with every usable file of others."""


def tolerance(model: str) -> float:
    """Points by which a score may be lower and count as equal.

    It is the standard error of the difference, if files differ in a hundredth of their answers, or `LEAST_TOLERANCE`.
    """
    answers = ANSWERS.get(model)
    return max(LEAST_TOLERANCE, 100 * math.sqrt(CHANGED_ANSWERS / answers) if answers else 0.0)


def at_equal_accuracy(rows: Sequence[Row], ours: str) -> Iterator[Comparison]:
    """Compare with the smallest file of ours of an accuracy that all larger ones of ours have as well.

    A score above that of the dense model is luck, and is not asked for.
    """
    dense = dense_row(rows)
    allowed = tolerance(dense["model"])
    for row in usable(rows):
        least = min(row["score"], dense["score"]) - allowed
        ratios: dict[str, float | None] = {}
        for kind in KINDS:
            held = smallest_holding(rows, ours, least, kind=kind)
            ratios[kind] = None if held is None else held[kind] / row[kind]
        plain, brotli = ratios.values()
        yield Comparison(row["way"], row["family"], plain, brotli, beyond=plain is None or brotli is None)


def at_equal_error(rows: Sequence[Row], ours: str) -> Iterator[Comparison]:
    """Compare with our curve of bytes where its outputs have the same error.

    All are None below our smallest file, which is better, and beyond our best one.
    """
    curve = our_rows(rows, ours)
    for row in usable(rows):
        ratios: dict[str, float | None] = {}
        for kind in KINDS:
            size = size_at((Point(each[kind], each["error_db"]) for each in curve), row["error_db"])
            ratios[kind] = None if size is None else size / row[kind]
        beyond = all(each["error_db"] < row["error_db"] for each in curve)
        plain, brotli = ratios.values()
        yield Comparison(row["way"], row["family"], plain, brotli, beyond=beyond)


def smallest_holding(rows: Sequence[Row], ours: str, score: float, *, kind: str) -> Row | None:
    """The smallest of our files that has this score, as all larger ones of ours do."""
    found = None
    for row in sorted(our_rows(rows, ours), key=lambda row: -row[kind]):
        if round(score - row["score"], 9) > 0:
            break
        found = row
    return found


def smallest_within(rows: Sequence[Row], ours: str, points: float, *, kind: str = "bytes") -> Row | None:
    """The smallest of our files whose score falls by at most so many points."""
    fitting = (row for row in our_rows(rows, ours) if loss_of(rows, row) <= points)
    return min(fitting, key=lambda row: row[kind], default=None)


def our_rows(rows: Iterable[Row], ours: str) -> list[Row]:
    """Those of our files whose way begins with ``ours``."""
    return [row for row in succeeded(rows) if row["family"] == "ours" and row["way"].startswith(ours)]


def usable(rows: Sequence[Row]) -> list[Row]:
    """Files of others that somebody would use."""
    others = (row for row in succeeded(rows) if row["family"] not in ("dense", "ours"))
    return [row for row in others if loss_of(rows, row) <= USABLE_LOSS and math.isfinite(row["error_db"])]


def succeeded(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if "failure" not in row]


def dense_row(rows: Iterable[Row]) -> Row:
    return next(row for row in rows if row["family"] == "dense")


def loss_of(rows: Iterable[Row], row: Row) -> float:
    """Points that a file loses against the dense model."""
    return round(float(dense_row(rows)["score"] - row["score"]), 9)
