"""Models whose weights stay in 4 or 8 bits while they run: less memory and faster products, where a runtime has them.

The ordinary file of this package is smaller, but its weights are float32 again once it is loaded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sws_compress.entropy import entropy_bits
from sws_compress.errors import ArgumentError, ModelError, VerificationError
from sws_compress.files import write_atomically
from sws_compress.mixture.sensitivity import Sensitivity
from sws_compress.onnx_io.analyse.affine_weights import affine_weights, weights_left_dense
from sws_compress.onnx_io.analyse.input_moments import input_second_moments
from sws_compress.onnx_io.analyse.weights import Skipped, Weight, find_weights
from sws_compress.onnx_io.format.blocked_weight import BLOCK_SIZES, BlockedWeight
from sws_compress.onnx_io.format.mark import refuse_compressed, set_mark
from sws_compress.onnx_io.read.on_disk import bytes_on_disk
from sws_compress.onnx_io.write.matmul_nbits import in_float_arithmetic, rewrite_affine
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.onnx_io.write.strip import strip
from sws_compress.ort.compare import compare_outputs
from sws_compress.ort.low_bit_readback import executed_columns
from sws_compress.ort.session import check_runs
from sws_compress.packing.pack import PackedTensor
from sws_compress.pipelines.publish import refuse_no_gain
from sws_compress.pipelines.source import checked_feeds, open_source, refuse_nothing_to_do
from sws_compress.quantize.affine import affine_cluster
from sws_compress.quantize.affine_palette import INDEX_BITS, AffinePalette
from sws_compress.quantize.granularity import PerBlock
from sws_compress.report.inspection import TensorRow
from sws_compress.report.result import CompressionResult
from sws_compress.thresholds import SMALLEST_WEIGHT

EMBEDDING_BITS = 8
"""A look-up reads few rows, whatever their bits: the memory is what counts, and a quarter of it costs no accuracy. An
embedding that is a matrix product's weight as well has that product's bits."""


OLDEST_RUNTIME = {4: (1, 18), 8: (1, 23)}
"""First ONNX Runtime that multiplies by so many bits on the CPU: 1.20 and 1.21 refuse 8 at load, 1.22 when run. For 4
bits it is the oldest that this package supports."""


FLOAT_TOLERANCE = 1e-3
"""Largest relative difference of outputs that summing in another order explains."""


@dataclass(frozen=True, kw_only=True)
class AffineFormat:
    """How weights are stored and multiplied; checked here.

    bits                  of matrices: 4 or 8
    block_size            weights along the inputs that share a scale: 16, 32, 64, 128 or 256
    symmetric             zero points all in the middle and not stored; else one per block
    integer_arithmetic    multiply activations rounded to 8 bits per block (relative error about 0.5 % a layer), else
                          float32. With 8 bits ONNX Runtime 1.32 is 6 to 16 times slower than a dense product without
                          it (one row), with 4 bits it is fast either way.
    """

    bits: int
    block_size: int = 32
    symmetric: bool = False
    integer_arithmetic: bool = False

    def __post_init__(self) -> None:
        if self.bits not in INDEX_BITS:
            raise ArgumentError(f"bits must be 4 or 8, got {self.bits}: runtimes execute no other widths")
        if self.block_size not in BLOCK_SIZES:
            raise ArgumentError(
                f"block_size must be one of {BLOCK_SIZES}, got {self.block_size}: kernels know no other"
            )


@dataclass(frozen=True, eq=False)
class AffineModel:
    """The bytes of the file, the tensors that were replaced in it with their grids, and the weights that were not."""

    data: bytes
    tensors: tuple[PackedTensor, ...]
    palettes: Mapping[str, AffinePalette]
    left_dense: tuple[Skipped, ...]


OnProgress = Callable[[str, int, int], None]


def pack_affine(model: ir.Model, form: AffineFormat, *, on_progress: OnProgress | None = None) -> AffineModel:
    """Every matrix of ``model`` on grids of ``form``, every embedding of 8 bits; ``model`` itself is not changed.

    Where a weight multiplies the output of a layer normalisation, errors count by the second moment that input has.
    Raises ModelError if no weight can stay in few bits, or the model was compressed before; ArgumentError if the
    installed ONNX Runtime, in which the result could not be checked, has no products of so many bits.
    """
    refuse_compressed(model)
    _refuse_old_runtime(form.bits)
    found = affine_weights(model)
    left_dense = weights_left_dense(model)
    if not found:
        first = f"{left_dense[0].name}: {left_dense[0].reason}" if left_dense else "it has no weights"
        raise ModelError(f"model must have a MatMul, Gemm or Gather weight to run in few bits, got none ({first})")
    palettes: dict[str, AffinePalette] = {}
    for i, (weight, axis) in enumerate(found):
        if on_progress is not None:
            on_progress(f"fitting {weight.name}", i, len(found))
        palettes[weight.name] = affine_cluster(
            weight.values,
            bits=EMBEDDING_BITS if weight.operators == ("Gather",) else form.bits,
            granularity=PerBlock(form.block_size),
            axis=axis,
            symmetric=form.symmetric,
            sensitivity=_input_sensitivity(model, weight, axis),
        )
    blocked = {name: _blocked(palette) for name, palette in palettes.items()}
    rewritten = model.clone()
    rewrite_affine(rewritten, blocked, integer_arithmetic=form.integer_arithmetic)
    tensors = tuple(_describe(name, palettes[name], weight) for name, weight in blocked.items())
    strip(rewritten)
    set_mark(rewritten, decode_nodes=0)
    return AffineModel(to_bytes(rewritten), tensors, palettes, left_dense)


def _input_sensitivity(model: ir.Model, weight: Weight, axis: int) -> Sensitivity | None:
    """Second moments of the inputs, one per slice along ``axis``; None where they are not known, or all 0."""
    moments = input_second_moments(model, weight.name)
    if moments is None or not moments.any():
        return None
    return Sensitivity.along(moments, axis=axis, ndim=weight.values.ndim)


def expanded(model: ir.Model, palettes: Mapping[str, AffinePalette]) -> bytes:
    """``model`` with the float32 values of its palettes: what a model made by `pack_affine` computes exactly."""
    dense = model.clone()
    for name, palette in palettes.items():
        dense.graph.initializers[name].const_value = ir.tensor(palette.expand(), name=name)
    return to_bytes(dense)


def verify_affine(
    model: ir.Model, packed: AffineModel, feeds: Mapping[str, npt.NDArray[Any]] | None = None, *, seed: int = 0
) -> float:
    """The largest relative difference between ``packed`` and the same model with its weights expanded to float32, on
    ``feeds`` by input name, else on random inputs from ``seed``.

    Raises VerificationError where ONNX Runtime does not load the file, where a matrix product uses other weights than
    `AffinePalette.expand` gives, bit for bit, or, in float32 arithmetic, outputs differ by more than summing explains.
    """
    check_runs(packed.data)
    for name, palette in packed.palettes.items():
        executed = executed_columns(packed.data, name)
        if executed is None:
            continue
        columns, values = executed
        if not np.array_equal(values, np.moveaxis(palette.expand(), palette.axis, 0)[columns]):
            raise VerificationError(f"{name} must be multiplied as it was fitted, got other weights: report this")
    reference = expanded(model, packed.palettes)
    exact = in_float_arithmetic(packed.data)
    largest = max(each.largest_relative for each in compare_outputs(reference, exact, feeds, seed=seed))
    if not largest <= FLOAT_TOLERANCE:
        raise VerificationError(
            f"outputs must equal those of expanded weights within {FLOAT_TOLERANCE:g} of the largest, "
            f"got {largest:.3g}: report this"
        )
    return max(each.largest_relative for each in compare_outputs(reference, packed.data, feeds, seed=seed))


def affine_rows(packed: AffineModel) -> tuple[TensorRow, ...]:
    """One row a tensor, as ``inspect`` shows them for decoded tensors; entropy is that of the grid indices."""
    rows = []
    for tensor in packed.tensors:
        palette = packed.palettes[tensor.name]
        counts = palette.counts
        rows.append(
            TensorRow(
                name=tensor.name,
                shape=tensor.shape,
                encoding=tensor.encoding,
                distinct_values=int(np.count_nonzero(counts)),
                zeros=float(np.mean(palette.expand() == 0)),
                entropy_bits=entropy_bits(counts) / palette.indices.size,
                file_bytes=tensor.payload_bytes,
                file_share=tensor.payload_bytes / len(packed.data),
            )
        )
    return tuple(rows)


def _refuse_old_runtime(bits: int) -> None:
    import onnxruntime

    version: str = onnxruntime.__version__
    if tuple(map(int, version.split(".")[:2])) < OLDEST_RUNTIME[bits]:
        needed = ".".join(map(str, OLDEST_RUNTIME[bits]))
        raise ArgumentError(
            f"ONNX Runtime must be {needed} or newer for products of {bits} bits, got {version}: update it, or take 4"
        )


def _blocked(palette: AffinePalette) -> BlockedWeight:
    zeros = None if palette.symmetric else palette.zeros
    return BlockedWeight(palette.indices, palette.scales.values, zeros, palette.bits, palette.scales.granularity.size)


def _describe(name: str, palette: AffinePalette, weight: BlockedWeight) -> PackedTensor:
    stored = (weight.packed_indices, weight.scales, weight.packed_zeros)
    payload = sum(array.nbytes for array in stored if array is not None)
    return PackedTensor(name, palette.shape, f"int{palette.bits}", (name,), payload)


LowBitRuntime = Literal["int4", "int8"]


LOW_BITS: Mapping[str, int] = {"int4": 4, "int8": 8}


def quantize_file(
    source: Path,
    target: Path,
    runtime: LowBitRuntime,
    inputs: Any,
    seed: int,
    on_progress: OnProgress | None,
    started: float,
) -> CompressionResult:
    """Matrices and embeddings of the model at ``source`` on grids that ONNX Runtime multiplies as they are.

    8-bit products use integer arithmetic (in float32 they are several times slower than dense ones), 4-bit products
    float32. The result's largest difference is from the model with the same weights expanded. Arguments and errors
    else as for ``compress_file``.
    """
    if runtime not in LOW_BITS:
        raise ArgumentError(f"runtime must be int4 or int8, got {runtime!r}: leave it out for the smallest file")
    model = open_source(source, target)
    model = ir.external_data.load_to_model(model)
    refuse_nothing_to_do(source, model, find_weights(model, smallest=SMALLEST_WEIGHT))
    feeds = checked_feeds(source, inputs, seed)
    bits = LOW_BITS[runtime]
    packed = pack_affine(model, AffineFormat(bits=bits, integer_arithmetic=bits == 8), on_progress=on_progress)
    largest = verify_affine(model, packed, feeds)
    dense_bytes = bytes_on_disk(source)
    refuse_no_gain(len(packed.data), dense_bytes)
    write_atomically(target, packed.data)
    return CompressionResult(
        target, dense_bytes, len(packed.data), affine_rows(packed), largest, time.perf_counter() - started
    )
