"""Weights of an ONNX model: read them, write others in their places, and leave the file without them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

Array = npt.NDArray[Any]


def float_tensors(model: onnx.ModelProto, *, least_size: int, least_rank: int = 1) -> dict[str, Array]:
    """Float32 weights of the graph and its bodies, from initialisers and ``Constant`` nodes, by a number in order."""
    return {
        str(number): numpy_helper.to_array(tensor)
        for number, tensor in enumerate(_tensors(model.graph))
        if tensor.data_type == onnx.TensorProto.FLOAT
        and len(tensor.dims) >= least_rank
        and np.prod(tensor.dims) >= least_size
    }


def with_tensors(model: onnx.ModelProto, values: Mapping[str, Array]) -> onnx.ModelProto:
    """The same model with other values for some of its weights, numbered as `float_tensors` does."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for number, tensor in enumerate(_tensors(changed.graph)):
        if str(number) in values:
            name, shape = tensor.name, tuple(tensor.dims)
            array = np.asarray(values[str(number)], np.float32).reshape(shape)
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))
    return changed


def without_tensors(model: onnx.ModelProto, numbers: Mapping[str, object]) -> bytes:
    """The file without the values of these weights: what has to be sent beside a code for them."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for number, tensor in enumerate(_tensors(changed.graph)):
        if str(number) in numbers:
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
    return bytes(changed.SerializeToString())


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR and node.op_type == "Constant":
                yield attribute.t
            elif attribute.type == onnx.AttributeProto.GRAPH:
                yield from _tensors(attribute.g)
