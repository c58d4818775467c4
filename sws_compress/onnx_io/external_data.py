"""Tensors whose bytes lie in a file beside the model."""

from __future__ import annotations

import mmap
from collections.abc import Mapping

import onnx
import onnx_ir as ir

from sws_compress.errors import ArgumentError
from sws_compress.onnx_io.messages import shown
from sws_compress.onnx_io.traversal import tensors


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether the tensor's bytes lie outside of the model file."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def external_fields(tensor: onnx.TensorProto) -> Mapping[str, str]:
    """What an external tensor states of its place: "location", "offset", "length", as text; each may be missing."""
    return {entry.key: entry.value for entry in tensor.external_data}


def offset_and_length(tensor: onnx.TensorProto) -> tuple[int, int]:
    """Offset and length in bytes of an external tensor that this package wrote: it states both."""
    fields = external_fields(tensor)
    return int(fields["offset"]), int(fields["length"])


def refuse_external(proto: onnx.ModelProto) -> None:
    """Check that a model holds all its tensors: its bytes do not tell in which folder external data lies.

    Raises
    ------
    ArgumentError
        If a tensor is external.
    """
    name = next((tensor.name for tensor in tensors(proto) if is_external(tensor)), None)
    if name is not None:
        raise ArgumentError(
            f"bytes of a model must hold all its tensors, got {shown(name)} in a file beside it: "
            "read them with the file's folder (read.on_disk.whole_file)"
        )


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
