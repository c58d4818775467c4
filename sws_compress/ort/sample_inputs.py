"""Random inputs for models whose caller gave none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sws_compress.errors import DataError
from sws_compress.onnx_io.messages import shown
from sws_compress.ort.session import Array

if TYPE_CHECKING:
    import onnxruntime

_DTYPES = {
    f"tensor({name})": np.dtype(dtype)
    for name, dtype in {
        "float": "f4", "double": "f8", "float16": "f2", "bool": "?", "int8": "i1", "int16": "i2", "int32": "i4",
        "int64": "i8", "uint8": "u1", "uint16": "u2", "uint32": "u4", "uint64": "u8",
    }.items()
}  # fmt: skip
"""NumPy types by the runtime's names."""


def sample_inputs(model: onnxruntime.InferenceSession, *, seed: int, batch: int) -> dict[str, Array]:
    """Random inputs of the types and shapes that a model states.

    Parameters
    ----------
    model : onnxruntime.InferenceSession
        The model.
    seed : int
        Seed of the random numbers.
    batch : int
        Size of free dimensions.

    Returns
    -------
    dict of str to ndarray
        Standard normal numbers, or 0 and 1 for integer inputs, by input name.

    Raises
    ------
    DataError
        If an input is no tensor of numbers.
    """
    random = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for entry in model.get_inputs():
        shape = [size if isinstance(size, int) and size >= 0 else batch for size in entry.shape]
        dtype = _DTYPES.get(entry.type)
        if dtype is None:
            raise DataError(
                f"input {shown(entry.name)} must be a numeric tensor, got {entry.type}: give inputs that fit"
            )
        drawn = random.standard_normal(shape) if dtype.kind == "f" else random.integers(0, 2, shape)
        feeds[entry.name] = np.asarray(drawn).astype(dtype)
    return feeds
