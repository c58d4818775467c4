"""Time and memory of streamed calibration, from 10 million to 1.1 billion random weights.

    python -m benchmarks.scale.streamed [SIZE ..] [--inputs 128] [--quality 25] [--folder DIR] [--output FILE.json]

The model is that of `model.py`; every input is 64 random tokens. A process of its own compresses, whatever the size, as
a file beyond memory. Peaks are of resident memory, mapped files included; that of our process counts from the end of
the imports, that of the process that runs ONNX Runtime counts whole, from its start as a copy of ours. Processor
seconds are those of both. Goals: 1.1 billion weights in an hour on two cores, and 6 GB. Needs 6.6 GB of disk in DIR.
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
from pathlib import Path
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
from sws_compress.pipelines.calibrated import compress_calibrated
from sws_compress.pipelines.job import Job, Limits
from sws_compress.pipelines.source import open_source
phases, last = {}, ["reading", time.perf_counter()]
def show(description, done, total):
    now = time.perf_counter()
    phases[last[0]] = phases.get(last[0], 0) + now - last[1]
    last[:] = description.split()[0], now
source, target, count, vocabulary, quality = Path(sys.argv[1]), Path(sys.argv[2]), *map(float, sys.argv[3:6])
tokens = np.random.default_rng(0).integers(0, int(vocabulary), (int(count), 64))
base = held_bytes("VmRSS")
started = time.perf_counter()
job = Job(output=target, on_progress=show, limits=Limits(calibrated_bytes=0))
request = sws.Calibrated(inputs={"tokens": tokens}, quality=quality)
result = compress_calibrated(open_source(source, job), request, job)
show("end", 0, 1)
bits = sum(row.entropy_bits * np.prod(row.shape) for row in result.tensors) / result.weights
found |= {
    "seconds": time.perf_counter() - started, "phases_seconds": phases, "own_peak_bytes": held_bytes("VmHWM") - base,
    "imports_bytes": base, "dense_bytes": result.dense_bytes, "file_bytes": result.file_bytes,
    "entropy_bits": bits, "notes": list(result.notes),
}
"""


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    source, target = options.folder / f"{name}.onnx", options.folder / f"{name}.small.onnx"
    data, size = source.with_name(source.name + ".data"), SIZES[name]
    if not data.exists():
        write_model(source, size)
    try:
        load = os.getloadavg()[0]
        given = (source, target, options.inputs, size.vocabulary, options.quality)
        command = [sys.executable, "-c", WORKER, *map(str, given)]
        finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        return {
            "size": name,
            "weights": size.parameters,
            "inputs": options.inputs,
            "quality": options.quality,
            **json.loads(finished.stdout.splitlines()[-1]),
            "load_average_before_and_after": [load, os.getloadavg()[0]],
        }
    finally:
        for file in (source, data, target):
            file.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", default=["40M", "300M", "1.1B"], metavar="SIZE", help=", ".join(SIZES))
    parser.add_argument("--inputs", type=int, default=128)
    parser.add_argument("--quality", type=float, default=25.0)
    parser.add_argument("--folder", type=Path, default=Path("out/scale"))
    parser.add_argument("--output", type=Path, default=Path("out/scale/streamed.json"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in options.sizes:
        rows.append(measure(name, options))
        print(json.dumps(rows[-1], indent=1), flush=True)
        options.output.write_text(json.dumps({"environment": environment(), "runs": rows}, indent=1))
    print(f"{'weights':>15} {'seconds':>8} {'processor':>9} {'our GB':>7} {'runtime GB':>10} {'ratio':>6}")
    for row in rows:
        print(
            f"{row['weights']:>15,} {row['seconds']:>8.0f} {row['processor_seconds']:>9.0f} "
            f"{row['own_peak_bytes'] / 1e9:>7.2f} {row['runtime_peak_bytes'] / 1e9:>10.2f} "
            f"{row['dense_bytes'] / row['file_bytes']:>6.2f}"
        )


if __name__ == "__main__":
    main()
