"""Goals of the benchmark, and what the measured rows say about each of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.models.opponents.compare import (
    Compare,
    Comparison,
    Row,
    dense_row,
    loss_of,
    our_rows,
    smallest_within,
    succeeded,
)

SIZE_TOLERANCE = 0.02
"""A file may be larger than what was asked for by this share of it."""

ALONE = "weights only, default"
ALONE_LOSS = 0.5
ALONE_RATIO = 5.0
ALONE_RATIOS = {"silero_vad_16k": 3.0}
"""Least ratios of the default without inputs, where they are not `ALONE_RATIO`."""

SIZES = (("calibrated, ratio 8", 8.0, 1.0), ("calibrated, ratio 10", 10.0, 2.0))
"""Ways with inputs, the ratio that each is asked for, and the points that it may lose."""

MOST = {
    "static int8": ("int8 static", 0.6),
    "dynamic int8": ("int8 dynamic", 0.6),
    "4 bits": ("4 bits", 0.6),
    "shrink-ray": ("shrink-ray", 0.6),
    "NNCodec": ("NNCodec", 0.8),
    "coremltools": ("coremltools", 1.0),
    "k-means": ("k-means", 1.0),
    "Fisher k-means": ("Fisher k-means", 1.0),
}
"""Groups of others: how their ways begin, and the most that ours may be of their bytes at equal accuracy."""

LEAST_FILES = 3
"""Fewer files of ours are no curve."""

WITH_INPUTS = ("int8 static", "Fisher k-means")
"""Ways of others that see the calibration inputs."""


@dataclass(frozen=True)
class Verdict:
    """One file of ours against a goal for its size: its ratio, the change of its score, and what it misses."""

    ratio: float
    change: float
    missed: tuple[str, ...]


def size_verdict(rows: Sequence[Row], way: str, ratio: float, points: float) -> Verdict | None:
    """What the file of a way says about a goal for its size; None where it was not made."""
    row = next((row for row in succeeded(rows) if row["way"] == way), None)
    if row is None:
        return None
    dense = dense_row(rows)
    found, loss = dense["bytes"] / row["bytes"], loss_of(rows, row)
    missed = [] if row["bytes"] <= (1 + SIZE_TOLERANCE) * dense["bytes"] / ratio else ["size"]
    missed += [] if loss <= points else ["score"]
    return Verdict(found, -loss, tuple(missed))


def alone_ratio(model: str) -> float:
    return ALONE_RATIOS.get(model, ALONE_RATIO)


def verdicts(rows: Sequence[Row]) -> list[Verdict | None]:
    """Goals for sizes: with inputs at each ratio, and the default without inputs."""
    alone = size_verdict(rows, ALONE, alone_ratio(rows[0]["model"]), ALONE_LOSS)
    return [*(size_verdict(rows, *goal) for goal in SIZES), alone]


def has_curve(rows: Iterable[Row], ours: str) -> bool:
    """Whether enough files of ours were measured to compare curves."""
    return len(our_rows(rows, ours)) >= LEAST_FILES


def duel(rows: Sequence[Row], ours: str, points: float, *, inputs: bool) -> tuple[Row | None, Row | None]:
    """The smallest files of ours and of others within a loss, after brotli; without ``inputs`` others see none."""
    others = [
        row
        for row in succeeded(rows)
        if row["family"] not in ("dense", "ours")
        and loss_of(rows, row) <= points
        and (inputs or not row["way"].startswith(WITH_INPUTS))
    ]
    best = min(others, key=lambda row: row["brotli_bytes"], default=None)
    return smallest_within(rows, ours, points, kind="brotli_bytes"), best


@dataclass(frozen=True)
class Group:
    """Ours against the files of a group that are as good: ratios of bytes, and how many files are better than all ours.

    Files that are worse than all of ours say nothing.
    """

    name: str
    most: float
    ratios: tuple[float, ...]
    out_of_reach: int

    @property
    def met(self) -> bool:
        return not self.out_of_reach and all(ratio <= self.most for ratio in self.ratios)


def groups(rows: Sequence[Row], ours: str, compare: Compare, *, brotli: bool = True) -> Iterator[Group]:
    """Every group with files that can be compared with, after brotli or as files; none where ours has no curve."""
    if not has_curve(rows, ours):
        return
    found: list[Comparison] = list(compare(rows, ours))
    for name, (start, most) in MOST.items():
        mine = [each for each in found if each.way.startswith(start)]
        ratios = sorted(ratio for each in mine if (ratio := each.brotli if brotli else each.plain) is not None)
        beyond = sum(each.beyond for each in mine)
        if ratios or beyond:
            yield Group(name, most, tuple(ratios), beyond)
