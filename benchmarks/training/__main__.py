"""Ten small networks compressed with the defaults: sizes, metrics, and what the tool says about them.

    python -m benchmarks.training [NETWORK ..] [--ratios 5 10 20 50] [--seeds 0 1 2] [--drops 0.01] [--no-goal]
                                  [--settings default|tuned] [--data DIR] [--output FILE.json]

The script runs on one thread. It writes every run at once, and makes none again that is in the file, by the same code
from the same float network. Networks whose data are not in DIR are left out. ``python -m benchmarks.training.table``
writes the tables of the README from the file.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.training.data import Splits
from benchmarks.training.floats import float_net
from benchmarks.training.measure import run
from benchmarks.training.problems import PROBLEMS, Problem
from benchmarks.training.results import Results, code_digest
from benchmarks.training.settings import DEFAULTS, TUNED, Goal, Setting

RATIOS, SEEDS = (5.0, 10.0, 20.0, 50.0), (0, 1, 2)
FLOATS = Path("out/training/floats")


@dataclass(frozen=True)
class Plan:
    """What is run of every network: goals, settings and seeds, seed by seed."""

    goals: Sequence[Goal]
    settings: Sequence[Setting]
    seeds: Sequence[int]


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"by default all: {', '.join(PROBLEMS)}")
    parser.add_argument("--ratios", type=float, nargs="*", default=RATIOS)
    parser.add_argument("--drops", type=float, nargs="*", default=(), help="losses for max_drop, as shares: 0.01")
    parser.add_argument("--no-goal", action="store_true", help="also a run without any goal")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--settings", choices=("default", "tuned"), default="default")
    folder = os.environ.get("SWS_DATA_DIR")
    parser.add_argument("--data", type=Path, default=folder, help="folder of data; SWS_DATA_DIR names it as well")
    parser.add_argument("--output", type=Path, default=Path("out/training/results.json"))
    parsed = parser.parse_args(arguments)
    for name in parsed.networks:
        if name not in PROBLEMS:
            parser.error(f"NETWORK must be one of {', '.join(PROBLEMS)}, got {name}")
    return parsed


def plan_of(arguments: argparse.Namespace) -> Plan:
    goals = [Goal("ratio", ratio) for ratio in arguments.ratios]
    goals += [Goal("max_drop", drop) for drop in arguments.drops]
    goals += [Goal()] * arguments.no_goal
    return Plan(goals, TUNED if arguments.settings == "tuned" else (DEFAULTS,), arguments.seeds)


def measure(name: str, splits: Splits, seed: int, plan: Plan, results: Results, code: str) -> Iterator[dict[str, Any]]:
    """Make the runs of one network and seed that are not in the results."""
    problem = PROBLEMS[name]
    trained = float_net(problem, splits, seed, FLOATS)
    for goal in plan.goals:
        for setting in plan.settings:
            identity = {"network": name, "goal": goal.name, "setting": setting.name, "seed": seed}
            identity |= {"code": code, "float": trained.key}
            if not results.has(identity):
                found = run(problem, splits, trained.network, goal, setting, seed)
                row = {
                    **identity,
                    "task": problem.task,
                    "mode": problem.mode,
                    "float_seconds": trained.seconds,
                    **found,
                }
                row["weights"] = sum(parameter.numel() for parameter in trained.network.parameters())
                results.add(row)
                yield row


def line_of(row: dict[str, Any]) -> str:
    """One row for the terminal."""
    start = f"{row['network']:14} {row['goal']:13} {row['setting']:10} seed {row['seed']}  "
    if "error" in row:
        return start + row["error"]
    words = {"at_chance": "AT CHANCE", "lost_too_much": "LOST TOO MUCH", "silent": "SILENT"}
    flags = "  ".join(word for flag, word in words.items() if row[flag])
    metrics = "  ".join(
        f"{part} {100 * row['before'][part]:.1f} -> {100 * row['after'][part]:.1f}" for part in ("validation", "test")
    )
    return f"{start}{row['ratio']:5.1f}x  {metrics}  {row['seconds']:.0f} s  {flags}"


def available(problem: Problem, folder: Path | None) -> bool:
    return problem.file is None or (folder is not None and (folder / problem.file).exists())


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(1)
    plan, results, code = plan_of(arguments), Results(arguments.output), code_digest()
    for seed in plan.seeds:
        for name in arguments.networks or PROBLEMS:
            problem = PROBLEMS[name]
            if not available(problem, arguments.data):
                print(f"{name:14} left out: {problem.file} is not in the folder of --data")
                continue
            splits = problem.splits(arguments.data)
            for row in measure(name, splits, seed, plan, results, code):
                print(line_of(row), flush=True)


if __name__ == "__main__":
    main()
