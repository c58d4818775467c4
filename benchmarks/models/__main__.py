"""Real models compressed without data: dense, ONNX Runtime's int8, and this package at 16 and 256 components.

    python -m benchmarks.models.train --data FOLDER
    python -m benchmarks.models.collect --data FOLDER
    python -m benchmarks.models --data FOLDER [--only NAME ...]

Bytes are those of the file. The score, in percent, is defined in `tasks`. The error is the distance of the answers from
those of the dense model, in percent of their norm. Loading is measured in its own process, as the least of three.
Latency is measured in turns with the dense model, as the median of the ratios. Everything runs on one thread. Prints
the table and writes ``models.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environment import environment
from benchmarks.models.measure import session
from benchmarks.models.places import add_arguments
from benchmarks.models.tasks import Array, Task, task_of

LOADS = 3
HEADER = ("model", "variant", "bytes", "ratio", "score %", "error %", "load s", "load MB", "latency")


def int8(dense: Path, target: Path, _: Task) -> None:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(dense, target)


def clustered(components: int) -> Callable[[Path, Path, Task], None]:
    def make(dense: Path, target: Path, task: Task) -> None:
        from sws_compress.api import compress
        from sws_compress.requests import WeightsOnly

        compress(dense, target, WeightsOnly(components=components), example_inputs=task.latency_feeds)

    return make


VARIANTS: dict[str, Callable[[Path, Path, Task], None]] = {
    "onnxruntime int8": int8,
    "K = 16": clustered(16),
    "K = 256": clustered(256),
}


def measured(what: str, *arguments: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.models.measure", what, *map(str, arguments)]
    result: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result


def loading(path: Path) -> dict[str, float]:
    runs = [measured("load", path) for _ in range(LOADS)]
    return {key: min(run[key] for run in runs) for key in runs[0]}


def scored(task: Task, answers: list[Array], reference: list[Array]) -> dict[str, float]:
    flat, dense = (
        np.concatenate([part.ravel() for part in parts]).astype(np.float64) for parts in (answers, reference)
    )
    return {
        "score_percent": task.percent(answers, reference),
        "error_percent": 100 * float(np.linalg.norm(flat - dense) / np.linalg.norm(dense)),
    }


def rows_of(dense: Path, data: Path, folder: Path, *, timed: bool, reuse: bool) -> list[dict[str, Any]]:
    """One row per variant of a model. A variant that cannot be made or run has the reason in its row."""
    task = task_of(dense.stem, data, folder)
    reference = task.answers(session(str(dense)))
    rows = []
    for name, make in {"dense": None, **VARIANTS}.items():
        row: dict[str, Any] = {"model": dense.stem, "variant": name, "metric": task.metric}
        path = dense if make is None else folder / "made" / f"{dense.stem}.{name.replace(' ', '')}.onnx"
        try:
            if make is not None and not (reuse and path.exists()):
                path.parent.mkdir(exist_ok=True)
                make(dense, path, task)
            row["file_bytes"] = path.stat().st_size
            row["ratio"] = dense.stat().st_size / path.stat().st_size
            row |= scored(task, task.answers(session(str(path))), reference)
            if timed:
                row |= loading(path) | latency(dense, path, task)
        except Exception as error:  # a failure of another tool is a result
            row["failure"] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        rows.append(row)
        print(line(row), flush=True)
    return rows


def latency(dense: Path, other: Path, task: Task) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        feeds = Path(folder) / "feeds.npz"
        np.savez(feeds, **task.latency_feeds)  # type: ignore[arg-type]
        return measured("latency", dense, other, feeds)


def line(row: dict[str, Any]) -> str:
    start = f"| {row['model']} | {row['variant']} |"
    if "score_percent" not in row:
        return f"{start} {row['failure']} |" + " |" * (len(HEADER) - 3)
    cells = [
        f"{row['file_bytes']:,}",
        f"{row['ratio']:.2f}",
        f"{row['score_percent']:.2f}",
        f"{row['error_percent']:.2f}",
    ]
    if "load_seconds" in row:
        cells += [f"{row['load_seconds']:.3f}", f"{row['load_peak_bytes'] / 1e6:.1f}", f"{row['latency_ratio']:.2f}"]
    else:
        cells += [""] * 3
    return start + "".join(f" {cell} |" for cell in cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="only these models")
    parser.add_argument("--untimed", action="store_true", help="measure no seconds and no memory")
    parser.add_argument("--output", type=Path, help="JSON file (default: models.json in the folder)")
    parser.add_argument("--reuse", action="store_true", help="reuse files that an earlier run compressed")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| " + " | ".join(HEADER) + " |\n" + "|---" * len(HEADER) + "|")
    rows = []
    for path in sorted(arguments.folder.glob("*.onnx")):
        if path.stem in arguments.only or not arguments.only:
            rows += rows_of(path, arguments.data, arguments.folder, timed=not arguments.untimed, reuse=arguments.reuse)
            report = {"environment": environment(), "rows": rows}
            (arguments.output or arguments.folder / "models.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
