"""One compression as a user would call it, and what is recorded of it."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import nn

import sws_compress as sws
from benchmarks.training.data import Batches, Rows, Splits
from benchmarks.training.floats import measured
from benchmarks.training.problems import Problem
from benchmarks.training.settings import Goal, Setting
from sws_compress.metric_sense import Sense
from sws_compress.report.result import CompressionResult
from sws_compress.train.progress import Progress

POINT = 0.01
"""Loss of the metric that must be said where none was allowed."""

CHANCE_SHARE = 0.25
"""Share of the way from chance to the float network below which a run has ended at chance."""

FILE_ROWS = 500
"""Rows that run through a file at once."""


def run(
    problem: Problem, splits: Splits, network: nn.Module, goal: Goal, setting: Setting, seed: int
) -> dict[str, Any]:
    """Compress a network once; what happened, as plain values."""
    before = {part: measured(network, problem, rows) for part, rows in _held_out(splits).items()}
    epochs: list[list[Progress]] = []
    request = sws.FineTuned(
        train=Batches(splits.training, problem.batch_size, problem.shift),
        loss=problem.loss,
        log=_by_epoch(epochs, len(splits.training.inputs) // problem.batch_size),
        **setting.request_arguments(problem),
    )
    if setting.length != 1:
        request = dataclasses.replace(request, epochs=round(setting.length * request.run_epochs))
    wall, cpu = time.perf_counter(), time.process_time()
    found: dict[str, Any] = {"before": before, "chance": problem.chance(splits.validation)}
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "small.onnx"
        try:
            result = sws.compress(
                network,
                output,
                request,
                evaluate=_metric(problem, splits.validation),
                mode=problem.mode,
                seed=seed,
                progress=False,
                **goal.arguments,
            )
        except Exception as error:  # a benchmark goes on with the next run, and shows what happened
            found |= {"error": f"{type(error).__name__}: {error}"}
        else:
            after = {part: _metric_of_file(output, problem, rows) for part, rows in _held_out(splits).items()}
            found |= {"after": after, **_described(result), **_judged(problem, splits, goal, result, before, after)}
    history = {"loss": _means(epochs, "loss"), "bytes": _last(epochs, "projected_bytes")}
    seconds = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    return {**found, **seconds, "epochs": len(epochs), "history": history}


def _held_out(splits: Splits) -> dict[str, Rows]:
    return {"validation": splits.validation, "test": splits.test}


def _metric(problem: Problem, rows: Rows) -> Callable[[nn.Module], float]:
    """The metric of validation rows, as ``compress`` takes it."""
    return lambda network: measured(network, problem, rows)


def _metric_of_file(path: Path, problem: Problem, rows: Rows) -> float:
    """The metric of a file, in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (name,) = (value.name for value in session.get_inputs())
    outputs = [session.run(None, {name: part.numpy()})[0] for part in rows.inputs.split(FILE_ROWS)]
    return problem.metric(torch.from_numpy(np.concatenate(outputs)), rows)


def _described(result: CompressionResult) -> dict[str, Any]:
    """Sizes, where the bytes are, and what the run says."""
    assert result.parts is not None
    return {
        "dense_bytes": result.dense_bytes,
        "file_bytes": result.file_bytes,
        "ratio": result.ratio,
        "parts": dataclasses.asdict(result.parts),
        "zeros": result.zeros,
        "all_zero": [row.name for row in result.tensors if row.zeros == 1],
        "notes": [*result.notes, *result.warnings],
    }


def _judged(
    problem: Problem,
    splits: Splits,
    goal: Goal,
    result: CompressionResult,
    before: dict[str, float],
    after: dict[str, float],
) -> dict[str, Any]:
    """Whether the run ended at chance, lost more than it was allowed, or lost a point without a word about it."""
    chance = problem.chance(splits.validation)
    lost = problem.better_by(before["validation"], after["validation"])
    at_chance = problem.better_by(after["validation"], chance) < CHANCE_SHARE * problem.better_by(
        before["validation"], chance
    )
    allowed = None
    if goal.argument == "max_drop":
        allowed = goal.value
    elif goal.argument is None:
        allowed = Sense(problem.mode).usual_drop(before["validation"])
    said = any("metric" in note for note in result.notes)
    return {
        "lost": lost,
        "allowed": allowed,
        "at_chance": at_chance,
        "lost_too_much": allowed is not None and lost > allowed + 1e-9,
        "silent": lost > POINT and not said and (allowed is None or lost > allowed),
    }


def _by_epoch(epochs: list[list[Progress]], steps: int) -> Callable[[Progress], None]:
    """A log that sorts rows into epochs."""

    def log(row: Progress) -> None:
        while len(epochs) <= (row.step - 1) // steps:
            epochs.append([])
        epochs[-1].append(row)

    return log


def _means(epochs: list[list[Progress]], name: str) -> list[float]:
    return [round(float(np.mean([getattr(row, name) for row in rows])), 4) for rows in epochs if rows]


def _last(epochs: list[list[Progress]], name: str) -> list[int | None]:
    return [getattr(rows[-1], name) for rows in epochs if rows]
