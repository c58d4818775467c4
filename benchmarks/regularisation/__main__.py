"""Training from scratch on few samples: the mixture prior against no penalty, early stopping, L1 and L2.

    python -m benchmarks.regularisation [--problems sunspots digits] [--output out/regularisation]

The script runs on one thread. It writes results.json method by method, then prints a table of everything in it and
draws regularisation.png. Problems of earlier runs are kept. Without names after ``--problems`` it only prints and
draws.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.environment import environment
from benchmarks.regularisation.experiment import Outcome, compare, mean_and_error
from benchmarks.regularisation.figure import draw
from benchmarks.regularisation.problems import Problem, digits, sunspots
from benchmarks.regularisation.settings import GRIDS
from benchmarks.regularisation.training import Recipe

SEEDS, FOLDS = 10, 3
SIZES = (50, 100, 200, 500)
SUNSPOTS, DIGITS = Recipe(steps=600), Recipe(steps=200)


def summary(values: tuple[float, ...]) -> dict[str, Any]:
    mean, error = mean_and_error(values)
    return {"mean": mean, "standard_error": error, "per_seed": list(values)}


def record(outcome: Outcome) -> dict[str, Any]:
    return {
        "method": outcome.method,
        "chosen": [asdict(setting) for setting in outcome.chosen],
        "validation": summary(outcome.validation) if outcome.validation else None,
        "scores": {name: summary(values) for name, values in outcome.scores.items()},
        "losses": {name: summary(values) for name, values in outcome.losses.items()},
    }


def table_of(name: str, outcomes: list[dict[str, Any]]) -> Table:
    unit = "average relative variance" if name == "sunspots" else "error in %"
    table = Table(title=f"{name}: {unit}, mean and standard error of {len(outcomes[0]['chosen'])} seeds")
    tests = list(outcomes[0]["scores"])
    for title in ("method", "validation", *tests, *(f"loss, {test}" for test in tests)):
        table.add_column(title, justify="left" if title == "method" else "right")
    for outcome in outcomes:
        cells = [outcome["validation"], *outcome["scores"].values(), *outcome["losses"].values()]
        table.add_row(outcome["method"], *("" if cell is None else _cell(cell) for cell in cells))
    return table


def _cell(result: dict[str, Any]) -> str:
    digits_shown = 3 if result["mean"] < 2 else 2
    return f"{result['mean']:.{digits_shown}f} ± {result['standard_error']:.{digits_shown}f}"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--problems", nargs="*", choices=("sunspots", "digits"), default=["sunspots", "digits"])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=SIZES, help="numbers of training samples for the digits"
    )
    parser.add_argument("--output", type=Path, default=Path("out/regularisation"))
    return parser.parse_args()


def store(path: Path, name: str, run: dict[str, Any], outcomes: list[dict[str, Any]]) -> None:
    """Store the outcomes so far in the JSON, and keep what other runs wrote there."""
    report = json.loads(path.read_text()) if path.exists() else {"results": {}, "problems": {}}
    report["results"][name] = outcomes
    report["problems"][name] = run
    report |= {
        "benchmark": "regularisation",
        "grids": {method: [asdict(setting) for setting in grid] for method, grid in GRIDS.items()},
        "threads": torch.get_num_threads(),
        "environment": environment(),
    }
    path.write_text(json.dumps(report, indent=1) + "\n")


def measure(problem: Problem, recipe: Recipe, path: Path) -> None:
    """Run all methods on one problem and store each outcome at once."""
    started = time.process_time()
    run = {"recipe": asdict(recipe), "folds": FOLDS, "seeds": list(range(len(problem.samples)))}
    outcomes = []
    for outcome in compare(problem, recipe, FOLDS):
        outcomes.append(record(outcome))
        store(path, problem.name, run | {"cpu_seconds": round(time.process_time() - started, 1)}, outcomes)


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(1)
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "results.json"
    if "sunspots" in arguments.problems:
        measure(sunspots(arguments.seeds, FOLDS), SUNSPOTS, path)
    for size in arguments.sizes if "digits" in arguments.problems else ():
        measure(digits(arguments.seeds, FOLDS, size), DIGITS, path)
    results = json.loads(path.read_text())["results"]
    console = Console(width=140)
    for name, outcomes in results.items():
        console.print(table_of(name, outcomes))
    draw(results, arguments.output / "regularisation.png")


if __name__ == "__main__":
    main()
