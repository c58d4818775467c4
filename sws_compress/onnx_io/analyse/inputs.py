"""Shapes of the inputs of a model."""

from __future__ import annotations

import math

import onnx


def input_shapes(proto: onnx.ModelProto) -> tuple[tuple[int, ...], ...]:
    """The shape of one sample of every input.

    Parameters
    ----------
    proto : ModelProto
        The model.

    Returns
    -------
    tuple of tuple of int
        All dimensions after the first; () for an input with a dimension that is not known.
    """
    shapes = []
    for entry in proto.graph.input:
        dims = [dim.dim_value for dim in entry.type.tensor_type.shape.dim][1:]
        shapes.append(tuple(dims) if math.prod(dims) > 0 else ())
    return tuple(shapes)
