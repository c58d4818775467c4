"""Calibrated compression of real models: bytes against the score of their task, beside codebooks without inputs.

    python -m benchmarks.models.calibrated --data FOLDER [--only NAME ...] [--ratios 8 10] [--undistilled]

Calibration inputs are of the same kind as the test's and none of them (`calibration`). Writes ``calibrated.json``
beside the models, after every row.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import sws_compress as sws
from benchmarks.environment import environment
from benchmarks.models.calibration import calibration_of
from benchmarks.models.measure import session
from benchmarks.models.places import add_arguments
from benchmarks.models.tasks import task_of

MODELS = (
    "lenet", "resnet20", "resnet56", "magika", "basic_pitch", "silero_vad_16k", "ocr_direction", "ocr_detection",
    "ocr_recognition", "nudenet", "captcha_reader", "minilm",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--only", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--ratios", nargs="*", type=float, default=[8.0, 10.0])
    parser.add_argument("--undistilled", action="store_true", help="each ratio without distillation, too")
    parser.add_argument("--components", nargs="*", type=int, default=[16, 256])
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    target = arguments.folder / "calibrated.json"
    print("| model | way | bytes | ratio | score % | change | seconds |\n|---|---|---|---|---|---|---|")
    for name in arguments.only:
        path, task = arguments.folder / f"{name}.onnx", task_of(name, arguments.data, arguments.folder)
        dense = task.answers(session(str(path)))
        base = task.percent(dense, dense)
        requests: list[tuple[str, sws.WeightsOnly | sws.Calibrated, float | None]] = [
            (f"K = {components}", sws.WeightsOnly(components=components), None) for components in arguments.components
        ]
        inputs = calibration_of(name, arguments.data, arguments.folder)
        requests.append(("quality 25 dB", sws.Calibrated(inputs=inputs), None))
        for ratio in arguments.ratios:
            requests.append((f"ratio {ratio:g}", sws.Calibrated(inputs=inputs), ratio))
            if arguments.undistilled:
                plain = sws.Calibrated(inputs=inputs, distillation=False)
                requests.append((f"ratio {ratio:g} undistilled", plain, ratio))
        for way, request, ratio in requests:
            small = arguments.folder / "small" / f"{name}_{way.replace(' ', '')}.onnx"
            small.parent.mkdir(exist_ok=True)
            started = time.perf_counter()
            result = sws.compress(path, small, request, ratio=ratio)
            seconds = time.perf_counter() - started
            found = task.percent(task.answers(session(str(small))), dense)
            rows.append({
                "model": name, "way": way, "bytes": result.file_bytes, "ratio": result.ratio, "score": found,
                "score_error": result.score_error, "dense_score": base, "seconds": seconds, "notes": result.notes,
            })  # fmt: skip
            _write(target, rows)
            print(
                f"| {name} | {way} | {result.file_bytes:,} | {result.ratio:.2f} | {found:.2f} | {found - base:+.2f} "
                f"| {seconds:.0f} |",
                flush=True,
            )


def _write(target: Path, rows: list[dict[str, object]]) -> None:
    draft = target.with_suffix(".new")
    draft.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1))
    draft.replace(target)


if __name__ == "__main__":
    main()
