"""What the tensors of a model are there for: floats, quantised weights, or other integers."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx_ir as ir

from sws_compress.onnx_io.analyse.weights import readers
from sws_compress.onnx_io.element_types import INTEGER_TYPES
from sws_compress.thresholds import SMALLEST_EXACT_TENSOR, SMALLEST_LISTED_TENSOR

FLOAT = "float"
"""Kind of the floating-point tensors."""

QUANTISED = "quantised"
"""Kind of the integers that an operator reads as weights."""

INTEGERS = "integers"
"""Kind of all other integers: tables, positions, masks."""

QUANTISED_INPUTS: Mapping[str, Collection[int]] = {
    "ConvInteger": (1,),
    "DequantizeLinear": (0,),
    "DynamicQuantizeLSTM": (1, 2),
    "DynamicQuantizeMatMul": (1,),
    "GatherBlockQuantized": (0,),
    "MatMulBnb4": (1,),
    "MatMulInteger": (0, 1),
    "MatMulIntegerToFloat": (0, 1),
    "MatMulNBits": (1,),
    "QAttention": (1,),
    "QEmbedLayerNormalization": (2, 3, 4),
    "QGemm": (0, 3),
    "QLinearConv": (3,),
    "QLinearMatMul": (0, 3),
}
"""Operators (of the default domain and of com.microsoft) and which of their inputs are quantised weights."""


def tensor_kinds(model: ir.Model, types: Mapping[str, ir.DataType]) -> Mapping[str, str]:
    """The kinds of some tensors, by name.

    Parameters
    ----------
    model : ir.Model
        Compressed or not: the tensors may be initialisers or decoded by nodes of the main graph.
    types : mapping of str to ir.DataType
        Their types by name.
    """
    outputs = (value for node in model.graph for value in node.outputs)
    values = {value.name: value for value in (*model.graph.initializers.values(), *outputs)}
    kinds = dict.fromkeys(types, FLOAT)
    for name in (name for name, dtype in types.items() if dtype in INTEGER_TYPES):
        kinds[name] = QUANTISED if quantised_readers(values[name], model) else INTEGERS
    return kinds


def is_listed(dtype: ir.DataType, elements: int) -> bool:
    """Whether an inspection lists a tensor by itself: small integers are shapes and axes, which belong to the graph."""
    if dtype in INTEGER_TYPES:
        return elements >= SMALLEST_EXACT_TENSOR
    return dtype.is_floating_point() and elements >= SMALLEST_LISTED_TENSOR


def quantised_readers(value: ir.Value, model: ir.Model) -> tuple[str, ...]:
    """The kinds of operators that read a value as quantised weights, sorted."""
    return tuple(sorted({node.op_type for node, number in readers(value, model) if _takes_quantised(node, number)}))


def _takes_quantised(node: ir.Node, number: int) -> bool:
    return node.domain in ("", "com.microsoft") and number in QUANTISED_INPUTS.get(node.op_type, ())
