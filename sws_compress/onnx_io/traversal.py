"""Walks over the graphs, nodes and tensors of a model in protobuf form."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

import onnx


def graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The main graph and all subgraphs, including those in functions."""
    yield proto.graph
    for node in nodes(proto):
        for attribute in node.attribute:
            yield from subgraphs(attribute)


def subgraphs(attribute: onnx.AttributeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that an attribute holds, such as the branches of an If."""
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """All nodes, including those of subgraphs and functions."""
    for body in (proto.graph.node, *(function.node for function in proto.functions)):
        yield from nodes_of(body)


def nodes_of(body: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes of one graph or function, including those of its subgraphs."""
    for node in body:
        yield node
        for attribute in node.attribute:
            for graph in subgraphs(attribute):
                yield from nodes_of(graph.node)


def tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """All tensors: the initialisers of all graphs, and the attributes of all nodes."""
    for graph in graphs(proto):
        yield from graph.initializer
    yield from attribute_tensors(proto)


def attribute_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """The tensors that attributes of nodes, and defaults of function attributes, hold."""
    defaults = (attribute for function in proto.functions for attribute in function.attribute_proto)
    for attribute in (*(attribute for node in nodes(proto) for attribute in node.attribute), *defaults):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        sparse = (attribute.sparse_tensor,) if attribute.HasField("sparse_tensor") else ()
        for entry in (*sparse, *attribute.sparse_tensors):
            yield entry.values
            yield entry.indices


def constant_nodes(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes of the main graph that depend on no input of the model, in order; nodes with subgraphs are left out."""
    known = {tensor.name for tensor in proto.graph.initializer} - {value.name for value in proto.graph.input} | {""}
    found = []
    for node in proto.graph.node:
        has_subgraphs = any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
        if not has_subgraphs and known.issuperset(node.input):
            known.update(node.output)
            found.append(node)
    return found


def ancestors(nodes: Sequence[onnx.NodeProto], names: Collection[str]) -> tuple[list[onnx.NodeProto], set[str]]:
    """The nodes and values that some values are computed from.

    Parameters
    ----------
    nodes : sequence of NodeProto
        Sorted: every node comes after those it reads from.
    names : collection of str
        The values asked for.

    Returns
    -------
    kept : list of NodeProto
        Those of ``nodes`` that lead to ``names``, in order.
    needed : set of str
        ``names`` and all values on the way.
    """
    needed, kept = set(names), []
    for node in reversed(nodes):
        if needed & set(node.output):
            needed.update(node.input)
            kept.append(node)
    return kept[::-1], needed


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """The values that a node reads, including those read in its subgraphs."""
    yield from node.input
    for attribute in node.attribute:
        for graph in subgraphs(attribute):
            for inner in graph.node:
                yield from reads(inner)
