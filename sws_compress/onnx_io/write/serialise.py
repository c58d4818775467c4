"""Models as the bytes of a file, as few of them as possible."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from sws_compress.onnx_io.format.mark import DOMAIN
from sws_compress.onnx_io.format.sizes import framed
from sws_compress.onnx_io.map_types import put_map_types
from sws_compress.onnx_io.write.emission import Emission
from sws_compress.onnx_io.write.strip import drop_metadata, strip

_COUNTED_TENSOR_BYTES = 4096
"""Tensors of more bytes are payload: their bytes are counted without being written."""


def to_bytes(model: ir.Model) -> bytes:
    """The bytes of the file; external data is loaded (in ``model`` too) and comes into it."""
    data: bytes = to_proto(ir.external_data.load_to_model(model)).SerializeToString(deterministic=True)
    return data


def plain_bytes(model: ir.Model) -> bytes:
    """The bytes of the file without the exporter's traces: what compressed sizes are compared with.

    ``model`` itself stays as it is.
    """
    plain = model.clone()
    strip(plain)
    return to_bytes(plain)


def metadata_bytes(model: ir.Model) -> int:
    """Bytes of the file of ``model`` that are an exporter's metadata: documentation, traces, shapes between nodes.

    Names are none: a file is known by its size on disk. Large tensors are not loaded for it.
    """
    bare = model.clone()
    for value in bare.graph.initializers.values():
        if value.const_value is not None and value.const_value.nbytes > _COUNTED_TENSOR_BYTES:
            value.const_value = ir.tensor(np.zeros(0, np.float32), name=value.name)
    before = len(to_bytes(bare))
    drop_metadata(bare)
    return before - len(to_bytes(bare))


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """The model in protobuf form; external tensors stay external."""
    proto: onnx.ModelProto = ir.to_proto(model)
    put_map_types(proto, model)
    _shrink_integers(proto)
    for owner in [proto, *proto.functions]:
        for entry in owner.opset_import:
            if not entry.domain:
                entry.ClearField("domain")  # written out as empty it takes two bytes
    return proto


def emission_bytes(emission: Emission) -> int:
    """Bytes that decoders take in a file: nodes, initialisers, stated shapes, functions, and one call per look-up."""
    graph = ir.Graph((), (), nodes=(), initializers=(), opset_imports={})
    proto = ir.to_proto(graph)
    shapes = [value for node in emission.nodes for value in node.outputs if value.shape is not None]
    for value in shapes:
        ir.serde.serialize_value_into(proto.value_info.add(), value)
    for node in emission.nodes:
        ir.serde.serialize_node_into(proto.node.add(), node)
    for look_up in emission.look_ups.values():
        names = ["a", *(str(value.name) for value in look_up.arguments)]
        proto.node.add(op_type=look_up.function, domain=DOMAIN, input=names, output=["a"])
    model = onnx.ModelProto(graph=proto)
    model.functions.extend(ir.to_proto(function) for function in emission.functions)
    _shrink_integers(model)
    return int(model.ByteSize()) + sum(map(_initializer_bytes, emission.initializers))


def _initializer_bytes(value: ir.Value) -> int:
    assert value.const_value is not None
    tensor = onnx.TensorProto(name=value.name, dims=value.const_value.shape.numpy(), data_type=value.const_value.dtype)
    if value.const_value.nbytes > _COUNTED_TENSOR_BYTES:
        return framed(tensor.ByteSize() + framed(value.const_value.nbytes))
    tensor.raw_data = value.const_value.tobytes()
    _shrink(tensor)
    return framed(tensor.ByteSize())


def _shrink_integers(proto: onnx.ModelProto) -> None:
    """Store the integers of initialisers and Constant nodes in fewer bytes, in place, where that is possible."""
    bodies = [proto.graph.node, *(function.node for function in proto.functions)]
    constants = [
        attribute.t for nodes in bodies for node in nodes for attribute in node.attribute if node.op_type == "Constant"
    ]
    for tensor in [*proto.graph.initializer, *constants]:
        _shrink(tensor)


def _shrink(tensor: onnx.TensorProto) -> None:
    """Store small integers as varints (1 to 3 bytes each) instead of 4 or 8 raw bytes, if that is smaller."""
    if tensor.data_type not in (onnx.TensorProto.INT32, onnx.TensorProto.INT64) or not tensor.HasField("raw_data"):
        return
    dtype = np.int32 if tensor.data_type == onnx.TensorProto.INT32 else np.int64
    numbers = np.frombuffer(tensor.raw_data, np.dtype(dtype).newbyteorder("<")).astype(np.int64)
    bits = np.where(numbers < 0, 64, np.ceil(np.log2(np.maximum(numbers, 0) + 1.0)))
    if np.maximum(np.ceil(bits / 7), 1).sum() >= len(tensor.raw_data):
        return
    tensor.ClearField("raw_data")
    field = tensor.int32_data if dtype is np.int32 else tensor.int64_data
    field.extend(numbers.tolist())
