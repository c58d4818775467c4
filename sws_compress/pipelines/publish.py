"""The last steps of every way: pack, verify in ONNX Runtime, and only then replace the output file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import onnx_ir as ir

from sws_compress.errors import ModelError, VerificationError
from sws_compress.file_options import PACKED, FileOptions
from sws_compress.files import write_atomically
from sws_compress.onnx_io.analyse.left_dense import KEPT, NO_SMALLER, dense_notes
from sws_compress.onnx_io.external_data import in_memory
from sws_compress.onnx_io.rewrite.settled_norms import absorb_settled_norms
from sws_compress.onnx_io.write.idle_units import Pruning, prune_units
from sws_compress.onnx_io.write.matmul_nbits import in_float_arithmetic
from sws_compress.onnx_io.write.replaced import with_values
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.compare import (
    differences_from_original,
    largest_if_repeated,
    outputs_in_runtime,
)
from sws_compress.ort.decode import decoded_weights
from sws_compress.ort.differences import OutputDifference
from sws_compress.ort.session import Array, check_runs
from sws_compress.ort.user_models import callers_file
from sws_compress.packing.integers import Memory
from sws_compress.packing.pack import PackedModel, find_palettes, pack
from sws_compress.pipelines.inspect import inspect_model
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.low_bit_model import OLDEST_RUNTIME, refuse_old_runtime
from sws_compress.pipelines.moved_choices import moved_choices
from sws_compress.pipelines.source import Source, answers_of, draw_notes
from sws_compress.quantize.palette import Palette
from sws_compress.report.file_parts import FileParts
from sws_compress.report.result import CompressionResult
from sws_compress.terminal.progress_bar import LOGGER, OnProgress, silent

if TYPE_CHECKING:
    from torch import nn

OUTPUT_TOLERANCE = 1e-3
"""Largest difference of outputs that rounding explains, relative to the largest output; weights must be equal."""

PACKED_SHARE = 0.8
"""Share of the progress that packing has; checking has the rest."""

CHECKS = 4
"""Steps of checking, for the progress."""

NOTHING_PRUNED = Pruning({}, 0)


@dataclass(frozen=True, eq=False)
class Snapped:
    """A network whose weights are snapped, ready to be packed.

    Parameters
    ----------
    model : ir.Model
        The dense model; its initialisers hold the values of ``palettes``.
    palettes : mapping of str to Palette
        Initialisers to pack, by name.
    feeds : mapping of str to ndarray
        Inputs by name, for the check; None compares no outputs.
    outputs : sequence of ndarray
        What the snapped network answers to them, in the order of the model's outputs.
    original_outputs : sequence of ndarray
        What the original network answers to them; empty if it is not to be compared.
    dense_bytes : int
        Bytes of the original as a plain file.
    name : str
        What errors call the original.
    pruning : Pruning
        What was taken out of ``model``.
    kept : frozenset of str
        Weights that the caller wanted as they are.
    """

    model: ir.Model
    palettes: Mapping[str, Palette]
    feeds: Mapping[str, Array] | None
    outputs: Sequence[Array]
    original_outputs: Sequence[Array]
    dense_bytes: int
    name: str
    pruning: Pruning = NOTHING_PRUNED
    kept: frozenset[str] = frozenset()


def check_written(data: bytes, dense: ir.Model, name: str) -> None:
    """Check a file of ours (`check_runs`); where the network in it does not pass as it is, the fault is the input's.

    Parameters
    ----------
    data : bytes
        The file.
    dense : ir.Model
        The same network with dense weights.
    name : str
        What errors call the original.

    Raises
    ------
    VerificationError
        If the file does not pass, but the dense network does.
    ModelError
        If neither does.
    """
    try:
        check_runs(data)
    except VerificationError:
        with callers_file(name, "be sound and load in ONNX Runtime", "export it again"):
            check_runs(to_bytes(dense))
        raise


def publish(snapped: Snapped, job: Job) -> CompressionResult:
    """Pack the snapped network, verify the file, and write it to ``job.output``.

    Raises
    ------
    VerificationError
        Unless the ONNX checker and ONNX Runtime take the file, every weight decodes to its palette bit for bit,
        and outputs agree within OUTPUT_TOLERANCE but for `moved_choices`. Nothing is written then.
    ModelError
        If nothing in it gets smaller, as `refuse_no_gain`, or if the network does not pass as it is.
    """
    LOGGER.info("packing %d tensors of %s", len(snapped.palettes), snapped.name)
    packed = packed_as(job.file, snapped.model, snapped.palettes, job.part(0, PACKED_SHARE).on_progress)
    checking = job.part(PACKED_SHARE, 1).on_progress
    LOGGER.info("checking %s bytes", f"{len(packed.data):,}")
    checking("checking that the file loads", 0, CHECKS)
    check_written(packed.data, snapped.model, snapped.name)
    known = (*snapped.model.graph.initializers, *packed.palettes)
    names = {packed.renamed.get(name, name): name for name in known}
    decoded = [packed.renamed.get(tensor.name, tensor.name) for tensor in packed.tensors]
    checking("checking decoded weights", 1, CHECKS)
    for name, values in decoded_weights(packed.data, decoded, trusted=True).items():
        own = names[name] in snapped.palettes and names[name] not in packed.integers
        wanted = (snapped.palettes if own else packed.palettes)[names[name]].expand()
        if (values.dtype, values.shape) != (wanted.dtype, wanted.shape) or values.tobytes() != wanted.tobytes():
            raise VerificationError(f"{names[name]} must decode to the snapped weights, got others: report this")
    checking("comparing outputs", 2, CHECKS)
    compared = _compared(packed, snapped, job)
    checking("measuring the file", 3, CHECKS)
    notes = dense_notes(
        snapped.model,
        {names[name] for name in decoded},
        len(packed.data),
        reasons=dict.fromkeys(snapped.palettes, NO_SMALLER) | dict.fromkeys(snapped.kept, KEPT),
    )
    gain = bool(packed.tensors or snapped.pruning.weights)
    refuse_no_gain(len(packed.data), snapped.dense_bytes, notes, gain=gain)
    rows = inspect_model(in_memory(packed.data), written=True).rows
    after = None if job.file_metric is None else job.file_metric.of(packed.data)
    write_atomically(job.output, packed.data)
    checking("done", CHECKS, CHECKS)
    return CompressionResult(
        output=job.output,
        dense_bytes=snapped.dense_bytes,
        file_bytes=len(packed.data),
        tensors=tuple(replace(row, name=names.get(row.name, row.name)) for row in rows),
        decoded_difference=compared.decoded,
        seconds=job.seconds,
        outputs=compared.outputs,
        random_inputs=job.inputs is None,
        before=None if job.file_metric is None else job.file_metric.before,
        after=after,
        notes=(*snapped.pruning.notes, *compared.notes, *packed.notes, *notes),
        parts=FileParts.of(rows, len(packed.data)),
        pruned_weights=snapped.pruning.weights,
    )


@dataclass(frozen=True)
class _Compared:
    """The largest difference of a file from the snapped network, and every output beside the original's.

    They are NaN and () if the outputs are not known.
    """

    decoded: float
    outputs: tuple[OutputDifference, ...] = ()
    notes: tuple[str, ...] = ()


def _compared(packed: PackedModel, snapped: Snapped, job: Job) -> _Compared:
    """Run the file once. Raises VerificationError if the file does not do what the snapped network does."""
    if snapped.feeds is None:
        return _Compared(math.nan)
    names = [str(output.name) for output in snapped.model.graph.outputs]
    values = {name: found.expand() for name, found in packed.integers.items()}
    model, expected, data = snapped.model, snapped.outputs, packed.data
    if values:  # integers may be others than the palettes, and products round what they multiply by
        model, data = with_values(model, values), in_float_arithmetic(data)
        expected = outputs_in_runtime(to_bytes(model), snapped.feeds)
    actual = outputs_in_runtime(data, snapped.feeds, optimize=not values)  # the runtime would fuse rounding products
    notes: tuple[str, ...] = ()
    try:
        largest = largest_if_repeated(data, snapped.feeds, expected, actual, OUTPUT_TOLERANCE)
        if largest > OUTPUT_TOLERANCE:
            raise VerificationError(
                f"outputs must equal the snapped network's within {OUTPUT_TOLERANCE:g} of the largest, "
                f"got {largest:.3g}: report this"
            )
    except VerificationError:
        note = moved_choices(
            model,
            {},
            lambda probe: in_float_arithmetic(packed_as(job.file, probe, snapped.palettes).data),
            snapped.feeds,
            (expected, actual),
            tolerance=OUTPUT_TOLERANCE,
        )
        if note is None:
            raise
        largest, notes = math.inf, (note,)
    if values:
        actual = outputs_in_runtime(packed.data, snapped.feeds)
    if math.isnan(largest):
        job.refuse_uncompared(False, "change from run to run")
        return _Compared(math.nan, notes=draw_notes(snapped.model, answers_vary=True))
    known = bool(snapped.original_outputs)
    differences = differences_from_original(names, snapped.original_outputs, actual) if known else ()
    job.refuse_uncompared(not known or any(each.untold is None for each in differences), "hold no finite number")
    return _Compared(largest, differences, (*draw_notes(snapped.model, answers_vary=False), *notes))


def packed_as(
    options: FileOptions, model: ir.Model, palettes: Mapping[str, Palette], on_progress: OnProgress = silent
) -> PackedModel:
    """The model with its initialisers packed as ``options`` say; ``model`` itself is not changed.

    Raises ArgumentError if the installed runtime, in which the file is checked, has no products of its integers.
    """
    if options.memory == PACKED and not options.standard_operators_only:
        refuse_old_runtime(max(OLDEST_RUNTIME), "leave its own operators out (--standard-operators-only)")
    return pack(
        model,
        palettes,
        load_limit=options.load_budget,
        weight_names=options.weight_names is not False,
        packed_rows=options.packed_embeddings,
        memory=Memory(options.memory == PACKED, options.standard_operators_only),
        on_progress=on_progress,
    )


def pruned_as(options: FileOptions, model: ir.Model) -> Pruning:
    """Take idle units out of a snapped model, in place, if ``options`` say so."""
    return prune_units(model) if options.prune_units else NOTHING_PRUNED


def reduced_as(options: FileOptions, model: ir.Model) -> Pruning:
    """Prune a trained model as ``options`` say, and put settled norms into the layers before them, in place.

    Weights that stay integers in memory are not multiplied at load: norms stay behind their layers.
    """
    pruning = pruned_as(options, model)
    if options.memory != PACKED:
        absorb_settled_norms(model)
    return pruning


def refuse_no_gain(file_bytes: int, dense_bytes: int, notes: Sequence[str], *, gain: bool) -> None:
    """Check that compression gains something.

    Parameters
    ----------
    file_bytes, dense_bytes : int
        Sizes of the compressed file and of the original.
    notes : sequence of str
        What is unchanged in the file, and why.
    gain : bool
        Whether any tensor is packed or pruned: a file may also be smaller because names are left out.

    Raises
    ------
    ModelError
        If no tensor is packed, or the file is not smaller than the original.
    """
    if gain and file_bytes < dense_bytes:
        return
    found = f"{file_bytes} bytes for {dense_bytes}" if gain else "no tensor that packing makes smaller"
    raise ModelError(
        f"compressed file must be smaller than the original, got {found}: "
        f"{'; '.join(notes) or 'the model holds hardly any weights'}; ship it as it is"
    )


def publish_module(source: Source, network: nn.Module, job: Job) -> CompressionResult:
    """Publish a snapped module, exported as ``source``: whatever holds few distinct values is packed.

    The file is checked against the outputs of ``network``, as computed by torch.
    """
    model = source.model.clone()
    pruning = reduced_as(job.file, model)
    outputs = answers_of(network, source)
    palettes, known = find_palettes(model), source.outputs
    snapped = Snapped(model, palettes, source.feeds, outputs, known, source.dense_bytes, source.name, pruning)
    return publish(snapped, job)
