"""One measurement of the benchmark, in its own process.

python -m benchmarks.models.measure load MODEL               # seconds and bytes of loading, in a fresh process
python -m benchmarks.models.measure latency DENSE OTHER FEEDS.npz
"""

from __future__ import annotations

import ctypes
import json
import statistics
import sys
import time
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.memory import held_bytes

LATENCY_SECONDS = 2.0
LEAST_PAIRS = 31


def session(path: str | bytes) -> Any:
    """A session on one thread, without warnings."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def load(path: str) -> dict[str, float]:
    """Seconds of loading; bytes at the peak, after loading, and after glibc has returned its free memory."""
    peak, resident = held_bytes("VmHWM"), held_bytes("VmRSS")
    started = time.perf_counter()
    runtime = session(path)
    found = {"load_seconds": time.perf_counter() - started, "load_peak_bytes": held_bytes("VmHWM") - peak}
    found["loaded_bytes"] = held_bytes("VmRSS") - resident
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    found["trimmed_bytes"] = held_bytes("VmRSS") - resident
    del runtime
    return found


def latency(dense_path: str, other_path: str, feeds_path: str) -> dict[str, float]:
    """Run both models in turn; median ratio over pairs, and median milliseconds of each."""
    with np.load(feeds_path, allow_pickle=False) as arrays:
        feeds = dict(arrays.items())
    dense, other = session(dense_path), session(other_path)
    for runtime in (dense, other):
        runtime.run(None, feeds)
    pairs: list[tuple[float, float]] = []
    until = time.perf_counter() + LATENCY_SECONDS
    while time.perf_counter() < until or len(pairs) < LEAST_PAIRS:
        order = ((0, dense), (1, other)) if len(pairs) % 2 else ((1, other), (0, dense))
        times = [0.0, 0.0]
        for index, runtime in order:
            started = time.perf_counter()
            runtime.run(None, feeds)
            times[index] = time.perf_counter() - started
        pairs.append((times[0], times[1]))
    return {
        "latency_ms": 1000 * statistics.median(second for _, second in pairs),
        "latency_ratio": statistics.median(second / first for first, second in pairs),
    }


def main() -> None:
    what, *arguments = sys.argv[1:]
    json.dump({"load": load, "latency": latency}[what](*arguments), sys.stdout)


if __name__ == "__main__":
    main()
