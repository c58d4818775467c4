"""Inputs and outputs that are maps, as ZipMap of scikit-learn's exports makes them: onnx-ir has no such type."""

from __future__ import annotations

import onnx
import onnx_ir as ir

_KEY = "sws_compress.map_types"
"""Key of ``ir.Value.meta`` that holds such a type as bytes."""


def model_from_proto(proto: onnx.ModelProto) -> ir.Model:
    """The model in onnx-ir's form, which remembers its map types."""
    graph = proto.graph
    held = [entry for entry in (*graph.input, *graph.output, *graph.value_info) if _has_map(entry.type)]
    types = {entry.name: entry.type.SerializeToString() for entry in held}
    for entry in held:
        entry.ClearField("type")
    try:
        model = ir.from_proto(proto)
    finally:
        for entry in held:
            entry.type.ParseFromString(types[entry.name])
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.name in types:
            value.meta[_KEY] = types[value.name]
    return model


def put_map_types(proto: onnx.ModelProto, model: ir.Model) -> None:
    """Give the inputs and outputs of ``proto`` the map types that ``model`` remembers, in place."""
    for value, entry in zip(
        (*model.graph.inputs, *model.graph.outputs), (*proto.graph.input, *proto.graph.output), strict=True
    ):
        if _KEY in value.meta:
            entry.type.ParseFromString(value.meta[_KEY])


def _has_map(kind: onnx.TypeProto) -> bool:
    """Whether a type is a map, or a sequence or optional of maps."""
    found: bool = kind.HasField("map_type")
    if kind.HasField("sequence_type"):
        found = _has_map(kind.sequence_type.elem_type)
    if kind.HasField("optional_type"):
        found = _has_map(kind.optional_type.elem_type)
    return found
