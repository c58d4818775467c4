"""Rows of products in another order, so that transpositions meet the moves before or behind."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from sws_compress.onnx_io.rewrite.axis_atoms import MOVING
from sws_compress.onnx_io.rewrite.sizes_of_axes import Shapes, constant, constant_shape


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


def reorder_rows(graph: ir.Graph) -> None:
    """Put the rows of a product in the order in which they are wanted before it is computed, in place.

    A Gemm has one axis of rows. What reads its output may make two of it, and swap them. This takes three nodes more,
    which are to become part of the moves before.
    """
    shapes = Shapes(graph)
    for node in list(graph):
        swap = _swap_behind(node)
        if swap is None or node.attributes.get_int("transA", 0) != 0 or not _adds_alike(node):
            continue
        reshaped, rows = shapes.of(swap.inputs[0]), shapes.of(node.inputs[0])
        if reshaped is None or rows is None or len(rows) != 2 or node.inputs[0] is None:
            continue
        first, second, width = reshaped
        apart = constant_shape(rows, (first, second, rows[1]))
        together = constant_shape((second, first, rows[1]), rows)
        swapped = constant_shape((rows[0], width), (second, first, width))
        if apart is None or together is None or swapped is None:
            continue
        early = [ir.Node("", "Reshape", [node.inputs[0], constant(graph, apart)])]
        early.append(ir.Node("", "Transpose", [early[-1].outputs[0]], [ir.AttrInt64s("perm", [1, 0, 2])]))
        early.append(ir.Node("", "Reshape", [early[-1].outputs[0], constant(graph, together)]))
        behind = ir.Node("", "Reshape", [node.outputs[0], constant(graph, swapped)])
        behind.outputs[0].shape, behind.outputs[0].type = swap.outputs[0].shape, swap.outputs[0].type
        graph.insert_before(node, early)
        graph.insert_after(node, behind)
        node.replace_input_with(0, early[-1].outputs[0])
        ir.convenience.replace_all_uses_with(swap.outputs[0], behind.outputs[0])


def _swap_behind(node: ir.Node) -> ir.Node | None:
    """The transposition that alone reads a product, as three axes of which it swaps the first two."""
    if node.domain or node.op_type != "Gemm":
        return None
    for operator in ("Reshape", "Transpose"):
        uses = list(node.outputs[0].uses())
        if len(uses) != 1 or uses[0][1] or uses[0][0].op_type != operator or uses[0][0].graph is not node.graph:
            return None
        node = uses[0][0]
    if node.outputs[0].is_graph_output() or tuple(node.attributes.get_ints("perm", ())) != (1, 0, 2):
        return None
    return node


def _adds_alike(node: ir.Node) -> bool:
    """Whether a Gemm adds nothing, or the same to every row."""
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return bias is None or (bias.const_value is not None and len(bias.const_value.shape) == 1)
