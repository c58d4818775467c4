"""Initialisers out, decode nodes in, and nothing left in the file that a runtime does not need."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator

import numpy as np
import onnx
import onnx_ir as ir

from sws_compress.onnx_io.format.mark import DOMAIN, FORMAT_KEY, FORMAT_VERSION, Mark
from sws_compress.onnx_io.format.sizes import framed
from sws_compress.onnx_io.write.attributes import drop_idle_attributes
from sws_compress.onnx_io.write.onnx_ops import Emission, short_names
from sws_compress.onnx_io.write.packed_rows import look_up_packed

_FUNCTIONS_SINCE = 8
"""First IR version with model-local functions."""


_NUMBERS_BYTES = 4096
"""Larger tensors are payload: their bytes are counted without being written."""


_UNKNOWN_LENGTH = ("Compress", "NonMaxSuppression", "NonZero", "Unique")
"""Operators whose output shape depends on data: what the model states of it cannot be inferred again."""


def value_names(model: ir.Model) -> frozenset[str]:
    """All names of values in all graphs of ``model``."""
    return frozenset(name for graph in [model.graph, *model.graph.subgraphs()] for name in _names(graph))


def strip(model: ir.Model) -> None:
    """Drop what a runtime does not need, in place, so that the model computes the same.

    Gone: names and documentation of nodes, traces of the exporter, the producer, attributes that change nothing, shapes
    of intermediate values that inference finds again. Intermediate values and the graph get short names. The names of
    inputs, outputs, free dimensions and weights stay, and so does the model's own metadata.
    """
    model.producer_name, model.producer_version = None, None
    model.graph.name = "g"
    main_values = {name for value in _values(model.graph) if (name := value.name) and not _intermediate(value)}
    names = short_names(main_values | {name for graph in model.graph.subgraphs() for name in _names(graph)})
    for value in list(_values(model.graph)):
        if _intermediate(value):
            value.name = next(names)
    for graph in [model.graph, *model.graph.subgraphs(), *(function.graph for function in model.functions.values())]:
        graph.doc_string = None
        graph.metadata_props.clear()
        for value in _values(graph):
            value.doc_string = None
            value.metadata_props.clear()
            if not value.is_graph_input() and not value.is_graph_output() and _inferable(value):
                value.type, value.shape = None, None
        for node in graph:
            node.name, node.doc_string = None, None
            node.metadata_props.clear()
            drop_idle_attributes(node, model.opset_imports.get(node.domain))


def shorten(model: ir.Model, names: Collection[str]) -> dict[str, str]:
    """Give those values of the main graph the shortest free names, in place; the new name of each by the old one.

    Inputs and outputs of the model keep theirs.
    """
    fresh = short_names(set(value_names(model)))
    renamed = {}
    for value in list(_values(model.graph)):
        if value.name in names and not value.is_graph_input() and not value.is_graph_output():
            renamed[str(value.name)] = value.name = next(fresh)
    return renamed


def _intermediate(value: ir.Value) -> bool:
    """Whether a value of the main graph is neither part of its interface nor a weight."""
    return value.producer() is not None and bool(value.name) and not value.is_graph_output()


def _names(graph: ir.Graph) -> set[str]:
    return {value.name for value in _values(graph) if value.name}


def insert(model: ir.Model, emission: Emission, replaced: Iterable[str]) -> None:
    """Put decode nodes in front of the graph, in place; their outputs take over from the initialisers ``replaced``, and
    look-ups from the Gathers of theirs."""
    graph = model.graph
    decoded = {value.name: value for node in emission.nodes for value in node.outputs}
    for name in replaced:
        old = graph.initializers.pop(name)
        if old in graph.inputs:
            graph.inputs.remove(old)
        old.replace_all_uses_with(decoded[name], replace_graph_outputs=True)
    for name, look_up in emission.look_ups.items():
        look_up_packed(model, name, look_up)
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
    model.metadata_props[FORMAT_KEY] = str(Mark(FORMAT_VERSION, len(emission.nodes)))
    for node in emission.nodes:
        node.name = None


def write(model: ir.Model) -> bytes:
    """The bytes of the file; what lay in external files comes into it (and into memory, in ``model`` too)."""
    load(model)
    data: bytes = to_proto(model).SerializeToString(deterministic=True)
    return data


def load(model: ir.Model, *, below_bytes: float = math.inf) -> None:
    """Read initialisers of less than ``below_bytes`` from external files, in place."""
    for graph in [model.graph, *model.graph.subgraphs()]:
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor) and value.const_value.nbytes < below_bytes:
                value.const_value = ir.Tensor(value.const_value.numpy(), name=value.name)


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """The model as it is written, in as few bytes as possible."""
    proto: onnx.ModelProto = ir.to_proto(model)
    shrink_integers(proto)
    for owner in [proto, *proto.functions]:
        for entry in owner.opset_import:
            if not entry.domain:
                entry.ClearField("domain")  # written out as empty it takes two bytes
    return proto


def emission_bytes(emission: Emission) -> int:
    """Bytes that the nodes, initialisers, shapes and functions of ``emission`` take in a file, one call a look-up."""
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
