"""Every method on one problem: settings by cross-validation within each training sample, then one test."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from benchmarks.regularisation.problems import Problem
from benchmarks.regularisation.settings import GRIDS, Setting
from benchmarks.regularisation.training import Recipe, cross_validation, scores_on_tests


@dataclass(frozen=True)
class Outcome:
    """Results of one method.

    ``chosen`` and ``validation`` have one entry per seed; ``scores`` and ``losses`` have one per seed for each test
    set. Scores are in the reported unit of the problem. Losses are in nats, or half squared deviations of the training
    years.
    """

    method: str
    chosen: tuple[Setting, ...]
    validation: tuple[float, ...]
    scores: dict[str, tuple[float, ...]]
    losses: dict[str, tuple[float, ...]]


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error of the mean."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return statistics.fmean(values), error


def choose(results: dict[Setting, torch.Tensor]) -> tuple[Setting, ...]:
    """Setting with the least (score, loss) for every seed; ``results`` has (seeds, 2) per setting."""
    seeds = len(next(iter(results.values())))
    return tuple(min(results, key=lambda setting: tuple(results[setting][seed].tolist())) for seed in range(seeds))


def final(problem: Problem, recipe: Recipe, chosen: Sequence[Setting]) -> dict[str, torch.Tensor]:
    """Train the chosen settings on whole samples; returns scores and losses (seeds, 2) of each test set."""
    groups: dict[Setting, list[int]] = defaultdict(list)
    for seed, setting in enumerate(chosen):
        groups[setting].append(seed)
    result = {name: torch.empty(len(chosen), 2) for name in problem.tests}
    for setting, seeds in groups.items():
        for name, values in scores_on_tests(problem, setting, recipe, seeds).items():
            result[name][seeds] = values
    return result


def outcome(
    problem: Problem, recipe: Recipe, method: str, chosen: Sequence[Setting], validation: Sequence[float]
) -> Outcome:
    measured = final(problem, recipe, chosen)
    return Outcome(
        method,
        tuple(chosen),
        tuple(problem.score_unit * value for value in validation),
        {name: tuple((problem.score_unit * values[:, 0]).tolist()) for name, values in measured.items()},
        {name: tuple(values[:, 1].tolist()) for name, values in measured.items()},
    )


def compare(
    problem: Problem, recipe: Recipe, folds: int, grids: dict[str, tuple[Setting, ...]] = GRIDS
) -> Iterator[Outcome]:
    """Yield the outcome of every method."""
    for method, grid in grids.items():
        results = {setting: cross_validation(problem, setting, recipe, folds) for setting in grid}
        chosen = choose(results)
        yield outcome(problem, recipe, method, chosen, [float(results[s][i, 0]) for i, s in enumerate(chosen)])
