"""Look-ups of packed rows, recognised in a model file."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

from sws_compress.errors import ModelError
from sws_compress.messages import shown
from sws_compress.onnx_io.format.mark import DOMAIN, ROWS
from sws_compress.onnx_io.traversal import nodes_of


def is_look_up(node: onnx.NodeProto) -> bool:
    """Whether a node calls a function that looks up packed rows."""
    return bool(node.domain == DOMAIN and node.op_type.rstrip("0123456789") == ROWS)


def look_ups(proto: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    """The tables whose rows stay packed, each with the calls that look rows up in it.

    Returns
    -------
    dict of str to list of NodeProto
        Calls by the name of the table; their inputs are positions, the table, and further initialisers.

    Raises
    ------
    ModelError
        Unless calls are in graphs, read initialisers, are alike but for their positions, and alone read the table.
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
    """Nodes that look up all rows of a table.

    Parameters
    ----------
    call : NodeProto
        A look-up in the table.
    output : str
        Name of the value that gets the rows.
    """
    table = call.input[1]
    zero, one, shape, count, positions = (f"{table}\0{part}" for part in ("zero", "one", "shape", "count", "positions"))
    for name, number in ((zero, 0), (one, 1)):
        yield helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(number, np.int64)))
    yield helper.make_node("Shape", [table], [shape])
    yield helper.make_node("Gather", [shape, zero], [count])
    yield helper.make_node("Range", [zero, count, one], [positions])
    yield helper.make_node(call.op_type, [positions, *call.input[1:]], [output], domain=DOMAIN)
