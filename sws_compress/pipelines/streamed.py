"""Files too large to hold in memory: weights are clustered, coded, written and checked one after the other.

A weight of at least `Limits.alone_elements` becomes a radix code as soon as it is clustered and goes to a file beside
the output. Smaller weights are packed as in any other model. Weights that constants are arithmetic of are computed
before, one after the other, and lie in a temporary file until the end. The result is checked as far as memory allows:
by the ONNX checker, by loading it in ONNX Runtime (which decodes nothing then), and by decoding every weight alone in
ONNX Runtime, from the bytes that were written. The network as a whole is not run.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from sws_compress.codec.encodings.rows import RowCode
from sws_compress.codec.program import Code
from sws_compress.errors import ArgumentError, VerificationError
from sws_compress.files import draft
from sws_compress.onnx_io.analyse.embeddings import find_embeddings
from sws_compress.onnx_io.analyse.left_dense import KEPT, NO_SMALLER, dense_notes
from sws_compress.onnx_io.analyse.nothing_to_do import refuse_nothing_to_do
from sws_compress.onnx_io.analyse.tensor_kinds import tensor_kinds
from sws_compress.onnx_io.analyse.weights import each_weight, find_weights
from sws_compress.onnx_io.element_types import FLOAT_TYPES, INTEGER_TYPES
from sws_compress.onnx_io.external_data import StoredModel, forget, offset_and_length
from sws_compress.onnx_io.format.byte_shares import decoder_bytes
from sws_compress.onnx_io.format.mark import ROWS
from sws_compress.onnx_io.format.sizes import model_bytes
from sws_compress.onnx_io.read.on_disk import bytes_on_disk
from sws_compress.onnx_io.write.external import DataFile, inline_bytes, with_external_data
from sws_compress.onnx_io.write.output import replace_output, write_draft
from sws_compress.ort.decode import decoded
from sws_compress.ort.fold_weights import fold_weights
from sws_compress.ort.session import check_loads
from sws_compress.packing.pack import PackedTensor, embedding_notes, find_palettes, packed_model
from sws_compress.pipelines.alone import rounded_alone
from sws_compress.pipelines.coded_weights import CodedWeights, Fingerprint
from sws_compress.pipelines.job import Job, Limits
from sws_compress.pipelines.overrides import Overrides, overrides_of
from sws_compress.pipelines.publish import refuse_no_gain
from sws_compress.pipelines.source import SINGLE_BYTES, Source, computed_notes
from sws_compress.quantize.palette import palette_of
from sws_compress.report.inspection import TensorRow
from sws_compress.report.result import CompressionResult
from sws_compress.requests import WeightsOnly
from sws_compress.terminal.progress_bar import LOGGER
from sws_compress.thresholds import SMALLEST_WEIGHT

if TYPE_CHECKING:
    from sws_compress.mixture.mixture import Mixture

FOLDED_BYTES = 1 << 30
"""Largest output of a node, in bytes, that ONNX Runtime (since 1.27) computes once, at load."""

IGNORED_OPTIONS = ("load_budget", "weight_names", "memory")
"""Options of the file that streaming does not know: it codes weights by radix words alone, keeps all names, and decodes
to floats."""


def stream_weights(source: Source, request: WeightsOnly, job: Job) -> CompressionResult:
    """Compress a large file with little in memory, one weight at a time.

    Parameters
    ----------
    source : Source
        A file; its weights stay on disk.
    request : WeightsOnly
        How weights are clustered.
    job : Job
        Everything else. Up to ``job.limits.file_bytes`` the output is one file; above, its tensors are in another
        file beside it.

    Raises
    ------
    ArgumentError
        If ``job`` has options that streaming does not know.
    ModelError
        If there is nothing to compress, or if a weight is NaN or infinite.
    VerificationError
        If a check fails. What was at the output before stays as it is.
    """
    refuse_options(job)
    with coding(source, job) as (source, coded):
        overrides = _overrides(source.model, job)
        mixtures = _cluster_into(coded, source, request, overrides, job)
        return publish_coded(coded, source, mixtures, overrides, job)


@contextmanager
def coding(source: Source, job: Job) -> Iterator[tuple[Source, CodedWeights]]:
    """The model with its weights computed (`fold_weights`), and where its coded weights go; both in temporary files."""
    with draft(job.output) as computed, draft(job.output) as file:
        names = fold_weights(source.model, DataFile(computed).add_external)
        source = replace(source, notes=(*source.notes, *computed_notes(names)))
        embeddings = find_embeddings(source.model) if job.file.packed_embeddings else None
        yield source, CodedWeights(DataFile(file), job.limits, embeddings)


def refuse_options(job: Job) -> None:
    """Raise ArgumentError for options of a job that streaming does not know."""
    given = [name for name in IGNORED_OPTIONS if name in job.file.changed]
    if job.inputs is not None:
        given.append("example_inputs")
    if job.strict:
        given.append("strict")
    if job.file_metric is not None:
        given.append("evaluate")
    if given:
        raise ArgumentError(
            f"{given[0]} must be left out for a model that is streamed, got some: one of more than "
            f"{job.limits.model_bytes:,} bytes, or a resumable run, is checked weight by weight without running it"
        )


def _overrides(model: ir.Model, job: Job) -> Overrides:
    """What the caller decides; weights are read for it only if there is something."""
    if not job.keep and not job.overrides:
        return Overrides(frozenset(), {})
    return overrides_of(job, {each.name: each.operators for each in each_weight(model, smallest=SMALLEST_WEIGHT)})


def _cluster_into(
    coded: CodedWeights, source: Source, request: WeightsOnly, overrides: Overrides, job: Job
) -> dict[str, Mixture]:
    """Cluster every weight and hand its palette to ``coded``; the mixtures by name."""
    mixtures: dict[str, Mixture] = {}
    elements = sum(each.size for each in source.tensors() if each.dtype in FLOAT_TYPES)
    varying, done, steps = False, 0, 2 * source.elements  # every weight is clustered now, and checked later
    for weight in each_weight(source.model, smallest=SMALLEST_WEIGHT):
        job.on_progress(f"rounding {weight.name}", done, steps)
        done += weight.size
        if weight.name in overrides.kept:
            continue
        asked = overrides.requests.get(weight.name, request)
        found = rounded_alone(source.model, weight, asked, elements=elements, seed=job.seed)
        coded.add(weight.name, found.palette)
        varying |= len(found.palette.codebook) > 1
        if found.mixture is not None:
            mixtures[weight.name] = found.mixture
    weights = () if varying else find_weights(source.model, smallest=SMALLEST_WEIGHT)
    if weights:
        refuse_nothing_to_do(source.name, source.model, weights)
    job.on_progress("packing", steps // 2, steps)
    return mixtures


def _pack_integers_into(coded: CodedWeights, model: ir.Model, limits: Limits) -> Collection[str]:
    """Code large tensors of integers that hold few distinct values and get smaller by it; names of all large ones."""
    large = []
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.dtype not in INTEGER_TYPES or tensor.size < limits.alone_elements:
            continue
        large.append(name)
        palette = None if value.is_graph_output() else palette_of(tensor.numpy())
        forget(value)
        if palette is not None:
            coded.add_if_smaller(name, palette, tensor.nbytes)
    return large


def publish_coded(
    coded: CodedWeights, source: Source, mixtures: dict[str, Mixture], overrides: Overrides, job: Job
) -> CompressionResult:
    """Put the coded weights into the model, verify it, and write it.

    Parameters
    ----------
    coded : CodedWeights
        All weights that are clustered.
    source : Source
        The model.
    mixtures : dict of str to Mixture
        What some of them were clustered by.
    overrides : Overrides
        Which weights stay as they are.
    job : Job
        Everything else.

    Raises
    ------
    VerificationError
        If a check fails.
    """
    large = _pack_integers_into(coded, source.model, job.limits)
    palettes = {**find_palettes(source.model, besides={*coded.names, *large, *overrides.kept}), **coded.palettes}
    packed, tensors = packed_model(source.model, palettes, coded.codes)
    LOGGER.info("packed %d tensors of %s", len(tensors), source.name)
    prints = coded.prints | {
        tensor.name: Fingerprint.of(palettes[tensor.name]) for tensor in tensors if tensor.name in palettes
    }
    proto = with_external_data(packed, coded.data)
    inline = inline_bytes(proto) <= job.limits.file_bytes
    with draft(job.output) as file:
        offsets = write_draft(proto, coded.data, file, inline=inline)
        file_bytes = os.path.getsize(file.path) + (0 if inline else coded.data.bytes)
        dense = dense_notes(
            source.model,
            {tensor.name for tensor in tensors},
            file_bytes,
            reasons=dict.fromkeys([*palettes, *large], NO_SMALLER) | dict.fromkeys(overrides.kept, KEPT),
        )
        refuse_no_gain(file_bytes, source.dense_bytes, dense, gain=bool(tensors))
        check_loads(file.path)
        with (file if inline else coded.data).path.open("rb") as stream:
            _check_decoded(proto, _together(tensors, coded.codes), stream, offsets, prints, job, source.elements)
        types = {name: ir.DataType.from_numpy(known.dtype) for name, known in prints.items()}
        rows = tuple(_rows(proto, tensors, prints, tensor_kinds(source.model, types), file_bytes))
        replace_output(proto, coded.data, file, inline=inline)
    notes = [*source.notes, *overrides.notes, *_notes(tensors, prints), *dense]
    if coded.embeddings is not None:
        notes += embedding_notes(coded.embeddings, [tensor.name for tensor in tensors if tensor.encoding == ROWS])
    return CompressionResult(
        output=job.output,
        dense_bytes=source.dense_bytes,
        file_bytes=bytes_on_disk(job.output),
        tensors=rows,
        decoded_difference=math.nan,
        seconds=job.seconds,
        notes=tuple(notes),
        mixtures=mixtures,
    )


def _together(tensors: tuple[PackedTensor, ...], codes: Mapping[str, Code | RowCode]) -> Iterator[list[str]]:
    """Weights to decode at once: those coded alone one by one, then all others."""
    yield from ([tensor.name] for tensor in tensors if tensor.name in codes)
    if others := [tensor.name for tensor in tensors if tensor.name not in codes]:
        yield others


def _check_decoded(
    proto: onnx.ModelProto,
    together: Iterator[list[str]],
    stream: BinaryIO,
    offsets: Mapping[str, int],
    prints: Mapping[str, Fingerprint],
    job: Job,
    elements: int,
) -> None:
    """Decode the weights from the written bytes and compare them with their fingerprints."""

    def load(tensor: onnx.TensorProto) -> npt.NDArray[np.uint8]:
        stream.seek(offsets[tensor.name])
        return np.frombuffer(stream.read(offset_and_length(tensor)[1]), np.uint8)

    written = StoredModel(proto, model_bytes(proto), load)
    done = elements
    for names in together:
        for name, values in decoded(written, names, trusted=True).items():
            if not prints[name].is_of(values):
                raise VerificationError(f"{name} must decode to the snapped weights, got others: report this")
            done += values.size
            job.on_progress(f"checking {name}", done, 2 * elements)


def _rows(
    proto: onnx.ModelProto,
    tensors: tuple[PackedTensor, ...],
    prints: Mapping[str, Fingerprint],
    kinds: Mapping[str, str],
    file_bytes: int,
) -> Iterator[TensorRow]:
    """Rows of what was packed; dense tensors are not listed."""
    own = decoder_bytes(proto, {tensor.name: math.prod(tensor.shape) for tensor in tensors})
    for tensor in tensors:
        known = prints[tensor.name]
        yield TensorRow(
            tensor.name,
            tensor.shape,
            tensor.encoding,
            known.distinct_values,
            known.zeros,
            known.entropy_bits,
            own[tensor.name],
            own[tensor.name] / file_bytes,
            kinds[tensor.name],
        )


def _notes(tensors: tuple[PackedTensor, ...], prints: Mapping[str, Fingerprint]) -> Iterator[str]:
    for tensor in tensors:
        decoded_bytes = math.prod(tensor.shape) * max(SINGLE_BYTES, prints[tensor.name].dtype.itemsize)
        if decoded_bytes > FOLDED_BYTES and tensor.encoding != ROWS:
            yield (
                f"{tensor.name} takes {decoded_bytes:,} bytes decoded, more than the {FOLDED_BYTES:,} that ONNX "
                "Runtime 1.27 and newer decode at load: they will at every inference; split it by rows first"
            )
