"""The parts of a model that compute from constants alone, and what they compute."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import onnx_ir as ir

from sws_compress.onnx_io.analyse.draws import DRAWING
from sws_compress.onnx_io.analyse.weights import is_read_as_weight


@dataclass(frozen=True, eq=False)
class Part:
    """A constant part of a model.

    Parameters
    ----------
    result : ir.Value
        What it computes: a value that a product reads as a weight.
    nodes : tuple of ir.Node
        All its nodes, sorted.
    constants : tuple of ir.Value
        The initialisers that they read.
    own_nodes : tuple of ir.Node
        Its nodes that nothing else needs, sorted.
    own_constants : tuple of ir.Value
        Its initialisers that nothing else needs.
    """

    result: ir.Value
    nodes: tuple[ir.Node, ...]
    constants: tuple[ir.Value, ...]
    own_nodes: tuple[ir.Node, ...]
    own_constants: tuple[ir.Value, ...]


def constant_parts(model: ir.Model) -> Iterator[Part]:
    """The constant parts whose results are read as weights, in the main graph and in bodies.

    A body sees the constants around it; small ones of its own are `Constant` nodes. The model may change between two
    parts: nodes that are gone by then are in no later part.
    """
    constant: set[ir.Value | None] = {None}
    computing: dict[ir.Node, int] = {}
    _find(model.graph, constant, computing)
    for node in computing:
        for value in node.outputs:
            last = any(use.node not in computing for use in value.uses())
            if last and not value.is_graph_output() and is_read_as_weight(value, model):
                yield _part_of(value, computing)


def _find(graph: ir.Graph, constant: set[ir.Value | None], computing: dict[ir.Node, int]) -> None:
    """Add the constants of a graph and its bodies to ``constant``, and number the nodes that compute them."""
    constant.update(
        value for value in graph.initializers.values() if value.const_value is not None and not value.is_graph_input()
    )
    for node in graph:
        inputs = any(value is not None for value in node.inputs) or node.op_type == "Constant"
        if inputs and _is_pure(node) and constant.issuperset(node.inputs):
            constant.update(node.outputs)
            computing[node] = len(computing)
        for attribute in node.attributes.values():
            if attribute.is_ref():
                continue
            if attribute.type == ir.AttributeType.GRAPH:
                _find(attribute.as_graph(), constant, computing)
            elif attribute.type == ir.AttributeType.GRAPHS:
                for body in attribute.as_graphs():
                    _find(body, constant, computing)


def _is_pure(node: ir.Node) -> bool:
    """Whether a node is an operator of the default domain that depends on its inputs alone."""
    return (
        node.domain == ""
        and node.op_type not in DRAWING
        and not any(
            attribute.is_ref() or attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
            for attribute in node.attributes.values()
        )
    )


def _part_of(result: ir.Value, computing: dict[ir.Node, int]) -> Part:
    """The part that computes a value; ``computing`` numbers all constant nodes in their order."""
    found: set[ir.Node] = set()
    pending = [result.producer()]
    while pending:
        node = pending.pop()
        if node is not None and node not in found:
            found.add(node)
            pending += [value.producer() for value in node.inputs if value is not None]
    nodes = sorted(found, key=lambda node: -computing[node])
    read = (value for node in nodes for value in node.inputs if value is not None and value.producer() is None)
    constants = tuple(dict.fromkeys(read))
    own: dict[ir.Node, None] = {}
    for node in nodes:
        outputs = [value for value in node.outputs if value is not result]
        if not any(value.is_graph_output() or _other_uses(value, own) for value in outputs):
            own[node] = None
    own_constants = (v for v in constants if not v.is_graph_output() and not _other_uses(v, own))
    return Part(result, tuple(nodes[::-1]), constants, tuple([*own][::-1]), tuple(own_constants))


def _other_uses(value: ir.Value, nodes: Collection[ir.Node]) -> bool:
    return any(use.node not in nodes for use in value.uses())
