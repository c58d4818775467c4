"""Messages between a process and its child.

A message is the length of a JSON header (8 bytes, little-endian), the header, and the bytes of its blocks one after the
other. The header holds the value itself with a number in place of each block, and the dtype and shape of every block.
Nothing in a message is executed: a child that a model has taken over can lie in its answer and do no more.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from io import FileIO
from typing import Any

import numpy as np
import numpy.typing as npt

NUMBERS = "biufc"
"""Kinds of arrays that are sent as their bytes."""

BEGUN = b"\x06"
"""What the child writes before it calls a function, and the answer after it. ASCII's acknowledgement."""

MOST_HEADER_BYTES = 1 << 28
"""Longest header: text is in it, and arrays of numbers are not."""

_LENGTH_BYTES = 8

_PLAIN = (type(None), bool, int, float, str)

Array = npt.NDArray[Any]


class WireError(ValueError):
    """Bytes that are no message, or a value that is none."""


def send(file: FileIO, value: object) -> None:
    """Write a value: None, numbers, text, bytes, arrays of numbers or text, and lists, tuples and dicts of values.

    Raises
    ------
    WireError
        If the value is anything else; nothing is written then.
    """
    blocks: list[Array] = []
    tree = _tree(value, blocks)
    kinds = [[block.dtype.str, block.shape] for block in blocks]
    header = json.dumps({"value": tree, "blocks": kinds}).encode("ascii")
    if len(header) > MOST_HEADER_BYTES:
        raise WireError(f"text must be of at most {MOST_HEADER_BYTES} bytes, got {len(header)}")
    _write(file, len(header).to_bytes(_LENGTH_BYTES, "little") + header)
    for block in blocks:
        if block.size:
            _write(file, np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)


def receive(file: FileIO, *, most_bytes: int) -> Any:
    """Read a value.

    Parameters
    ----------
    file : FileIO
        Where it comes from.
    most_bytes : int
        Bytes of all blocks that are allocated at most.

    Raises
    ------
    EOFError
        If the other side has closed its end.
    WireError
        If what comes is no message.
    """
    prefix = bytearray(_LENGTH_BYTES)
    _read(file, prefix)
    length = int.from_bytes(prefix, "little")
    if length > MOST_HEADER_BYTES:
        raise WireError(f"header must be of at most {MOST_HEADER_BYTES} bytes, got {length}")
    try:
        text = bytearray(length)
        _read(file, text)
        header = json.loads(text)
        kinds = [(_dtype(dtype), tuple(map(int, shape))) for dtype, shape in header["blocks"]]
        total = sum(dtype.itemsize * math.prod(shape) for dtype, shape in kinds)
        if total > most_bytes or any(size < 0 for _, shape in kinds for size in shape):
            raise WireError(f"blocks must be of 0 to {most_bytes} bytes, got {total}")
        blocks = [_block(file, dtype, shape) for dtype, shape in kinds]
        return _value(header["value"], blocks)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, RecursionError, MemoryError) as error:
        raise WireError(f"message must be readable, got {type(error).__name__}") from error


def _tree(value: object, blocks: list[Array]) -> object:
    """A value as JSON has it; blocks of bytes are appended to ``blocks``."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, bytes):
        blocks.append(np.frombuffer(value, np.uint8))
        return {"bytes": len(blocks) - 1}
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.kind in NUMBERS:
            blocks.append(array)
            return {"array": len(blocks) - 1}
        text = array.reshape(-1).tolist()
        if array.dtype.kind in "OU" and all(isinstance(entry, str) for entry in text):
            return {"text": text, "shape": list(array.shape)}
        raise WireError(f"array must be of numbers or text, got {array.dtype}")
    if isinstance(value, list | tuple):
        return [_tree(entry, blocks) for entry in value]
    if isinstance(value, Mapping):
        return {"entries": [[_tree(key, blocks), _tree(entry, blocks)] for key, entry in value.items()]}
    raise WireError(f"value must be an array, got {type(value).__name__}")


def _value(tree: Any, blocks: list[Array]) -> Any:
    """The value that `_tree` made JSON of."""
    if isinstance(tree, list):
        return [_value(entry, blocks) for entry in tree]
    if not isinstance(tree, dict):
        return tree
    if "entries" in tree:
        return {_value(key, blocks): _value(entry, blocks) for key, entry in tree["entries"]}
    if "text" in tree:
        return np.array([str(entry) for entry in tree["text"]], object).reshape(tree["shape"])
    if "bytes" in tree:
        return blocks[tree["bytes"]].tobytes()
    return blocks[tree["array"]]


def _dtype(name: object) -> np.dtype[Any]:
    dtype = np.dtype(str(name))
    if dtype.kind not in NUMBERS:
        raise WireError(f"blocks must be numbers, got {dtype}")
    return dtype


def _block(file: FileIO, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    block = np.empty(shape, dtype)
    if block.size:
        _read(file, block.reshape(-1).view(np.uint8).data)
    return block


def _write(file: FileIO, data: bytes | memoryview) -> None:
    """Write all of ``data``: a pipe takes a part at a time."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _read(file: FileIO, target: bytearray | memoryview) -> None:
    """Fill ``target``."""
    left = memoryview(target)
    while left:
        count = file.readinto(left)
        if not count:
            raise EOFError
        left = left[count:]
