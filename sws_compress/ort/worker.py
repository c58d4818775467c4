"""What the child process does with ONNX Runtime.

`ort.session` calls these functions there. Our own process never imports the runtime.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnxruntime

_SESSIONS: dict[int, onnxruntime.InferenceSession] = {}
"""Models that are loaded, by their numbers."""

_MEMORY_MESSAGES = ("bad_alloc", "bad allocation", "Failed to allocate memory", "Cannot allocate memory")
"""How the runtime tells that there is no memory."""


def load(
    number: int, model: bytes | str, optimized_path: str | None, optimize: bool, profile: str | None, left: list[int]
) -> dict[str, Any]:
    """Load a model on the CPU under a number; those of ``left`` are dropped. Returns its inputs and outputs."""
    import onnxruntime

    drop(left)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if optimized_path is not None:
        options.optimized_model_filepath = optimized_path
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile
    started = time.perf_counter()
    try:
        runtime = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise _named(error) from error
    seconds = time.perf_counter() - started
    _SESSIONS[number] = runtime
    return {
        "inputs": _entries(runtime.get_inputs()),
        "outputs": _entries(runtime.get_outputs()),
        "seconds": seconds,
    }


def run(number: int, feeds: Mapping[str, Any]) -> list[Any] | None:
    """All outputs of a model that is loaded, in order; None if it is not."""
    runtime = _SESSIONS.get(number)
    if runtime is None:
        return None
    try:
        return list(runtime.run([output.name for output in runtime.get_outputs()], dict(feeds)))
    except Exception as error:
        raise _named(error) from error


def timed(number: int, feeds: Mapping[str, Any], most_runs: int, most_seconds: float) -> list[float]:
    """Seconds of some runs of a model that is loaded, until there are enough of them; the first one does not count."""
    runtime = _SESSIONS[number]
    names, inputs = [output.name for output in runtime.get_outputs()], dict(feeds)
    seconds: list[float] = []
    begun = time.perf_counter()
    for _ in range(most_runs + 1):
        started = time.perf_counter()
        try:
            runtime.run(names, inputs)
        except Exception as error:
            raise _named(error) from error
        seconds.append(time.perf_counter() - started)
        if time.perf_counter() - begun > most_seconds:
            break
    return seconds[1:] or seconds


def profiled(number: int) -> tuple[float, int]:
    """Seconds and bytes of outputs of all kernels that a model has run, as the runtime's profile has them."""
    path = Path(_SESSIONS[number].end_profiling())
    kernels = [event for event in json.loads(path.read_text()) if "output_size" in event.get("args", {})]
    computed_bytes = sum(int(event["args"]["output_size"]) for event in kernels)
    return sum(event["dur"] for event in kernels) / 1e6, computed_bytes


def drop(numbers: Sequence[int]) -> None:
    """Free models; those that are not loaded are passed over."""
    for number in numbers:
        _SESSIONS.pop(number, None)


def version() -> str:
    """The version of ONNX Runtime."""
    import onnxruntime

    found: str = onnxruntime.__version__
    return found


def _entries(entries: Sequence[Any]) -> list[tuple[str, str, list[Any]]]:
    """Name, type and shape of inputs or outputs."""
    return [(entry.name, entry.type, list(entry.shape or ())) for entry in entries]


def _named(error: Exception) -> Exception:
    """The error, as MemoryError if it is one: the runtime raises a dozen unrelated classes."""
    return MemoryError() if any(message in str(error) for message in _MEMORY_MESSAGES) else error
