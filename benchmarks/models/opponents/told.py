"""What results tell of errors, against the points that their files lose.

    python -m benchmarks.models.opponents.told [--folder FOLDER/opponents] [--shares 0.05 0.1 ...]

Reads what `benchmarks.models.opponents` measured of this package's own files, with inputs, without, and of k-means.
Told is the larger of the errors of the worst output and of scores, which `sws_compress.report.distances` warns of. For
each share from which it could warn: the files that lose points and are not warned of, and those that lose none and are.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.models.opponents.compare import Row, loss_of, succeeded
from benchmarks.models.opponents.render import HERE, reports
from sws_compress.report.distances import LARGE_ERROR

SHARES = (0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1, 0.15)
MUCH, LITTLE = 1.0, 0.25
"""Points of loss that a warning should tell of, and that it should not."""


@dataclass(frozen=True)
class Told:
    """One file of ours: the error that its result told, 0..1, and the points that it lost."""

    model: str
    way: str
    error: float
    loss: float


def told(rows: Sequence[Row]) -> Iterator[Told]:
    """Files of which an error was told."""
    for row in succeeded(rows):
        errors = [error for key in ("told_error", "told_score_error") if (error := row.get(key)) is not None]
        if errors:
            yield Told(row["model"], row["way"], max(errors), loss_of(rows, row))


def share_table(found: Sequence[Told], shares: Sequence[float]) -> Iterator[str]:
    """What each share from which results could warn would have said of these files."""
    yield f"| warned from | lose over {MUCH:g}: told | not told | lose under {LITTLE:g}: told | not told |"
    yield "|---" * 5 + "|"
    lost, kept = ([each for each in found if each.loss > MUCH], [each for each in found if each.loss < LITTLE])
    for share in shares:
        warned = [sum(each.error > share for each in part) for part in (lost, kept)]
        yield f"| {share:.0%} | {warned[0]} | {len(lost) - warned[0]} | {warned[1]} | {len(kept) - warned[1]} |"


def file_table(found: Sequence[Told], share: float) -> Iterator[str]:
    """Files that a share judges wrongly, the greatest loss first."""
    yield "| model | way | told | loss |\n|---|---|---|---|"
    for each in sorted(found, key=lambda each: -each.loss):
        if (each.loss > MUCH and each.error <= share) or (each.loss < LITTLE and each.error > share):
            yield f"| {each.model} | {each.way} | {each.error:.1%} | {each.loss:+.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=HERE / "results")
    parser.add_argument("--shares", nargs="+", type=float, default=SHARES)
    arguments = parser.parse_args()
    found = [each for report in reports(arguments.folder) for each in told(report["rows"])]
    print("\n".join([*share_table(found, arguments.shares), "", *file_table(found, LARGE_ERROR)]))


if __name__ == "__main__":
    main()
