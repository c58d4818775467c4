"""Tensors that are mapped from files while they are read."""

from __future__ import annotations

import mmap

import onnx_ir as ir


def forget(value: ir.Value) -> None:
    """Let go of what has been read of an external tensor: the pages of its file no longer count as our memory.

    It may be read again. Arrays that somebody still holds stay valid, and are read from the file again.
    """
    tensor = value.const_value
    if isinstance(tensor, ir.ExternalTensor):
        mapped, tensor.raw = tensor.raw, None
        tensor.release()
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)
