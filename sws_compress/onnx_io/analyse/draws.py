"""Nodes that draw random numbers, and models in which they draw the same at every run."""

from __future__ import annotations

import functools

import onnx
import onnx_ir as ir
from onnx import helper

from sws_compress.onnx_io.traversal import nodes, nodes_of

DRAWING = frozenset({
    "Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
})  # fmt: skip
"""Standard operators that draw; Dropout does in training mode."""

_SEED = 0
"""The seed of all nodes that have none: one for all, so that their order does not matter."""

_TRAINING_MODE = 2
"""Place of the input of Dropout that turns it on."""


def draws(model: ir.Model) -> bool:
    """Whether a node of the model draws random numbers."""
    found = [*model.graph.all_nodes(), *(node for body in model.functions.values() for node in body.all_nodes())]
    return any(not node.domain and _draws(node.op_type, [entry is not None for entry in node.inputs]) for node in found)


def fix_draws(proto: onnx.ModelProto) -> bool:
    """Give every node that draws a seed, in place, so that a new session draws the same numbers.

    Parameters
    ----------
    proto : ModelProto
        The model; seeds that nodes have already stay.

    Returns
    -------
    bool
        Whether there is such a node, with or without a seed of its own.
    """
    opsets = {entry.domain: entry.version for entry in proto.opset_import}
    bodies = [(proto.graph.node, opsets)]
    for function in proto.functions:
        bodies.append((function.node, {entry.domain: entry.version for entry in function.opset_import}))
    for body, versions in bodies:
        for node in nodes_of(body):
            if node.domain or node.op_type not in DRAWING or any(entry.name == "seed" for entry in node.attribute):
                continue
            kind = _seed_type(node.op_type, versions.get("", 1))
            if kind is not None:
                node.attribute.append(helper.make_attribute("seed", kind(_SEED)))
    return any(not node.domain and _draws(node.op_type, list(map(bool, node.input))) for node in nodes(proto))


def _draws(operator: str, inputs: list[bool]) -> bool:
    """Whether a node draws; Dropout is left out where it has no input that could turn it on."""
    if operator == "Dropout":
        return len(inputs) > _TRAINING_MODE and inputs[_TRAINING_MODE]
    return operator in DRAWING


@functools.cache
def _seed_type(operator: str, version: int) -> type[int] | type[float] | None:
    """Python's type of the attribute ``seed``; None where the operator had none in that opset."""
    try:
        seed = onnx.defs.get_schema(operator, version).attributes.get("seed")
    except onnx.defs.SchemaError:
        return None
    if seed is None:
        return None
    return float if seed.type == onnx.defs.OpSchema.AttrType.FLOAT else int
