"""A part of a model as a model of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from sws_compress.onnx_io.analyse.bodies import Inside


def part_of(
    model: ir.Model,
    inputs: Mapping[str, npt.NDArray[Any]],
    values: Sequence[str],
    weights: Mapping[str, npt.NDArray[Any]],
    known: Mapping[str, Inside],
) -> ir.Model:
    """The nodes between some values and others.

    Parameters
    ----------
    model : ir.Model
        It is not changed.
    inputs : mapping of str to ndarray
        Values that are given, each with an array of its type and number of axes.
    values : sequence of str
        What is wanted; at least one. Those inside of bodies are there, but no outputs.
    weights : mapping of str to ndarray
        Other values for initialisers, where the part has them.
    known : mapping of str to Inside
        All values of the model (`values_inside`).

    Returns
    -------
    ir.Model
        Its initialisers are those that it reads.
    """
    owners = {name: known[name].owners for name in values}
    outputs = [owners[name][-1].node.outputs[0] if owners[name] else known[name].value for name in values]
    graph = ir.convenience.extract(model.graph, list(inputs), list(dict.fromkeys(outputs)))
    for value in graph.inputs:
        array = inputs[str(value.name)]
        value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
        value.shape = ir.Shape([None] * array.ndim)
    for name, array in weights.items():
        if name in graph.initializers:
            graph.initializers[name].const_value = ir.tensor(array, name=name)
    return ir.Model(graph, ir_version=model.ir_version, functions=list(model.functions.values()))
