"""Declared shapes that contradict what the operators compute, corrected.

ONNX Runtime ignores such declarations of intermediate values and outputs. The strict inference with which a written
file is checked does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import onnx
import onnx_ir as ir

from sws_compress.child_process.client import CallError
from sws_compress.errors import ModelError
from sws_compress.messages import first_few, first_line, shown
from sws_compress.onnx_io.native import inferred
from sws_compress.onnx_io.traversal import graphs

_Sizes: TypeAlias = "tuple[int | str | None, ...]"

_SHAPE_TENSOR_BYTES = 1024
"""Larger tensors hold no sizes, so inference does without their values."""


def correct_shapes(model: ir.Model) -> tuple[str, ...]:
    """Replace declared shapes that contradict inference by the inferred ones, in place; inputs stay as they are.

    Parameters
    ----------
    model : ir.Model
        Its constants are initialisers of the main graph (`lift.lift_constants`). External data is not read.

    Returns
    -------
    tuple of str
        A line that says what was corrected; empty if nothing was.

    Raises
    ------
    ModelError
        If inference crashes, or takes too much time or memory.
    """
    declared = _without_values(model)
    try:
        inferred(declared, strict=True)
        return ()
    except CallError as error:  # what is wrong is looked for below
        if error.out_of_bounds:
            raise ModelError(
                f"model must have shapes that onnx infers, got '{first_line(error)}': export it again"
            ) from error
        wrong = dict(_contradictions(declared))
    corrected = []
    for graph in model.graphs():
        for value in (output for node in graph for output in node.outputs):
            sizes = wrong.get((str(value.name), _sizes_of(value)))
            if sizes is not None:
                value.shape = ir.Shape(sizes)
                corrected.append(str(value.name))
    if not corrected:
        return ()
    named = first_few([shown(name) for name in corrected], ", ")
    return (f"declared shapes that contradict the operators are corrected: {named}",)


def _without_values(model: ir.Model) -> onnx.ModelProto:
    """The model in protobuf form; of large initialisers only shapes and types."""
    light = model.clone()
    for name, value in light.graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and tensor.nbytes > _SHAPE_TENSOR_BYTES and tensor.dtype != ir.DataType.STRING:
            shape = ir.Shape(tensor.shape.numpy())
            value.const_value = ir.ExternalTensor("-", 0, tensor.nbytes, tensor.dtype, shape=shape, name=name)
    proto: onnx.ModelProto = ir.to_proto(light)
    return proto


def _contradictions(declared: onnx.ModelProto) -> Iterator[tuple[tuple[str, _Sizes | None], _Sizes]]:
    """Names and declared shapes that contradict inference, each with the inferred shape."""
    bare = onnx.ModelProto()
    bare.CopyFrom(declared)
    for graph in graphs(bare):
        del graph.value_info[:]
        for entry in graph.output:
            entry.type.tensor_type.ClearField("shape")
    try:
        shaped = inferred(bare)
    except CallError:
        return
    for before, after in zip(graphs(declared), graphs(shaped), strict=True):
        found = {entry.name: _sizes(entry) for entry in (*after.value_info, *after.output)}
        for entry in (*before.value_info, *before.output):
            stated, true = _sizes(entry), found.get(entry.name)
            if stated is not None and true is not None and _contradict(stated, true):
                yield (entry.name, stated), true


def _contradict(stated: _Sizes, true: _Sizes) -> bool:
    pairs = zip(stated, true, strict=False)
    return len(stated) != len(true) or any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs)


def _sizes(entry: onnx.ValueInfoProto) -> _Sizes | None:
    """The shape of a tensor; None if there is none."""
    if not (entry.type.HasField("tensor_type") and entry.type.tensor_type.HasField("shape")):
        return None
    sizes = entry.type.tensor_type.shape.dim
    return tuple(one.dim_value if one.HasField("dim_value") else one.dim_param or None for one in sizes)


def _sizes_of(value: ir.Value) -> _Sizes | None:
    if value.shape is None:
        return None
    return tuple(size if isinstance(size, int) else size.value for size in value.shape)
