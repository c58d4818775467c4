"""Inputs that callers give by name, as the runtime takes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from sws_compress.errors import DataError
from sws_compress.messages import shown
from sws_compress.ort.sample_inputs import drawn_type
from sws_compress.ort.session import Array

_SEQUENCE = "seq("
"""How the runtime's names of sequences begin; in brackets comes the type of an element."""

_TORCH_ONLY = ("torch.bfloat16", "torch.float8_e4m3fn", "torch.float8_e5m2")
"""Types that NumPy lacks; `comparable_session` takes float32 for them."""


def as_input(name: str, values: Any, stated: str) -> Any:
    """What the runtime is fed for what a caller gave: an array, a tensor of another library, numbers, or lists of them.

    Parameters
    ----------
    name : str
        Name of the input.
    values : ndarray, tensor, number, list or dict
        Tensors are those of torch, and all that NumPy can make arrays of. Lists of numbers get the type of the input.
    stated : str
        The runtime's name of that type; for sequences, each element is taken by itself.

    Raises
    ------
    DataError
        If lists have unequal lengths.
    """
    if isinstance(values, list | tuple) and stated.startswith(_SEQUENCE):
        element = stated.removeprefix(_SEQUENCE).removesuffix(")")
        return [as_input(name, each, element) for each in values]
    if isinstance(values, bool | int | float | str | list | tuple):
        try:
            return in_type(np.asarray(values), drawn_type(stated))
        except ValueError as error:
            raise DataError(
                f"input {shown(name)} must be an array, got lists of unequal lengths: fill them up to one length"
            ) from error
    return as_array(values)


def as_array(values: Any) -> Any:
    """A tensor of another library as an array in the types of NumPy; anything else as it is."""
    if all(hasattr(values, method) for method in ("detach", "cpu", "numpy")):  # torch is not imported for it
        held = values.detach().cpu()
        return (held.float() if str(held.dtype) in _TORCH_ONLY else held).numpy()
    return _exchanged(
        values if isinstance(values, np.ndarray) or not hasattr(values, "__array__") else np.asarray(values)
    )


def in_type(array: Array, dtype: np.dtype[Any] | None) -> Array:
    """Numbers in the type of an input, if none of them changes but by rounding of floats.

    Parameters
    ----------
    array : ndarray
        What a caller gave.
    dtype : dtype or None
        The type of the input, if NumPy has it.
    """
    if dtype is None or array.dtype.kind not in "iuf" or dtype.kind not in "iuf":
        return array
    with np.errstate(invalid="ignore", over="ignore"):
        converted = array.astype(dtype)
    return converted if dtype.kind == "f" or np.array_equal(converted, array) else array


def _exchanged(values: Array) -> Array:
    """Types that NumPy itself lacks, such as bfloat16, as float32, which `comparable_session` takes for them."""
    own = (
        isinstance(values, np.ndarray)
        and values.dtype.kind == "V"
        and values.dtype.name != f"void{8 * values.itemsize}"
    )
    return values.astype(np.float32) if own else values
