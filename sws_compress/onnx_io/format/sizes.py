"""Bytes that the parts of a model take in a file, and the framing that protobuf puts around them."""

from __future__ import annotations

import onnx

from sws_compress.onnx_io.external_data import is_external, offset_and_length


def initializer_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of an initialiser in the file; those of an external one as if it were in the file too."""
    return len(opening(tensor)) + offset_and_length(tensor)[1] if is_external(tensor) else framed(tensor.ByteSize())


def opening(tensor: onnx.TensorProto) -> bytes:
    """The bytes of an external initialiser's field, were it in the file, up to its raw data, which would come last."""
    length = offset_and_length(tensor)[1]
    described = onnx.TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
    head: bytes = described.SerializeToString()
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
