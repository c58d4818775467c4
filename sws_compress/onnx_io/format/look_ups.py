"""Look-ups of packed rows, recognised in a model file."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

from sws_compress.errors import ModelError
from sws_compress.onnx_io.format.mark import DOMAIN, ROWS
from sws_compress.onnx_io.messages import shown
from sws_compress.onnx_io.read.untrusted import nodes_of

# -- files ------------------------------------------------------------------------------------------------------------


def is_look_up(node: onnx.NodeProto) -> bool:
    return bool(node.domain == DOMAIN and node.op_type.rstrip("0123456789") == ROWS)


def look_ups(proto: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    """The tables that are looked up while they are packed, each with the calls that read it.

    Raises ModelError unless these calls read initialisers, are alike but for their positions, and nothing else reads
    the table.
    """
    if any(is_look_up(node) for function in proto.functions for node in nodes_of(function.node)):
        raise ModelError("look-ups of packed rows must be in graphs, got one in a function: the file is damaged")
    found: dict[str, list[onnx.NodeProto]] = {}
    others = {entry.name for entry in (*proto.graph.input, *proto.graph.output)}
    for node in nodes_of(proto.graph.node):
        if not is_look_up(node):
            others.update(node.input)
            continue
        if len(node.input) < 2 or len(node.output) != 1 or not all((*node.input, *node.output)) or node.attribute:
            raise ModelError(
                f"look-up {shown(node.op_type)} must have positions, a table and one output, got "
                f"{len(node.input)} inputs and {len(node.output)} outputs: the file is damaged"
            )
        others.update((node.input[0], *node.input[2:]))
        found.setdefault(node.input[1], []).append(node)
    stored = {tensor.name for tensor in proto.graph.initializer}
    for table, calls in found.items():
        if missing := set(calls[0].input[1:]) - stored:
            raise ModelError(
                f"packed rows of {shown(table)} must be looked up with initialisers, got none called "
                f"{shown(min(missing))}: the file is damaged"
            )
        if table in others or len({(call.op_type, *call.input[1:]) for call in calls}) > 1:
            raise ModelError(
                f"packed rows of {shown(table)} must be read by look-ups that are alike, got others: "
                "the file is damaged"
            )
    return found


def all_rows(call: onnx.NodeProto, output: str) -> Iterator[onnx.NodeProto]:
    """Nodes that make ``output`` of all rows of the table that ``call`` reads."""
    table = call.input[1]
    zero, one, shape, count, positions = (f"{table}\0{part}" for part in ("zero", "one", "shape", "count", "positions"))
    for name, number in ((zero, 0), (one, 1)):
        yield helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(number, np.int64)))
    yield helper.make_node("Shape", [table], [shape])
    yield helper.make_node("Gather", [shape, zero], [count])
    yield helper.make_node("Range", [zero, count, one], [positions])
    yield helper.make_node(call.op_type, [positions, *call.input[1:]], [output], domain=DOMAIN)


def gather_dense(calls: Collection[onnx.NodeProto]) -> None:
    """Make look-ups Gathers of dense tables of the same names, in place."""
    for call in calls:
        call.CopyFrom(helper.make_node("Gather", [call.input[1], call.input[0]], [call.output[0]]))
