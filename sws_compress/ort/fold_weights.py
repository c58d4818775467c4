"""Weights that a model computes from constants, computed once.

Scales, masks, weight norms and the quantise-dequantise pairs of quantisation-aware training stand between an
initialiser and the product that reads it. ONNX Runtime computes such a constant part at load. Here it does so before
compression, and the result takes the place of the initialiser.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from sws_compress.errors import VerificationError
from sws_compress.onnx_io.analyse.computed_tables import table_kind
from sws_compress.onnx_io.analyse.draws import DRAWING
from sws_compress.onnx_io.analyse.weights import MOVES, is_read_as_weight
from sws_compress.onnx_io.element_types import FLOAT_TYPES
from sws_compress.onnx_io.format.mark import mark_of
from sws_compress.ort.session import Array, SessionError, out_of_bounds, session
from sws_compress.thresholds import SMALLEST_WEIGHT

LARGEST_GROWTH = 4
"""Elements of an intermediate result, relative to those of all constants it is computed from: more is not computed."""


@dataclass(frozen=True, eq=False)
class _Part:
    """A constant part of a graph.

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


def fold_weights(model: ir.Model) -> tuple[str, ...]:
    """Compute the weights that constants are arithmetic of, in place; the model computes the same.

    A constant part is replaced by its result if the result is a weight and takes no more bytes than the initialisers
    that go with the part, of which the largest is floating-point. Parts that only move values stay, and so do those
    whose initialisers are found as weights anyway, such as the two factors of a matrix of low rank.

    Parameters
    ----------
    model : ir.Model
        Its constants are initialisers of the main graph, in memory.

    Returns
    -------
    tuple of str
        Names of the new initialisers. Each has the name of the largest that it replaces, if it has its shape.
    """
    if mark_of(model.metadata_props) is not None:
        return ()
    folded = []
    for part in _parts(model):
        try:
            values = _computed(part, model) if _hides_a_weight(part, model) else None
        except (VerificationError, SessionError):  # it took too much, and so may the next
            break
        if values is not None and _is_better(values, part):
            folded.append(_replace(part, values, model.graph))
    return tuple(folded)


def _parts(model: ir.Model) -> Iterator[_Part]:
    """The constant parts of the main graph whose results are read as weights.

    The graph may change between two parts: nodes that are gone by then are in no later part.
    """
    constant: set[ir.Value | None] = {None}
    constant.update(
        value
        for value in model.graph.initializers.values()
        if value.const_value is not None and not value.is_graph_input()
    )
    computing = []
    for node in model.graph:
        if _is_pure(node) and any(value is not None for value in node.inputs) and constant.issuperset(node.inputs):
            constant.update(node.outputs)
            computing.append(node)
    inner = set(computing)
    for node in computing:
        for value in node.outputs:
            last = any(use.node not in inner for use in value.uses())
            if last and not value.is_graph_output() and is_read_as_weight(value, model):
                yield _part_of(value, [each for each in computing if each.graph is not None])


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


def _part_of(result: ir.Value, computing: Sequence[ir.Node]) -> _Part:
    """The part that computes a value; ``computing`` are all constant nodes, sorted."""
    needed, nodes = {result}, []
    for node in reversed(computing):
        if needed.intersection(node.outputs):
            nodes.append(node)
            needed.update(value for value in node.inputs if value is not None)
    read = (value for node in nodes for value in node.inputs if value is not None and value.producer() is None)
    constants = tuple(dict.fromkeys(read))
    own: list[ir.Node] = []
    for node in nodes:
        outputs = [value for value in node.outputs if value is not result]
        if not any(value.is_graph_output() or _other_uses(value, own) for value in outputs):
            own.append(node)
    own_constants = (v for v in constants if not v.is_graph_output() and not _other_uses(v, own))
    return _Part(result, tuple(nodes[::-1]), constants, tuple(own[::-1]), tuple(own_constants))


def _other_uses(value: ir.Value, nodes: Collection[ir.Node]) -> bool:
    return any(use.node not in nodes for use in value.uses())


def _hides_a_weight(part: _Part, model: ir.Model) -> bool:
    """Whether a part has arithmetic, and its largest initialiser is a float that is not found as a weight itself."""
    if all(node.op_type in MOVES for node in part.nodes):
        return False
    largest = max(part.constants, key=_bytes)
    assert largest.const_value is not None
    found = largest.const_value.dtype in FLOAT_TYPES and largest.const_value.size >= SMALLEST_WEIGHT
    return found and not is_read_as_weight(largest, model)


def _is_better(values: Array, part: _Part) -> bool:
    fits = values.nbytes <= sum(map(_bytes, part.own_constants)) and values.size >= SMALLEST_WEIGHT
    return fits and bool(np.isfinite(values).all()) and table_kind(values) is None


def _bytes(value: ir.Value) -> int:
    return 0 if value.const_value is None else value.const_value.nbytes


def _computed(part: _Part, model: ir.Model) -> Array | None:
    """The result of a part; None if ONNX Runtime does not compute it, or if a result is of unknown or large size."""
    proto = _as_model(part, model)
    largest = LARGEST_GROWTH * sum(value.const_value.size for value in part.constants if value.const_value is not None)
    try:
        proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
        entries = (*proto.graph.value_info, *proto.graph.output)
        shapes = {entry.name: entry.type.tensor_type.shape.dim for entry in entries}
        for name in (value.name for node in part.nodes for value in node.outputs if value.name):
            dims = shapes.get(str(name))
            if dims is None or not all(dim.HasField("dim_value") for dim in dims):
                return None
            if math.prod(dim.dim_value for dim in dims) > largest:
                return None
        with session(proto.SerializeToString()) as runtime:
            values = runtime.run({}, given=False)[0]
    except Exception as error:  # a part that fails is left for the runtime that loads the model
        if out_of_bounds(error):
            raise
        return None
    return values if ir.DataType.from_numpy(values.dtype) in FLOAT_TYPES else None


def _as_model(part: _Part, model: ir.Model) -> onnx.ModelProto:
    """A model of the part alone."""
    tensors = []
    for value in part.constants:
        assert value.const_value is not None
        tensor = ir.to_proto(value.const_value)
        tensor.name = str(value.name)
        tensors.append(tensor)
    output = onnx.ValueInfoProto(name=str(part.result.name))  # inference finds its type
    graph = onnx.helper.make_graph([ir.to_proto(node) for node in part.nodes], "part", [], [output], tensors)
    opset = onnx.helper.make_opsetid("", model.opset_imports[""])
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=model.ir_version)


def _replace(part: _Part, values: Array, graph: ir.Graph) -> str:
    """Put the result of a part in its place; returns the name of the new initialiser."""
    largest = max(part.own_constants, key=_bytes)
    same = largest.const_value is not None and tuple(largest.const_value.shape.numpy()) == values.shape
    name = str(largest.name if same else part.result.name)
    tensor = ir.tensor(values, name=name)
    value = ir.Value(name=name, shape=ir.Shape(values.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    part.result.replace_all_uses_with(value)
    for node in reversed(part.own_nodes):
        graph.remove(node, safe=True)
    for constant in part.own_constants:
        graph.initializers.pop(str(constant.name))
    graph.register_initializer(value)
    return name
