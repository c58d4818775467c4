"""Time and memory of data-free compression at 4 bits, from 10 million to 1.1 billion weights.

`python -m benchmarks.scale.run [SIZE ...] --folder DIR --output FILE.json` needs 5.5 GB of disk in DIR for the largest
model. `model.py` writes each model, a process of its own compresses it as the command line would, and it is removed at
the end. The table shows seconds, peak memory (resident, mapped files included), the load of the machine, and the time
of reading the weights once.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.environment import environment
from benchmarks.scale.model import SIZES, write_model

COMPONENTS = 16

WORKER = """
import json, resource, sys, time
from pathlib import Path
from sws_compress.pipelines.job import Job, Limits
from sws_compress.pipelines.source import open_source
from sws_compress.pipelines.weights_only import compress_weights
from sws_compress.requests import WeightsOnly
phases, last = {}, [None, 0.0]
def show(description, done, total):
    now, phase = time.perf_counter(), description.split()[0]
    if last[0] is not None:
        phases[last[0]] = phases.get(last[0], 0) + now - last[1]
    last[:] = phase, now
started = time.perf_counter()
last[:] = "reading", started
source, target, components = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
job = Job(output=target, on_progress=show, started=started, limits=Limits(model_bytes=0))
result = compress_weights(open_source(source, job), WeightsOnly(components=components), job)
phases[last[0]] = phases.get(last[0], 0) + time.perf_counter() - last[1]
print(json.dumps({
    "seconds": result.seconds,
    "phases_seconds": phases,
    "peak_memory_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    "dense_bytes": result.dense_bytes,
    "file_bytes": result.file_bytes,
    "tensors_checked": len(result.tensors),
    "weights_checked": result.weights,
}))
"""


def measure(size: str, folder: Path) -> dict[str, object]:
    source, target = folder / f"{size}.onnx", folder / f"{size}.small.onnx"
    data = source.with_name(source.name + ".data")
    if not data.exists():
        write_model(source, SIZES[size])
    try:
        load = os.getloadavg()[0]
        command = [sys.executable, "-c", WORKER, str(source), str(target), str(COMPONENTS)]
        finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        return {
            "size": size,
            "parameters": SIZES[size].parameters,
            **json.loads(finished.stdout),
            "read_seconds": _read_seconds(data),
            "load_average_before_and_after": [load, os.getloadavg()[0]],
        }
    finally:
        for file in (source, data, target):
            file.unlink(missing_ok=True)


def _read_seconds(path: Path) -> float:
    """Seconds of reading the weights once; the disk cache may be warm or cold."""
    started = time.perf_counter()
    with path.open("rb") as stream:
        while stream.read(1 << 24):
            pass
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sizes", nargs="*", default=["10M", "100M", "1.1B"], metavar="SIZE", help=", ".join(SIZES))
    parser.add_argument("--folder", type=Path, default=Path("out/scale"))
    parser.add_argument("--output", type=Path, default=Path("out/scale/scale.json"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for size in options.sizes:
        rows.append(measure(size, options.folder))
        print(json.dumps(rows[-1], indent=2), flush=True)
    print(f"{'weights':>15} {'seconds':>8} {'ns/weight':>9} {'peak memory':>12} {'file':>12} {'ratio':>6}")
    for row in rows:
        print(
            f"{row['parameters']:>15,} {row['seconds']:>8.1f} {1e9 * row['seconds'] / row['parameters']:>9.1f} "
            f"{row['peak_memory_bytes'] / 1e9:>9.2f} GB {row['file_bytes'] / 1e6:>9.1f} MB "
            f"{row['dense_bytes'] / row['file_bytes']:>6.2f}"
        )
    options.output.write_text(
        json.dumps({"environment": environment(), "components": COMPONENTS, "runs": rows}, indent=2)
    )


if __name__ == "__main__":
    main()
