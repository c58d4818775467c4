"""Time and memory of calibrated compression: 25 million random weights, 256 inputs, eight times smaller.

    python -m benchmarks.scale.calibrated [--size 25M] [--inputs 256] [--ratio 8] [--resumable] [--folder DIR]
        [--output FILE.json]

The model is that of `model.py`; every input is 64 random tokens. A process of its own compresses. Its peak counts
from the end of the imports; that of the process that runs ONNX Runtime counts whole. Goals: five minutes on two cores,
both peaks together under four times the model, the size met within 2 %. ``--resumable`` streams the model.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.environment import environment
from benchmarks.scale.model import SIZES, write_model

WORKER = """
import atexit, json, resource, sys, time
import numpy as np
from benchmarks.memory import held_bytes
found = {}
def tell():
    own, runtime = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    found["runtime_peak_bytes"] = 1024 * runtime.ru_maxrss
    found["processor_seconds"] = own.ru_utime + own.ru_stime + runtime.ru_utime + runtime.ru_stime
    print(json.dumps(found))
atexit.register(tell)  # called last: the process of ONNX Runtime has ended by then
import sws_compress as sws
source, target, count, vocabulary, ratio = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:5]), float(sys.argv[5])
tokens = np.random.default_rng(0).integers(0, vocabulary, (count, 64))
request = sws.Calibrated(inputs={"tokens": tokens}, resumable=sys.argv[6] == "True")
compress = sws.compress  # imports what it needs
base = held_bytes("VmRSS")
started = time.perf_counter()
result = compress(source, target, request, ratio=ratio, seed=0)
found |= {
    "seconds": time.perf_counter() - started, "own_peak_bytes": held_bytes("VmHWM") - base, "imports_bytes": base,
    "dense_bytes": result.dense_bytes, "file_bytes": result.file_bytes, "notes": list(result.notes),
}
"""


def measure(options: argparse.Namespace) -> dict[str, Any]:
    source, target = options.folder / f"{options.size}.onnx", options.folder / f"{options.size}.small.onnx"
    size = SIZES[options.size]
    try:
        write_model(source, size)
        load = os.getloadavg()[0]
        given = (source, target, options.inputs, size.vocabulary, options.ratio, options.resumable)
        command = [sys.executable, "-c", WORKER, *map(str, given)]
        found = json.loads(
            subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1]
        )
        found["load_average_before_and_after"] = [load, os.getloadavg()[0]]
        return {
            "size": options.size,
            "weights": size.parameters,
            "inputs": options.inputs,
            "ratio": options.ratio,
            "resumable": options.resumable,
            **found,
        }
    finally:
        for file in (source, source.with_name(source.name + ".data"), target):
            file.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="25M", choices=SIZES)
    parser.add_argument("--inputs", type=int, default=256)
    parser.add_argument("--ratio", type=float, default=8.0)
    parser.add_argument("--resumable", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("out/scale"))
    parser.add_argument("--output", type=Path, default=Path("out/scale/calibrated.json"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    row = measure(options)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({"environment": environment(), "run": row}, indent=1))
    print(json.dumps(row, indent=1))
    both, dense = row["own_peak_bytes"] + row["runtime_peak_bytes"], row["dense_bytes"]
    missed = row["file_bytes"] * options.ratio / dense - 1
    print(f"{row['seconds']:.0f} s; peaks {both / dense:.1f} times the model; size off by {missed:+.1%}")


if __name__ == "__main__":
    main()
