"""Models whose matrices and embeddings are in 4 or 8 bits: which weights they are, and the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from sws_compress.errors import ArgumentError, ModelError
from sws_compress.mixture.sensitivity import Sensitivity
from sws_compress.onnx_io.analyse.affine_weights import affine_weights, weights_left_dense
from sws_compress.onnx_io.analyse.input_moments import input_second_moments
from sws_compress.onnx_io.analyse.weights import Skipped, Weight, find_weights
from sws_compress.onnx_io.format.blocked_weight import BlockedWeight
from sws_compress.onnx_io.format.mark import refuse_compressed, set_mark
from sws_compress.onnx_io.write.matmul_nbits import rewrite_affine
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.onnx_io.write.strip import strip
from sws_compress.ort.session import runtime_version
from sws_compress.packing.pack import PackedTensor
from sws_compress.quantize.affine import affine_cluster
from sws_compress.quantize.affine_palette import AffinePalette
from sws_compress.quantize.granularity import PerBlock
from sws_compress.requests import LowBit
from sws_compress.terminal.progress_bar import OnProgress, silent
from sws_compress.thresholds import SMALLEST_LOW_BIT_WEIGHT

EMBEDDING_BITS = 8
"""A look-up reads few rows, whatever their bits: the memory is what counts, and a quarter of it costs no accuracy. An
embedding that is also the weight of a matrix product has that product's bits."""

OLDEST_RUNTIME = {4: (1, 18), 8: (1, 23)}
"""First ONNX Runtime that multiplies by so many bits on the CPU. Versions 1.20 and 1.21 refuse 8 bits at load, 1.22 at
the first run. For 4 bits it is the oldest version that this package supports."""

LEAST_LOW_BIT_SHARE = 0.1
"""Share of the bytes of all weights that must be able to stay in few bits: with less, the file is hardly smaller. So
networks of convolutions are refused, whatever the size of their last layer."""


@dataclass(frozen=True, eq=False)
class LowBitModel:
    """A model whose weights stay in few bits.

    Parameters
    ----------
    data : bytes
        The file.
    tensors : tuple of PackedTensor
        The tensors that were replaced in it.
    palettes : mapping of str to AffinePalette
        Their grids and indices, by name.
    left_dense : tuple of Skipped
        Weights that were not replaced, and why.
    """

    data: bytes
    tensors: tuple[PackedTensor, ...]
    palettes: Mapping[str, AffinePalette]
    left_dense: tuple[Skipped, ...]


def pack_low_bit(
    model: ir.Model, request: LowBit, *, integer_arithmetic: bool | None = None, on_progress: OnProgress = silent
) -> LowBitModel:
    """Put every matrix of a model on the grids of ``request``, and every embedding on grids of 8 bits.

    A weight that multiplies the output of a layer normalisation is fitted with the second moment of that input as
    sensitivity.

    Parameters
    ----------
    model : ir.Model
        It is not changed.
    request : LowBit
        The grids.
    integer_arithmetic : bool, optional
        Multiply activations rounded to 8 bits per block. By default with 8 bits: in float32, ONNX Runtime 1.32 is 6
        to 16 times slower than a dense product of one row; with 4 bits it is fast either way.
    on_progress : callable
        Called as ``on_progress(description, done, total)``.

    Raises
    ------
    ArgumentError
        If the installed ONNX Runtime, in which the result is checked, has no products of so many bits.
    ModelError
        If less than a tenth of the weights can stay in few bits, or if the model was compressed before.
    """
    refuse_compressed(model)
    refuse_old_runtime(request.bits, "take 4")
    found = affine_weights(model)
    left_dense = weights_left_dense(model)
    chosen = sum(weight.values.nbytes for weight, _ in found)
    share = chosen / max(1, sum(weight.values.nbytes for weight in find_weights(model)))
    if share < LEAST_LOW_BIT_SHARE:
        first = next((f"{each.name}: {each.reason}" for each in (*left_dense, *_of_other_types(model))), "no weights")
        least = f"{100 * LEAST_LOW_BIT_SHARE:.0f} %"
        raise ModelError(
            f"model must have at least {least} of its weights in MatMul, Gemm or Gather to run in few bits, "
            f"got {100 * share:.1f} % ({first}): compress it with WeightsOnly"
        )
    palettes: dict[str, AffinePalette] = {}
    for i, (weight, axis) in enumerate(found):
        on_progress(f"fitting {weight.name}", i, len(found))
        palettes[weight.name] = affine_cluster(
            weight.values,
            bits=EMBEDDING_BITS if weight.operators == ("Gather",) else request.bits,
            granularity=PerBlock(request.block_size),
            axis=axis,
            symmetric=request.symmetric,
            sensitivity=_input_sensitivity(model, weight, axis),
        )
    blocked = {name: blocked_weight(palette) for name, palette in palettes.items()}
    integers = request.bits == 8 if integer_arithmetic is None else integer_arithmetic
    tensors = tuple(_describe(name, palettes[name], weight) for name, weight in blocked.items())
    return LowBitModel(written(model, blocked, integers), tensors, palettes, left_dense)


def written(model: ir.Model, blocked: Mapping[str, BlockedWeight], integer_arithmetic: bool) -> bytes:
    """The file of a model with these weights; the model itself is not changed."""
    rewritten = model.clone()
    rewrite_affine(rewritten, blocked, integer_arithmetic=integer_arithmetic)
    strip(rewritten)
    set_mark(rewritten, decode_nodes=0)
    return to_bytes(rewritten)


def _of_other_types(model: ir.Model) -> Iterator[Skipped]:
    """Weights that are left out for their type."""
    for weight in find_weights(model, smallest=SMALLEST_LOW_BIT_WEIGHT):
        if weight.values.dtype != np.float32:
            reason = f"it is {weight.values.dtype}, and products in few bits are of float32: convert the model to it"
            yield Skipped(weight.name, weight.shape, reason)


def _input_sensitivity(model: ir.Model, weight: Weight, axis: int) -> Sensitivity | None:
    """Second moments of the inputs, one per slice along ``axis``; None where they are unknown or all 0."""
    moments = input_second_moments(model, weight.name)
    if moments is None or not moments.any():
        return None
    return Sensitivity.along(moments, axis=axis, ndim=weight.values.ndim)


def refuse_old_runtime(bits: int, otherwise: str) -> None:
    """Raise ArgumentError if the installed runtime has no products of so many bits; ``otherwise`` ends the message."""
    version = runtime_version()
    if tuple(map(int, version.split(".")[:2])) < OLDEST_RUNTIME[bits]:
        needed = ".".join(map(str, OLDEST_RUNTIME[bits]))
        raise ArgumentError(
            f"ONNX Runtime must be {needed} or newer for products of {bits} bits, got {version}: "
            f"update it, or {otherwise}"
        )


def blocked_weight(palette: AffinePalette) -> BlockedWeight:
    zeros = None if palette.symmetric else palette.zeros
    return BlockedWeight(palette.indices, palette.scales.values, zeros, palette.bits, palette.scales.granularity.size)


def _describe(name: str, palette: AffinePalette, weight: BlockedWeight) -> PackedTensor:
    stored = (weight.packed_indices, weight.scales, weight.packed_zeros)
    payload = sum(array.nbytes for array in stored if array is not None)
    return PackedTensor(name, palette.shape, f"int{palette.bits}", (name,), payload)
