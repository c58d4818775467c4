"""Batch norms that have become a scale and a shift, put into the layers before them.

A weight times a scale for every output channel has as many values as all its products. So the weight stays as it is in
the file, and the graph multiplies it: runtimes do so once, when they load the file. All scales of a network are one
tensor. What a norm takes of a file falls from its node of some 44 bytes, two vectors, and means and variances of every
width to one Mul of 16 bytes and the two vectors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sws_compress.onnx_io.rewrite.sizes_of_axes import constant, registered

LAYERS = ("Conv", "Gemm")
"""Operators whose output is a weight with its output channels first, times the input."""

HALF_TOLERANCE = 1e-5
"""Greatest relative change of a scale for the sake of float16: that of leaving out torch's default epsilon."""

_EPSILON = 1e-5
"""Epsilon of a batch norm that states none."""

_LEFT = "read by a norm that is gone"
"""Key of a mark in a value's ``meta``."""


@dataclass(frozen=True)
class _Settled:
    """A layer and the norm behind it."""

    layer: ir.Node
    norm: ir.Node
    scales: npt.NDArray[np.float32]

    @property
    def rank(self) -> int:
        return len(_array(self.layer.inputs[1]).shape)


def absorb_settled_norms(model: ir.Model) -> None:
    """Let layers without a bias take in the norms behind them, in place, whose means are 0 and whose variances are 1.

    Norms stay whose scales float16 holds, but not with their epsilon: their values would take more bytes.

    Parameters
    ----------
    model : ir.Model
        A plain model. Weights keep their names and values; the scales of all norms are a new initialiser.
    """
    by_rank: dict[int, list[_Settled]] = {}
    for settled in _settled(model.graph):
        by_rank.setdefault(settled.rank, []).append(settled)
    for rank, members in by_rank.items():
        _absorb(model.graph, rank, members)
    for name, value in list(model.graph.initializers.items()):
        if not value.uses() and not value.is_graph_output() and value.meta.pop(_LEFT, False):
            del model.graph.initializers[name]


def _settled(graph: ir.Graph) -> Iterator[_Settled]:
    """The norms that can be taken in."""
    for norm in graph:
        if norm.domain or norm.op_type != "BatchNormalization" or len(norm.outputs) != 1 or norm.inputs[0] is None:
            continue
        layer, source = norm.inputs[0].producer(), norm.inputs[0]
        if layer is None or layer.domain or layer.op_type not in LAYERS or layer.graph is not graph:
            continue
        if len(source.uses()) != 1 or source.is_graph_output() or not _is_unshifted(layer):
            continue
        if layer.op_type == "Gemm" and not _is_plain_product(layer):
            continue
        arrays = [_array(value) for value in (layer.inputs[1], *norm.inputs[1:])]
        weight, scales, shifts, means, variances = arrays
        if not all(array.dtype == np.float32 and array.size for array in arrays) or norm.inputs[2] is None:
            continue
        if (
            means.any()
            or (variances != 1).any()
            or weight.ndim < 2
            or not weight.shape[:1] == scales.shape == shifts.shape
        ):
            continue
        factors = _in_half(scales / math.sqrt(1 + norm.attributes.get_float("epsilon", _EPSILON)))
        if _held_in_half(factors) or not _held_in_half(scales):
            yield _Settled(layer, norm, factors)


def _is_unshifted(layer: ir.Node) -> bool:
    """Whether a layer has no bias, or zeros, as the exporter gives convolutions."""
    bias = layer.inputs[2] if len(layer.inputs) > 2 else None
    return bias is None or (bool(_array(bias).size) and not _array(bias).any())


def _is_plain_product(layer: ir.Node) -> bool:
    """Whether a Gemm multiplies by a weight whose rows are output channels, and by nothing else."""
    return layer.attributes.get_int("transB", 0) == 1 and layer.attributes.get_float("alpha", 1.0) == 1.0


def _array(value: ir.Value | None) -> npt.NDArray[np.float32]:
    """The elements of an initialiser; none if it is not one."""
    tensor = value.const_value if value is not None and value.is_initializer() else None
    found: npt.NDArray[np.float32] = np.zeros(0, np.float32) if tensor is None else tensor.numpy()
    return found


def _held_in_half(values: npt.NDArray[np.float32]) -> bool:
    """Whether float16 holds all values, so that they take two bytes each in a file."""
    with np.errstate(over="ignore"):
        return bool((values.astype(np.float16).astype(np.float32) == values).all())


def _in_half(scales: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Scales as float16 has them where that changes them by `HALF_TOLERANCE` at most."""
    single = scales.astype(np.float32)
    with np.errstate(over="ignore"):
        half = single.astype(np.float16).astype(np.float32)
    return np.where(np.abs(half - single) <= HALF_TOLERANCE * np.abs(single), half, single)


def _absorb(graph: ir.Graph, rank: int, members: list[_Settled]) -> None:
    """Multiply weights by parts of one tensor of scales, and give the layers the shifts of the norms."""
    joined = np.concatenate([each.scales for each in members]).reshape(-1, *(1,) * (rank - 1))
    scales = registered(graph, "norm_scales", joined)
    parts: list[ir.Value] = [scales]
    first = next(iter(graph))
    if len(members) > 1:
        sizes = constant(graph, [len(each.scales) for each in members])
        split = ir.Node("", "Split", [scales, sizes], num_outputs=len(members))
        graph.insert_before(first, split)
        parts = list(split.outputs)
    for part, each in zip(parts, members, strict=True):
        weight = each.layer.inputs[1]
        assert weight is not None
        product = ir.Node("", "Mul", [weight, part])
        product.outputs[0].shape, product.outputs[0].type = weight.shape, weight.type
        graph.insert_before(each.layer, product)
        each.layer.replace_input_with(1, product.outputs[0])
        each.layer.attributes.pop("kernel_shape", None)  # runtimes take it from the weight
        if len(each.layer.inputs) > 2 and (bias := each.layer.inputs[2]) is not None:
            bias.meta[_LEFT] = True
        each.layer.resize_inputs(3)
        each.layer.replace_input_with(2, each.norm.inputs[2])
        _take_over(graph, each)


def _take_over(graph: ir.Graph, settled: _Settled) -> None:
    """Put the output of the layer in the place of that of the norm, and take the norm out of the graph."""
    source, output = settled.layer.outputs[0], settled.norm.outputs[0]
    if output.is_graph_output():
        source.name, output.name = output.name, None
    ir.convenience.replace_all_uses_with(output, source, replace_graph_outputs=True)
    for value in settled.norm.inputs[1:]:
        if value is not None:
            value.meta[_LEFT] = True
    graph.remove(settled.norm, safe=True)
