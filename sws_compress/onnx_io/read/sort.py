"""Nodes in an order in which each comes after those it reads from.

ONNX demands this order and its checker refuses others. ONNX Runtime sorts by itself, so files that are out of order are
in use: converters to float16 append their casts at the end.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, MutableSequence, Sequence
from itertools import chain
from typing import TypeAlias

import onnx

from sws_compress.errors import ModelError
from sws_compress.messages import shown
from sws_compress.onnx_io.traversal import subgraphs

_Body: TypeAlias = "MutableSequence[onnx.NodeProto]"


def sort_nodes(proto: onnx.ModelProto) -> bool:
    """Sort the nodes of a model, of its functions and of all subgraphs, in place.

    Bodies that are in order stay as they are. In others every node comes as early as the nodes before it allow.

    Parameters
    ----------
    proto : ModelProto
        The model, unchecked.

    Returns
    -------
    bool
        Whether any node was moved.

    Raises
    ------
    ModelError
        If nodes read each other in a circle.
    """
    bodies = (proto.graph.node, *(function.node for function in proto.functions))
    moved = [_sort_body(body) for body in bodies]
    return any(moved)


def _sort_body(body: _Body) -> bool:
    inner = (graph for node in body for attribute in node.attribute for graph in subgraphs(attribute))
    moved = [_sort_body(graph.node) for graph in inner]
    before = _predecessors(body)
    if all(max(numbers, default=-1) < i for i, numbers in enumerate(before)):
        return any(moved)
    ordered = onnx.GraphProto(node=[body[i] for i in _order(body, before)])  # copies, which outlive the deletion
    del body[:]
    body.extend(ordered.node)
    return True


def _predecessors(body: Sequence[onnx.NodeProto]) -> list[set[int]]:
    """The nodes that each node reads from, by number."""
    makers: dict[str, int] = {}
    for i, node in enumerate(body):
        for name in filter(None, node.output):
            makers.setdefault(name, i)
    return [{makers[name] for name in _free_names(node) if name in makers} for node in body]


def _free_names(node: onnx.NodeProto) -> Iterator[str]:
    """The names that a node reads; of those in its subgraphs, the ones that these do not define."""
    yield from node.input
    for attribute in node.attribute:
        for graph in subgraphs(attribute):
            own = {entry.name for entry in (*graph.input, *graph.initializer)}
            own.update(chain.from_iterable(inner.output for inner in graph.node))
            read = chain(chain.from_iterable(map(_free_names, graph.node)), (entry.name for entry in graph.output))
            yield from (name for name in read if name not in own)


def _order(body: Sequence[onnx.NodeProto], before: Sequence[set[int]]) -> list[int]:
    """The numbers of all nodes, sorted; of several that may come next, the first in the file does."""
    waiting = [len(numbers) for numbers in before]
    after: list[list[int]] = [[] for _ in body]
    for i, numbers in enumerate(before):
        for number in numbers:
            after[number].append(i)
    ready = [i for i, count in enumerate(waiting) if not count]
    order = []
    while ready:
        number = heapq.heappop(ready)
        order.append(number)
        for i in after[number]:
            waiting[i] -= 1
            if not waiting[i]:
                heapq.heappush(ready, i)
    if len(order) < len(body):
        left = next(i for i, count in enumerate(waiting) if count)
        name = next(iter(body[left].output), body[left].name)
        raise ModelError(f"nodes must not read their own results, got a circle at {shown(name)}: export again")
    return order
