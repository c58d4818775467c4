"""Files whose weights stay in integers beside onnxruntime's own int8 and int4 files of the same models.

    python -m benchmarks.models.packed --data FOLDER --models-folder out/models [MODEL ..] [--quality 25]

A row per file: bytes, bytes after brotli (if the package is there), memory after loading and `malloc_trim(0)` above an
idle runtime, and at the peak of loading, latency relative to the dense model in pairs on one thread, the error of the
outputs on the inputs of the task relative to their norm, and its score. Ours is made without data: by a quality,
checked on one calibration input. Opponents: `quantize_dynamic` (int8, per channel; convolutions too) and 4-bit
round-to-nearest in blocks of 32 (`MatMulNBitsQuantizer`), with onnxruntime's defaults otherwise.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import sws_compress as sws
from benchmarks.environment import environment
from benchmarks.models.calibration import calibration_of
from benchmarks.models.measure import session
from benchmarks.models.tasks import Task, task_of

MODELS = ("minilm", "magika", "nudenet", "ocr_recognition", "ocr_direction", "basic_pitch", "captcha_reader")


def floats(source: Path, target: Path, inputs: Path, quality: float) -> None:
    options = sws.FileOptions()
    sws.compress(source, target, sws.WeightsOnly(quality=quality), file=options, example_inputs=inputs, progress=False)


def packed(source: Path, target: Path, inputs: Path, quality: float, *, standard: bool = False) -> None:
    options = sws.FileOptions(memory="packed", standard_operators_only=standard)
    sws.compress(source, target, sws.WeightsOnly(quality=quality), file=options, example_inputs=inputs, progress=False)


def int8_dynamic(source: Path, target: Path, inputs: Path, quality: float) -> None:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(source, target, per_channel=True)


def four_bits(source: Path, target: Path, inputs: Path, quality: float) -> None:
    from onnxruntime.quantization import matmul_nbits_quantizer as quantizer

    config = quantizer.DefaultWeightOnlyQuantConfig(block_size=32, is_symmetric=False, bits=4)
    changed = quantizer.MatMulNBitsQuantizer(onnx.load(source), algo_config=config)
    changed.process()
    changed.model.save_model_to_file(str(target))


WAYS: dict[str, Callable[..., None]] = {
    "ours, float": floats,
    "ours, packed": packed,
    "int8 dynamic": int8_dynamic,
    "int4, blocks of 32": four_bits,
}


def measured(what: str, *arguments: str) -> dict[str, float]:
    """What `benchmarks.models.measure` finds in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.models.measure", what, *arguments]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def brotli_bytes(path: Path) -> int | None:
    try:
        return len(import_module("brotli").compress(path.read_bytes(), quality=9))
    except ImportError:
        return None


def row(model: str, way: str, path: Path, dense: Path, task: Task, feeds: Path, wanted: list[Any]) -> dict[str, Any]:
    answers = task.answers(session(str(path)))
    difference = sum(float(np.square(a.astype(float) - w).sum()) for a, w in zip(answers, wanted, strict=True))
    energy = sum(float(np.square(w.astype(float)).sum()) for w in wanted)
    loaded = measured("load", str(path))
    return {
        "model": model,
        "way": way,
        "bytes": path.stat().st_size,
        "brotli_bytes": brotli_bytes(path),
        "memory_mb": loaded["trimmed_bytes"] / 1e6,
        "peak_mb": loaded["load_peak_bytes"] / 1e6,
        "load_seconds": loaded["load_seconds"],
        "latency_ratio": measured("latency", str(dense), str(path), str(feeds))["latency_ratio"],
        "error_percent": 100 * (difference / energy) ** 0.5,
        "score": task.percent(answers, wanted),
    }


def rows_of(model: str, data: Path, folder: Path, quality: float) -> list[dict[str, Any]]:
    dense, task = folder / f"{model}.onnx", task_of(model, data, folder)
    wanted = task.answers(session(str(dense)))
    given = calibration_of(model, data, folder)
    first = given[0] if isinstance(given, list) else {name: values[:4] for name, values in given.items()}
    with tempfile.TemporaryDirectory() as temporary:
        feeds, inputs = Path(temporary) / "feeds.npz", Path(temporary) / "inputs.npz"
        np.savez(feeds, **task.latency_feeds)  # type: ignore[arg-type, unused-ignore]
        np.savez(inputs, **first)
        found = [row(model, "dense", dense, dense, task, feeds, wanted)]
        for way, make in WAYS.items():
            path = Path(temporary) / "small.onnx"
            try:
                make(dense, path, inputs, quality)
                found.append(row(model, way, path, dense, task, feeds, wanted))
            except Exception as error:  # whatever another tool raises
                print(f"{model}, {way}: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
        return found


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| model | file | bytes | brotli | MB after load | MB at peak | latency | output error | score |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in rows:
        packed_bytes = "" if each["brotli_bytes"] is None else f"{each['brotli_bytes']:,}"
        lines.append(
            f"| {each['model']} | {each['way']} | {each['bytes']:,} | {packed_bytes} | {each['memory_mb']:.0f} "
            f"| {each['peak_mb']:.0f} | {each['latency_ratio']:.2f} | {each['error_percent']:.2g} % "
            f"| {each['score']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models-folder", type=Path, default=Path("out/models"))
    parser.add_argument("--quality", type=float, default=25.0)
    parser.add_argument("--output", type=Path, default=Path("out/models/packed.json"))
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for model in options.models:
        found = rows_of(model, options.data, options.models_folder, options.quality)
        print(table(found), flush=True)
        rows += found
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1))
    print(table(rows))


if __name__ == "__main__":
    main()
