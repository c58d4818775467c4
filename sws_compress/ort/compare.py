"""Outputs of two models on the same inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sws_compress.errors import VerificationError
from sws_compress.onnx_io.messages import first_line
from sws_compress.ort.session import Array, Model, session

if TYPE_CHECKING:
    import onnxruntime


@dataclass(frozen=True)
class OutputDifference:
    """Largest difference of one output, and the same relative to the largest magnitude of the reference."""

    name: str
    largest_absolute: float
    largest_relative: float


def compare_outputs(
    original: Model, compressed: Model, feeds: Mapping[str, Array] | None = None, *, seed: int = 0, batch: int = 2
) -> tuple[OutputDifference, ...]:
    """Run both models on the same inputs; differences per output, the first model being the reference.

    Without ``feeds`` the inputs are standard normal (integers: 0 or 1) from ``seed``, and unknown dimensions are
    ``batch``. Raises VerificationError where the models do not run on these inputs or differ in inputs or outputs.
    """
    reference, candidate = session(original), session(compressed)
    names = [output.name for output in reference.get_outputs()]
    if names != [output.name for output in candidate.get_outputs()]:
        raise VerificationError(
            f"outputs must be {names}, got others in the compressed model: compare the right models"
        )
    if feeds is None:
        feeds = sample_inputs(reference, seed=seed, batch=batch)
    try:
        expected, actual = reference.run(names, dict(feeds)), candidate.run(names, dict(feeds))
    except Exception as error:  # as for loading
        raise VerificationError(
            f"models must run on sample inputs, got '{first_line(error)}': pass inputs that fit"
        ) from error
    return tuple(difference(name, left, right) for name, left, right in zip(names, expected, actual, strict=True))


def sample_inputs(model: onnxruntime.InferenceSession, *, seed: int, batch: int) -> dict[str, Array]:
    """Random inputs of the types and shapes the model states."""
    random = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for entry in model.get_inputs():
        shape = [size if isinstance(size, int) and size >= 0 else batch for size in entry.shape]
        dtype = _DTYPES.get(entry.type)
        if dtype is None:
            raise VerificationError(
                f"input {entry.name} must be a numeric tensor, got {entry.type}: pass sample inputs"
            )
        drawn = random.standard_normal(shape) if dtype.kind == "f" else random.integers(0, 2, shape)
        feeds[entry.name] = np.asarray(drawn).astype(dtype)
    return feeds


_DTYPES = {
    f"tensor({name})": np.dtype(dtype)
    for name, dtype in {
        "float": "f4", "double": "f8", "float16": "f2", "bool": "?", "int8": "i1", "int16": "i2", "int32": "i4",
        "int64": "i8", "uint8": "u1", "uint16": "u2", "uint32": "u4", "uint64": "u8",
    }.items()
}  # fmt: skip


def difference(name: str, expected: Array, actual: Array) -> OutputDifference:
    if expected.shape != actual.shape:
        raise VerificationError(
            f"output {name} must have shape {expected.shape}, got {actual.shape}: compare the right models"
        )
    if expected.size == 0:
        return OutputDifference(name, 0.0, 0.0)
    left, right = expected.astype(np.float64), actual.astype(np.float64)
    equal = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        distances = np.where(equal, 0.0, np.abs(left - right))
    largest = float(np.max(np.where(np.isnan(distances), np.inf, distances)))
    scale = float(np.max(np.abs(left[np.isfinite(left)]), initial=0.0))
    return OutputDifference(name, largest, largest / scale if scale else (0.0 if largest == 0 else np.inf))
