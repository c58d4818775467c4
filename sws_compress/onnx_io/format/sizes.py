"""Bytes that the parts of a model take in a file, and the framing that protobuf puts around them."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from google.protobuf.message import Message  # type: ignore[import-untyped,unused-ignore]

from sws_compress.onnx_io.external_data import is_external, offset_and_length


def initializer_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of an initialiser in the file; those of an external one as if it were in the file too."""
    return framed(_inside_bytes(tensor))


def data_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of the elements of a tensor with their frame, as if they were in the file: without its name and shape."""
    if is_external(tensor):
        return framed(offset_and_length(tensor)[1])
    bare = onnx.TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
    return int(tensor.ByteSize()) - int(bare.ByteSize())


def model_bytes(proto: onnx.ModelProto) -> int:
    """Bytes of a model in one file; external tensors, which state their lengths, count as if they were in it."""
    return int(proto.ByteSize()) + _growth(proto)


def _growth(message: Message) -> int:
    """Bytes that a message grows by when its external tensors come in, lengths that frame them included."""
    if isinstance(message, onnx.TensorProto):
        return _inside_bytes(message) - int(message.ByteSize())
    growth = 0
    for field, value in message.ListFields():
        if field.message_type is not None:
            for entry in value if isinstance(value, Sequence) else (value,):
                if more := _growth(entry):
                    size = int(entry.ByteSize())
                    growth += framed(size + more) - framed(size)
    return growth


def _inside_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of a tensor with its data inside."""
    if not is_external(tensor):
        return int(tensor.ByteSize())
    return int(_described(tensor).ByteSize()) + framed(offset_and_length(tensor)[1])


def _described(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """An external tensor without its data and without the place of it."""
    bare = onnx.TensorProto()
    bare.CopyFrom(tensor)
    bare.ClearField("data_location")
    del bare.external_data[:]
    return bare


def opening(tensor: onnx.TensorProto) -> bytes:
    """The bytes of an external initialiser's field, were it in the file, up to its raw data, which would come last."""
    length = offset_and_length(tensor)[1]
    head: bytes = _described(tensor).SerializeToString(deterministic=True)
    head += frame(onnx.TensorProto.RAW_DATA_FIELD_NUMBER, length)
    return frame(onnx.GraphProto.INITIALIZER_FIELD_NUMBER, len(head) + length) + head


def frame(field: int, length: int) -> bytes:
    """Tag and length of a field of ``length`` bytes, as protobuf writes them."""
    encoded = [field << 3 | 2]
    while length > 127:
        encoded.append(length & 127 | 128)
        length >>= 7
    return bytes([*encoded, length])


def framed(length: int) -> int:
    """Bytes of a field with a payload of ``length`` bytes, its tag (one byte) and length included."""
    return 1 + max(1, -(-length.bit_length() // 7)) + length
