"""Compressed models turned back into plain ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import onnx
from onnx import helper

from sws_compress.onnx_io.format.decoders import decoding_nodes
from sws_compress.onnx_io.format.look_ups import look_ups
from sws_compress.onnx_io.format.mark import DOMAIN, FORMAT_KEY, Mark
from sws_compress.onnx_io.traversal import reads


def make_plain(proto: onnx.ModelProto, mark: Mark, weights: Iterable[onnx.TensorProto]) -> None:
    """Replace the decoders of a compressed model by dense initialisers, in place.

    Nothing of the decoders stays: no nodes, tables, functions, stated shapes or mark, so that the result can be
    compressed again.

    Parameters
    ----------
    proto : ModelProto
        The compressed model.
    mark : Mark
        Its mark.
    weights : iterable of TensorProto
        The decoded tensors (`format.decoders.compressed_names`), in the order in which they are written.
    """
    nodes, tables = decoding_nodes(proto, mark), look_ups(proto)
    for call in (call for calls in tables.values() for call in calls):
        call.CopyFrom(helper.make_node("Gather", [call.input[1], call.input[0]], [call.output[0]]))
    graph, made = proto.graph, {name for node in nodes for name in node.output}
    _remove(graph.node, lambda node: bool(node.output) and made.issuperset(node.output))
    read = {name for node in graph.node for name in reads(node)}
    read |= {value.name for value in (*graph.output, *graph.input)}
    _remove(graph.initializer, lambda tensor: tensor.name not in read or tensor.name in tables)
    _remove(graph.value_info, lambda entry: entry.name in made)
    for field in (proto.functions, proto.opset_import):
        _remove(field, lambda entry: entry.domain == DOMAIN)
    _remove(proto.metadata_props, lambda entry: entry.key == FORMAT_KEY)
    graph.initializer.extend(weights)


def _remove(field: Any, unwanted: Callable[[Any], bool]) -> None:
    """Drop entries of a repeated field, in place."""
    for index in reversed(range(len(field))):
        if unwanted(field[index]):
            del field[index]
