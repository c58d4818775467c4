"""Initialisers that no output depends on, taken out of the network."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

_PURE_DOMAINS = frozenset(("", "ai.onnx", "ai.onnx.ml", "com.microsoft"))
"""Domains whose operators do nothing but compute their outputs. Those of others may, for example, print."""


@dataclass(frozen=True)
class Dropped:
    """What was taken out of a network.

    Parameters
    ----------
    tensors : int
        Number of initialisers.
    tensor_bytes : int
        Bytes of their values.
    """

    tensors: int
    tensor_bytes: int

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for whoever asked for the file; none if nothing was dropped."""
        if not self.tensors:
            return ()
        noun = "tensor" if self.tensors == 1 else "tensors"
        return (f"left out, because no output depends on it: {self.tensors:,} {noun} of {self.tensor_bytes:,} bytes",)


def drop_dead(model: ir.Model) -> Dropped:
    """Drop nodes and initialisers that no output depends on, in place.

    Inputs stay, also those with a default value. Nodes that hold subgraphs, calls of functions, and operators of
    unknown domains stay, with all that they read.

    Parameters
    ----------
    model : ir.Model
        Its constants are initialisers of the main graph (`read.lift.lift_constants`). External data is not read.

    Returns
    -------
    Dropped
        The initialisers that are gone.
    """
    _drop_nodes(model.graph, frozenset(model.functions))
    dead = [
        value
        for value in model.graph.initializers.values()
        if not value.uses() and not value.is_graph_input() and not value.is_graph_output()
    ]
    for value in dead:
        model.graph.initializers.pop(str(value.name))
    return Dropped(len(dead), sum(value.const_value.nbytes for value in dead if value.const_value is not None))


def _drop_nodes(graph: ir.Graph, functions: frozenset[ir.OperatorIdentifier]) -> None:
    """Drop the dead nodes of a graph and its subgraphs, except calls of ``functions``."""
    for node in reversed(graph):
        inner = [graph for attribute in node.attributes.values() for graph in _graphs(attribute)]
        for subgraph in inner:
            _drop_nodes(subgraph, functions)
        live = any(output.uses() or output.is_graph_output() for output in node.outputs)
        if not (live or inner) and node.domain in _PURE_DOMAINS and node.op_identifier() not in functions:
            graph.remove(node, safe=True)


def _graphs(attribute: ir.Attr) -> tuple[ir.Graph, ...]:
    if attribute.is_ref():
        return ()
    if attribute.type == ir.AttributeType.GRAPH:
        return (attribute.as_graph(),)
    return tuple(attribute.as_graphs()) if attribute.type == ir.AttributeType.GRAPHS else ()
