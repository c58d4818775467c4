"""Inputs and outputs of narrow floats and integers, which NumPy lacks, as float32."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from sws_compress.onnx_io.traversal import nodes_of

_EXCHANGED = frozenset({
    TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BOOL, TensorProto.STRING,
    TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64,
    TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64, TensorProto.UNDEFINED,
})  # fmt: skip
"""Types of elements that ONNX Runtime and NumPy exchange as they are."""


def widen_interface(proto: onnx.ModelProto) -> bool:
    """Put a Cast behind every input, and before every output, of a type that NumPy lacks, in place.

    Parameters
    ----------
    proto : ModelProto
        The model. Its inputs and outputs keep their names.

    Returns
    -------
    bool
        Whether there is one.
    """
    graph = proto.graph
    stored = {tensor.name for tensor in graph.initializer}
    inputs = {entry.name: entry for entry in graph.input if _is_narrow(entry) and entry.name not in stored}
    outputs = {entry.name: entry for entry in graph.output if _is_narrow(entry)}
    renamed = {name: f"{name}\0narrow" for name in (*inputs, *outputs)}
    for node in nodes_of(graph.node):
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    for tensor in graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    first = [
        helper.make_node("Cast", [name], [renamed[name]], to=entry.type.tensor_type.elem_type)
        for name, entry in inputs.items()
    ]
    last = [
        helper.make_node("Cast", [renamed[name]], [name], to=TensorProto.FLOAT)
        for name in outputs
        if name not in inputs
    ]
    moved = [onnx.NodeProto.FromString(node.SerializeToString()) for node in (*first, *graph.node, *last)]
    del graph.node[:]
    graph.node.extend(moved)
    for entry in (*inputs.values(), *outputs.values()):
        entry.type.tensor_type.elem_type = TensorProto.FLOAT
    return bool(renamed)


def _is_narrow(entry: onnx.ValueInfoProto) -> bool:
    return entry.type.HasField("tensor_type") and entry.type.tensor_type.elem_type not in _EXCHANGED
