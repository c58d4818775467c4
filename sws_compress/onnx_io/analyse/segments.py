"""A model cut into runs of nodes, so that it can be run piece by piece with the weights of one piece in memory.

A new segment begins where a weight multiplies what an earlier weight of the same segment had a part in: then all
weights of a segment meet inputs that are known before any of them is changed. What is computed from constants alone
belongs to every segment that reads it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from sws_compress.onnx_io.analyse.draws import DRAWING

_NO_TENSORS = frozenset({
    "Optional", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceMap",
    "SplitToSequence", "ZipMap",
})  # fmt: skip
"""Operators whose outputs are no tensors: they are not kept between segments."""

_NOT_KEPT = (ir.DataType.STRING, ir.DataType.BFLOAT16)
"""Types of tensors that cannot be handed on between runs."""


@dataclass(frozen=True)
class Segment:
    """A run of nodes.

    Parameters
    ----------
    inputs : tuple of str
        Values made before it that it reads.
    outputs : tuple of str
        Values made in it that later segments read.
    made : frozenset of str
        All values made in it.
    weights : tuple of str
        Weights that it is the first to read, in the order of the nodes.
    read : tuple of str
        All weights that it reads.
    last : tuple of str
        Values that no later segment reads.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    made: frozenset[str]
    weights: tuple[str, ...]
    read: tuple[str, ...]
    last: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Step:
    """A node that depends on the inputs: what it reads, and the weights behind the constants that it reads."""

    node: ir.Node
    reads: frozenset[ir.Value]
    weights: tuple[str, ...]


def segments(
    model: ir.Model,
    multiplied: Mapping[str, Collection[str]],
    sizes: Mapping[str, int],
    most: int,
) -> tuple[Segment, ...]:
    """Cut a model.

    Parameters
    ----------
    model : ir.Model
        Its nodes are sorted.
    multiplied : mapping of str to collection of str
        Names of the values that each weight multiplies; empty where they are not known.
    sizes : mapping of str to int
        Bytes of each weight.
    most : int
        Bytes of the weights of a segment, unless a single node reads more.

    Returns
    -------
    tuple of Segment
        In order; every weight that a node reads is in one of them.
    """
    steps = tuple(_steps(model, multiplied))
    last_reads = {value: number for number, step in enumerate(steps) for value in step.reads}
    starts = _starts(steps, multiplied, sizes, most, last_reads)
    made: dict[ir.Value, int] = dict.fromkeys(model.graph.inputs, -1)
    made |= {value: number for number, step in enumerate(steps) for value in step.node.outputs}
    placed: set[str] = set()
    found = []
    for start, end in zip(starts, [*starts[1:], len(steps)], strict=True):
        part = steps[start:end]
        values = [value for step in part for value in step.node.outputs if value.name]
        read = tuple(dict.fromkeys(name for step in part for name in step.weights))
        inputs = dict.fromkeys(value for step in part for value in _sorted(step.reads) if made[value] < start)
        found.append(
            Segment(
                inputs=tuple(str(value.name) for value in inputs),
                outputs=tuple(str(value.name) for value in values if last_reads.get(value, -1) >= end),
                made=frozenset(str(value.name) for value in values),
                weights=tuple(name for name in read if name not in placed),
                read=read,
                last=tuple(str(value.name) for value in inputs if last_reads[value] < end),
            )
        )
        placed.update(read)
    return tuple(found)


def _starts(
    steps: tuple[_Step, ...],
    multiplied: Mapping[str, Collection[str]],
    sizes: Mapping[str, int],
    most: int,
    last_reads: Mapping[ir.Value, int],
) -> list[int]:
    """Numbers of the steps at which segments begin."""
    starts = [0]
    placed: set[str] = set()
    own: set[str] = set()
    depending: set[ir.Value] = set()
    unkept: dict[ir.Value, int] = {}
    for number, step in enumerate(steps):
        new = [name for name in step.weights if name not in placed]
        multiplies = {name for weight in new for name in multiplied[weight]}
        tainted = any(value.name in multiplies for value in depending)
        if not tainted and multiplies:  # a value of a body is known once the node's own inputs are
            tainted = bool(depending & step.reads) and not multiplies <= {value.name for value in step.reads}
        heavy = sum(sizes[name] for name in own) + sum(sizes[name] for name in new) > most
        if own and (tainted or (heavy and new)) and not any(end >= number for end in unkept.values()):
            starts.append(number)
            own, depending = set(), set()
        placed.update(new)
        own.update(new)
        if own.intersection(step.weights) or depending & step.reads:
            depending.update(step.node.outputs)
        unkept |= {value: last_reads[value] for value in step.node.outputs if value in last_reads and _unkept(value)}
    return starts


def _steps(model: ir.Model, weights: Collection[str]) -> Iterator[_Step]:
    """The nodes that depend on the inputs of the model, in order."""
    behind: dict[ir.Value, tuple[str, ...]] = {
        value: (name,) if name in weights else ()
        for name, value in model.graph.initializers.items()
        if not value.is_graph_input()
    }
    for node in model.graph:
        values = dict.fromkeys((*(value for value in node.inputs if value is not None), *_captured(node)))
        found = tuple(dict.fromkeys(name for value in values for name in behind.get(value, ())))
        reads = frozenset(value for value in values if value not in behind)
        if reads or node.op_type in DRAWING or not values:
            yield _Step(node, reads, found)
        else:
            behind |= dict.fromkeys(node.outputs, found)


def _captured(node: ir.Node) -> Iterator[ir.Value]:
    """Values of the main graph that the bodies of a node read."""
    bodies = [graph for attribute in node.attributes.values() for graph in _graphs(attribute)]
    inner = {value for body in bodies for value in _own(body)}
    for body in bodies:
        for other in ir.traversal.RecursiveGraphIterator(body):
            yield from (value for value in other.inputs if value is not None and value not in inner)
        yield from (value for value in body.outputs if value not in inner)


def _own(graph: ir.Graph) -> Iterator[ir.Value]:
    """Values that a body and the bodies in it make."""
    yield from (*graph.inputs, *graph.initializers.values())
    for node in graph:
        yield from node.outputs
        for attribute in node.attributes.values():
            for body in _graphs(attribute):
                yield from _own(body)


def _graphs(attribute: ir.Attr) -> list[ir.Graph]:
    if attribute.is_ref():
        return []
    if attribute.type == ir.AttributeType.GRAPH:
        return [attribute.as_graph()]
    return list(attribute.as_graphs()) if attribute.type == ir.AttributeType.GRAPHS else []


def _sorted(values: Collection[ir.Value]) -> list[ir.Value]:
    return sorted(values, key=lambda value: str(value.name))


def _unkept(value: ir.Value) -> bool:
    """Whether a value cannot be handed on from one run to another."""
    node = value.producer()
    if node is not None and node.domain in ("", "ai.onnx.ml") and node.op_type in _NO_TENSORS:
        return True
    return (value.type is not None and not isinstance(value.type, ir.TensorType)) or value.dtype in _NOT_KEPT
