"""Compression without inputs, at the default quality, of real models: what the user gets who says nothing.

    python -m benchmarks.models.defaults --data FOLDER [--only NAME ...] [--qualities DB ...]

Scores are those of the tasks. The error of the outputs is measured on calibration inputs, which no task uses and which
compression does not see: energy of the outputs, before a last softmax, sigmoid or argmax, over that of their change, in
decibels. "Told" is the error of the worst output that the result states, on random inputs, and whether it warns. Writes
``defaults.json`` beside the models, after every row.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

import sws_compress as sws
from benchmarks.environment import environment
from benchmarks.models.calibrated import MODELS
from benchmarks.models.calibration import calibration_of
from benchmarks.models.measure import session
from benchmarks.models.places import add_arguments
from benchmarks.models.tasks import Feeds, task_of
from sws_compress.onnx_io.read.model import read_model
from sws_compress.onnx_io.write.probed import score_names, showing
from sws_compress.onnx_io.write.serialise import to_bytes

FEEDS, ROWS = 8, 8
"""Sets of calibration inputs, and rows of each, that the error is measured on."""


def some_feeds(given: Any) -> list[Feeds]:
    """A few sets of inputs, evenly from all."""
    if isinstance(given, dict):
        count = min(len(values) for values in given.values())
        starts = np.linspace(0, max(count - ROWS, 0), FEEDS).astype(int)
        return [{name: values[start : start + ROWS] for name, values in given.items()} for start in starts]
    feeds = list(given)
    return [feeds[i] for i in np.unique(np.linspace(0, len(feeds) - 1, FEEDS).astype(int))]


def error_decibels(dense: Path, small: Path, feeds: list[Feeds]) -> float:
    """Mean over the scores of their energy over that of their change."""
    runs = [session(to_bytes(showing(model, score_names(model)))) for model in map(read_model, (dense, small))]
    energies = np.zeros((2, len(runs[0].get_outputs())))
    for feed in feeds:
        wanted, found = ([part.astype(np.float64) for part in run.run(None, feed)] for run in runs)
        energies += [
            [np.square(part).sum() for part in wanted],
            [np.square(there - part).sum() for there, part in zip(found, wanted, strict=True)],
        ]
    told = energies[0] > 0
    return -10 * math.log10((energies[1, told] / energies[0, told]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--only", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--qualities", nargs="*", type=float, default=[None], help="instead of the default")
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    target = arguments.folder / "defaults.json"
    print("| model | quality | bytes | ratio | score % | change | error dB | told | seconds |\n" + "|---" * 9 + "|")
    for name in arguments.only:
        path, task = arguments.folder / f"{name}.onnx", task_of(name, arguments.data, arguments.folder)
        feeds = some_feeds(calibration_of(name, arguments.data, arguments.folder))
        dense = task.answers(session(str(path)))
        base = task.percent(dense, dense)
        for quality in arguments.qualities:
            request = sws.WeightsOnly(quality=quality)
            small = arguments.folder / "small" / f"{name}_default{quality or ''}.onnx"
            small.parent.mkdir(exist_ok=True)
            started = time.perf_counter()
            result = sws.compress(path, small, request)
            seconds = time.perf_counter() - started
            found = task.percent(task.answers(session(str(small))), dense)
            error = error_decibels(path, small, feeds)
            rows.append({
                "model": name, "quality": request.quality, "bytes": result.file_bytes, "ratio": result.ratio,
                "score": found, "dense_score": base, "error_decibels": error, "output_error": result.output_error,
                "warnings": result.warnings, "notes": result.notes, "seconds": seconds,
            })  # fmt: skip
            draft = target.with_suffix(".new")
            draft.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1))
            draft.replace(target)
            told = f"{100 * result.output_error:.2g} %{', warned' if result.warnings else ''}"
            print(
                f"| {name} | {request.quality:g} | {result.file_bytes:,} | {result.ratio:.2f} | {found:.2f} "
                f"| {found - base:+.2f} | {error:.1f} | {told} | {seconds:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
