"""Models without what a runtime does not need."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from copy import copy

import onnx
import onnx_ir as ir
from onnx_ir.passes import common as passes

from sws_compress.onnx_io.write.attributes import drop_idle_attributes
from sws_compress.onnx_io.write.emission import short_names

_UNKNOWN_LENGTH = ("Compress", "NonMaxSuppression", "NonZero", "Unique")
"""Operators whose output shape depends on data: what the model states of it cannot be inferred again."""


def strip(model: ir.Model) -> None:
    """Drop what a runtime does not need, in place; the model computes the same.

    Dropped are names and documentation of nodes, traces of the exporter, the producer, attributes that change nothing,
    and shapes of intermediate values that inference finds again. Intermediate values and graphs get short names, in
    branches and loops as well. The names of inputs, outputs, free dimensions and initialisers stay, and so does the
    model's own metadata.
    """
    drop_metadata(model)
    _shorten_intermediate(model)
    for owner in _owners(model):
        for graph in _graphs(owner):
            for node in graph:
                node.name = None
                drop_idle_attributes(node, owner.opset_imports.get(node.domain))


def drop_metadata(model: ir.Model) -> None:
    """Drop documentation, traces of the exporter, the producer, and shapes that inference finds again, in place."""
    model.producer_name, model.producer_version = None, None
    passes.ClearMetadataAndDocStringPass()(model)
    for owner in _owners(model):
        for graph in _graphs(owner):
            for value in _values(graph):
                value.doc_string = None  # those of values are left by the pass
                value.metadata_props.clear()
                if not value.is_graph_input() and not value.is_graph_output() and _inferable(value):
                    value.type, value.shape = None, None


def _owners(model: ir.Model) -> tuple[ir.Graph | ir.Function, ...]:
    """The main graph and the functions."""
    return (model.graph, *model.functions.values())


def _graphs(owner: ir.Graph | ir.Function) -> Iterator[ir.Graph]:
    """A graph, or that of a function, and all graphs in it."""
    main = owner.graph if isinstance(owner, ir.Function) else owner
    yield main
    yield from main.subgraphs()


def _shorten_intermediate(model: ir.Model) -> None:
    """Give graphs, and values in them that are neither the model's interface nor initialisers, the shortest names."""
    graphs = tuple(model.graphs())
    kept = {id(value) for value in (*model.graph.inputs, *model.graph.outputs)}
    kept |= {id(value) for graph in graphs for value in graph.initializers.values()}
    values = [value for graph in graphs for value in _values(graph) if value.name]
    fresh = short_names({str(value.name) for value in values if id(value) in kept} | _outer_names(graphs))
    for graph in graphs:
        graph.name = "g"
    for value in values:
        if id(value) not in kept:
            value.name = next(fresh)


def _outer_names(graphs: Iterable[ir.Graph]) -> set[str]:
    """The names of what nodes read and no graph holds."""
    held = {id(value) for graph in graphs for value in _values(graph)}
    read = (value for graph in graphs for node in graph for value in node.inputs if value is not None)
    return {value.name for value in read if value.name and id(value) not in held}


def constant_names(model: ir.Model) -> frozenset[str]:
    """The names of initialisers of the main graph that nobody calls weights: integers of a list, and single numbers."""
    constants = (
        name
        for name, value in model.graph.initializers.items()
        if (tensor := value.const_value) is not None
        and (tensor.size <= 1 or (len(tensor.shape) <= 1 and not tensor.dtype.is_floating_point()))
    )
    return frozenset(constants)


def shorten(model: ir.Model, names: Collection[str]) -> dict[str, str]:
    """Give values of the main graph the shortest free names, in place; inputs and outputs keep theirs.

    Parameters
    ----------
    model : ir.Model
        The model.
    names : collection of str
        The values to rename.

    Returns
    -------
    dict of str to str
        New names by old ones.
    """
    fresh = short_names(set(value_names(model)))
    renamed = {}
    for value in list(_values(model.graph)):
        if value.name in names and not value.is_graph_input() and not value.is_graph_output():
            value.const_value = _own(value.const_value)
            renamed[str(value.name)] = value.name = next(fresh)
    return renamed


def _own(tensor: ir.TensorProtocol | None) -> ir.TensorProtocol | None:
    """The same tensor, with a name of its own: copies of a model share their tensors."""
    if isinstance(tensor, ir.serde.TensorProtoTensor):
        proto = onnx.TensorProto()
        proto.CopyFrom(tensor.raw)
        return ir.serde.TensorProtoTensor(proto)
    return copy(tensor)


def value_names(model: ir.Model) -> frozenset[str]:
    """The names of all values in the main graph and its subgraphs."""
    return frozenset(name for graph in model.graphs() for name in _names(graph))


def _names(graph: ir.Graph) -> set[str]:
    return {value.name for value in _values(graph) if value.name}


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs


def _inferable(value: ir.Value) -> bool:
    node = value.producer()
    return node is None or (node.domain in ("", "ai.onnx") and node.op_type not in _UNKNOWN_LENGTH)
