"""The pull against autograd through the log-sum-exp over all components, and against one fused Adam step.

    python -m benchmarks.micro.pull [--output out/micro/pull.json]

Each is one step on the same float32 weights under the same mixture. The second table compares pull and Adam in pairs:
one right after the other, many times, and the median of the ratios. It is processor time with one thread, which other
programs disturb less, and elapsed time with more. Autograd holds arrays of weights times components, so it runs on
fewer weights and its time is scaled linearly. The largest array is the largest tensor that a step makes besides its
arguments, or the peak of its NumPy arrays if that is more.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.environment import environment
from benchmarks.micro.em import best_seconds, lopsided_weights
from sws_compress import threads
from sws_compress.mixture.histogram import weight_histogram, weight_range
from sws_compress.mixture.majoriser import PullTable, pull_table
from sws_compress.mixture.mixture import Mixture
from sws_compress.quantize.initial import even_mixture
from sws_compress.train.device_pull import pull_, pull_on_device
from sws_compress.train.optimizers import Metric, metric_of

WEIGHTS = 5_000_000
AUTOGRAD_WEIGHTS = 500_000
COMPONENTS = 16
STRENGTH = 1e-6
PAIRED_WEIGHTS = (100_000, 1_000_000, 10_000_000)
PAIRS = 25
REPEATS = 9
GOAL_ADAM_STEPS = 1.0
"""Goal: time of a pull, in fused Adam steps."""


def negative_log_prior(weights: torch.Tensor, mixture: Mixture) -> torch.Tensor:
    """-sum_i log sum_k pi_k N(w_i; mu_k, sigma_k^2), up to constants, in the form that suits autograd."""
    pi, mean, variance = (
        torch.from_numpy(np.array(a)).float() for a in (mixture.weights, mixture.means, mixture.variances)
    )
    log_joint = pi.log() - 0.5 * variance.log() - (weights[:, None] - mean) ** 2 / (2 * variance)
    return -torch.logsumexp(log_joint, 1).sum()


def autograd_step(weights: torch.Tensor, mixture: Mixture) -> None:
    weights.grad = None
    negative_log_prior(weights, mixture).backward()


class LargestTensor(TorchDispatchMode):
    """Record the bytes of the largest tensor that any torch operation makes."""

    nbytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        for tensor in results if isinstance(results, tuple | list) else (results,):
            if isinstance(tensor, torch.Tensor) and tensor.data_ptr() not in self.known:
                self.nbytes = max(self.nbytes, tensor.nbytes)
        return results

    def __init__(self, known: set[int]) -> None:
        super().__init__()
        self.known = known  # addresses of the arguments, which in-place operations return


def largest_bytes(step: Callable[[], object], known: set[int]) -> int:
    """Bytes of the largest tensor that ``step`` makes, or the peak of its NumPy arrays if that is more."""
    tracemalloc.start()
    with LargestTensor(known) as seen:
        step()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return max(peak, seen.nbytes)


def interleaved_seconds(steps: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Best seconds of ``REPEATS`` runs of each step, in turns, so that a disturbance of the machine affects all."""
    seconds = dict.fromkeys(steps, math.inf)
    for _ in range(REPEATS):
        for name, step in steps.items():
            seconds[name] = min(seconds[name], best_seconds(step, repeats=3))
    return seconds


@dataclass(frozen=True)
class Setting:
    """A parameter with its optimiser after one step, and a mixture of its weights."""

    mixture: Mixture
    table: PullTable
    parameter: torch.nn.Parameter
    adam: torch.optim.Adam

    @classmethod
    def of(cls, weights: int, seed: int) -> Setting:
        values = lopsided_weights(weights, seed)
        low, high = weight_range(values)
        data = weight_histogram(values, low=low, high=high)
        mixture = even_mixture(data, COMPONENTS, variance=(0.1 * float(values.std())) ** 2)
        parameter = torch.nn.Parameter(torch.from_numpy(values))
        parameter.grad = torch.randn(weights, generator=torch.Generator().manual_seed(seed)) * 1e-3
        adam = torch.optim.Adam([parameter], lr=1e-6, fused=True)
        adam.step()
        return cls(mixture, pull_table(mixture, low=low, high=high), parameter, adam)

    def metric(self) -> Metric:
        metric = metric_of(self.adam, self.adam.param_groups[0], self.parameter)
        assert metric is not None
        return metric

    def pull(self) -> None:
        """What a training step calls, with the metric of its optimiser."""
        pull_(self.parameter.data, self.metric(), self.table, STRENGTH)


def set_threads(count: int) -> None:
    """Threads of torch and of our own loops."""
    torch.set_num_threads(count)
    threads.MAX_THREADS = count


def paired(weights: int, count: int, seed: int) -> dict[str, float]:
    """Median milliseconds of an Adam step and of the pull after it, and the median of their ratios."""
    set_threads(count)
    setting = Setting.of(weights, seed)
    clock = time.process_time if count == 1 else time.perf_counter
    in_a_row = max(1, PAIRED_WEIGHTS[1] // weights)
    found = []
    for _ in range(PAIRS + 1):
        ends = [clock()]
        for step in (setting.adam.step, setting.pull):
            for _ in range(in_a_row):
                step()
            ends.append(clock())
        found.append((ends[1] - ends[0], ends[2] - ends[1]))
    found = found[1:]  # the first compiles
    return {
        "weights": weights,
        "threads": count,
        "adam_ms": 1e3 * statistics.median(adam for adam, _ in found) / in_a_row,
        "pull_ms": 1e3 * statistics.median(pull for _, pull in found) / in_a_row,
        "per_adam_step": statistics.median(pull / adam for adam, pull in found),
    }


def measure(seed: int) -> dict[str, object]:
    cores = os.cpu_count() or 1
    pairs = [paired(weights, count, seed) for count in sorted({1, min(2, cores)}) for weights in PAIRED_WEIGHTS]
    set_threads(cores)
    setting = Setting.of(WEIGHTS, seed)
    parameter, adam = setting.parameter, setting.adam
    few = parameter.detach()[:AUTOGRAD_WEIGHTS].clone().requires_grad_()

    steps: dict[str, Callable[[], object]] = {
        "autograd": lambda: autograd_step(few, setting.mixture),
        "fused_adam": adam.step,
        "pull": setting.pull,
        "pull_on_device": lambda: pull_on_device(parameter.data, setting.metric(), setting.table, STRENGTH),
    }
    counts = {name: AUTOGRAD_WEIGHTS if name == "autograd" else WEIGHTS for name in steps}
    for step in steps.values():
        step()  # compile, allocate
    seconds = {name: best_seconds(steps[name], repeats=3) for name in ("autograd", "pull_on_device")}
    seconds |= interleaved_seconds({name: steps[name] for name in ("fused_adam", "pull")})
    arguments = [few, parameter, *adam.state[parameter].values()]
    known = {tensor.data_ptr() for tensor in arguments}
    results = {
        name: {
            "weights": counts[name],
            "seconds": seconds[name],
            "seconds_scaled_linearly": seconds[name] * WEIGHTS / counts[name],
            "largest_array_bytes_per_weight": largest_bytes(step, known) / counts[name],
        }
        for name, step in steps.items()
    }
    for result in results.values():
        result["per_adam_step"] = result["seconds_scaled_linearly"] / results["fused_adam"]["seconds"]
    return {
        "benchmark": "pull",
        "seed": seed,
        "weights": WEIGHTS,
        "components": COMPONENTS,
        "threads": torch.get_num_threads(),
        "steps": results,
        "pairs": pairs,
        "goal_per_adam_step": GOAL_ADAM_STEPS,
        "environment": environment(),
    }


def table_of(result: dict) -> Table:
    titles = {
        "autograd": "autograd, log-sum-exp",
        "fused_adam": "fused Adam",
        "pull": "pull, compiled",
        "pull_on_device": "pull, torch operations",
    }
    table = Table(
        title=f"One step on {WEIGHTS:,} float32 weights, {COMPONENTS} components, {result['threads']} threads"
    )
    table.add_column("step")
    for title in ("ms", "in Adam steps", "largest array,\nbytes per weight"):
        table.add_column(title, justify="right")
    for name, step in result["steps"].items():
        table.add_row(
            titles[name],
            f"{step['seconds_scaled_linearly'] * 1e3:,.1f}",
            f"{step['per_adam_step']:.2f}",
            f"{step['largest_array_bytes_per_weight']:.1f}",
        )
    return table


def table_of_pairs(result: dict) -> Table:
    table = Table(title=f"Pull and fused Adam in pairs; goal: at most {result['goal_per_adam_step']} Adam steps")
    for title in ("weights", "threads", "Adam, ms", "pull, ms", "in Adam steps"):
        table.add_column(title, justify="right")
    for pair in result["pairs"]:
        times = (f"{pair['adam_ms']:.3f}", f"{pair['pull_ms']:.3f}", f"{pair['per_adam_step']:.2f}")
        table.add_row(f"{pair['weights']:,}", str(pair["threads"]), *times)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="The pull against autograd and a fused Adam step.")
    parser.add_argument("--output", type=Path, default=Path("out/micro/pull.json"), help="JSON file")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights")
    arguments = parser.parse_args()
    result = measure(arguments.seed)
    Console().print(table_of(result))
    Console().print(table_of_pairs(result))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
