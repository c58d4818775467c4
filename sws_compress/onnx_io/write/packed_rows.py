"""Gathers of an embedding replaced by look-ups of packed rows."""

from __future__ import annotations

import onnx_ir as ir

from sws_compress.onnx_io.format.mark import DOMAIN
from sws_compress.onnx_io.write.onnx_ops import LookUp


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
