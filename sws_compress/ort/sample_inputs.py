"""Random inputs for models whose caller gave none."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from sws_compress.errors import DataError
from sws_compress.messages import shown
from sws_compress.ort.session import Array, Session

_DTYPES = {
    f"tensor({name})": np.dtype(dtype)
    for name, dtype in {
        "float": "f4", "double": "f8", "float16": "f2", "bool": "?", "int8": "i1", "int16": "i2", "int32": "i4",
        "int64": "i8", "uint8": "u1", "uint16": "u2", "uint32": "u4", "uint64": "u8",
    }.items()
}  # fmt: skip
"""NumPy types by the runtime's names."""


FREE_SIZES = (2, 1, 32, 224, 640, 512, 64, 16000)
"""Sizes of free dimensions, tried in turn. 2 shows a mistake between rows; networks for images and sound want more."""

_DIGITS = np.array(list("0123456789"), object)
"""What text inputs are drawn from: networks that read numbers take it, too."""

_MOST_DRAWN = 1 << 23
"""Most elements of an input of a size that is only tried: an image of 640 x 640 has 1.2 million."""

_MOST_STATED = 1 << 24
"""Most elements of all inputs whose sizes the model states, an image of 4096 x 4096: a kilobyte of model may state a
batch of three million, or of 2^62."""

_LONGEST_TERM = 6
"""Digits of a number in a sum of dimensions, less one."""

_LEAST_SMOOTH = 16
"""Size from which an axis is one of places or times: most axes of channels of inputs are shorter."""

_LEAST_IMAGE = 32
"""Size from which the first of several free dimensions is taken for a batch and stays 1."""


def sample_inputs(
    model: Session,
    *,
    seed: int,
    batch: int,
    ranges: Mapping[str, range] | None = None,
    flags: bool | None = None,
    positive: bool = False,
) -> dict[str, Array]:
    """Random inputs of the types and shapes that a model states.

    Parameters
    ----------
    model : Session
        The model.
    seed : int
        Seed of the random numbers.
    batch : int
        Size of free dimensions. From 32, the first one of an input that has several is 1, and so are all of its name.
    ranges : mapping of str to range, optional
        What integer inputs may hold, by name (`index_ranges`).
    flags : bool, optional
        The value of all booleans; by default they are drawn.
    positive : bool
        Whether floats are drawn without their signs.

    Returns
    -------
    dict of str to ndarray
        Standard normal numbers by input name, integers of ``ranges``, or 0 and 1, and digits as text. Optional inputs
        are left out (None).

    Raises
    ------
    DataError
        If an input is no tensor, or if all have more elements than `_MOST_STATED`.
    """
    random = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    left, ones = _MOST_STATED, _batches(model, batch)
    for entry in model.inputs:
        if entry.type.startswith("optional("):
            feeds[entry.name] = None  # type: ignore[assignment]
            continue
        shape = _filled(entry.shape, batch, ones)
        left -= math.prod(shape)
        if left < 0:
            raise DataError(
                f"inputs must have at most {_MOST_STATED} elements to be drawn, got shape {shown(shape)} for "
                f"{shown(entry.name)}: give inputs that fit"
            )
        if entry.type == "tensor(string)":
            feeds[entry.name] = _DIGITS[random.integers(0, len(_DIGITS), shape)]
            continue
        dtype = drawn_type(entry.type)
        if dtype is None:
            raise DataError(f"input {shown(entry.name)} must be a tensor to be drawn, got {entry.type}: give it")
        drawn: Any
        if dtype.kind == "f":
            drawn = random.standard_normal(shape)
            drawn = np.abs(drawn) if positive else drawn
        elif dtype.kind == "b" and flags is not None:
            drawn = np.full(shape, flags)
        else:
            drawn = random.integers(*_bounds(dtype, (ranges or {}).get(entry.name, range(2))), shape)
        feeds[entry.name] = np.asarray(drawn).astype(dtype)
    return feeds


def smoothed(feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Inputs whose neighbours are alike, as in images and sounds: drawn noise with a spectrum that falls as 1/f.

    Parameters
    ----------
    feeds : mapping of str to ndarray
        Drawn inputs (`sample_inputs`).

    Returns
    -------
    dict of str to ndarray
        Floats are smooth along all axes but the first that have at least `_LEAST_SMOOTH` entries, with the same mean
        and standard deviation; without such an axis, and in other types, inputs are the same.
    """
    return {name: _smooth(values) for name, values in feeds.items()}


def _smooth(values: Array) -> Array:
    axes = [] if values is None else [axis for axis in range(1, values.ndim) if values.shape[axis] >= _LEAST_SMOOTH]
    if not axes or values.dtype.kind != "f":
        return values
    squares = np.zeros([1] * values.ndim)
    for axis in axes:
        along = [-1 if other == axis else 1 for other in range(values.ndim)]
        squares = squares + np.square(np.fft.fftfreq(values.shape[axis], 1 / values.shape[axis])).reshape(along)
    waves = np.fft.fftn(values.astype(np.float64), axes=axes) / np.maximum(np.sqrt(squares), 1)
    smooth = np.fft.ifftn(waves, axes=axes).real
    spread = smooth.std()
    unit = (smooth - smooth.mean()) / spread if spread > 0 else smooth
    found: Array = (unit * values.std(dtype=np.float64) + values.mean(dtype=np.float64)).astype(values.dtype)
    return np.abs(found) if values.size and values.min() >= 0 else found


def _bounds(dtype: np.dtype[Any], wanted: range) -> tuple[int, int]:
    """The first integer, and the one after the last, of a range that a type holds."""
    if dtype.kind == "b":
        return 0, 2
    least, most = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    stop = min(wanted.stop, most) if wanted else 1
    return max(min(wanted.start, stop - 1), least), stop


def drawn_type(kind: str) -> np.dtype[Any] | None:
    """NumPy's type for the runtime's name of a tensor of numbers; None for all other types."""
    return _DTYPES.get(kind)


def too_many(model: Session, batch: int) -> bool:
    """Whether a size of free dimensions makes one input too large to be tried."""
    ones = _batches(model, batch)
    return any(math.prod(_filled(entry.shape, batch, ones)) > _MOST_DRAWN for entry in model.inputs)


def _batches(model: Session, size: int) -> set[object]:
    """Names of the dimensions that are batches of a large size: the first of an input, if it has more free ones."""
    if size < _LEAST_IMAGE:
        return set()
    firsts = (entry.shape[0] for entry in model.inputs if len(_free(entry.shape)) > 1 and _free(entry.shape)[0] == 0)
    return {first for first in firsts if isinstance(first, str) and first}


def _free(stated: Sequence[object]) -> list[int]:
    """The axes of free dimensions."""
    return [axis for axis, size in enumerate(stated) if not (isinstance(size, int) and size >= 0)]


def _filled(stated: Sequence[object], size: int, ones: Collection[object]) -> list[int]:
    """A shape with its free dimensions filled: batches with 1."""
    free = _free(stated)
    shape = [
        stated_size if isinstance(stated_size, int) and stated_size >= 0 else _evaluated(stated_size, size)
        for stated_size in stated
    ]
    if size >= _LEAST_IMAGE and len(free) > 1 and free[0] == 0:
        shape[0] = 1
    return [1 if stated_size in ones else length for stated_size, length in zip(stated, shape, strict=True)]


def _evaluated(stated: object, size: int) -> int:
    """A free dimension: ``size``, or a sum of it such as ``past + sequence`` or ``past + 1``."""
    terms = [term.strip() for term in stated.split("+")] if isinstance(stated, str) else []
    if not all(term.isidentifier() or (term.isdecimal() and len(term) < _LONGEST_TERM) for term in terms):
        return size
    return sum(int(term) if term.isdecimal() else size for term in terms) if terms else size
