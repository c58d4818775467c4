"""The mode that needs no data: every weight is rounded from its values alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sws_compress.calibrate.moments import InputMoment
from sws_compress.file_options import PACKED
from sws_compress.onnx_io.analyse.nothing_to_do import refuse_nothing_to_do
from sws_compress.onnx_io.analyse.weights import Weight
from sws_compress.packing.pack import find_palettes
from sws_compress.pipelines.alone import rounded_alone
from sws_compress.pipelines.decided import decisions
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.metrics import metric_before
from sws_compress.pipelines.output_quality import OutputQuality, decibels
from sws_compress.pipelines.overrides import overrides_of
from sws_compress.pipelines.places import place_of
from sws_compress.pipelines.seen_inputs import seen_inputs
from sws_compress.pipelines.source import Source, in_memory
from sws_compress.pipelines.streamed import stream_weights
from sws_compress.pipelines.untrained import publish_untrained, weights_of
from sws_compress.quantize.palette import Palette
from sws_compress.report.result import CompressionResult
from sws_compress.requests import WeightsOnly
from sws_compress.terminal.progress_bar import LOGGER

if TYPE_CHECKING:
    from sws_compress.mixture.mixture import Mixture


ROUNDED_SHARE = 0.4
"""Share of the progress that packing and checking do not have."""

MOST_RAISES = 3
"""Times that all weights are rounded again because outputs keep less than the quality asked for."""

MOST_RAISED = 12.0
"""Decibels that their quality is raised by at most: two bits per weight. Outputs on noise may be noise."""

LEAST_EFFECT = 0.1
"""Decibels that outputs must gain for each that weights do. Where they gain less, most of their error is no matter of
the weights: a network that jumps between two states on noise."""

TOLERANCE = 0.5
"""Decibels that outputs may lack."""


@dataclass(frozen=True, eq=False)
class ClusteredWeights:
    """Palettes of all weights, and the mixtures of those that were clustered, by name."""

    palettes: Mapping[str, Palette]
    mixtures: dict[str, Mixture]


def compress_weights(source: Source, request: WeightsOnly, job: Job) -> CompressionResult:
    """Round every weight of a model, verify the result and write it.

    A model without weights to round is packed as it is: quantised ones hold integers alone.

    Parameters
    ----------
    source : Source
        A file or an exported module; it is not changed. Files larger than ``job.limits`` are streamed.
    request : WeightsOnly
        How weights are rounded.
    job : Job
        Everything else.

    Raises
    ------
    ModelError
        If there is nothing to compress, or if a weight is NaN or infinite.
    VerificationError
        If the file does not do what the snapped network does.
    """
    if source.module is None and source.weight_bytes > job.limits.model_bytes:
        return stream_weights(source, request, job)
    source = in_memory(source, job)
    weights = weights_of(source, tables=request.quality is not None)
    if weights or not find_palettes(source.model):
        refuse_nothing_to_do(source.name, source.model, weights)
    before = metric_before(source, job)
    overrides = overrides_of(job, {weight.name: weight.operators for weight in weights})
    chosen = tuple(weight for weight in weights if weight.name not in overrides.kept)
    clustered, score_error, notes = _checked(source, chosen, request, overrides.requests, job.part(0, ROUNDED_SHARE))
    result = publish_untrained(source, clustered.palettes, before, job.part(ROUNDED_SHARE, 1), overrides.kept)
    return replace(
        result,
        mixtures=clustered.mixtures,
        score_error=score_error,
        notes=(*result.notes, *notes, *overrides.notes),
        decisions=decisions(weights, result.tensors, overrides.reasons),
    )


def _checked(
    source: Source,
    weights: Sequence[Weight],
    request: WeightsOnly,
    others: Mapping[str, WeightsOnly],
    job: Job,
) -> tuple[ClusteredWeights, float, tuple[str, ...]]:
    """Round all weights, to more than the quality asked for if outputs do not keep that, and say so.

    The error of the outputs is NaN where it cannot be told.
    """
    seen: Mapping[str, InputMoment] = {}
    if request.quality is not None:
        job.on_progress("following the inputs of the weights", 0, 0)
        seen = seen_inputs(source, {weight.name: place_of(source.model, weight) for weight in weights}, job)

    left = 1.0  # of the progress; most networks are rounded once

    def rounded(wanted: WeightsOnly) -> ClusteredWeights:
        nonlocal left
        requests = {weight.name: wanted for weight in weights} | dict(others)
        part, left = job.part(1 - left, 1 - left / 4), left / 4
        return _clustered(source, weights, requests, seen, part)

    clustered = rounded(request)
    check, raised = OutputQuality(source, tuple(clustered.palettes), job), 0.0
    error = check.error(clustered.palettes)
    if request.quality is None:
        return clustered, error, ()
    given = "random" if job.inputs is None else "given"
    for _ in range(MOST_RAISES):
        missing = request.quality - decibels(error)
        if missing <= TOLERANCE or raised >= MOST_RAISED:
            break
        more = min(missing, MOST_RAISED - raised)
        closer = rounded(replace(request, quality=request.quality + raised + more))
        found = check.error(closer.palettes)
        if decibels(found) - decibels(error) < LEAST_EFFECT * more:
            note = (
                f"outputs on {given} inputs keep {decibels(error):.0f} dB, less than asked, and closer weights hardly "
                "bring them closer: give typical inputs (--inputs, --calibration)"
            )
            return clustered, error, (note,)
        clustered, error, raised = closer, found, raised + more
    if not raised:
        return clustered, error, ()
    note = (
        f"quality of the weights was raised by {raised:.0f} dB, since outputs on {given} inputs had less than asked: "
        f"they keep {decibels(error):.0f} dB now"
    )
    return clustered, error, (note,)


def _clustered(
    source: Source,
    weights: Sequence[Weight],
    requests: Mapping[str, WeightsOnly],
    seen: Mapping[str, InputMoment],
    job: Job,
) -> ClusteredWeights:
    """Round each weight by itself, as its request says, with what was seen of its inputs."""
    palettes, mixtures, done = {}, {}, 0
    elements = sum(weight.size for weight in weights)
    for weight in weights:
        job.on_progress(f"rounding {weight.name}", done, elements)
        found = rounded_alone(
            source.model,
            weight,
            requests[weight.name],
            elements=elements,
            seed=job.seed,
            inputs=seen.get(weight.name),
            integers=job.file.memory == PACKED,
        )
        palettes[weight.name] = found.palette
        LOGGER.debug("%s: %d values", weight.name, len(found.palette.codebook))
        if found.mixture is not None:
            mixtures[weight.name] = found.mixture
        done += weight.size
    job.on_progress("running the network", elements, elements)
    return ClusteredWeights(palettes, mixtures)
