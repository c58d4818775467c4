"""Jobs for a runtime outside of this process, and its answers, as files."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.runtimes.compare import Outputs
from tests.runtimes.files import ModelFile


@dataclass(frozen=True, eq=False)
class Answer:
    """The answer to one file: outputs, milliseconds to load it and its plain twin, and to run each (median)."""

    outputs: Outputs
    load_ms: float
    dense_load_ms: float
    run_ms: float
    dense_run_ms: float


def write_job(folder: Path, files: Sequence[ModelFile]) -> None:
    """Write ``job.json``, and beside it every file, its plain twin, and its inputs as raw little-endian numbers."""
    jobs = []
    for index, file in enumerate(files):
        (folder / f"{index}.onnx").write_bytes(file.data)
        (folder / f"{index}.dense.onnx").write_bytes(file.dense)
        inputs = []
        for name, values in file.feeds.items():
            (folder / f"{index}.{name}").write_bytes(values.tobytes())
            inputs.append({"name": name, "type": values.dtype.name, "shape": values.shape, "file": f"{index}.{name}"})
        jobs.append({"model": f"{index}.onnx", "dense": f"{index}.dense.onnx", "inputs": inputs})
    (folder / "job.json").write_text(json.dumps(jobs))


def read_answers(text: str) -> tuple[str, list[Answer]]:
    """The runtime's version, and its answers in the order of the files."""
    report = json.loads(text)
    return report["version"], [
        Answer(**(answer | {"outputs": {name: _array(value) for name, value in answer["outputs"].items()}}))
        for answer in report["answers"]
    ]


def _array(value: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(value["data"]), value["type"]).reshape(value["shape"])
