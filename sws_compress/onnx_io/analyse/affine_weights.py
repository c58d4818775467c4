"""Weights that ONNX Runtime can multiply or look up in few bits, and what the graph tells about their inputs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sws_compress.onnx_io.analyse.weights import Skipped, Weight, find_weights
from sws_compress.thresholds import SMALLEST_LOW_BIT_WEIGHT


def affine_weights(model: ir.Model, *, smallest: int = SMALLEST_LOW_BIT_WEIGHT) -> tuple[tuple[Weight, int], ...]:
    """The weights that can stay in few bits, each with the axis along which blocks run.

    Rank 2, at least ``smallest`` elements, read by MatMul (as its second input), by a plain Gemm or by Gather along its
    rows, and by all of them along the same axis.
    """
    initializers = model.graph.initializers
    found = ((weight, _axis(initializers[weight.name])) for weight in _float32_weights(model, smallest))
    return tuple((weight, axis) for weight, axis in found if axis is not None)


def _float32_weights(model: ir.Model, smallest: int) -> tuple[Weight, ...]:
    return find_weights(model, smallest=smallest, types=(ir.DataType.FLOAT,))


def weights_left_dense(model: ir.Model, *, smallest: int = SMALLEST_LOW_BIT_WEIGHT) -> tuple[Skipped, ...]:
    """The weights that `affine_weights` leaves out, and why."""
    taken = {weight.name for weight, _ in affine_weights(model, smallest=smallest)}
    return tuple(
        Skipped(weight.name, weight.shape, f"no low-bit kernel for how {' and '.join(weight.operators)} reads it")
        for weight in _float32_weights(model, smallest)
        if weight.name not in taken
    )


def input_second_moments(model: ir.Model, name: str) -> npt.NDArray[np.float64] | None:
    """E[x_j^2] of the inputs that the weight ``name`` multiplies, where the graph tells it without data.

    After LayerNormalization over the last axis x = gain * n + bias, n of mean 0 and variance 1: gain^2 + bias^2, the
    mean over all products that read the weight. None where one of them is fed by anything else.
    """
    readings = uses(model.graph.initializers[name])
    moments = [_normalised_moments(node.inputs[0]) for node, position in readings if position == 1]
    known = [moment for moment in moments if moment is not None]
    if not known or len(known) < len(readings):
        return None
    mean: npt.NDArray[np.float64] = np.mean(known, axis=0)
    return mean


def uses(value: ir.Value) -> list[tuple[ir.Node, int]]:
    return [(use.node, use.idx) for use in value.uses()]


def _axis(value: ir.Value) -> int | None:
    """The dimension of a weight along which every reader's blocks run, None if one cannot or they differ."""
    tensor = value.const_value
    if tensor is None or tensor.dtype != ir.DataType.FLOAT or len(tensor.shape) != 2:
        return None
    axes = {_axis_of_use(node, position) for node, position in uses(value)}
    return axes.pop() if len(axes) == 1 else None


def _axis_of_use(node: ir.Node, position: int) -> int | None:
    if node.op_type == "MatMul" and position == 1 and node.inputs[0] is not None:
        left = node.inputs[0].shape
        return None if left is not None and len(left) < 2 else 0
    if node.op_type == "Gemm" and position == 1:
        plain = not _integer(node, "transA") and _number(node, "alpha") == 1 and _number(node, "beta") == 1
        return _integer(node, "transB") if plain else None
    if node.op_type == "Gather" and position == 0 and _integer(node, "axis") == 0:
        return 1
    return None


def _integer(node: ir.Node, name: str) -> int:
    return node.attributes[name].as_int() if name in node.attributes else 0


def _number(node: ir.Node, name: str) -> float:
    return node.attributes[name].as_float() if name in node.attributes else 1.0


def _normalised_moments(value: ir.Value | None) -> npt.NDArray[np.float64] | None:
    node = None if value is None else value.producer()
    if node is None or node.op_type != "LayerNormalization":
        return None
    parameters = [parameter.const_value for parameter in node.inputs[1:] if parameter is not None]
    if not parameters or any(tensor is None or len(tensor.shape) != 1 for tensor in parameters):
        return None
    squares = [tensor.numpy().astype(np.float64) ** 2 for tensor in parameters if tensor is not None]
    return np.sum(squares, axis=0)  # type: ignore[no-any-return]
