"""Write the tables of the README from the JSON; no number in them is typed.

    python -m benchmarks.training.table [FILE.json] [--readme README.md]

Tables stand between marks in the README, ``<!-- NAME -->`` and ``<!-- end -->``, and replace what was there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]

HERE = Path(__file__).parent
MARKED = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

HALF_A_POINT = 0.005
SIZE_TOLERANCE = 0.03
"""Relative difference up to which two files have the same bytes."""


def load(path: Path) -> list[Row]:
    """Rows in the order of networks, goals and seeds."""
    rows = json.loads(path.read_text())["rows"]
    return sorted(rows, key=lambda row: (row["network"], *_goal_order(row["goal"]), row["setting"], row["seed"]))


def _goal_order(goal: str) -> tuple[str, float]:
    argument, _, value = goal.partition("=")
    return {"ratio": "0", "max_drop": "1"}.get(argument, "2"), float(value or 0)


def markdown(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Table in Markdown, with a line end after every line."""
    rows = [headings, ["---"] * len(headings), *lines]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in rows)


def defaults(rows: Sequence[Row], argument: str) -> dict[tuple[str, str], list[Row]]:
    """Runs with the default settings by network and goal, all seeds of each."""
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row["setting"] == "defaults" and row["goal"].partition("=")[0] == argument:
            found[row["network"], row["goal"]].append(row)
    return found


def networks_table(rows: Sequence[Row]) -> str:
    """The float networks."""
    seen: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        seen[row["network"]].append(row)
    lines = []
    for name, of_network in seen.items():
        first = of_network[0]
        sizes = {row["dense_bytes"] for row in of_network if "dense_bytes" in row}
        lines.append(
            (
                name,
                first["task"],
                f"{first['weights']:,}",
                ", ".join(f"{size:,}" for size in sorted(sizes)),
                _points(of_network, "before", "validation"),
                _points(of_network, "before", "test"),
                f"{100 * first['chance']:.1f}",
            )
        )
    return markdown(("network", "task", "weights", "plain file", "validation", "test", "chance"), lines)


def ratios_table(rows: Sequence[Row]) -> str:
    """Runs to a size."""
    headings = (
        "network",
        "ratio asked",
        "reached",
        "validation",
        "test",
        "weights",
        "biases, norms",
        "graph",
        "seconds",
        "seeds",
        "not so good",
    )
    lines = []
    for (name, goal), group in defaults(rows, "ratio").items():
        lines.append((name, goal.partition("=")[2], *_outcome(group), *_costs(group), _complaints(group)))
    return markdown(headings, lines)


def drops_table(rows: Sequence[Row]) -> str:
    """Runs to a loss of the metric, beside what runs to a size need for the same metric."""
    curves = _curves(rows)
    headings = (
        "network",
        "allowed",
        "ratio",
        "validation",
        "test",
        "allowance used",
        "bytes beside `ratio`",
        "seeds",
        "not so good",
    )
    lines = []
    for argument in ("max_drop", "none"):
        for (name, goal), group in defaults(rows, argument).items():
            done = [row for row in group if "error" not in row]
            allowed = goal.partition("=")[2] or "no goal"
            used = _mean(row["lost"] / row["allowed"] for row in done if row["allowed"])
            beside = _mean(row["file_bytes"] / bytes_at(curves, row) for row in done if bytes_at(curves, row))
            cells = ("" if math.isnan(used) else f"{100 * used:.0f} %", "" if math.isnan(beside) else f"{beside:.2f}")
            lines.append((name, allowed, *_outcome(group), *cells, str(len(group)), _complaints(group)))
    return markdown(headings, lines)


def tuned_table(rows: Sequence[Row]) -> str:
    """The defaults beside the best of the settings by hand, chosen on validation among files that are no larger."""
    tuned: dict[tuple[str, str, int], list[Row]] = defaultdict(list)
    for row in rows:
        if row["setting"] != "defaults" and "error" not in row:
            tuned[row["network"], row["goal"], row["seed"]].append(row)
    lines = []
    for row in rows:
        others = tuned.get((row["network"], row["goal"], row["seed"]), [])
        if row["setting"] != "defaults" or "error" in row or not others:
            continue
        fair = [other for other in others if other["file_bytes"] <= (1 + SIZE_TOLERANCE) * row["file_bytes"]]
        if not fair:
            continue
        best = min(fair, key=lambda other: other["lost"])
        behind = _test_loss(row) - _test_loss(best)
        lines.append(
            (
                row["network"],
                row["goal"].partition("=")[2],
                str(row["seed"]),
                f"{row['file_bytes']:,}",
                f"{100 * row['after']['test']:.2f}",
                best["setting"],
                f"{len(fair)} of {len(others)}",
                f"{best['file_bytes']:,}",
                f"{100 * best['after']['test']:.2f}",
                f"{100 * behind:+.2f}",
                "yes" if behind <= HALF_A_POINT else "no",
            )
        )
    headings = (
        "network",
        "ratio",
        "seed",
        "bytes",
        "test",
        "best by hand",
        "no larger",
        "its bytes",
        "its test",
        "behind",
        "within 0.5",
    )
    return markdown(headings, lines)


def goals_table(rows: Sequence[Row]) -> str:
    """The goals, counted over all runs with the default settings."""
    whole = [row for row in rows if row["setting"] == "defaults"]
    done = [row for row in whole if "error" not in row]
    sized = [row for row in done if row["goal"].startswith("ratio")]
    bound = [row for row in done if row["allowed"] is not None]
    wanted = [float(row["goal"].partition("=")[2]) for row in sized]
    reached = sum(abs(row["ratio"] / ratio - 1) <= SIZE_TOLERANCE for row, ratio in zip(sized, wanted, strict=True))
    lines = [
        ("runs that end in an error", f"{len(whole) - len(done)} of {len(whole)}"),
        ("runs that end at chance", f"{sum(row['at_chance'] for row in done)} of {len(done)}"),
        ("runs that lose more than they were allowed", f"{sum(row['lost_too_much'] for row in bound)} of {len(bound)}"),
        ("runs that lose a point or more without a word", f"{sum(row['silent'] for row in done)} of {len(done)}"),
        ("runs within 3 % of the size asked for", f"{reached} of {len(sized)}"),
    ]  # fmt: skip
    return markdown(("with the defaults", "runs"), lines)


def bytes_at(curves: dict[tuple[str, int], list[tuple[float, int]]], row: Row) -> float | None:
    """Bytes that runs to a size need for the loss of ``row``: between two of them, log-linear; None outside."""
    curve = curves.get((row["network"], row["seed"]), [])
    for (lost, size), (more_lost, smaller) in itertools.pairwise(curve):
        if lost <= row["lost"] <= more_lost and more_lost > lost:
            share = (row["lost"] - lost) / (more_lost - lost)
            return math.exp((1 - share) * math.log(size) + share * math.log(smaller))
    return None


def _curves(rows: Sequence[Row]) -> dict[tuple[str, int], list[tuple[float, int]]]:
    """Losses and bytes of runs to a size, those alone that no smaller file beats, by network and seed."""
    found: dict[tuple[str, int], list[tuple[float, int]]] = defaultdict(list)
    sized = [row for group in defaults(rows, "ratio").values() for row in group if "error" not in row]
    for row in sorted(sized, key=lambda row: row["file_bytes"]):
        points = found[row["network"], row["seed"]]
        if not points or row["lost"] < points[0][0]:
            points.insert(0, (row["lost"], row["file_bytes"]))
    return found


def _test_loss(row: Row) -> float:
    """What the metric lost on the test."""
    return (row["after"]["test"] - row["before"]["test"]) * (1 if row["mode"] == "min" else -1)


def _outcome(group: Sequence[Row]) -> tuple[str, str, str]:
    done = [row for row in group if "error" not in row]
    if not done:
        return "", "", ""
    return f"{_mean(row['ratio'] for row in done):.1f}", _change(done, "validation"), _change(done, "test")


def _change(rows: Sequence[Row], part: str) -> str:
    return f"{_points(rows, 'before', part)} → {_points(rows, 'after', part)}"


def _points(rows: Sequence[Row], when: str, part: str) -> str:
    return f"{100 * _mean(row[when][part] for row in rows if when in row):.1f}"


def _costs(group: Sequence[Row]) -> tuple[str, ...]:
    """Where the bytes are, seconds, and the number of seeds."""
    done = [row for row in group if "error" not in row]
    weights, vectors, graph = (
        f"{100 * _mean(sum(row['parts'][name] for name in names) / row['file_bytes'] for row in done):.0f} %"
        if done
        else ""
        for names in (("weight_bytes", "codebook_bytes", "dense_bytes"), ("vector_bytes",), ("graph_bytes",))
    )
    return weights, vectors, graph, f"{_mean(row['cpu_seconds'] for row in group):.0f}", str(len(group))


def _complaints(group: Sequence[Row]) -> str:
    """What went wrong in how many seeds."""
    words: dict[str, Callable[[Row], bool]] = {
        "refused": lambda row: "error" in row,
        "at chance": lambda row: row.get("at_chance", False),
        "lost too much": lambda row: row.get("lost_too_much", False),
        "silent": lambda row: row.get("silent", False),
    }
    counted = {word: sum(map(test, group)) for word, test in words.items()}
    return ", ".join(f"{word} ({count})" if len(group) > 1 else word for word, count in counted.items() if count)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return statistics.fmean(found) if found else math.nan


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    "goals": goals_table,
    "networks": networks_table,
    "ratios": ratios_table,
    "drops": drops_table,
    "tuned": tuned_table,
}


def rendered(text: str, rows: Sequence[Row]) -> str:
    """The text of a README with all tables in it made anew."""
    return MARKED.sub(lambda found: f"{found[1]}{TABLES[found[2]](rows)}{found[3]}", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", nargs="?", type=Path, default=HERE / "results.json")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    arguments = parser.parse_args()
    arguments.readme.write_text(rendered(arguments.readme.read_text(), load(arguments.file)))


if __name__ == "__main__":
    main()
