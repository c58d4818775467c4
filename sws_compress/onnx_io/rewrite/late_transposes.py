"""Transpositions behind the products that they stand before, so that they meet the moves that follow."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from sws_compress.onnx_io.rewrite.axis_atoms import MOVING


def transpose_late(graph: ir.Graph) -> None:
    """Put transpositions of all axes but the last behind a product with a matrix and the bias after it, in place.

    Rows of the product are computed one by one, in whatever order. Only products are passed whose result is moved on.
    """
    for node in list(graph):
        order = node.attributes.get_ints("perm") if node.op_type == "Transpose" and not node.domain else None
        source = node.inputs[0]
        if order is None or order[-1] != len(order) - 1 or source is None or source.shape is None:
            continue
        passed = _passed(node)
        if passed and not passed[-1].outputs[0].is_graph_output() and _is_moved_on(passed[-1].outputs[0]):
            _pass(graph, node, source, order, passed)


def _passed(node: ir.Node) -> list[ir.Node]:
    """The product that a transposition alone feeds, and the bias that is added to it."""
    found: list[ir.Node] = []
    for operator, rank in (("MatMul", 2), ("Add", 1)):
        value = (found[-1] if found else node).outputs[0]
        uses = list(value.uses())
        if len(uses) != 1 or value.is_graph_output():
            break
        user, number = uses[0]
        other = user.inputs[1 - number] if len(user.inputs) == 2 else None
        if user.domain or user.op_type != operator or user.graph is not node.graph or (number and operator == "MatMul"):
            break
        if other is None or other.const_value is None or len(other.const_value.shape) != rank:
            break
        found.append(user)
    return found


def _is_moved_on(value: ir.Value) -> bool:
    return all(user.op_type in MOVING and not user.domain and not number for user, number in value.uses())


def _pass(graph: ir.Graph, node: ir.Node, source: ir.Value, order: Sequence[int], passed: Sequence[ir.Node]) -> None:
    """Feed the product with what was transposed, and transpose what comes behind it."""
    first, last = passed[0], passed[-1]
    old = last.outputs[0]
    late = ir.Node("", "Transpose", [old], [ir.AttrInt64s("perm", order)])
    (fresh,) = late.outputs
    fresh.shape, fresh.type = old.shape, old.type
    ir.convenience.replace_all_uses_with(old, fresh)
    late.replace_input_with(0, old)
    graph.insert_after(last, late)
    first.replace_input_with(0, source)
    width = last.outputs[0].shape
    assert source.shape is not None
    for each in passed:
        each.outputs[0].shape = None if width is None else ir.Shape([*source.shape.dims[:-1], width.dims[-1]])
