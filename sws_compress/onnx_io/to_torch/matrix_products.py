"""Products of matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from sws_compress.onnx_io.to_torch.node_attributes import Attributes, Operator


def _general(attributes: Attributes, x: Tensor, y: Tensor, added: Tensor | None = None) -> Tensor:
    x = x.mT if attributes.integer("transA", 0) else x
    y = y.mT if attributes.integer("transB", 0) else y
    alpha, beta = attributes.real("alpha", 1.0), attributes.real("beta", 1.0)
    found = x @ y
    found = found if alpha == 1 else alpha * found
    if added is None:
        return found
    return found + (added if beta == 1 else beta * added)


def _einsum(attributes: Attributes, *inputs: Tensor) -> Tensor:
    return torch.einsum(attributes.text("equation", "").replace(" ", ""), *inputs)


OPERATORS: dict[str, Operator] = {
    "Einsum": _einsum,
    "Gemm": _general,
    "MatMul": lambda attributes, x, y: torch.matmul(x, y),
}
"""Functions by operator."""
