"""Pages and pictures of what `benchmarks.models.opponents` measured.

    python -m benchmarks.models.opponents.render [--folder FOLDER/opponents] [--into FOLDER]

Writes ``GOALS.md``, ``OPPONENTS.md`` and ``images/`` beside this package, from the committed results, or into another
folder.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.models.opponents.compare import Point, front, succeeded
from benchmarks.models.opponents.pages import OURS, Report, files_page, goals_page, name

HERE = Path(__file__).parent
PAGES = HERE.parent

COLOURS = {
    "calibrated": "#c2410c", "weights only": "#1d4ed8", "int8 static": "#15803d", "int8 dynamic": "#65a30d",
    "4 bits": "#a16207", "shrink-ray": "#7c3aed", "NNCodec": "#111827", "coremltools": "#0891b2", "k-means": "#9ca3af",
    "Fisher k-means": "#db2777",
}  # fmt: skip
"""How the names of ways begin, ours first, and their colours."""

LABELS = {"calibrated": "this package, with inputs", "weights only": "this package, without inputs"}
SHOWN_LOSS = 6.0
"""Points below the float score down to which a picture goes."""

LEAST_ERROR_DB = 5.0
PANELS_ACROSS = 3
TICKS = (80, 40, 20, 14, 10, 8, 6, 5, 4, 3, 2)
"""How many times smaller than the float file, where axes have a tick."""


def reports(folder: Path) -> list[Report]:
    """What was measured, a report per model, the smallest model first."""
    found: list[Report] = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    return sorted(found, key=lambda report: report["rows"][0]["bytes"])


def draw(found: Sequence[Report], key: str, target: Path) -> None:
    """Bytes after brotli against ``key``, a panel per model of which ours has files, and a colour per group."""
    from matplotlib.figure import Figure

    found = [report for report in found if any(row["family"] == "ours" for row in report["rows"])]
    down = -(-(len(found) + 1) // PANELS_ACROSS)
    sheet = Figure(figsize=(4.2 * PANELS_ACROSS, 3.2 * down), layout="constrained")
    panels = sheet.subplots(down, PANELS_ACROSS, squeeze=False).ravel()
    drawn: dict[str, Any] = {}
    for axes, report in zip(panels, found, strict=False):
        drawn |= panel(axes, report, key)
    for axes in panels[len(found) :]:
        axes.axis("off")
    handles = {LABELS.get(start, start): drawn[start] for start in COLOURS if start in drawn}
    panels[len(found)].legend(handles.values(), handles.keys(), loc="center", frameon=False, fontsize=9)
    sheet.savefig(target, dpi=90, metadata={"Software": None})


def panel(axes: Any, report: Report, key: str) -> dict[str, Any]:
    """Draw one model; handles for the legend by the start of the ways."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    dense, rows = report["rows"][0], [row for row in succeeded(report["rows"]) if row["family"] != "dense"]
    least = dense["score"] - SHOWN_LOSS if key == "score" else LEAST_ERROR_DB
    drawn = {}
    for start, colour in COLOURS.items():
        chosen = [row for row in rows if row["way"].startswith(start) and row[key] >= least]
        points = sorted((row["brotli_bytes"] / dense["bytes"], row[key]) for row in chosen)
        if not points:
            continue
        if start in OURS:
            best = [(each.size, each.quality) for each in front(Point(*point) for point in points)]
            drawn[start] = axes.plot(*zip(*best, strict=True), "o-", color=colour, markersize=4, linewidth=1.5)[0]
        else:
            drawn[start] = axes.plot(*zip(*points, strict=True), "x", color=colour, markersize=6)[0]
    axes.set_xscale("log")
    ticks = [1 / part for part in TICKS if 1 / part >= axes.get_xlim()[0]]
    axes.set_xticks([part for part in ticks if part <= axes.get_xlim()[1]])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda part, _: f"1/{1 / part:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    for part in (1 / 8, 1 / 10):
        axes.axvline(part, color="#8a8f98", linestyle=":", linewidth=1)
    if key == "score":
        axes.axhline(dense["score"], color="#8a8f98", linewidth=0.8)
        axes.axhline(dense["score"] - 1, color="#8a8f98", linestyle=":", linewidth=1)
    measure = f"{report['metric']}, %" if key == "score" else "output over error, dB"
    axes.set_title(f"{name(report)}, {dense['bytes'] / 1e6:.1f} MB: {measure}", fontsize=9, loc="left")
    axes.set_xlabel("bytes after brotli, part of the float file", fontsize=7)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    return drawn


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=HERE / "results")
    parser.add_argument("--into", type=Path, default=PAGES, help="a folder for pages and pictures")
    chosen = parser.parse_args(arguments)
    found = reports(chosen.folder)
    images = chosen.into / "images"
    images.mkdir(parents=True, exist_ok=True)
    (chosen.into / "GOALS.md").write_text(goals_page(found), encoding="utf-8")
    (chosen.into / "OPPONENTS.md").write_text(files_page(found), encoding="utf-8")
    draw(found, "score", images / "scores.png")
    draw(found, "error_db", images / "errors.png")


if __name__ == "__main__":
    main()
