"""Figure of the results: digits by training samples, sunspots by test period."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

STYLES = {
    "none": ("#8a8f98", "o"),
    "early stopping": ("#b08900", "v"),
    "L1": ("#1d4ed8", "s"),
    "L2": ("#0f766e", "D"),
    "mixture": ("#c2410c", "^"),
    "mixture by gradients": ("#7c3aed", "x"),
}


def draw(results: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw ``results``, laid out as in the JSON (scores by problem, method and test set), to ``path`` (PNG)."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    sizes = {name: int(name.rpartition(" ")[2]) for name in results if name.startswith("digits")}
    _lines(left, [str(size) for size in sizes.values()], [(results[name], "test") for name in sizes])
    left.set(xlabel="training samples", ylabel="test error, %", yscale="log")
    left.set_title("digits", fontsize=10, loc="left")
    left.set_yticks([3, 5, 10, 20, 30], ["3", "5", "10", "20", "30"], minor=False)
    left.minorticks_off()
    periods = list(results["sunspots"][0]["scores"]) if "sunspots" in results else []
    _lines(right, periods, [(results["sunspots"], period) for period in periods])
    right.set(xlabel="test years", ylabel="average relative variance", yscale="log")
    right.set_title("sunspots", fontsize=10, loc="left")
    right.set_yticks([0.1, 0.2, 0.5, 1.0], ["0.1", "0.2", "0.5", "1"], minor=False)
    right.minorticks_off()
    (right if periods else left).legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _lines(axes: Axes, labels: list[str], places: list[tuple[list[dict[str, Any]], str]]) -> None:
    """Draw one group of points per label: mean and standard error of each method, side by side."""
    for shift, (method, (colour, marker)) in enumerate(STYLES.items()):
        points = []
        for x, (outcomes, test) in enumerate(places):
            points += [(x + 0.08 * (shift - 2.5), o["scores"][test]) for o in outcomes if o["method"] == method]
        if points:
            where = [x for x, _ in points]
            means, errors = ([score[key] for _, score in points] for key in ("mean", "standard_error"))
            axes.errorbar(where, means, errors, color=colour, marker=marker, linestyle="", markersize=5, label=method)
    axes.set_xticks(range(len(labels)), labels)
