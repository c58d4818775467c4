"""Constants that a network adds to the outputs of a weight: they can make up for a change of the mean outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sws_compress.onnx_io.analyse.layouts import Layout, Matrix, Moved, Recurrent, Window
from sws_compress.onnx_io.analyse.moved_weights import MovedWeight, Positions, moved_weight
from sws_compress.onnx_io.analyse.products import MATRIX_PRODUCTS
from sws_compress.onnx_io.analyse.weights import readers

Array = npt.NDArray[Any]

_BIAS_INPUTS = {
    "Attention": 2,
    "Conv": 2,
    "FusedConv": 2,
    "FusedGemm": 2,
    "GRU": 3,
    "Gemm": 2,
    "LSTM": 3,
    "PackedAttention": 2,
    "RNN": 3,
}
"""Operators that add a constant to their products, and which input of them it is."""

_LINEAR = ("Conv", "FusedMatMul", "Gemm", "MatMul", "TransposeMatMul")
"""Operators whose outputs are the products alone, and what they add themselves."""

_BATCH_NORM_MEAN = 3
"""Input of a BatchNormalization that is subtracted."""


@dataclass(frozen=True, eq=False)
class Bias:
    """Elements of an initialiser that are added to the outputs of a weight.

    Parameters
    ----------
    name : str
        Name of the initialiser.
    positions : ndarray, shape (outputs,), int64
        For each row of the weight's layout, its number in the flat initialiser.
    factor : float
        What is added to an output per unit of the initialiser and of the weight's own output.
    """

    name: str
    positions: Positions
    factor: float

    def added(self, values: Array, changes: npt.NDArray[np.floating]) -> Array:
        """The initialiser with changes of the outputs, in the order of the rows, in its own type."""
        flat = values.astype(np.float64).reshape(-1)
        np.add.at(flat, self.positions, changes.reshape(-1) / self.factor)
        return flat.reshape(values.shape).astype(values.dtype)


def bias_of(model: ir.Model, weight: str, layout: Layout, outputs: tuple[int, int]) -> Bias | None:
    """What a network adds to the outputs of an initialiser.

    Parameters
    ----------
    model : ir.Model
        The model.
    weight : str
        Name of the initialiser, whose products are known.
    layout : Layout
        How it lies.
    outputs : tuple of int
        Groups, and rows of each.

    Returns
    -------
    Bias or None
        None if nothing is added, if it is no initialiser, or if others read it, too.
    """
    reading = list(readers(model.graph.initializers[weight], model))
    if len(reading) != 1:
        return None
    node, number = reading[0]
    inner = layout.inner if isinstance(layout, Moved) else layout
    found = None
    if isinstance(inner, Recurrent):
        found = _of_gates(model, node, inner, outputs)
    elif isinstance(inner, Window) or (isinstance(inner, Matrix) and math.prod(inner.stack) == 1):
        axis = -1 - len(inner.kernel) if isinstance(inner, Window) else -1 if number else -2
        found = _inside(model, node, axis) or _behind(model, node, axis)
    return found if found is not None and len(found.positions) == math.prod(outputs) else None


def _inside(model: ir.Model, node: ir.Node, axis: int) -> Bias | None:
    """The constant that a node adds itself to its products, whose channels are along an axis from the end."""
    number = _BIAS_INPUTS.get(node.op_type)
    if number is None:
        return None
    matrix = node.op_type in MATRIX_PRODUCTS
    alpha, beta = (_real(node, name) if matrix else 1.0 for name in ("alpha", "beta"))
    constant = _read_once(model, node, number)
    return _along(constant, axis if matrix else -1, beta / alpha) if alpha and beta else None


def _behind(model: ir.Model, node: ir.Node, axis: int) -> Bias | None:
    """The constant that the only reader of a node's output adds to it, or subtracts as the mean of a batch norm."""
    output = node.outputs[0]
    uses = tuple(output.uses())
    alpha = _real(node, "alpha") if node.op_type in MATRIX_PRODUCTS else 1.0
    if node.op_type not in _LINEAR or len(uses) != 1 or output.is_graph_output() or not alpha:
        return None
    ((reader, number),) = uses
    if reader.op_type == "Add" and not reader.domain:
        return _along(_read_once(model, reader, 1 - number), axis, 1 / alpha)
    if reader.op_type == "BatchNormalization" and not number and axis < -1:
        training = reader.attributes.get_int("training_mode", 0)
        return None if training else _along(_read_once(model, reader, _BATCH_NORM_MEAN), -1, -1.0)
    return None


def _of_gates(model: ir.Model, node: ir.Node, layout: Recurrent, outputs: tuple[int, int]) -> Bias | None:
    """The half of a recurrent bias, (directions, 2 gates), that belongs to the inputs or to the states."""
    if node.op_type == "GRU" and layout.of_states:  # a gate is applied before or after
        return None
    constant = _read_once(model, node, _BIAS_INPUTS[node.op_type])
    directions, gates = outputs
    if constant is None or constant.positions.shape != (directions, 2 * gates):
        return None
    half = constant.positions[:, gates:] if layout.of_states else constant.positions[:, :gates]
    return Bias(constant.name, half.reshape(-1), 1.0)


def _read_once(model: ir.Model, node: ir.Node, number: int) -> MovedWeight | None:
    """The initialiser behind an input of a node, if nothing else reads it."""
    value = node.inputs[number] if number < len(node.inputs) else None
    found = moved_weight(value)
    if found is None or len(list(readers(model.graph.initializers[found.name], model))) != 1:
        return None
    return None if model.graph.initializers[found.name].is_graph_output() else found


def _along(constant: MovedWeight | None, axis: int, factor: float) -> Bias | None:
    """A constant that has one element per channel, along an axis from the end."""
    if constant is None or constant.positions.ndim < -axis or constant.positions.shape[axis] != constant.size:
        return None
    return Bias(constant.name, constant.positions.reshape(-1), factor)


def _real(node: ir.Node, name: str) -> float:
    return node.attributes.get_float(name, 1.0)
