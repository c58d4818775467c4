"""Random inputs for models whose caller gave none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from sws_compress.errors import DataError
from sws_compress.onnx_io.messages import shown
from sws_compress.ort.session import Array, Session

_DTYPES = {
    f"tensor({name})": np.dtype(dtype)
    for name, dtype in {
        "float": "f4", "double": "f8", "float16": "f2", "bool": "?", "int8": "i1", "int16": "i2", "int32": "i4",
        "int64": "i8", "uint8": "u1", "uint16": "u2", "uint32": "u4", "uint64": "u8",
    }.items()
}  # fmt: skip
"""NumPy types by the runtime's names."""


FREE_SIZES = (2, 1, 32, 224, 640)
"""Sizes of free dimensions, tried in turn. 2 shows a mistake between rows; networks for images want more."""

_MOST_DRAWN = 1 << 23
"""Most elements of an input of a size that is only tried: an image of 640 x 640 has 1.2 million."""

_MOST_STATED = 1 << 24
"""Most elements of all inputs whose sizes the model states, an image of 4096 x 4096: a kilobyte of model may state a
batch of three million, or of 2^62."""

_LEAST_IMAGE = 32
"""Size from which the first of several free dimensions is taken for a batch and stays 1."""


def sample_inputs(model: Session, *, seed: int, batch: int, rows: Mapping[str, int] | None = None) -> dict[str, Array]:
    """Random inputs of the types and shapes that a model states.

    Parameters
    ----------
    model : Session
        The model.
    seed : int
        Seed of the random numbers.
    batch : int
        Size of free dimensions. From 32, the first one of an input that has several is 1.
    rows : mapping of str to int, optional
        Integer inputs that are below a number, by name (`index_ranges`).

    Returns
    -------
    dict of str to ndarray
        Standard normal numbers by input name; integers below ``rows``, or 0 and 1.

    Raises
    ------
    DataError
        If an input is no tensor of numbers, or if all have more elements than `_MOST_STATED`.
    """
    random = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    highest = {} if rows is None else rows
    left = _MOST_STATED
    for entry in model.inputs:
        shape = _filled(entry.shape, batch)
        left -= math.prod(shape)
        if left < 0:
            raise DataError(
                f"inputs must have at most {_MOST_STATED} elements to be drawn, got shape {shown(shape)} for "
                f"{shown(entry.name)}: give inputs that fit"
            )
        dtype = _DTYPES.get(entry.type)
        if dtype is None:
            raise DataError(
                f"input {shown(entry.name)} must be a numeric tensor, got {entry.type}: give inputs that fit"
            )
        below = highest.get(entry.name, 2)
        if dtype.kind in "iu":
            below = min(below, int(np.iinfo(dtype).max))
        drawn = random.standard_normal(shape) if dtype.kind == "f" else random.integers(0, max(below, 1), shape)
        feeds[entry.name] = np.asarray(drawn).astype(dtype)
    return feeds


def too_many(model: Session, batch: int) -> bool:
    """Whether a size of free dimensions makes one input too large to be tried."""
    return any(math.prod(_filled(entry.shape, batch)) > _MOST_DRAWN for entry in model.inputs)


def _filled(stated: Sequence[object], size: int) -> list[int]:
    """A shape with its free dimensions filled."""
    free = [axis for axis, stated_size in enumerate(stated) if not (isinstance(stated_size, int) and stated_size >= 0)]
    shape = [stated_size if isinstance(stated_size, int) and stated_size >= 0 else size for stated_size in stated]
    if size >= _LEAST_IMAGE and len(free) > 1 and free[0] == 0:
        shape[0] = 1
    return shape
