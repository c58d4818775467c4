"""Calibrated compression of files too large to hold in memory: segment after segment.

The network as it was and the one that is assigned run side by side, segment by segment (`segment_runs`), on all inputs.
A weight is assigned to what its inputs have become. Values between two segments, and weights that are assigned, lie in
a folder beside the output (`work_folder`): a run that was killed goes on behind the last segment that it finished.
There is one price per bit. If it has missed the goal, all weights are assigned once more (`streamed_search`).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version

from sws_compress.calibrate.rate_curves import quality_of
from sws_compress.errors import ArgumentError
from sws_compress.messages import first_few, shown
from sws_compress.onnx_io.analyse.nothing_to_do import refuse_nothing_to_do
from sws_compress.onnx_io.analyse.weights import find_weights
from sws_compress.pipelines.calibration_inputs import calibration_feeds
from sws_compress.pipelines.decided import decisions
from sws_compress.pipelines.fingerprints import fingerprint
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.overrides import overrides_of
from sws_compress.pipelines.price_search import SIZE_TOLERANCE
from sws_compress.pipelines.segment_runs import Plan
from sws_compress.pipelines.source import Source
from sws_compress.pipelines.streamed import coding, publish_coded, refuse_options
from sws_compress.pipelines.streamed_search import QUALITY_TOLERANCE, StreamedSearch
from sws_compress.pipelines.work_folder import WorkFolder, work_folder
from sws_compress.report.result import CompressionResult
from sws_compress.requests import Calibrated, Goal
from sws_compress.terminal.progress_bar import LOGGER

ASSIGNED_SHARE = 0.9
"""Share of the progress that packing and checking do not have."""


def stream_calibrated(source: Source, request: Calibrated, job: Job) -> CompressionResult:
    """Assign every weight of a large file with the inputs that it meets, little of it in memory.

    Parameters
    ----------
    source : Source
        A file; its weights stay on disk.
    request : Calibrated
        The inputs and the quality.
    job : Job
        Everything else; its goal is a size, or None.

    Raises
    ------
    ArgumentError
        If ``job`` has a metric or options that streaming does not know.
    ModelError
        If there is nothing to compress, or if a weight is NaN or infinite.
    OutputError
        If another run works at the same output.
    VerificationError
        If a check fails. What was at the output before stays as it is.
    """
    if source.weight_bytes <= min(job.limits.model_bytes, job.limits.calibrated_bytes):
        job = replace(job, limits=replace(job.limits, alone_elements=sys.maxsize))  # all codes of all weights are tried
    wanted = _wanted(job.goal, source.dense_bytes)
    refuse_options(job)
    assert source.path is not None
    feeds = calibration_feeds(request.inputs, source)
    asked = f"quality {request.quality!r}" if wanted is None else f"bytes {wanted!r}"
    made_of = fingerprint(source.path, feeds, asked, job, version("sws-compress"))
    with work_folder(job.output, made_of) as folder, coding(source, job) as (source, coded):
        plan = Plan.of_file(source.model)
        if not plan.places:
            refuse_nothing_to_do(source.name, source.model, find_weights(source.model))
        overrides = overrides_of(job, {name: place.weight.operators for name, place in plan.places.items()})
        resumed = _resumed(folder)
        for line in resumed:
            LOGGER.info("%s", line)
            job.on_progress(line, 0, 0)
        assignment = StreamedSearch(
            plan,
            feeds,
            overrides,
            folder,
            quality=request.quality,
            file_bytes=wanted,
            dense_bytes=source.dense_bytes,
            job=job.part(0, ASSIGNED_SHARE),
        ).assigned()
        for name in plan.places:
            if name not in overrides.kept:
                coded.add(name, assignment.palette(name))
        result = publish_coded(coded, source, {}, overrides, job.part(ASSIGNED_SHARE, 1))
        reasons = assignment.reasons | overrides.reasons
    quality = quality_of(assignment.error)
    missed = _missed(quality, request.quality) if wanted is None else _missed_size(result.file_bytes, wanted)
    notes = (*resumed, *_unseen(plan, assignment.unmet), *missed)
    weights = [place.weight for place in plan.places.values()]
    return replace(
        result,
        notes=(*result.notes, *notes),
        score_error=math.sqrt(assignment.error),
        decisions=decisions(weights, result.tensors, reasons),
    )


def _wanted(goal: Goal | None, dense_bytes: int) -> float | None:
    """Bytes of the file that are asked for, if some are."""
    if goal is None:
        return None
    if goal.max_drop is not None:
        raise ArgumentError(
            "max_drop must be left out for a model that is streamed, got some: the network is never whole; choose a "
            "quality, a ratio or target_bytes"
        )
    return goal.target_bytes or dense_bytes / (goal.ratio or 1)


def _resumed(folder: WorkFolder) -> tuple[str, ...]:
    """Notes on the work that was there before."""
    if folder.started_anew:
        return ("started anew: the unfinished work beside the output was of another model, request or version",)
    done = folder.state.get("segments", 0)
    return (f"went on where an earlier run was stopped, behind {done} segments of the network",) if done else ()


def _missed(quality: float, asked: float) -> tuple[str, ...]:
    """What to say of a quality that is not the one that was asked for."""
    if abs(quality - asked) <= QUALITY_TOLERANCE:
        return ()
    return (f"quality is {quality:.1f} dB, asked for {asked:g}",)


def _missed_size(file_bytes: int, wanted: float) -> tuple[str, ...]:
    """What to say of a size that is not the one that was asked for."""
    if abs(math.log(file_bytes / wanted)) <= 2 * SIZE_TOLERANCE:
        return ()
    word = "larger" if file_bytes > wanted else "smaller"
    return (f"file is {abs(file_bytes / wanted - 1):.0%} {word} than the {wanted:.0f} bytes asked for",)


def _unseen(plan: Plan, names: Sequence[str]) -> tuple[str, ...]:
    """What to say of weights whose inputs were not seen."""
    if not names:
        return ()
    named = first_few([shown(name) for name in names], ", ")
    return (
        f"{plan.size(names) / plan.elements:.0%} of the weights are read where their inputs cannot be seen ({named}): "
        "they were assigned by their values",
    )
