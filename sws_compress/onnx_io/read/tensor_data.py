"""Whether a tensor has the data that its shape and type promise, in the file or in one beside it."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx import TensorProto

from sws_compress.errors import ModelError
from sws_compress.messages import first_line, shown
from sws_compress.onnx_io.external_data import external_fields, is_external

_FIELDS = {
    "float_data": (TensorProto.FLOAT, TensorProto.COMPLEX64),
    "double_data": (TensorProto.DOUBLE, TensorProto.COMPLEX128),
    "int64_data": (TensorProto.INT64,),
    "uint64_data": (TensorProto.UINT32, TensorProto.UINT64),
    "string_data": (TensorProto.STRING,),
}
"""The fields in which tensors without raw bytes keep elements of these types; all others are in int32_data."""


_COMPLEX = (TensorProto.COMPLEX64, TensorProto.COMPLEX128)
"""Types with two numbers an element."""


def check_tensor(tensor: TensorProto, file: Path) -> None:
    """Check that a tensor has the data that its shape and type promise, before anything is allocated by them.

    Parameters
    ----------
    tensor : TensorProto
        The tensor.
    file : Path
        The model's file, beside which external data must lie (`external_path`).

    Raises
    ------
    ModelError
        If it does not.
    """
    count = _element_count(tensor)
    if is_external(tensor):
        _check_external(tensor, _byte_count(tensor, count), file)
    elif tensor.HasField("raw_data"):
        if tensor.data_type == TensorProto.STRING:
            raise ModelError(
                f"strings of tensor {shown(tensor.name)} must be in string_data, got raw bytes: export again"
            )
        wanted, found = _byte_count(tensor, count), len(tensor.raw_data)
        if found != wanted:
            raise _wrong_length(tensor, f"{wanted} bytes", found)
    else:
        field = next((name for name, types in _FIELDS.items() if tensor.data_type in types), "int32_data")
        wanted = 2 * count if tensor.data_type in _COMPLEX else count
        found = len(getattr(tensor, field))
        packed = field == "int32_data" and found == _byte_count(tensor, count) < count  # types of less than a byte
        if found != wanted and not packed:
            raise _wrong_length(tensor, f"{wanted} numbers in {field}", found)


def load_external(tensor: TensorProto, file: Path) -> None:
    """Load the bytes of an external tensor that passed `check_tensor` into it, in place; others stay as they are."""
    if is_external(tensor):
        tensor.raw_data = mapped(tensor, file).tobytes()
        tensor.ClearField("data_location")
        del tensor.external_data[:]


def mapped(tensor: TensorProto, file: Path) -> npt.NDArray[np.uint8]:
    """The bytes of an external tensor of the model in ``file`` that passed `check_tensor`, mapped from its file."""
    fields = external_fields(tensor)
    path = external_path(tensor.name, fields.get("location", ""), file)
    length = _byte_count(tensor, _element_count(tensor))
    if not length:
        return np.empty(0, np.uint8)  # nothing can be mapped
    try:
        return np.memmap(path, np.uint8, "r", int(fields.get("offset", 0)), (length,))
    except (OSError, ValueError) as error:  # it was readable, or longer, when it was checked
        raise ModelError(
            f"external data of {shown(tensor.name)} must be readable, got '{first_line(error)}': copy it again"
        ) from error


def state_place(tensor: TensorProto) -> None:
    """Let an external tensor that passed `check_tensor` state its offset and length, in place."""
    fields = {"offset": "0", **external_fields(tensor), "length": str(_byte_count(tensor, _element_count(tensor)))}
    del tensor.external_data[:]
    for key, value in fields.items():
        tensor.external_data.add(key=key, value=value)


def external_path(name: str, location: str, file: Path) -> Path:
    """The file that holds an external tensor, all links followed.

    A path out of the model's folder, also by a link, could name any file that the reader may open. There is one
    exception: in caches of the Hugging Face hub, the model and its data are links to files that lie side by side.

    Parameters
    ----------
    name : str
        The tensor, for messages.
    location : str
        The path that it states.
    file : Path
        The model's file.

    Raises
    ------
    ModelError
        Unless it is an ordinary file in the model's own folder, or a link there to a file beside the one that the model
        itself is a link to.
    """
    try:
        home = file.parent.resolve()
        stated = home / location
        path = stated.resolve()
        inside = (
            bool(location) and not os.path.isabs(location) and (home in path.parents or _cached(stated, home, file))
        )
        exists = inside and path.is_file()
    except (OSError, ValueError, RuntimeError):  # names that no file can have; links in a circle
        inside = exists = False
    if not inside:
        raise ModelError(
            f"external data of {shown(name)} must lie in the model's folder, got {shown(location)}: move it"
        )
    if not exists:
        raise ModelError(
            f"external data of {shown(name)} must exist, got no file {shown(location)}: copy it beside the model"
        )
    if path.stat().st_nlink > 1:  # a hard link brings any file of the reader's into the folder
        raise ModelError(
            f"external data of {shown(name)} must have one name, got a hard link {shown(location)}: copy the file"
        )
    return path


def _cached(stated: Path, home: Path, file: Path) -> bool:
    """Whether model and data are links, both in the model's folder, to files that lie side by side."""
    folder = stated.parent.resolve()
    links = stated.is_symlink() and file.is_symlink() and (folder == home or home in folder.parents)
    return links and stated.resolve().parent == file.resolve().parent


def _element_count(tensor: TensorProto) -> int:
    """Elements that the shape promises; ModelError for shapes and types that no tensor has."""
    if any(size < 0 for size in tensor.dims):
        raise ModelError(
            f"shape of tensor {shown(tensor.name)} must not be negative, got {shown(list(tensor.dims))}: export again"
        )
    if tensor.HasField("segment"):
        raise ModelError(f"tensor {shown(tensor.name)} must be in one piece, got a segment: export again")
    if tensor.data_type != TensorProto.STRING:
        _element_bits(tensor)
    return math.prod(tensor.dims)


def _element_bits(tensor: TensorProto) -> int:
    try:
        return int(8 * ir.DataType(tensor.data_type).itemsize)
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"type of tensor {shown(tensor.name)} must be one that ONNX defines, got number {tensor.data_type}: "
            "export again, or install a newer onnx"
        ) from error


def _byte_count(tensor: TensorProto, count: int) -> int:
    """Bytes of ``count`` elements, rounded up to whole bytes."""
    return -(-count * _element_bits(tensor) // 8)


def _wrong_length(tensor: TensorProto, wanted: str, found: int) -> ModelError:
    return ModelError(
        f"tensor {shown(tensor.name)} of shape {shown(list(tensor.dims))} must hold {wanted}, got {found}: "
        "the file is damaged"
    )


def _check_external(tensor: TensorProto, wanted: int, file: Path) -> None:
    """Check that the file of an external tensor holds the ``wanted`` bytes where the tensor says."""
    if tensor.data_type == TensorProto.STRING:
        raise ModelError(f"strings of tensor {shown(tensor.name)} must be in the file, got external data: export again")
    fields = external_fields(tensor)
    size = external_path(tensor.name, fields.get("location", ""), file).stat().st_size
    offset, length = (_number(tensor, key, fields.get(key)) for key in ("offset", "length"))
    if length is not None and length != wanted:
        raise _wrong_length(tensor, f"{wanted} bytes", length)
    if (offset or 0) + wanted > size:
        raise ModelError(
            f"external data of {shown(tensor.name)} must end within the {size} bytes of its file, got {wanted} bytes "
            f"from {offset or 0}: the file is cut off or another one"
        )


def _number(tensor: TensorProto, key: str, text: str | None) -> int | None:
    """The number that an external tensor states as text, or None; ModelError for text that is none."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ModelError(
            f"{key} of external data of {shown(tensor.name)} must be a number >= 0, got {shown(text)}: export again"
        )
    return int(text)
