"""Processor seconds and memory of loading a 3,000 x 3,000 matrix in every encoding, each in its own process.

    python -m benchmarks.encodings.load [ENCODING ..]

Arguments select the encodings whose names begin with one of them; the default is all. Memory is the peak resident set
of the process, above a process that only imported ONNX Runtime, relative to the dense matrix at four bytes per weight.
Prints a table and writes JSON to out/encodings/load.json.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.encodings.files import SHARES, codes, dense_model, drawn, packed_model, sinusoids
from benchmarks.environment import environment
from sws_compress.codec.encodings.progressions import Progressions

SIDE = 3000
SINUSOIDS = "sinusoids, K = 3,000"
RUNS = 2
LOAD = """
import json, sys, time
import onnxruntime
from benchmarks.memory import held_bytes

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
before = held_bytes("VmHWM")
start = time.process_time()
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
seconds = time.process_time() - start
print(json.dumps({"seconds": seconds, "bytes": held_bytes("VmHWM") - before}))
"""


def measure(path: Path) -> dict[str, float]:
    """Least seconds and largest memory of a few loads."""
    runs = []
    for _ in range(RUNS):
        done = subprocess.run([sys.executable, "-c", LOAD, str(path)], check=True, capture_output=True, text=True)
        runs.append(json.loads(done.stdout))
    return {"seconds": min(run["seconds"] for run in runs), "bytes": max(run["bytes"] for run in runs)}


def main() -> None:
    rows = []
    count = SIDE * SIDE
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(dense_model(np.random.default_rng(0).random((SIDE, SIDE), np.float32)).SerializeToString())
        rows.append({"data": "", "encoding": "dense", **measure(path)})
        _show(rows[-1], count)
        tables = {data: functools.partial(drawn, shares, count) for data, shares in SHARES.items()}
        for data, table in {**tables, SINUSOIDS: functools.partial(sinusoids, SIDE)}.items():
            for encoding, code in codes(*table()):
                if not encoding.startswith(tuple(sys.argv[1:]) or "") or (data == SINUSOIDS) != (
                    encoding == Progressions.encoding
                ):
                    continue
                path.write_bytes(packed_model(code, (SIDE, SIDE)))
                rows.append({"data": data, "encoding": encoding, **measure(path)})
                _show(rows[-1], count)
    out = Path("out/encodings")
    out.mkdir(parents=True, exist_ok=True)
    (out / "load.json").write_text(json.dumps({"environment": environment(), "count": count, "rows": rows}, indent=1))


def _show(row: dict[str, object], count: int) -> None:
    seconds, size = float(str(row["seconds"])), float(str(row["bytes"]))
    print(
        f"{row['data']:22} {row['encoding']:26} {seconds:6.2f} s  {count / seconds / 1e6:6.1f} M/s "
        f"{size / (4 * count):5.1f} x dense",
        flush=True,
    )


if __name__ == "__main__":
    main()
