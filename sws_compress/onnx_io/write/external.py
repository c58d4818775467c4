"""Model files written without holding their tensors in memory."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from google.protobuf.message import Message  # type: ignore[import-untyped,unused-ignore]

from sws_compress.files import Draft
from sws_compress.onnx_io.external_data import forget, is_external, offset_and_length
from sws_compress.onnx_io.format.sizes import frame, initializer_bytes, opening
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
        return np.memmap(str(self.path), array.dtype, "r", self._write(array), array.shape)

    def _write(self, array: Array) -> int:
        """Write an array, and return its offset in bytes."""
        offset = self._align()
        for chunk in _chunks(array):
            self._file.write(chunk)
        self._file.flush()
        self.bytes = offset + array.nbytes
        return offset

    def add_initializer(self, name: str, data_type: int, array: Array, shape: tuple[int, ...]) -> onnx.TensorProto:
        """Write the bytes of a tensor; returns an initialiser that refers to them (see `moved_to`)."""
        offset = self._write(array)
        tensor = onnx.TensorProto(name=name, data_type=data_type, dims=shape)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", self.path.name), ("offset", offset), ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        return tensor

    def add_external(self, array: Array, name: str) -> ir.ExternalTensor:
        """Write an array, and return it as a tensor that lies in the file and is mapped when it is read."""
        dtype = ir.DataType.from_numpy(array.dtype)
        return _external(self.path, self._write(array), array.nbytes, dtype, array.shape, name)

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
        shape = tuple(tensor.shape.numpy())
        value.const_value = _external(Path(data.path.name), offset, tensor.nbytes, tensor.dtype, shape, name)
    return to_proto(model)


def _external(
    path: Path, offset: int, length: int, dtype: ir.DataType, shape: tuple[int, ...], name: str
) -> ir.ExternalTensor:
    """A tensor whose bytes are in a file."""
    return ir.ExternalTensor(path.name, offset, length, dtype, shape=ir.Shape(shape), name=name, base_dir=path.parent)


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
    copied chunk by chunk. The bytes are those that serialising the whole model would give.

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
    before, after = _around(graph, onnx.GraphProto.INITIALIZER_FIELD_NUMBER)
    initializers = proto.graph.initializer
    graph_bytes = len(before) + sum(map(initializer_bytes, initializers)) + len(after)
    rest = onnx.ModelProto()
    rest.CopyFrom(proto)
    rest.ClearField("graph")
    first, last = _around(rest, onnx.ModelProto.GRAPH_FIELD_NUMBER)
    start = first + frame(onnx.ModelProto.GRAPH_FIELD_NUMBER, graph_bytes) + before
    file.write(start)
    position, offsets = len(start), {}
    for tensor in initializers:
        if is_external(tensor):
            head = opening(tensor)
            file.write(head)
            offset, length = offset_and_length(tensor)
            data.seek(offset)
            for done in range(0, length, _CHUNK_BYTES):
                file.write(data.read(min(_CHUNK_BYTES, length - done)))
            offsets[tensor.name] = position + len(head)
        else:
            body = tensor.SerializeToString(deterministic=True)
            file.write(frame(onnx.GraphProto.INITIALIZER_FIELD_NUMBER, len(body)) + body)
        position += initializer_bytes(tensor)
    file.write(after + last)
    return offsets


def _around(message: Message, number: int) -> tuple[bytes, bytes]:
    """The bytes of a message's fields below and above a number: serialised messages are in the order of numbers."""
    above = copy.deepcopy(message)
    below = copy.deepcopy(message)
    for field, _ in message.ListFields():
        for part, unwanted in ((below, field.number >= number), (above, field.number <= number)):
            if unwanted:
                part.ClearField(field.name)
    return below.SerializeToString(deterministic=True), above.SerializeToString(deterministic=True)
