"""How many bytes the parts of a model file take."""

from __future__ import annotations

from collections.abc import Mapping

import onnx


def is_external(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def location_of(tensor: onnx.TensorProto) -> tuple[int, int]:
    """Offset and length of an external tensor."""
    fields: Mapping[str, str] = {entry.key: entry.value for entry in tensor.external_data}
    return int(fields["offset"]), int(fields["length"])


def initializer_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of an initialiser in the file, or what they would be if it were not external."""
    return len(opening(tensor)) + location_of(tensor)[1] if is_external(tensor) else framed(tensor.ByteSize())


def opening(tensor: onnx.TensorProto) -> bytes:
    """All bytes of an initialiser's field but those of the tensor itself, which follow."""
    length = location_of(tensor)[1]
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
    """Bytes of a field of ``length`` bytes with its tag (one byte) and its length."""
    return 1 + max(1, -(-length.bit_length() // 7)) + length
