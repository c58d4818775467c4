"""How a weight can stay in integers while the model runs, by what reads it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import onnx_ir as ir

from sws_compress.onnx_io.analyse.affine_weights import block_axis
from sws_compress.thresholds import SMALLEST_LOW_BIT_WEIGHT

CONVOLUTIONS = ("Conv", "ConvTranspose")
"""Operators behind a DequantizeLinear, which is computed at every run: the weight is small beside their work."""


class Route(Enum):
    """What reads the integers."""

    PRODUCT = "product"
    """Matrix products in few bits."""

    CONVOLUTION = "convolution"
    """A DequantizeLinear in front of every convolution."""

    ROWS = "rows"
    """Look-ups of rows, which are then scaled."""


@dataclass(frozen=True)
class Stays:
    """A weight that can stay in integers.

    Parameters
    ----------
    route : Route
        How.
    output_axis : int or None
        Axis of the weight along which a product may have scales; None for other routes, which take any axis.
    """

    route: Route
    output_axis: int | None = None


def memory_route(value: ir.Value) -> Stays | str:
    """How an initialiser can stay in integers, or why not, to be read after its name.

    Parameters
    ----------
    value : ir.Value
        The initialiser. All that reads it must do so in one way.
    """
    tensor = value.const_value
    if tensor is None or tensor.dtype != ir.DataType.FLOAT:
        return "is not of float32"
    if tensor.size < SMALLEST_LOW_BIT_WEIGHT:
        return f"has fewer than {SMALLEST_LOW_BIT_WEIGHT:,} elements"
    if value.is_graph_output() or not value.uses():
        return "is an output of the model"
    if (axis := block_axis(value)) is not None and not any(node.op_type == "Gather" for node, _ in value.uses()):
        return Stays(Route.PRODUCT, 1 - axis)
    operators = sorted({node.op_type for node, _ in value.uses()})
    if all(node.op_type in CONVOLUTIONS and not node.domain and number == 1 for node, number in value.uses()):
        return Stays(Route.CONVOLUTION)
    if len(tensor.shape) > 1 and all(_looks_up_rows(node, number) for node, number in value.uses()):
        return Stays(Route.ROWS)
    return f"is read by {' and '.join(operators)}, which runs in floats"


def _looks_up_rows(node: ir.Node, number: int) -> bool:
    """Whether a node is a Gather along the first axis, at positions that are known only when the model runs."""
    if node.op_type != "Gather" or node.domain or number or node.attributes.get_int("axis", 0):
        return False
    positions = node.inputs[1]
    return positions is not None and positions.const_value is None
