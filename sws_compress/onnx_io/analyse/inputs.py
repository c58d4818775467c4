"""Names, types and shapes of the inputs of a model."""

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


def model_inputs(proto: onnx.ModelProto) -> list[tuple[str, str, tuple[int | str, ...]]]:
    """Name, element type and shape of every input that a caller gives.

    Parameters
    ----------
    proto : ModelProto
        The model.

    Returns
    -------
    list of (str, str, tuple)
        Types are named as in ONNX, in small letters: "float". Dimensions that are free have their name, or "any".
    """
    stored = {tensor.name for tensor in proto.graph.initializer}
    return [
        (
            entry.name,
            onnx.TensorProto.DataType.Name(entry.type.tensor_type.elem_type).lower(),
            tuple(
                int(dim.dim_value) if dim.HasField("dim_value") else str(dim.dim_param or "any")
                for dim in entry.type.tensor_type.shape.dim
            ),
        )
        for entry in proto.graph.input
        if entry.name not in stored
    ]
