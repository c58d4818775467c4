"""Tables and pictures of what `benchmarks.models.opponents` measured.

    python -m benchmarks.models.opponents.render --folder FOLDER/opponents [--pictures FOLDER]

Prints Markdown: what ours reaches within a loss of the score, its bytes over those of others at equal quality, and all
rows. ``--pictures`` draws bytes against the error of the outputs and against the score, one picture per model.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.models.opponents.compare import Comparison, comparisons, smallest_within

HERE = Path(__file__).parent
OURS = ("weights only", "calibrated")
GROUPS = {
    "int8, static": "int8 static", "int8, dynamic": "int8 dynamic", "4 bits": "4 bits", "shrink-ray": "shrink-ray",
    "NNCodec": "NNCodec", "coremltools": "coremltools", "k-means": "k-means",
}  # fmt: skip
"""Columns of the table of ratios, and how the names of their ways begin."""

Report = dict[str, Any]


def reports(folder: Path) -> list[Report]:
    """What was measured, a report per model, the smallest model first."""
    found: list[Report] = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return sorted(found, key=lambda report: report["rows"][0]["bytes"])


def goal_lines(report: Report) -> Iterator[str]:
    """What ours reaches within one and two points with inputs, and within half a point without."""
    dense = report["rows"][0]
    cells = []
    for ours, points in (("calibrated", 1.0), ("calibrated", 2.0), ("weights only", 0.5)):
        row = smallest_within(report["rows"], ours, points)
        ratio = "" if row is None else f"{dense['bytes'] / row['bytes']:.1f}x, {row['score'] - dense['score']:+.2f}"
        cells.append(ratio or "none")
    yield f"| {dense['model']} | {dense['bytes']:,} | {dense['score']:.2f} | {' | '.join(cells)} |"


def ratio_cells(found: Sequence[Comparison], start: str) -> str:
    """The range of ratios after brotli on both sides, over the ways whose names begin so."""
    ours = [each for each in found if each.way.startswith(start)]
    ratios = sorted(each.brotli for each in ours if each.brotli is not None)
    if not ours:
        return ""
    missed = len(ours) - len(ratios)
    text = "" if not ratios else f"{ratios[0]:.2f}" if len(ratios) == 1 else f"{ratios[0]:.2f}-{ratios[-1]:.2f}"
    return text + (f" ({missed} out of reach)" if missed else "")


def tables(found: Iterable[Report]) -> Iterator[str]:
    found = list(found)
    yield "| model | bytes | score % | with inputs, 1 point | with inputs, 2 points | weights only, 1/2 point |"
    yield "|---|---|---|---|---|---|"
    for report in found:
        yield from goal_lines(report)
    yield ""
    yield f"| model | ours | {' | '.join(GROUPS)} |"
    yield "|---|---" + "|---" * len(GROUPS) + "|"
    for report in found:
        for ours in OURS:
            compared = list(comparisons(report["rows"], ours))
            cells = [ratio_cells(compared, start) for start in GROUPS.values()]
            if any(row["way"].startswith(ours) for row in report["rows"]):
                yield f"| {report['rows'][0]['model']} | {ours} | {' | '.join(cells)} |"
    yield ""
    yield "| model | way | bytes | gzip | brotli | score % | error dB | ours with inputs, brotli | weights only |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for report in found:
        ratios = [{each.way: each.brotli for each in comparisons(report["rows"], ours)} for ours in OURS[::-1]]
        yield from (row_line(row, ratios) for row in report["rows"])


def row_line(row: dict[str, Any], ratios: Sequence[dict[str, float | None]]) -> str:
    start = f"| {row['model']} | {row['way']} |"
    if "failure" in row:
        return f"{start} {row['failure'].replace('|', '/')} | | | | | | |"
    cells = [f"{row[key]:,}" for key in ("bytes", "gzip_bytes", "brotli_bytes")]
    cells += [f"{row['score']:.2f}", "" if row["family"] == "dense" else f"{row['error_db']:.1f}"]
    cells += ["" if (ratio := found.get(row["way"])) is None else f"{ratio:.2f}" for found in ratios]
    return f"{start} {' | '.join(cells)} |"


def draw(report: Report, target: Path) -> None:
    """Bytes after brotli against the error of the outputs and the score, a colour per family."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in report["rows"] if "failure" not in row and row["family"] != "dense"]
    figure, axes = pyplot.subplots(1, 2, figsize=(13, 5), layout="constrained")
    families = {
        **{start: start for start in OURS},
        **{start: name for name, start in GROUPS.items()},
        "float16": "float16",
    }
    for axis, key, label in zip(
        axes, ("error_db", "score"), ("output / error, dB", f"{report['metric']}, %"), strict=True
    ):
        for number, (start, name) in enumerate(families.items()):
            shown = sorted((row["brotli_bytes"], row[key]) for row in rows if row["way"].startswith(start))
            if shown:
                line = "o-" if number < len(OURS) else "x:"
                axis.plot(*zip(*shown, strict=True), line, color=f"C{number}", label=name)
        axis.set(xlabel="bytes after brotli", ylabel=label, xscale="log")
        axis.grid(alpha=0.3)
    axes[1].axhline(report["rows"][0]["score"], color="black", linewidth=0.8)
    axes[0].legend()
    figure.suptitle(report["rows"][0]["model"])
    figure.savefig(target, dpi=100)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=HERE / "results")
    parser.add_argument("--pictures", type=Path, help="a folder for pictures")
    arguments = parser.parse_args()
    found = reports(arguments.folder)
    print("\n".join(tables(found)))
    if arguments.pictures is not None:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
        for report in found:
            draw(report, arguments.pictures / f"{report['rows'][0]['model']}.png")


if __name__ == "__main__":
    main()
