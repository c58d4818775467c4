"""Clustering of real models against other starts: squared error, and whether a better clustering scores better.

    python -m benchmarks.models.quality --data FOLDER [--only NAME ...] [--scores]

Every weight of at least 1,024 elements is clustered by this package and by k-means from other starts, run until nothing
moves: means evenly spaced over the range, means at even quantiles, and greedy splitting of the cluster with the largest
error. `ckwrap` gives the optimum on the exact values, up to 100,000 of them. For each model the script prints the mean
and the worst ratio of the squared error to that optimum (above 100,000 values, to the best clustering found). With
``--scores`` it also prints the score of the model. Writes ``quality.json``.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ckwrap
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from benchmarks.environment import environment
from benchmarks.models.measure import session
from benchmarks.models.places import add_arguments
from benchmarks.models.tasks import task_of
from sws_compress.onnx_io.analyse.weights import find_weights
from sws_compress.onnx_io.read.model import read_model
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.quantize.cluster import cluster

Array = npt.NDArray[np.float64]
EXACT_UP_TO = 100_000
MAX_ITERATIONS = 10_000


class Sorted:
    """Ascending values of a tensor with running sums, so that a Lloyd step costs k searches."""

    def __init__(self, values: npt.NDArray[Any]) -> None:
        self.values = np.sort(values.reshape(-1)).astype(np.float64)
        self.centre = self.values.mean()
        self.sums = np.append(0.0, np.cumsum(self.values - self.centre))

    def means(self, cuts: npt.NDArray[np.intp]) -> Array:
        """Means of the parts between ascending ``cuts``, without the empty ones."""
        cuts = np.unique(np.concatenate([[0], cuts, [len(self.values)]]))
        means: Array = np.diff(self.sums[cuts]) / np.diff(cuts) + self.centre
        return means

    def converged(self, means: Array) -> Array:
        for _ in range(MAX_ITERATIONS):
            better = self.means(np.searchsorted(self.values, (means[1:] + means[:-1]) / 2))
            if np.array_equal(better, means):
                break
            means = better
        return means


def even(data: Sorted, k: int) -> Array:
    return data.converged(np.linspace(data.values[0], data.values[-1], k))


def quantiles(data: Sorted, k: int) -> Array:
    return data.converged(np.unique(np.quantile(data.values, (np.arange(k) + 0.5) / k)))


def splitting(data: Sorted, k: int) -> Array:
    """Cut the part with the largest squared error at its mean until there are k parts (Linde, Buzo & Gray 1980)."""
    parts = [(0, len(data.values))]
    errors = [float(((data.values - data.centre) ** 2).sum())]
    while len(parts) < k and max(errors) > 0:
        worst = int(np.argmax(errors))
        first, last = parts.pop(worst)
        errors.pop(worst)
        values = data.values[first:last]
        cut = first + int(np.searchsorted(values, values.mean()))
        for part in ((first, cut), (cut, last)):
            values = data.values[slice(*part)]
            parts.append(part)
            errors.append(float(((values - values.mean()) ** 2).sum()))
    return data.converged(data.means(np.array(sorted(part[0] for part in parts), np.intp)))


def optimum(data: Sorted, k: int) -> Array:
    labels = np.asarray(ckwrap.ckmeans(data.values, k).labels)
    return data.means(np.flatnonzero(np.diff(labels)) + 1)


STARTS: dict[str, Callable[[Sorted, int], Array]] = {"even": even, "quantiles": quantiles, "splitting": splitting}


def nearest(values: npt.NDArray[np.float32], means: Array) -> npt.NDArray[np.float32]:
    return means[np.searchsorted((means[1:] + means[:-1]) / 2, values)].astype(np.float32)


def clusterings(values: npt.NDArray[np.float32], k: int) -> dict[str, npt.NDArray[np.float32]]:
    """The clustered tensor of each method."""
    data = Sorted(values)
    found = {"sws": cluster(values, k, seed=0).palette.expand()}
    if values.size <= EXACT_UP_TO:
        found["optimum"] = nearest(values, optimum(data, k))
    return found | {name: nearest(values, start(data, k)) for name, start in STARTS.items()}


def squared_error(values: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    return float(((values.astype(np.float64) - other) ** 2).sum())


def examine(path: Path, k: int, task: Any) -> list[dict[str, Any]]:
    """One row per method. A tensor without an optimum is compared with the best clustering found."""
    model = read_model(path)
    weights = [weight for weight in find_weights(model) if weight.values.dtype == np.float32]
    made = {weight.name: clusterings(weight.values, k) for weight in weights}
    rows = []
    for method in ("sws", "optimum", *STARTS):
        ratios = []
        for weight in weights:
            errors = {name: squared_error(weight.values, other) for name, other in made[weight.name].items()}
            least = errors.get("optimum", min(errors.values()))
            if method in errors and least > 0:
                ratios.append(errors[method] / least)
        if not ratios:
            continue
        row = {"model": path.stem, "components": k, "method": method, "tensors": len(ratios)}
        row |= {"mean_ratio": float(np.mean(ratios)), "worst_ratio": float(np.max(ratios))}
        if task is not None and task.score:
            for weight in weights:
                values = made[weight.name].get(method, made[weight.name]["sws"])
                model.graph.initializers[weight.name].const_value = ir.tensor(values, name=weight.name)
            row["score_percent"] = task.score(task.answers(session(to_bytes(model))))
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="only these models")
    parser.add_argument("--scores", action="store_true", help="score the models, too")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| model | K | method | mean ratio | worst ratio | score % |\n|---|---|---|---|---|---|")
    rows = []
    for path in sorted(arguments.folder.glob("*.onnx")):
        if arguments.only and path.stem not in arguments.only:
            continue
        task = task_of(path.stem, arguments.data, arguments.folder) if arguments.scores else None
        for k in (16, 256):
            for row in examine(path, k, task):
                rows.append(row)
                score = f"{row['score_percent']:.2f}" if "score_percent" in row else ""
                ratios = f"{row['mean_ratio']:.5f} | {row['worst_ratio']:.5f}"
                print(f"| {row['model']} | {k} | {row['method']} | {ratios} | {score} |", flush=True)
        report = {"environment": environment(), "rows": rows}
        (arguments.folder / "quality.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
