"""How weights multiply the values that flow through a network: which inputs they meet, and what makes an output.

A `Product` names a weight and a value that it multiplies; its layout, of `layouts`, says how both lie.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from sws_compress.onnx_io.analyse.layouts import Layout, Matrix, Recurrent, Upsampling, Window

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
    """

    weight: str
    value: str
    layout: Layout


def products_of(model: ir.Model, weight: str) -> tuple[Product, ...]:
    """All products of an initialiser of the main graph, one per node that reads it.

    Parameters
    ----------
    model : ir.Model
        The model.
    weight : str
        Name of the initialiser.

    Returns
    -------
    tuple of Product
        Empty if a node reads it in a way that is not known here, in a body for example, or if nodes lay it out
        differently.
    """
    found = []
    for node, number in model.graph.initializers[weight].uses():
        product = _product(node, number) if node.graph is model.graph else None
        if product is None:
            return ()
        found.append(product)
    return tuple(found) if len({product.layout for product in found}) == 1 else ()


def _product(node: ir.Node, number: int) -> Product | None:
    """The product of one node, whose input ``number`` is the weight."""
    if node.domain not in ("", "com.microsoft"):
        return None
    weight = node.inputs[number]
    assert weight is not None
    assert weight.name is not None
    layout, value = _layout(node, number, len(weight.shape or ())), node.inputs[0]
    if node.op_type in MATRIX_PRODUCTS and number == 0:
        value = node.inputs[1]
    if isinstance(layout, Recurrent) and layout.of_states:
        value = node.outputs[0]
    if layout is None or value is None or not value.name or value.const_value is not None:
        return None
    return Product(weight.name, value.name, layout)


def _layout(node: ir.Node, number: int, rank: int) -> Layout | None:
    if node.op_type in MATRIX_PRODUCTS and rank == 2 and number in (0, 1):
        if _number(node, "transBatchA", 0) or _number(node, "transBatchB", 0):
            return None
        flipped = [bool(_number(node, name, 0)) for name in ("transA", "transB")]
        return Matrix(
            by_output=flipped[number] == bool(number), inputs_first=bool(flipped[0]) if number else not flipped[1]
        )
    if node.op_type in ("Conv", "FusedConv") and number == 1 and rank > 2:
        return _window(node, rank - 2)
    if node.op_type == "ConvTranspose" and number == 1 and rank > 2 and _number(node, "group", 1) == 1:
        return Upsampling()
    if node.op_type in ("LSTM", "GRU", "RNN") and number in (1, 2) and not _number(node, "layout", 0):
        return Recurrent(of_states=number == 2)
    return None


def _window(node: ir.Node, rank: int) -> Window | None:
    """The window of a convolution; None if its kernel is not known."""
    weight, automatic = node.inputs[1], node.attributes.get("auto_pad")
    if weight is None or weight.shape is None or not weight.shape.is_static():
        return None
    padding = "NOTSET" if automatic is None else automatic.as_string()
    return Window(
        kernel=tuple(int(size) for size in weight.shape.numpy()[2:]),
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
