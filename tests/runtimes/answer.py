"""Answers the job in a folder; run by another interpreter, which has only ONNX Runtime and NumPy.

Prints JSON as `wire.read_answers` reads it. Writes every model as the runtime optimised it: 0.onnx.optimized, ...
"""

from __future__ import annotations

import base64
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


def load(path: Path, optimized: Path | None = None) -> tuple[Any, float]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if optimized is not None:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(optimized)
    started = time.perf_counter()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session, 1000 * (time.perf_counter() - started)


def run_ms(session: Any, feeds: dict[str, Any]) -> float:
    times = []
    for _ in range(9):
        started = time.perf_counter()
        session.run(None, feeds)
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def encoded(values: Any) -> dict[str, Any]:
    data = base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
    return {"type": values.dtype.name, "shape": values.shape, "data": data}


def answer(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    feeds = {
        entry["name"]: np.fromfile(folder / entry["file"], entry["type"]).reshape(entry["shape"])
        for entry in job["inputs"]
    }
    session, load_ms = load(folder / job["model"])
    dense, dense_load_ms = load(folder / job["dense"])
    load(folder / job["model"], folder / (job["model"] + ".optimized"))
    names = [output.name for output in session.get_outputs()]
    outputs = {name: encoded(values) for name, values in zip(names, session.run(names, feeds))}  # noqa: B905
    return {
        "outputs": outputs,
        "load_ms": load_ms,
        "dense_load_ms": dense_load_ms,
        "run_ms": run_ms(session, feeds),
        "dense_run_ms": run_ms(dense, feeds),
    }


def main(folder: Path) -> None:
    jobs = json.loads((folder / "job.json").read_text())
    report = {"version": onnxruntime.__version__, "answers": [answer(folder, job) for job in jobs]}
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
