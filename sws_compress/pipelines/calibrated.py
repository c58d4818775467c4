"""The mode that needs a few inputs and no labels: weights are assigned by what their errors do to the outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from sws_compress.errors import ArgumentError, ModelError
from sws_compress.file_options import PACKED
from sws_compress.messages import first_few, shown
from sws_compress.onnx_io.analyse.nothing_to_do import refuse_nothing_to_do
from sws_compress.onnx_io.write.probed import score_names
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.activations import Feeds
from sws_compress.ort.compare import differences_on
from sws_compress.ort.differences import OutputDifference
from sws_compress.pipelines.alone import rounded_alone
from sws_compress.pipelines.calibration_inputs import calibration_feeds, divided
from sws_compress.pipelines.calibration_layers import Assigned
from sws_compress.pipelines.counted_rows import notes_of_rows, with_counts
from sws_compress.pipelines.decided import decisions
from sws_compress.pipelines.distilled import Distillate, distilled
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.mean_outputs import reasons_with_biases, with_biases
from sws_compress.pipelines.metrics import metric_before
from sws_compress.pipelines.overrides import overrides_of
from sws_compress.pipelines.places import Place, place_of
from sws_compress.pipelines.price_search import PriceSearch
from sws_compress.pipelines.source import Source, in_memory
from sws_compress.pipelines.streamed_calibrated import stream_calibrated
from sws_compress.pipelines.untrained import publish_untrained, weights_of
from sws_compress.report.result import CompressionResult
from sws_compress.requests import Calibrated


def compress_calibrated(source: Source, request: Calibrated, job: Job) -> CompressionResult:
    """Assign every weight of a model with the inputs that it meets, verify the result and write it.

    Parameters
    ----------
    source : Source
        A file or an exported module; it is not changed.
    request : Calibrated
        The inputs and the quality.
    job : Job
        Everything else; its goal is a size, a drop of the metric, or None.

    Raises
    ------
    ModelError
        If there is nothing to compress, or if a weight is NaN or infinite.
    DataError
        If the model does not run on the inputs, or if a metric is not a finite number.
    VerificationError
        If the file does not do what the snapped network does.
    """
    if source.path is None and request.resumable:
        raise ArgumentError("resumable must be left out for a torch module, got it: export it, and compress the file")
    if source.path is not None and (request.resumable or source.weight_bytes > job.limits.calibrated_bytes):
        return stream_calibrated(source, request, job)
    feeds = calibration_feeds(request.inputs, source)
    if source.module is None and job.inputs is None:
        job = replace(job, inputs=feeds[0])
    source = in_memory(source, job)
    if not score_names(source.model):
        raise ModelError(
            f"outputs of {source.name} must come from floating-point values, got none: leave the calibration inputs out"
        )
    weights = weights_of(source, tables=True)  # the inputs tell what an error in a table does
    refuse_nothing_to_do(source.name, source.model, weights)
    before = metric_before(source, job)
    overrides = overrides_of(job, {weight.name: weight.operators for weight in weights})
    elements = sum(weight.size for weight in weights)
    alone = {
        weight.name: rounded_alone(
            source.model,
            weight,
            overrides.requests[weight.name],
            elements=elements,
            seed=job.seed,
            integers=job.file.memory == PACKED,
        ).palette
        for weight in weights
        if weight.name in overrides.requests
    }
    places = {
        weight.name: place_of(source.model, weight, integers=job.file.memory == PACKED)
        for weight in weights
        if weight.name not in overrides.kept and weight.name not in alone
    }
    if not places:
        raise ArgumentError(
            f"overrides must leave a weight to calibrate, got patterns of all {len(weights)}: leave one out, or leave "
            "the calibration inputs out"
        )
    if not job.file.packed_embeddings:  # rows that stay packed have no scales
        places = with_counts(source.model, places, divided(feeds)[0])
    places = with_biases(source, places, {weight.name for weight in weights})
    search = PriceSearch(source, places, alone, feeds, request.quality, job)
    assigned = search.assigned()
    reasons = reasons_with_biases(assigned, places) | overrides.reasons
    found = Distillate(assigned, search.score_error, ())
    if request.distillation:
        names = [weight.name for weight in weights]
        metric = _metric_by(search)
        given = divided(feeds)
        found = distilled(source, assigned, places, names, given, search.score_error, job, search.work, metric)
    job = replace(job, on_progress=search.work.finish())
    result = publish_untrained(source, found.assigned.palettes, before, job, overrides.kept, found.assigned.biases)
    return replace(
        result,
        outputs=_on_all(source, result, divided(feeds)[1]),
        score_error=found.error,
        notes=(*result.notes, *overrides.notes, *_unreached(places, search), *search.notes, *found.notes),
        curve=search.curve,
        decisions=decisions(weights, result.tensors, reasons),
    )


def _metric_by(search: PriceSearch) -> Callable[[Assigned], float]:
    return lambda assigned: search.measured(assigned)[1]


def _on_all(source: Source, result: CompressionResult, feeds: Sequence[Feeds]) -> tuple[OutputDifference, ...]:
    """Every output of a file beside the original's, on all inputs that weights were not assigned by."""
    if not result.outputs:  # the network answers differently every time
        return ()
    return differences_on(to_bytes(source.model), result.output, feeds)


def _unreached(places: Mapping[str, Place], search: PriceSearch) -> tuple[str, ...]:
    """Notes of the weights whose inputs were not seen, and of those that did nothing."""
    unseen = [name for name in places if name in search.unmet - search.idle]
    idle = [name for name in places if name in search.idle]
    return (
        *_note(places, unseen, "are read where their inputs cannot be seen", "they were assigned by their values and "
               "by one trial each"),
        *_note(places, idle, "did nothing to the outputs on these inputs", "they keep about the quality of the rest; "
               "give inputs that use them"),
        *notes_of_rows(places, search.idle),
    )  # fmt: skip


def _note(places: Mapping[str, Place], names: Sequence[str], what: str, then: str) -> tuple[str, ...]:
    if not names:
        return ()
    share = sum(places[name].weight.size for name in names) / sum(place.weight.size for place in places.values())
    return (f"{share:.0%} of the weights {what} ({first_few([shown(name) for name in names], ', ')}): {then}",)
