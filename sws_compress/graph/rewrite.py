"""Initialisers out, decode nodes in, and nothing left in the file that a runtime does not need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx
import onnx_ir as ir

from sws_compress.graph.ops import DOMAIN, Emission
from sws_compress.graph.weights import FORMAT_KEY

FORMAT_VERSION = "1"
_FUNCTIONS_SINCE = 8
"""First IR version with model-local functions."""
_NUMBERS_BYTES = 4096
"""Larger tensors are payload: their bytes are counted without being written."""
_UNKNOWN_LENGTH = ("Compress", "NonMaxSuppression", "NonZero", "Unique")
"""Operators whose output shape depends on data: what the model states of it cannot be inferred again."""


def value_names(model: ir.Model) -> frozenset[str]:
    """All names of values in all graphs of ``model``."""
    graphs = [model.graph, *model.graph.subgraphs()]
    values = (value for graph in graphs for value in _values(graph))
    return frozenset(value.name for value in values if value.name)


def strip(model: ir.Model) -> None:
    """Drop what explains the model to people only, in place: names and docs of nodes, traces of the exporter, shapes of
    intermediate values that inference finds again. The names of inputs, outputs and weights stay, and so do the model's
    own metadata."""
    for graph in [model.graph, *model.graph.subgraphs(), *(function.graph for function in model.functions.values())]:
        graph.doc_string = None
        graph.metadata_props.clear()
        kept = {*graph.inputs, *graph.outputs}
        for value in _values(graph):
            value.doc_string = None
            value.metadata_props.clear()
            if value not in kept and _inferable(value):
                value.type, value.shape = None, None
        for node in graph:
            node.name, node.doc_string = None, None
            node.metadata_props.clear()


def insert(model: ir.Model, emission: Emission, replaced: Iterable[str]) -> None:
    """Put decode nodes in front of the graph, in place; their outputs take over from the initialisers ``replaced``."""
    graph = model.graph
    decoded = {value.name: value for node in emission.nodes for value in node.outputs}
    for name in replaced:
        old = graph.initializers.pop(name)
        if old in graph.inputs:
            graph.inputs.remove(old)
        old.replace_all_uses_with(decoded[name], replace_graph_outputs=True)
    first = next(iter(graph), None)
    if first is None:
        graph.extend(emission.nodes)
    else:
        graph.insert_before(first, emission.nodes)
    for value in emission.initializers:
        graph.register_initializer(value)
    for function in emission.functions:
        model.functions[function.identifier()] = function
    if emission.functions:
        graph.opset_imports[DOMAIN] = 1
        model.ir_version = max(model.ir_version, _FUNCTIONS_SINCE)
    model.metadata_props[FORMAT_KEY] = FORMAT_VERSION
    for node in emission.nodes:
        node.name = None


def write(model: ir.Model) -> bytes:
    """The bytes of the file."""
    proto = ir.to_proto(model)
    shrink_integers(proto)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def emission_bytes(emission: Emission) -> int:
    """Bytes that the nodes, initialisers, shapes and functions of ``emission`` take in a file."""
    graph = ir.Graph((), (), nodes=(), initializers=(), opset_imports={})
    proto = ir.to_proto(graph)
    shapes = [value for node in emission.nodes for value in node.outputs if value.shape is not None]
    for value in shapes:
        ir.serde.serialize_value_into(proto.value_info.add(), value)
    for node in emission.nodes:
        ir.serde.serialize_node_into(proto.node.add(), node)
    model = onnx.ModelProto(graph=proto)
    model.functions.extend(ir.to_proto(function) for function in emission.functions)
    size = 0
    for value in emission.initializers:
        assert value.const_value is not None
        tensor = onnx.TensorProto(
            name=value.name, dims=value.const_value.shape.numpy(), data_type=value.const_value.dtype
        )
        if value.const_value.nbytes <= _NUMBERS_BYTES:
            tensor.raw_data = value.const_value.tobytes()
            _shrink(tensor)
            size += framed(tensor.ByteSize())
        else:
            size += framed(tensor.ByteSize() + framed(value.const_value.nbytes))
    shrink_integers(model)
    return int(model.ByteSize()) + size


def framed(length: int) -> int:
    """Bytes of a field of ``length`` bytes with its tag (one byte) and its length."""
    return 1 + max(1, -(-length.bit_length() // 7)) + length


def shrink_integers(proto: onnx.ModelProto) -> None:
    """Store small integers as varints (1 to 3 bytes) instead of raw 4 or 8 bytes, in place, where that is smaller."""
    bodies = [proto.graph.node, *(function.node for function in proto.functions)]
    constants = [
        attribute.t for nodes in bodies for node in nodes for attribute in node.attribute if node.op_type == "Constant"
    ]
    for tensor in [*proto.graph.initializer, *constants]:
        _shrink(tensor)


def _shrink(tensor: onnx.TensorProto) -> None:
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


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs


def _inferable(value: ir.Value) -> bool:
    node = value.producer()
    return node is None or (node.domain in ("", "ai.onnx") and node.op_type not in _UNKNOWN_LENGTH)
