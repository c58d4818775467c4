"""Choices that a network makes by numbers: a step, a place or an order, which rounding moves where numbers are tied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

CHOOSING = frozenset({
    "ArgMax", "ArgMin", "Bernoulli", "Ceil", "DynamicQuantizeLinear", "Equal", "Floor", "Greater", "GreaterOrEqual",
    "Hardmax", "Less", "LessOrEqual", "Mod", "Multinomial", "NonMaxSuppression", "NonZero", "QuantizeLinear", "Round",
    "Shrink", "Sign", "ThresholdedRelu", "TopK", "Unique",
    "Binarizer", "LabelEncoder", "LinearClassifier", "SVMClassifier", "TreeEnsemble", "TreeEnsembleClassifier",
    "TreeEnsembleRegressor", "DynamicQuantizeMatMul", "MoE", "QMoE",
})  # fmt: skip
"""Operators whose outputs jump where their inputs move a little, in all domains."""

_CONTINUOUS = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
"""Types to which Cast is continuous: all others are steps."""


@dataclass(frozen=True)
class Choices:
    """The first choices of a network.

    Parameters
    ----------
    chosen_by : tuple of str
        The values that they choose by. They depend on inputs, and on no other choice.
    operators : tuple of str
        The operators that choose.
    dependent : frozenset of str
        The values that depend on a choice.
    """

    chosen_by: tuple[str, ...]
    operators: tuple[str, ...]
    dependent: frozenset[str]


def first_choices(model: ir.Model) -> Choices:
    """The choices of the main graph that come before all others; nodes with bodies choose if a node in them does.

    Parameters
    ----------
    model : ir.Model
        Its nodes are in order.
    """
    moving = {value for value in model.graph.inputs if value.name not in model.graph.initializers}
    dependent: set[ir.Value] = set()
    chosen_by: dict[str, None] = {}
    operators: dict[str, None] = {}
    for node in model.graph:
        read = [value for value in _read(node) if value in moving]
        if not read:
            continue
        moving.update(node.outputs)
        if not dependent.isdisjoint(read):
            dependent.update(node.outputs)
        elif _chooses(node, model):
            dependent.update(node.outputs)
            chosen_by.update((str(value.name), None) for value in read if value.producer() is not None)
            operators[node.op_type] = None
    return Choices(tuple(chosen_by), tuple(operators), frozenset(str(value.name) for value in dependent))


def _read(node: ir.Node) -> Iterator[ir.Value]:
    """The values that a node and the nodes of its bodies read."""
    for each in (node, *_inner(node)):
        yield from (value for value in each.inputs if value is not None)


def _inner(node: ir.Node) -> Iterator[ir.Node]:
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield from attribute.as_graph().all_nodes()
        elif attribute.type == ir.AttributeType.GRAPHS:
            for graph in attribute.as_graphs():
                yield from graph.all_nodes()


def _chooses(node: ir.Node, model: ir.Model) -> bool:
    """Whether an output of a node jumps."""
    function = model.functions.get(node.op_identifier())
    if function is not None:
        return any(_chooses(each, model) for each in function.all_nodes())
    if node.op_type == "Cast":
        return node.attributes.get_int("to", 0) not in _CONTINUOUS
    if node.op_type == "MaxPool":
        return len(node.outputs) > 1
    return node.op_type in CHOOSING or any(_chooses(each, model) for each in _inner(node))
