"""Vectors of a graph that may be trained beside its weights: biases, and the scales and offsets of norms."""

from __future__ import annotations

import onnx_ir as ir

from sws_compress.onnx_io.analyse.weights import readers

_LEARNED_INPUTS = {
    "Add": (0, 1),
    "BatchNormalization": (1, 2),
    "Conv": (2,),
    "ConvTranspose": (2,),
    "GRU": (3,),
    "Gemm": (2,),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LSTM": (3,),
    "LayerNormalization": (1, 2),
    "Mul": (0, 1),
    "PRelu": (1,),
    "RMSNormalization": (1,),
    "RNN": (3,),
    "Sub": (0, 1),
}
"""Inputs of operators that training has usually learned."""

_RECURRENT = ("GRU", "LSTM", "RNN")
"""Operators whose biases have a row for each direction."""


def movable_vectors(model: ir.Model) -> set[str]:
    """Initialisers of float32 that only such inputs read, and that have one axis alone that is longer than 1.

    Means and variances of batch norms are left out: what they do, scales and offsets do as well.
    """
    return {name for name, value in model.graph.initializers.items() if _may_move(model, value)}


def _may_move(model: ir.Model, value: ir.Value) -> bool:
    tensor = value.const_value
    if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.size < 2 or value.is_graph_output():
        return False
    reading = list(readers(value, model))
    if not all(not node.domain and number in _LEARNED_INPUTS.get(node.op_type, ()) for node, number in reading):
        return False
    long = sum(size > 1 for size in tensor.shape.numpy())
    return bool(reading) and (long == 1 or all(node.op_type in _RECURRENT for node, _ in reading))
