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
from sws_compress.onnx_io.external_data import forget, is_external, offset_and_length
from sws_compress.onnx_io.format.sizes import frame, opening
from sws_compress.onnx_io.write.serialise import to_proto

Array = npt.NDArray[Any]


LARGE_TENSOR_BYTES = 4096
"""Tensors of so many bytes or more are written by themselves, apart from the graph."""


LARGEST_FILE_BYTES = (1 << 31) - 1
"""Protobuf reads no more in one piece; in larger models, tensors lie in a file beside the model."""


_ALIGNMENT_BYTES = 4096
"""Tensors begin at multiples of a page, so that they can be mapped."""


_CHUNK_BYTES = 1 << 24
"""Bytes that are copied at a time."""


class DataFile:
    """A file of tensors, one after another, each aligned so that it can be mapped.

    Parameters
    ----------
    file : Draft
        An empty file.
    """

    def __init__(self, file: Draft) -> None:
        self._file = file
        self.bytes = 0

    @property
    def path(self) -> Path:
        """The present path of the file."""
        return self._file.path

    def publish(self, path: Path) -> None:
        """Rename the file to ``path``; arrays that `add` returned stay valid."""
        self._file.publish(path)

    def add(self, array: Array) -> Array:
        """Write an array, and return it mapped from the file."""
        offset = self._align()
        for chunk in _chunks(array):
            self._file.write(chunk)
        self._file.flush()
        self.bytes = offset + array.nbytes
        return np.memmap(str(self.path), array.dtype, "r", offset, array.shape)

    def add_tensor(self, tensor: ir.TensorProtocol) -> int:
        """Write a tensor, and return its offset in bytes; arrays that `add` returned are not written again."""
        raw = tensor.raw if isinstance(tensor, ir.Tensor) else None
        if isinstance(raw, np.memmap) and raw.filename == os.path.abspath(self.path):
            return int(raw.offset)
        offset = self._align()
        self._file.write(tensor.tobytes())
        self._file.flush()
        self.bytes = offset + tensor.nbytes
        return offset

    def _align(self) -> int:
        """Fill up the last page, and return where the next one begins."""
        padding = -self.bytes % _ALIGNMENT_BYTES
        self._file.write(bytes(padding))
        return self.bytes + padding


def _chunks(array: Array) -> Iterator[memoryview]:
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return (flat[start : start + _CHUNK_BYTES].data for start in range(0, flat.size, _CHUNK_BYTES))


def with_external_data(model: ir.Model, data: DataFile) -> onnx.ModelProto:
    """The model with its large initialisers in a data file.

    Parameters
    ----------
    model : ir.Model
        Changed: its small external initialisers are loaded, and its large ones refer to ``data``.
    data : DataFile
        Gets the tensors of `LARGE_TENSOR_BYTES` or more. They refer to it by the name it has now (see `moved_to`).

    Returns
    -------
    ModelProto
        Small enough to be serialised.
    """
    _load_small(model)
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.nbytes < LARGE_TENSOR_BYTES or tensor.dtype == ir.DataType.STRING:
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
    return to_proto(model)


def _load_small(model: ir.Model) -> None:
    """Load external initialisers of less than `LARGE_TENSOR_BYTES`; onnx-ir's own function loads all, whatever size."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor) and value.const_value.nbytes < LARGE_TENSOR_BYTES:
                value.const_value = ir.Tensor(value.const_value.numpy(), name=value.name)


def moved_to(proto: onnx.ModelProto, location: str) -> None:
    """Let external initialisers refer to a data file of another name, in place."""
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location


def inline_bytes(proto: onnx.ModelProto) -> int:
    """Bytes of the file that `write_inline` writes, or a few more: references to external data are counted too."""
    return int(proto.ByteSize()) + sum(
        offset_and_length(tensor)[1] for tensor in proto.graph.initializer if is_external(tensor)
    )


def write_inline(proto: onnx.ModelProto, data: BinaryIO, file: Draft) -> dict[str, int]:
    """Write a model with its external initialisers inside the file, without holding them in memory.

    A protobuf message is the concatenation of its fields: those of large tensors are framed here, and their bytes are
    copied chunk by chunk.

    Parameters
    ----------
    proto : ModelProto
        The model.
    data : binary stream
        Its external data.
    file : Draft
        Gets the model.

    Returns
    -------
    dict of str to int
        Offsets in ``file`` at which the bytes of the external initialisers begin.
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
    graph_bytes = len(body) + sum(map(len, openings)) + sum(offset_and_length(tensor)[1] for tensor in large)
    start += frame(onnx.ModelProto.GRAPH_FIELD_NUMBER, graph_bytes) + body
    file.write(start)
    position, offsets = len(start), {}
    for head, tensor in zip(openings, large, strict=True):
        offset, length = offset_and_length(tensor)
        file.write(head)
        data.seek(offset)
        for done in range(0, length, _CHUNK_BYTES):
            file.write(data.read(min(_CHUNK_BYTES, length - done)))
        offsets[tensor.name] = position + len(head)
        position += len(head) + length
    return offsets
