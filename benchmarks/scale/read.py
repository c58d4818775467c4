"""Time and memory of reading a model of more than 2 GB: `python -m benchmarks.scale.read --folder DIR`.

`model.py` writes the model, with random weights in external data, and every command works on it or on its compressed
file as the command line does. The table shows seconds, and the peak memory of our process and of the one that runs ONNX
Runtime (resident, mapped files included), in gigabytes and in copies of the largest tensor. The second is an upper
bound: the system counts our process at the time of the fork, too. Needs 8 GB of disk in DIR.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.environment import environment
from benchmarks.scale.model import Size, tensors, write_model

LARGE = Size(70_000, 2048, 6)
"""590 million weights, of which the embedding and the head have a quarter each."""

COMPONENTS = 16

WORKER = """
import atexit, json, resource, sys
from benchmarks.memory import held_bytes
def tell():
    peaks = held_bytes("VmHWM"), 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(json.dumps(peaks), file=sys.stderr)
atexit.register(tell)  # called last: the process of ONNX Runtime has ended by then
from sws_compress.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def commands(source: Path) -> Iterator[tuple[str, list[str]]]:
    """Name and arguments of every command, in order."""
    small, plain = (source.with_suffix(f".{ending}") for ending in ("small.onnx", "plain.onnx"))
    picture = str(source.with_suffix(".png"))
    yield "inspect the original", ["inspect", str(source)]
    yield "compress", ["compress", str(source), "-o", str(small), "--components", str(COMPONENTS)]
    yield "inspect", ["inspect", str(small)]
    yield "inspect --clusters", ["inspect", str(small), "--clusters"]
    yield "picture of a matrix", ["picture", str(small), "-o", picture, "--tensor", "0.q.weight"]
    yield "expand", ["expand", str(small), "-o", str(plain)]
    yield "verify", ["verify", str(source), str(small), "--tolerance", "1"]
    yield "verify the expanded", ["verify", str(plain), str(small), "--tolerance", "1e-4"]


def measure(command: list[str]) -> dict[str, float]:
    started = time.perf_counter()
    finished = subprocess.run([sys.executable, "-c", WORKER, *command], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if finished.returncode:
        raise SystemExit(f"{' '.join(command)}: {finished.stderr}")
    own, child = json.loads(finished.stderr.splitlines()[-1])
    return {"seconds": seconds, "own_peak_bytes": own, "runtime_peak_bytes": child}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("out/scale"))
    parser.add_argument("--output", type=Path, default=Path("out/scale/read.json"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    source = options.folder / "large.onnx"
    try:
        if not source.exists():
            write_model(source, LARGE)
        runs = {}
        largest = 4 * max(math.prod(shape) for _, shape in tensors(LARGE))
        print(f"{LARGE.parameters:,} weights, largest tensor {largest / 1e9:.2f} GB, load {os.getloadavg()[0]:.1f}")
        print(f"{'command':<22}{'seconds':>8}{'our GB':>8}{'copies':>8}{'runtime GB':>12}{'copies':>8}")
        for name, command in commands(source):
            runs[name] = run = measure(command)
            own, child = run["own_peak_bytes"], run["runtime_peak_bytes"]
            print(
                f"{name:<22}{run['seconds']:>8.1f}{own / 1e9:>8.2f}{own / largest:>8.1f}{child / 1e9:>12.2f}"
                f"{child / largest:>8.1f}",
                flush=True,
            )
    finally:
        for file in options.folder.glob("large.*"):
            file.unlink()
    result = {"environment": environment(), "components": COMPONENTS, "largest_tensor_bytes": largest, "runs": runs}
    options.output.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
