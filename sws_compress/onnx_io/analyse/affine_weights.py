"""Weights that ONNX Runtime can multiply by, or look up, in few bits."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from sws_compress.onnx_io.analyse.weights import Skipped, Weight, find_weights
from sws_compress.thresholds import SMALLEST_LOW_BIT_WEIGHT


def affine_weights(model: ir.Model, *, smallest: int = SMALLEST_LOW_BIT_WEIGHT) -> tuple[tuple[Weight, int], ...]:
    """The weights that can stay in few bits while the model runs.

    They are float32 matrices, read by MatMul as its second input, by a plain Gemm, or by Gather along their rows.

    Parameters
    ----------
    model : ir.Model
        The model.
    smallest : int
        Elements that a weight must have.

    Returns
    -------
    tuple of (Weight, int)
        Each weight with the axis along which blocks run; all its readers agree on it.
    """
    initializers = model.graph.initializers
    found = ((weight, block_axis(initializers[weight.name])) for weight in _float32_weights(model, smallest))
    return tuple((weight, axis) for weight, axis in found if axis is not None)


def weights_left_dense(model: ir.Model, *, smallest: int = SMALLEST_LOW_BIT_WEIGHT) -> tuple[Skipped, ...]:
    """The float32 weights of at least ``smallest`` elements that `affine_weights` leaves out, and why."""
    taken = {weight.name for weight, _ in affine_weights(model, smallest=smallest)}
    return tuple(
        Skipped(weight.name, weight.shape, f"no low-bit kernel for how {' and '.join(weight.operators)} reads it")
        for weight in _float32_weights(model, smallest)
        if weight.name not in taken
    )


def in_functions(model: ir.Model, weights: Iterable[Weight | Skipped]) -> bool:
    """Whether one of ``weights`` is handed to a function, where no product is seen to read it."""
    values = (model.graph.initializers[weight.name] for weight in weights)
    return any(node.op_identifier() in model.functions for value in values for node, _ in value.uses())


def _float32_weights(model: ir.Model, smallest: int) -> tuple[Weight, ...]:
    return find_weights(model, smallest=smallest, types=(ir.DataType.FLOAT,))


def block_axis(value: ir.Value) -> int | None:
    """The axis along which blocks run for every reader; None if a reader has no kernel, or if readers differ."""
    tensor = value.const_value
    if tensor is None or tensor.dtype != ir.DataType.FLOAT or len(tensor.shape) != 2:
        return None
    axes = {_block_axis_of_use(node, number) for node, number in value.uses()}
    return axes.pop() if len(axes) == 1 else None


def _block_axis_of_use(node: ir.Node, number: int) -> int | None:
    """The axis along which blocks run for the input ``number`` of a node; None if there is no kernel."""
    if node.op_type == "MatMul" and number == 1 and node.inputs[0] is not None:
        left = node.inputs[0].shape
        return None if left is not None and len(left) < 2 else 0
    if node.op_type == "Gemm" and number == 1:
        attributes = node.attributes
        scaled = attributes.get_float("alpha", 1.0) != 1 or attributes.get_float("beta", 1.0) != 1
        if scaled or attributes.get_int("transA", 0) != 0:
            return None
        return attributes.get_int("transB", 0)
    if node.op_type == "Gather" and number == 0 and node.attributes.get_int("axis", 0) == 0:
        return 1
    return None
