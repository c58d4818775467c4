"""Tensors whose bytes lie in a file beside the model."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx import numpy_helper

from sws_compress.errors import ArgumentError
from sws_compress.messages import shown
from sws_compress.onnx_io.traversal import tensors


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether the tensor's bytes lie outside of the model file."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def external_fields(tensor: onnx.TensorProto) -> Mapping[str, str]:
    """What an external tensor states of its place: "location", "offset", "length", as text; each may be missing."""
    return {entry.key: entry.value for entry in tensor.external_data}


def offset_and_length(tensor: onnx.TensorProto) -> tuple[int, int]:
    """Offset and length in bytes of an external tensor that states both, as those of a `StoredModel` do."""
    fields = external_fields(tensor)
    return int(fields["offset"]), int(fields["length"])


@dataclass(frozen=True, eq=False)
class StoredModel:
    """A model whose external tensors stay on disk until one of them is asked for.

    Parameters
    ----------
    proto : ModelProto
        Its nodes are sorted. External initialisers state their offset and length.
    file_bytes : int
        Size of the model in bytes, if all its tensors were in one file.
    load : callable
        The bytes of an external initialiser, shape (length,), uint8; they may be mapped from the file.
    path : Path or None
        The file; None for a model that was never in one.
    """

    proto: onnx.ModelProto
    file_bytes: int
    load: Callable[[onnx.TensorProto], npt.NDArray[np.uint8]]
    path: Path | None = None

    def values(self, tensor: onnx.TensorProto) -> npt.NDArray[Any]:
        """The elements of an initialiser; mapped from the file if it is external, and they have whole bytes."""
        if not is_external(tensor):
            return numpy_helper.to_array(tensor)
        kind = ir.DataType(tensor.data_type)
        if kind.bitwidth < 8:
            loaded = onnx.TensorProto()
            loaded.CopyFrom(tensor)
            self.take_in([loaded])
            return numpy_helper.to_array(loaded)
        return self.load(tensor).view(kind.numpy()).reshape(tuple(tensor.dims))

    def take_in(self, tensors: Iterable[onnx.TensorProto]) -> None:
        """Load the external ones of ``tensors``, in place."""
        for tensor in filter(is_external, tensors):
            tensor.raw_data = self.load(tensor).tobytes()
            tensor.ClearField("data_location")
            del tensor.external_data[:]


def in_memory(data: bytes) -> StoredModel:
    """The model in the bytes of a file. They must hold all its tensors: they do not tell where external data lies.

    Raises
    ------
    ArgumentError
        If a tensor is external.
    """
    proto = onnx.load_from_string(data)
    name = next((tensor.name for tensor in tensors(proto) if is_external(tensor)), None)
    if name is not None:
        raise ArgumentError(
            f"bytes of a model must hold all its tensors, got {shown(name)} in a file beside it: "
            "open the file (read.on_disk.stored_model)"
        )
    return StoredModel(proto, len(data), _nothing)


def _nothing(tensor: onnx.TensorProto) -> npt.NDArray[np.uint8]:
    raise AssertionError(f"{tensor.name} is not external")


def forget(value: ir.Value) -> None:
    """Unmap what was read of an external tensor, so that its pages no longer count as memory of this process.

    Arrays that somebody still holds stay valid, and the tensor may be read again: both read the file again.
    """
    tensor = value.const_value
    if isinstance(tensor, ir.ExternalTensor):
        mapped, tensor.raw = tensor.raw, None
        tensor.release()
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)
