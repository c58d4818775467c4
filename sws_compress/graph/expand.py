"""The way back: decode nodes and look-ups out, dense initialisers and Gathers in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import numpy_helper

from sws_compress.errors import ModelError
from sws_compress.graph.lookups import gather_dense, is_look_up, look_ups
from sws_compress.graph.ops import DOMAIN
from sws_compress.graph.verify import constant_nodes, decoded_weights, reads
from sws_compress.graph.weights import FORMAT_KEY, Mark, mark_of


@dataclass(frozen=True)
class Expansion:
    """A plain model, and the weights that were decoded for it."""

    data: bytes
    expanded: tuple[str, ...]


def mark_of_proto(proto: onnx.ModelProto) -> Mark | None:
    """`mark_of` for a model as it is in the file."""
    return mark_of({entry.key: entry.value for entry in proto.metadata_props})


def decoding_nodes(proto: onnx.ModelProto, mark: Mark) -> list[onnx.NodeProto]:
    """The nodes of a compressed model that decode: of the first ones that it states, those that need no input."""
    constants = {node.output[0] for node in constant_nodes(proto) if node.output}
    first = (node for node in proto.graph.node[: mark.decode_nodes] if not is_look_up(node))
    return [node for node in first if node.output and node.output[0] in constants]


def decoded_names(proto: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> list[str]:
    """The values that ``nodes`` make for others, in order."""
    made = {name for node in nodes for name in node.output}
    read = {name for node in proto.graph.node if not made.issuperset(node.output) for name in reads(node)}
    read |= {value.name for value in proto.graph.output}
    return [name for node in nodes for name in node.output if name in read]


def expand_model(data: bytes) -> Expansion:
    """The compressed model with its weights as plain initialisers of the same names, bit for bit.

    Of the decoders nothing stays: no nodes, tables, functions, shapes or mark, so that the result can be compressed
    again. Raises ModelError for a model that is not compressed, VerificationError where ONNX Runtime does not decode.
    """
    proto = onnx.load_from_string(data)
    mark = mark_of_proto(proto)
    if mark is None:
        raise ModelError("model must be compressed to be expanded, got a plain one: it can be used as it is")
    nodes = decoding_nodes(proto, mark)
    tables = look_ups(proto)
    names = [*decoded_names(proto, nodes), *tables]
    weights = decoded_weights(data, names)
    for calls in tables.values():
        gather_dense(calls)
    graph, made = proto.graph, {name for node in nodes for name in node.output}
    _remove(graph.node, lambda node: bool(node.output) and made.issuperset(node.output))
    read = {name for node in graph.node for name in reads(node)} | {
        value.name for value in (*graph.output, *graph.input)
    }
    _remove(graph.initializer, lambda tensor: tensor.name not in read or tensor.name in tables)
    _remove(graph.value_info, lambda entry: entry.name in made)
    for field in (proto.functions, proto.opset_import):
        _remove(field, lambda entry: entry.domain == DOMAIN)
    _remove(proto.metadata_props, lambda entry: entry.key == FORMAT_KEY)
    graph.initializer.extend(numpy_helper.from_array(weights[name], name) for name in names)
    return Expansion(proto.SerializeToString(deterministic=True), tuple(names))


def _remove(field: Any, unwanted: Callable[[Any], bool]) -> None:
    """Drop entries of a repeated field, in place."""
    for index in reversed(range(len(field))):
        if unwanted(field[index]):
            del field[index]
