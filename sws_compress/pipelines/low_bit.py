"""The mode whose weights stay in 4 or 8 bits while the model runs.

It takes less memory and multiplies faster where a runtime has such products. The ordinary file of this package is
smaller, but its weights are float32 again once it is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from sws_compress.entropy import entropy_bits
from sws_compress.errors import VerificationError
from sws_compress.files import write_atomically
from sws_compress.onnx_io.analyse.affine_weights import in_functions, weights_left_dense
from sws_compress.onnx_io.analyse.left_dense import dense_notes
from sws_compress.onnx_io.analyse.nothing_to_do import refuse_nothing_to_do
from sws_compress.onnx_io.analyse.weights import find_weights
from sws_compress.onnx_io.read.lift import write_out_functions
from sws_compress.onnx_io.write.matmul_nbits import in_float_arithmetic
from sws_compress.onnx_io.write.replaced import with_values
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.compare import (
    differences_from_original,
    largest_if_repeated,
    outputs_in_runtime,
)
from sws_compress.ort.low_bit_readback import executed_columns
from sws_compress.ort.session import Array
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.low_bit_model import LowBitModel, blocked_weight, pack_low_bit, written
from sws_compress.pipelines.metrics import metric_before
from sws_compress.pipelines.moved_choices import moved_choices
from sws_compress.pipelines.publish import CHECKS, check_written, refuse_no_gain
from sws_compress.pipelines.source import Source, draw_notes, in_memory
from sws_compress.pipelines.write_back import written_back
from sws_compress.quantize.affine_palette import AffinePalette
from sws_compress.report.inspection import TensorRow
from sws_compress.report.result import CompressionResult
from sws_compress.requests import LowBit
from sws_compress.thresholds import SMALLEST_LOW_BIT_WEIGHT, SMALLEST_WEIGHT

FITTED_SHARE = 0.6
"""Share of the progress that checking does not have."""

FLOAT_TOLERANCE = 1e-3
"""Largest relative difference of outputs that summing in another order explains."""


@dataclass(frozen=True)
class LowBitCheck:
    """What a low-bit file does, beside the model with its weights expanded to float32.

    Parameters
    ----------
    largest : float
        Largest difference of its outputs, relative to the largest of each output; inf where integer arithmetic changes
        how many things a network finds, or rounding what it chooses. NaN without inputs, or if the model answers
        differently every time.
    notes : tuple of str
        What rounding changed.
    """

    largest: float
    notes: tuple[str, ...] = ()


def compress_to_low_bits(source: Source, request: LowBit, job: Job) -> CompressionResult:
    """Put matrices and embeddings of a model on grids that ONNX Runtime multiplies as they are.

    Parameters
    ----------
    source : Source
        A file or an exported module; it is not changed.
    request : LowBit
        The grids.
    job : Job
        Everything else.

    Returns
    -------
    CompressionResult
        Its decoded difference is from the model with the same weights expanded to float32.

    Raises
    ------
    ArgumentError
        If the installed ONNX Runtime has no products of so many bits.
    ModelError
        If less than a tenth of the weights can stay in few bits.
    VerificationError
        If the file does not do what the model with expanded weights does.
    """
    source = in_memory(source, job)
    if in_functions(source.model, weights_left_dense(source.model)):
        write_out_functions(source.model)
    refuse_nothing_to_do(source.name, source.model, find_weights(source.model, smallest=SMALLEST_WEIGHT))
    before = metric_before(source, job)
    packed = pack_low_bit(source.model, request, on_progress=job.part(0, FITTED_SHARE).on_progress)
    checking = job.part(FITTED_SHARE, 1).on_progress
    checking("running the network", 0, CHECKS)
    values = {name: palette.expand() for name, palette in packed.palettes.items()}
    expanded = with_values(source.model, values)
    feeds = source.feeds
    outputs = [] if feeds is None else outputs_in_runtime(to_bytes(expanded), feeds)
    checking("checking that the file loads", 1, CHECKS)
    check_written(packed.data, source.model, source.name)
    checking("checking weights and outputs", 2, CHECKS)
    checked = verify_low_bit(packed, feeds, outputs, source.model)
    varies = feeds is not None and math.isnan(checked.largest)
    job.refuse_uncompared(not varies, "change from run to run")
    draw_lines = () if feeds is None else draw_notes(source.model, answers_vary=varies)
    copy = None if source.module is None else written_back(source, source.module, values, outputs)
    checking("measuring the file", 3, CHECKS)
    notes = dense_notes(
        source.model,
        packed.palettes.keys(),
        len(packed.data),
        reasons={each.name: each.reason for each in packed.left_dense},
        smallest=SMALLEST_LOW_BIT_WEIGHT,
        types=(ir.DataType.FLOAT,),
    )
    refuse_no_gain(len(packed.data), source.dense_bytes, notes, gain=bool(packed.tensors))
    after = None if job.file_metric is None else job.file_metric.of(packed.data)
    write_atomically(job.output, packed.data)
    result = CompressionResult(
        output=job.output,
        dense_bytes=source.dense_bytes,
        file_bytes=len(packed.data),
        tensors=low_bit_rows(packed),
        decoded_difference=checked.largest,
        seconds=job.seconds,
        notes=(*source.notes, *draw_lines, *checked.notes, *notes),
        outputs=()
        if feeds is None or varies
        else differences_from_original(source.output_names, source.outputs, outputs_in_runtime(packed.data, feeds)),
        random_inputs=job.inputs is None,
        before=before,
        after=after,
    )
    return result if copy is None else copy.added_to(result, before, job)


def verify_low_bit(
    packed: LowBitModel, feeds: Mapping[str, Array] | None, outputs: Sequence[Array], model: ir.Model
) -> LowBitCheck:
    """Check that a packed model does what the same model with expanded weights does.

    Parameters
    ----------
    packed : LowBitModel
        The model to check.
    feeds : mapping of str to ndarray or None
        Inputs by name; None compares no outputs.
    outputs : sequence of ndarray
        What the model with its weights expanded to float32 answers to them.
    model : ir.Model
        The dense model.

    Returns
    -------
    LowBitCheck

    Raises
    ------
    VerificationError
        If a matrix product uses other weights than `AffinePalette.expand`
        gives, or if, in float32 arithmetic, outputs differ by more than FLOAT_TOLERANCE, and no `moved_choices` explain
        it.
    """
    for name, palette in packed.palettes.items():
        executed = executed_columns(packed.data, name)
        if executed is None:
            continue
        columns, values = executed
        if not np.array_equal(values, np.moveaxis(palette.expand(), palette.axis, 0)[columns]):
            raise VerificationError(f"{name} must be multiplied as it was fitted, got other weights: report this")
    if feeds is None:
        return LowBitCheck(math.nan)
    in_floats = in_float_arithmetic(packed.data)
    actual = outputs_in_runtime(in_floats, feeds)
    try:
        largest = largest_if_repeated(in_floats, feeds, outputs, actual, FLOAT_TOLERANCE)
        if largest > FLOAT_TOLERANCE:
            raise VerificationError(
                f"outputs must equal those of expanded weights within {FLOAT_TOLERANCE:g} of the largest, "
                f"got {largest:.3g}: report this"
            )
    except VerificationError:
        note = _moved_choices(model, packed.palettes, feeds, (outputs, actual))
        if note is None:
            raise
        return LowBitCheck(math.inf, (note,))
    if math.isnan(largest):
        return LowBitCheck(math.nan)
    places = [str(place) for place in range(len(outputs))]
    differences = differences_from_original(places, outputs, outputs_in_runtime(packed.data, feeds))
    return LowBitCheck(max((each.deviation for each in differences if each.untold is None), default=0.0))


def _moved_choices(
    model: ir.Model,
    palettes: Mapping[str, AffinePalette],
    feeds: Mapping[str, Array],
    outputs: tuple[Sequence[Array], Sequence[Array]],
) -> str | None:
    """`moved_choices` of networks with the same weights, in float arithmetic."""
    blocked = {name: blocked_weight(palette) for name, palette in palettes.items()}
    values = {name: palette.expand() for name, palette in palettes.items()}
    return moved_choices(
        model, values, lambda probe: written(probe, blocked, False), feeds, outputs, tolerance=FLOAT_TOLERANCE
    )


def low_bit_rows(packed: LowBitModel) -> tuple[TensorRow, ...]:
    """One row per tensor, as ``inspect`` has them; the entropy is that of the grid indices."""
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
