"""Model files written without holding their tensors in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from sws_compress.files import Draft
from sws_compress.onnx_io.format.sizes import frame, is_external, location_of, opening
from sws_compress.onnx_io.mapped import forget
from sws_compress.onnx_io.write import rewrite

Array = npt.NDArray[Any]


LARGE_BYTES = 4096
"""From here on a tensor is written by itself, apart from the graph."""


LARGEST_FILE_BYTES = (1 << 31) - 1
"""Protobuf reads no more in one piece; above, tensors go to a file beside the model."""


_ALIGNMENT = 4096


_CHUNK_BYTES = 1 << 24


class DataFile:
    """Tensors one after another in a file, page by page so that they can be mapped."""

    def __init__(self, file: Draft) -> None:
        """``file`` is new."""
        self._file = file
        self.bytes = 0

    @property
    def path(self) -> Path:
        return self._file.path

    def publish(self, path: Path) -> None:
        """Rename the file; what `add` returned stays valid."""
        self._file.publish(path)

    def add(self, array: Array) -> Array:
        """Write an array; what comes back is the same array, mapped from the file."""
        offset = self._align()
        for chunk in _chunks(array):
            self._file.write(chunk)
        self._file.flush()
        self.bytes = offset + array.nbytes
        return np.memmap(str(self.path), array.dtype, "r", offset, array.shape)

    def add_tensor(self, tensor: ir.TensorProtocol) -> int:
        """Write a tensor; returns where. What `add` returned is not written again."""
        raw = tensor.raw if isinstance(tensor, ir.Tensor) else None
        if isinstance(raw, np.memmap) and raw.filename == os.path.abspath(self.path):
            return int(raw.offset)
        offset = self._align()
        self._file.write(tensor.tobytes())
        self._file.flush()
        self.bytes = offset + tensor.nbytes
        return offset

    def _align(self) -> int:
        padding = -self.bytes % _ALIGNMENT
        self._file.write(bytes(padding))
        return self.bytes + padding


def _chunks(array: Array) -> Iterator[memoryview]:
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return (flat[start : start + _CHUNK_BYTES].data for start in range(0, flat.size, _CHUNK_BYTES))


def with_external_data(model: ir.Model, data: DataFile) -> onnx.ModelProto:
    """The model with its large tensors in ``data``, by its present name; ``model`` refers to that from now on."""
    rewrite.load(model, below_bytes=LARGE_BYTES)
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.nbytes < LARGE_BYTES or tensor.dtype == ir.DataType.STRING:
            continue
        offset = data.add_tensor(tensor)
        forget(value)
        value.const_value = ir.ExternalTensor(
            data.path.name,
            offset,
            tensor.nbytes,
            tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=name,
            base_dir="",
        )
    return rewrite.to_proto(model)


def moved_to(proto: onnx.ModelProto, location: str) -> None:
    """Let external tensors refer to a file of another name, in place."""
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location


def inline_bytes(proto: onnx.ModelProto) -> int:
    """Bytes of the file that `write_inline` writes, to within the little that references to data take."""
    return int(proto.ByteSize()) + sum(
        location_of(tensor)[1] for tensor in proto.graph.initializer if is_external(tensor)
    )


def write_inline(proto: onnx.ModelProto, data: BinaryIO, file: Draft) -> dict[str, int]:
    """Write the model with its external tensors, which are copied from ``data`` chunk by chunk, inside the file.

    Returns where in the file the bytes of each of them begin. A message is the concatenation of its fields: the large
    ones are framed by hand, and never in memory.
    """
    graph = onnx.GraphProto()
    graph.CopyFrom(proto.graph)
    del graph.initializer[:]
    graph.initializer.extend(tensor for tensor in proto.graph.initializer if not is_external(tensor))
    body = graph.SerializeToString(deterministic=True)
    large = [tensor for tensor in proto.graph.initializer if is_external(tensor)]
    openings = [opening(tensor) for tensor in large]
    rest = onnx.ModelProto()
    rest.CopyFrom(proto)
    rest.ClearField("graph")
    start = rest.SerializeToString(deterministic=True)
    graph_bytes = len(body) + sum(map(len, openings)) + sum(location_of(tensor)[1] for tensor in large)
    start += frame(onnx.ModelProto.GRAPH_FIELD_NUMBER, graph_bytes) + body
    file.write(start)
    position, offsets = len(start), {}
    for head, tensor in zip(openings, large, strict=True):
        offset, length = location_of(tensor)
        file.write(head)
        data.seek(offset)
        for done in range(0, length, _CHUNK_BYTES):
            file.write(data.read(min(_CHUNK_BYTES, length - done)))
        offsets[tensor.name] = position + len(head)
        position += len(head) + length
    return offsets
