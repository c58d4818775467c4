"""A graph and weights from elsewhere, made one model file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from sws_compress.errors import ModelError
from sws_compress.files import Draft
from sws_compress.messages import shown
from sws_compress.onnx_io.external_data import is_external
from sws_compress.onnx_io.read.model import parse
from sws_compress.onnx_io.read.safetensors_files import StoredTensor
from sws_compress.onnx_io.read.tensor_data import check_tensor, mapped
from sws_compress.onnx_io.write.external import DataFile

WIDER = {
    ir.DataType.FLOAT16: (ir.DataType.FLOAT, ir.DataType.DOUBLE),
    ir.DataType.BFLOAT16: (ir.DataType.FLOAT, ir.DataType.DOUBLE),
    ir.DataType.FLOAT: (ir.DataType.DOUBLE,),
}
"""Types that hold all values of another."""

INLINE_BYTES = 256 << 20
"""Weights of so many bytes are put into the model's own file."""


def write_joined(path: Path, tensors: Mapping[str, StoredTensor], file: Draft, data: Draft) -> None:
    """Write the model at ``path`` with tensors by the names of its initialisers or inputs, one in memory at a time.

    Initialisers whose data is in the model's file, or beside it and not among the tensors, keep it. Inputs that have
    the name of a tensor become initialisers.

    Parameters
    ----------
    path : Path
        The graph; external data may be missing.
    tensors : mapping of str to StoredTensor
        The weights.
    file, data : Draft
        Get the model and, if it is large, its tensors. They stay where they are.

    Raises
    ------
    ModelError
        If a weight is nowhere, or has another shape or type, or if no name is known.
    """
    proto = parse(path)
    graph = proto.graph
    known = {tensor.name for tensor in graph.initializer}
    given = [entry for entry in graph.input if entry.name in tensors and entry.name not in known]
    wanted = [tensor for tensor in graph.initializer if is_external(tensor)]
    for entry in given:
        wanted.append(graph.initializer.add(name=entry.name, data_type=entry.type.tensor_type.elem_type))
        wanted[-1].dims.extend(_stated(entry, tensors[entry.name]))
        graph.input.remove(entry)
    if not any(tensor.name in tensors for tensor in wanted):
        named = shown(wanted[0].name if wanted else next(iter(tensors), "nothing"))
        raise ModelError(
            "weights must have the names of the model's initialisers without data, or of inputs, got none such as "
            f"{named}: export the graph under the names of the weights"
        )
    inline = sum(tensors[each.name].length for each in wanted if each.name in tensors) <= INLINE_BYTES
    store = None if inline else DataFile(data)
    for tensor in wanted:
        values = _values(tensor, tensors, path)
        del tensor.external_data[:]
        tensor.ClearField("data_location")
        if store is None:
            tensor.raw_data = values.tobytes()
        else:
            tensor.CopyFrom(store.add_initializer(tensor.name, tensor.data_type, values, tuple(tensor.dims)))
    file.write(proto.SerializeToString(deterministic=True))
    file.flush()


def _stated(entry: onnx.ValueInfoProto, stored: StoredTensor) -> tuple[int, ...]:
    """The shape of an input, free sizes taken from the tensor that it becomes."""
    if not entry.type.tensor_type.HasField("shape"):
        return stored.shape
    dims = entry.type.tensor_type.shape.dim
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]
    if len(sizes) != len(stored.shape):
        return tuple(size or 0 for size in sizes)
    return tuple(own if size is None else size for size, own in zip(sizes, stored.shape, strict=True))


def _values(tensor: onnx.TensorProto, tensors: Mapping[str, StoredTensor], path: Path) -> npt.NDArray[Any]:
    """The elements of an initialiser, in its type."""
    stored = tensors.get(tensor.name)
    if stored is None:
        try:
            check_tensor(tensor, path)
        except ModelError as error:
            raise ModelError(
                f"weights must have all tensors that the model lacks, got none named {shown(tensor.name)} of shape "
                f"{shown(list(tensor.dims))}: export the graph under the names of the weights"
            ) from error
        return mapped(tensor, path)
    if tuple(tensor.dims) != stored.shape:
        raise ModelError(
            f"weight {shown(tensor.name)} must have shape {shown(list(tensor.dims))} as in the model, got "
            f"{shown(list(stored.shape))}: export the graph of the same network"
        )
    try:
        kind = ir.DataType(tensor.data_type)
    except ValueError as error:
        raise ModelError(
            f"type of {shown(tensor.name)} must be one that ONNX defines, got another: export again"
        ) from error
    if kind == stored.dtype:
        return stored.values()
    if kind not in WIDER.get(stored.dtype, ()):
        raise ModelError(
            f"weight {shown(tensor.name)} must be {kind.name.lower()} as in the model, or narrower, got "
            f"{stored.dtype.name.lower()}: export the graph in that type"
        )
    if stored.dtype == ir.DataType.BFLOAT16:
        wide = (np.asarray(stored.values()).view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        return wide.reshape(stored.shape).astype(kind.numpy(), copy=False)
    return stored.values().astype(kind.numpy())
