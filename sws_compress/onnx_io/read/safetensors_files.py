"""Tensors of safetensors files and their places: of a file, of a folder of files, or of those that an index names.

The headers are read here and not by the safetensors library: it gives tensors and not their places, NumPy's types lack
its bfloat16, and it is native code, which gets no bytes of unknown origin in this process.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sws_compress.errors import ModelError
from sws_compress.messages import shown

INDEX_ENDING = ".index.json"
ENDING = ".safetensors"

LARGEST_HEADER_BYTES = 100 << 20
"""No file of the format has a longer header."""

LARGEST_INDEX_BYTES = 100 << 20

TYPES = {
    "BF16": ir.DataType.BFLOAT16,
    "BOOL": ir.DataType.BOOL,
    "F16": ir.DataType.FLOAT16,
    "F32": ir.DataType.FLOAT,
    "F64": ir.DataType.DOUBLE,
    "F8_E4M3": ir.DataType.FLOAT8E4M3FN,
    "F8_E5M2": ir.DataType.FLOAT8E5M2,
    "I16": ir.DataType.INT16,
    "I32": ir.DataType.INT32,
    "I64": ir.DataType.INT64,
    "I8": ir.DataType.INT8,
    "U16": ir.DataType.UINT16,
    "U32": ir.DataType.UINT32,
    "U64": ir.DataType.UINT64,
    "U8": ir.DataType.UINT8,
}
"""The types of the format that ONNX has, too."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a safetensors file.

    Parameters
    ----------
    file : Path
        The file.
    dtype : ir.DataType
    shape : tuple of int
    offset, length : int
        Place of its bytes in the file.
    """

    file: Path
    dtype: ir.DataType
    shape: tuple[int, ...]
    offset: int
    length: int

    def values(self) -> npt.NDArray[Any]:
        """Its elements, mapped from the file."""
        if not self.length:
            return np.empty(self.shape, self.dtype.numpy())
        raw = np.memmap(self.file, np.uint8, "r", self.offset, (self.length,))
        return raw.view(self.dtype.numpy()).reshape(self.shape)


def stored_tensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file, of the files in a folder, or of those that an index names; by name.

    A folder with an index is read by the index, so that files beside it that it does not name do not matter.

    Raises
    ------
    ModelError
        If there is no such file, if a file is damaged or lies outside of the folder, or if two have a tensor of the
        same name.
    """
    try:
        files = list(_files(path))
    except (OSError, ValueError, RuntimeError) as error:  # names that no file can have; links in a circle
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"weights {path} must be readable, got '{reason}': check the path") from error
    found: dict[str, StoredTensor] = {}
    for file, wanted in files:
        for name, tensor in _tensors(file).items():
            if wanted is not None and name not in wanted:
                continue
            if name in found:
                raise ModelError(
                    f"weights {path} must have every tensor once, got {shown(name)} in two files: remove one"
                )
            found[name] = tensor
    return found


def _files(path: Path) -> Iterator[tuple[Path, frozenset[str] | None]]:
    """The files, and the names of the tensors that are wanted of each; None for all."""
    if path.is_dir():
        indices = sorted(path.glob(f"*{ENDING}{INDEX_ENDING}"))
        if len(indices) > 1:
            raise ModelError(f"weights {path} must have one index, got {len(indices)}: name the one to read")
        if indices:
            yield from _indexed(indices[0])
            return
        files = sorted(path.glob(f"*{ENDING}"))
        if not files:
            raise ModelError(f"weights {path} must hold {ENDING} files, got none: name the folder that has them")
        yield from ((_inside(file.name, path), None) for file in files)
    elif path.name.endswith(INDEX_ENDING):
        yield from _indexed(path)
    elif path.is_file():
        yield path, None
    else:
        raise ModelError(f"weights {path} must exist, got no such file or folder: check the path")


def _indexed(index: Path) -> Iterator[tuple[Path, frozenset[str]]]:
    """The files that an index names, with the tensors that it says they have."""
    if not stat.S_ISREG(index.stat().st_mode) or index.stat().st_size > LARGEST_INDEX_BYTES:
        raise ModelError(f"index {index} must be an ordinary file of a few megabytes, got another: download it again")
    names = _parsed(index.read_bytes(), index).get("weight_map")
    if not isinstance(names, Mapping) or not all(isinstance(file, str) for file in names.values()):
        raise ModelError(f"index {index} must map tensors to files, got something else: download it again")
    by_file: dict[str, set[str]] = {}
    for name, file in names.items():
        by_file.setdefault(file, set()).add(name)
    for file, wanted in sorted(by_file.items()):
        yield _inside(file, index.parent), frozenset(wanted)


def _inside(name: str, folder: Path) -> Path:
    """A file of a folder; links lead to files in it, or to the place where the cache of the hub keeps its files.

    A path out of the folder could name any file that the reader may open.
    """
    home, file = folder.resolve(), folder / name
    target = file.resolve()
    cache = home.parent.parent / "blobs"  # of snapshots/REVISION
    plain = bool(name) and name == os.path.basename(name)
    if not plain or not (target.parent == home or (file.is_symlink() and target.parent == cache)):
        raise ModelError(f"weights of {folder} must lie in it, got {shown(name)}: move the file there")
    if not target.is_file():
        raise ModelError(f"weights of {folder} must be complete, got no file {shown(name)}: download it again")
    return target


def _tensors(file: Path) -> dict[str, StoredTensor]:
    """The tensors of a file, as its header says."""
    try:
        with file.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            header, start = _header(stream, size, file)
    except OSError as error:
        raise ModelError(f"weights {file} must be readable, got '{error.strerror}': check the path") from error
    header.pop("__metadata__", None)
    return {name: _tensor(name, entry, file, start, size) for name, entry in header.items()}


def _header(stream: BinaryIO, size: int, file: Path) -> tuple[dict[str, Any], int]:
    """The header of a file, and where the bytes of its tensors begin."""
    length = int.from_bytes(stream.read(8), "little")
    if size < 8 or not 2 <= length <= min(LARGEST_HEADER_BYTES, size - 8):
        raise ModelError(f"weights {file} must be a safetensors file, got one without a header: download it again")
    return _parsed(stream.read(length), file), 8 + length


def _parsed(text: bytes, file: Path) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file} must hold JSON, got bytes that do not parse: download it again") from error
    if not isinstance(found, dict):
        raise ModelError(f"{file} must hold a JSON object, got {type(found).__name__}: download it again")
    return found


def _tensor(name: str, entry: Any, file: Path, start: int, size: int) -> StoredTensor:
    """A tensor that lies within its file."""
    stated = entry if isinstance(entry, dict) else {}
    shape, place, kind = stated.get("shape"), stated.get("data_offsets"), stated.get("dtype")
    if not (_are_sizes(shape) and _are_sizes(place) and len(place) == 2 and isinstance(kind, str)):
        raise ModelError(
            f"tensor {shown(name)} of {file} must state type, shape and place, got others: download it again"
        )
    if kind not in TYPES:
        raise ModelError(
            f"tensor {shown(name)} of {file} must be of a type that ONNX has, got {shown(kind)}: convert the weights"
        )
    dtype = TYPES[kind]
    first, last = place
    if last - first != math.prod(shape) * dtype.itemsize or start + last > size:
        raise ModelError(
            f"tensor {shown(name)} of {file} must have {shown(shape)} elements of {kind} within the file, got bytes "
            f"{shown(place)}: the file is cut off or damaged"
        )
    return StoredTensor(file, dtype, tuple(shape), start + first, last - first)


def _are_sizes(numbers: Any) -> TypeGuard[list[int]]:
    whole = (isinstance(number, int) and not isinstance(number, bool) for number in numbers or ())
    return isinstance(numbers, list) and all(whole) and all(0 <= number < 1 << 62 for number in numbers)
