"""Decoders put into a graph: initialisers and look-ups out, decode nodes and calls in."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from sws_compress.onnx_io.format.mark import DOMAIN, set_mark
from sws_compress.onnx_io.write.emission import Emission, LookUp

_FUNCTIONS_IR_VERSION = 8
"""First IR version with model-local functions."""


def insert(model: ir.Model, emission: Emission, replaced: Iterable[str]) -> None:
    """Put decoders into ``model`` and mark it as compressed, in place.

    Parameters
    ----------
    model : ir.Model
        Holds the dense initialisers.
    emission : Emission
        The decoders. Their nodes come first in the graph, because the mark counts them from there.
    replaced : iterable of str
        The initialisers that ``emission`` decodes at load: its outputs of the same names take over from them. Tables
        that it looks up rows in are replaced without being named here.
    """
    graph = model.graph
    decoded = {value.name: value for node in emission.nodes for value in node.outputs}
    for name in replaced:
        old = graph.initializers.pop(name)
        if old in graph.inputs:
            graph.inputs.remove(old)
        old.replace_all_uses_with(decoded[name], replace_graph_outputs=True)
    for name, look_up in emission.look_ups.items():
        _look_up_packed(model, name, look_up)
    first = next(iter(graph), None)
    if first is None:
        graph.extend(emission.nodes)
    else:
        graph.insert_before(first, emission.nodes)
    for value in emission.initializers:
        graph.register_initializer(value)
    for function in emission.functions:
        model.functions[function.identifier()] = function
    if emission.functions:
        graph.opset_imports[DOMAIN] = 1
        model.ir_version = max(model.ir_version, _FUNCTIONS_IR_VERSION)
    set_mark(model, len(emission.nodes))
    for node in emission.nodes:
        node.name = None  # onnx-ir names nodes that enter a graph


def _look_up_packed(model: ir.Model, name: str, look_up: LookUp) -> None:
    """Replace the initialiser ``name`` and every Gather that reads it by calls of a look-up."""
    old = model.graph.initializers.pop(name)
    if old in model.graph.inputs:
        model.graph.inputs.remove(old)
    for node, _ in tuple(old.uses()):
        assert node.graph is not None  # it is in the model
        call = ir.Node(DOMAIN, look_up.function, [node.inputs[1], *look_up.arguments])
        ir.convenience.replace_nodes_and_values(node.graph, node, [node], [call], [node.outputs[0]], [call.outputs[0]])
        call.name = None
