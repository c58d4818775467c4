"""Embeddings whose rows stay packed while the model runs: found, written, and recognised again.

A table that nothing but Gather reads, along its first axis, need not be decoded as a whole. In the file it is packed
bytes under the table's own name, and every Gather is a call of a function that gathers packed rows and decodes them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from sws_compress.errors import ModelError
from sws_compress.graph.messages import shown
from sws_compress.graph.ops import DOMAIN, ROWS, LookUp
from sws_compress.graph.untrusted import nodes_of
from sws_compress.graph.weights import FLOAT_TYPES, readers

SMALLEST_TABLE = 1 << 16
"""Elements from which a table is worth the work at every look-up: a quarter of a megabyte, decoded."""


@dataclass(frozen=True)
class Embedding:
    """A floating-point table in which a Gather looks up rows, and why they cannot stay packed; None if they can."""

    name: str
    shape: tuple[int, ...]
    hindrance: str | None


def find_embeddings(model: ir.Model, *, smallest: int = SMALLEST_TABLE) -> tuple[Embedding, ...]:
    """The embeddings of at least ``smallest`` elements, in the order of the graph."""
    found = []
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.dtype not in FLOAT_TYPES or tensor.size < smallest or len(tensor.shape) < 2:
            continue
        if any(node.op_type == "Gather" and not node.domain and number == 0 for node, number in readers(value, model)):
            found.append(Embedding(name, tuple(tensor.shape.numpy()), _hindrance(value)))
    return tuple(found)


def _hindrance(value: ir.Value) -> str | None:
    others = sorted({kind for use in value.uses() if (kind := _other_use(use.node, use.idx))})
    if value.is_graph_output():
        others.append("whoever runs the model, as an output")
    return f"is read by {' and '.join(others)}" if others else None


def _other_use(node: ir.Node, number: int) -> str | None:
    """What a node is that looks up no rows by positions that are known when the model runs."""
    if node.op_type != "Gather" or node.domain or number:
        return node.op_type
    table, positions = node.inputs
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    if table is None or table.const_value is None or axis not in (0, -len(table.const_value.shape)):
        return f"Gather along axis {axis}"
    return "Gather at constant positions" if positions is None or positions.const_value is not None else None


def look_up_packed(model: ir.Model, name: str, look_up: LookUp) -> None:
    """Replace the initialiser ``name`` and every Gather that reads it by calls of a look-up, in place."""
    old = model.graph.initializers.pop(name)
    if old in model.graph.inputs:
        model.graph.inputs.remove(old)
    for node, _ in tuple(old.uses()):
        assert node.graph is not None  # it is in the model
        call = ir.Node(DOMAIN, look_up.function, [node.inputs[1], *look_up.arguments])
        ir.convenience.replace_nodes_and_values(node.graph, node, [node], [call], [node.outputs[0]], [call.outputs[0]])
        call.name = None


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
