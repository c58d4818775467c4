"""How weights multiply the values that flow through a network: which inputs they meet, and what makes an output.

A `Product` names a weight and a value that it multiplies; its layout, of `layouts`, says how both lie.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from sws_compress.onnx_io.analyse.bodies import Inside, values_inside
from sws_compress.onnx_io.analyse.layouts import Layout, Matrix, Moved, Recurrent, Upsampling, Window
from sws_compress.onnx_io.analyse.moved_weights import moved_weight
from sws_compress.onnx_io.analyse.weights import readers
from sws_compress.onnx_io.format.blocked_weight import CONTRIB_DOMAIN

MATRIX_PRODUCTS = (
    "FusedGemm",
    "FusedMatMul",
    "FusedMatMulActivation",
    "Gemm",
    "GemmFastGelu",
    "MatMul",
    "TransposeMatMul",
)
"""Operators whose first two inputs are multiplied, transposed as their attributes say."""


_RECURRENT = ("GRU", "LSTM", "RNN")

_VALUES = {
    ("Attention", 1): 0,
    ("DecoderAttention", 2): 0,
    ("DecoderAttention", 3): 1,
    ("LongformerAttention", 1): 0,
    ("LongformerAttention", 4): 0,
    ("PackedAttention", 1): 0,
}
"""Operators and inputs of them that are matrices, (inputs, outputs), and which input these multiply."""


@dataclass(frozen=True, eq=False)
class Product:
    """A weight and one value that it multiplies.

    Parameters
    ----------
    weight : str
        Name of the initialiser.
    value : str
        Name of the activation, or of an input of the model.
    layout : Layout
        How both lie.
    stacks : int
        Number of axes before those of the value, where it is given out for all times that a body runs.
    """

    weight: str
    value: str
    layout: Layout
    stacks: int = 0


def products_of(model: ir.Model, weight: str) -> tuple[Product, ...]:
    """All products of an initialiser of the main graph, one per node that computes with it.

    Parameters
    ----------
    model : ir.Model
        The model.
    weight : str
        Name of the initialiser.

    Returns
    -------
    tuple of Product
        Empty if a node reads it in a way that is not known here, in a function for example, or if nodes read it as
        different rows.
    """
    found = []
    known = values_inside(model)
    for node, number in readers(model.graph.initializers[weight], model):
        product = _product(node, number, weight, known)
        if product is None:
            return ()
        found.append(product)
    return tuple(found) if _same_rows(found, model.graph.initializers[weight]) else ()


def _same_rows(products: Sequence[Product], weight: ir.Value) -> bool:
    """Whether all products read a weight as the same rows: strides, for example, only choose their inputs."""
    layouts = list({product.layout for product in products})
    if len(layouts) < 2:
        return len(layouts) == 1
    assert weight.const_value is not None
    places = np.arange(weight.const_value.size).reshape(weight.const_value.shape.numpy())
    first, *others = (layout.rows(places) for layout in layouts)
    return all(np.array_equal(first, other) for other in others)


def _product(node: ir.Node, number: int, weight: str, known: Mapping[str, Inside]) -> Product | None:
    """The product of one node, whose input ``number`` is made of the weight."""
    moved = moved_weight(node.inputs[number]) if node.domain in ("", CONTRIB_DOMAIN) else None
    if moved is None or moved.name != weight:
        return None
    layout, value = _layout(node, number, moved.positions.shape), _multiplied(node, number)
    if layout is None or value is None or value.const_value is not None:
        return None
    inside = known.get(str(value.name))
    if inside is None or inside.value is not value:
        return None
    source = node.inputs[number]
    if source is None or not source.is_initializer():
        layout = Moved(layout, moved.positions.shape, moved.positions.tobytes())
    return Product(weight, str(value.name), layout, inside.stacks)


def _multiplied(node: ir.Node, number: int) -> ir.Value | None:
    """The value that a node multiplies its input ``number`` with."""
    if node.op_type in MATRIX_PRODUCTS:
        return node.inputs[1 - number]
    if node.op_type in _RECURRENT and number == 2:
        # A network that is called once per step gives out its last state alone, and gets it back as the first.
        states = (node.outputs[0], *node.inputs[5:6], *node.outputs[1:2])
        return next((value for value in states if value is not None and value.name), None)
    return node.inputs[_VALUES.get((node.op_type, number), 0)]


def _layout(node: ir.Node, number: int, shape: tuple[int, ...]) -> Layout | None:
    """How a weight of this shape lies as the input ``number`` of a node."""
    if node.op_type in MATRIX_PRODUCTS and len(shape) > 1 and number in (0, 1):
        return _matrix(node, number, shape)
    if node.op_type in ("Conv", "FusedConv") and number == 1 and len(shape) > 2:
        return _window(node, shape[2:])
    if node.op_type == "ConvTranspose" and number == 1 and len(shape) > 2:
        return Upsampling(_number(node, "group", 1))
    if node.op_type in _RECURRENT and number in (1, 2) and not _number(node, "layout", 0):
        return Recurrent(of_states=number == 2)
    if (node.op_type, number) in _VALUES and len(shape) == 2:
        return Matrix(by_output=False)
    return None


def _matrix(node: ir.Node, number: int, shape: tuple[int, ...]) -> Matrix | None:
    """The layout of a matrix, or of a stack of them."""
    stack = shape[:-2]
    if _number(node, "transBatchA", 0) or _number(node, "transBatchB", 0) or (1 in stack and math.prod(stack) > 1):
        return None
    flipped = [bool(_number(node, name, 0)) for name in ("transA", "transB")]
    inputs_first = flipped[0] if number else not flipped[1]
    return Matrix(by_output=flipped[number] == bool(number), inputs_first=inputs_first, stack=stack)


def _window(node: ir.Node, kernel: tuple[int, ...]) -> Window:
    """The window of a convolution."""
    rank, automatic = len(kernel), node.attributes.get("auto_pad")
    padding = "NOTSET" if automatic is None else automatic.as_string()
    return Window(
        kernel=kernel,
        strides=_numbers(node, "strides", (1,) * rank),
        dilations=_numbers(node, "dilations", (1,) * rank),
        pads=None if padding.startswith("SAME") else _numbers(node, "pads", (0,) * 2 * rank),
        groups=_number(node, "group", 1),
        odd_zero_first=padding == "SAME_LOWER",
    )


def _number(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None or attribute.is_ref() else attribute.as_int()


def _numbers(node: ir.Node, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    attribute = node.attributes.get(name)
    return default if attribute is None or attribute.is_ref() else tuple(attribute.as_ints())
