"""Second moments of the inputs of a layer, where the graph alone tells them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

Moments = npt.NDArray[np.float64]


def input_second_moments(model: ir.Model, name: str) -> Moments | None:
    """E[x_j^2] of the inputs that a weight multiplies, if all of them come from layer normalisations.

    A LayerNormalization over the last axis makes x = gain * n + bias with n of mean 0 and variance 1, so that
    E[x^2] = gain^2 + bias^2.

    Parameters
    ----------
    model : ir.Model
        The model.
    name : str
        An initialiser.

    Returns
    -------
    ndarray, shape (inputs,), float64, or None
        The mean over all products that read the weight; None if one of them has another input.
    """
    readings = tuple(model.graph.initializers[name].uses())
    moments = [_normalised_moments(node.inputs[0]) for node, number in readings if number == 1]
    known = [moment for moment in moments if moment is not None]
    if not known or len(known) < len(readings):
        return None
    mean: Moments = np.mean(known, axis=0)
    return mean


def _normalised_moments(value: ir.Value | None) -> Moments | None:
    """gain^2 + bias^2 of the LayerNormalization that makes ``value``; None for another value."""
    node = None if value is None else value.producer()
    if node is None or node.op_type != "LayerNormalization":
        return None
    parameters = [parameter.const_value for parameter in node.inputs[1:] if parameter is not None]
    if not parameters or any(tensor is None or len(tensor.shape) != 1 for tensor in parameters):
        return None
    squares = [tensor.numpy().astype(np.float64) ** 2 for tensor in parameters if tensor is not None]
    return np.sum(squares, axis=0)  # type: ignore[no-any-return]
