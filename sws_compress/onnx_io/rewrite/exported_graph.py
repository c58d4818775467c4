"""Graphs of torch's exporter without the nodes that they can do without."""

from __future__ import annotations

import itertools

import onnx_ir as ir
from onnx_ir.passes import common as passes

from sws_compress.onnx_io.rewrite.computed_inputs import drop_idle_nodes, drop_zero_states, fix_shapes
from sws_compress.onnx_io.rewrite.order_of_rows import reorder_rows, transpose_late
from sws_compress.onnx_io.rewrite.shorter_moves import shorten_moves


def shortened(model: ir.Model) -> ir.Model:
    """The model in fewer nodes, with the same arithmetic in the same order.

    Shapes that do not depend on inputs are constants, initial states of zero are left out, and tensors are moved to
    where they are needed at once. Names of inputs, outputs and parameters stay.
    """
    for step in (fix_shapes, drop_zero_states, drop_idle_nodes):
        step(model.graph)
    _without_rest(model)
    found = [model]
    for reordered, through_gathers in itertools.product((False, True), repeat=2):
        other = model.clone()
        if reordered:
            transpose_late(other.graph)
            reorder_rows(other.graph)
        shorten_moves(other.graph, through_gathers=through_gathers)
        _without_rest(other)
        found.append(other)
    return min(found, key=lambda each: len(each.graph))


def _without_rest(model: ir.Model) -> None:
    """Join equal constants and nodes, and drop what nothing reads, in place."""
    passes.DeduplicateInitializersPass()(model)
    passes.CommonSubexpressionEliminationPass()(model)
    passes.RemoveUnusedNodesPass()(model)
    passes.NameFixPass()(model)
