"""All operators that a graph may hold to become a torch module."""

from __future__ import annotations

from sws_compress.onnx_io.to_torch import (
    elementwise,
    matrix_products,
    normalisers,
    recurrent_layers,
    reductions,
    resizing,
    shape_operators,
    windows,
)
from sws_compress.onnx_io.to_torch.node_attributes import Operator

TABLE: dict[str, Operator] = {
    **elementwise.OPERATORS,
    **matrix_products.OPERATORS,
    **normalisers.OPERATORS,
    **recurrent_layers.OPERATORS,
    **reductions.OPERATORS,
    **resizing.OPERATORS,
    **shape_operators.OPERATORS,
    **windows.OPERATORS,
}
"""A function of torch tensors for each operator of ONNX's own domain, besides `If` and `Constant`."""
