"""Calibrated compression of files too large to hold in memory: segment after segment, in one pass.

The network as it was and the one that is assigned run side by side, segment by segment (`segment_runs`), on all inputs.
A weight is assigned to what its inputs have become. Values between two segments, and weights that are assigned, lie in
a folder beside the output (`work_folder`): a run that was killed goes on behind the last segment that it finished.
There is one price per bit, from runs of a few inputs (`pilot`); the quality that comes out is measured at
the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version

from sws_compress.errors import ArgumentError
from sws_compress.onnx_io.analyse.nothing_to_do import refuse_nothing_to_do
from sws_compress.onnx_io.analyse.weights import find_weights
from sws_compress.onnx_io.messages import first_few, shown
from sws_compress.pipelines.calibration_inputs import calibration_feeds, first_rows
from sws_compress.pipelines.decided import decisions
from sws_compress.pipelines.fingerprints import fingerprint
from sws_compress.pipelines.job import Job, OnProgress
from sws_compress.pipelines.overrides import overrides_of
from sws_compress.pipelines.pilot import Pilot
from sws_compress.pipelines.price_search import QUALITY_TOLERANCE, divided
from sws_compress.pipelines.segment_assignment import PASSES, Assignment
from sws_compress.pipelines.segment_runs import Plan
from sws_compress.pipelines.source import Source
from sws_compress.pipelines.streamed import coding, publish_coded, refuse_options
from sws_compress.pipelines.work import Work
from sws_compress.pipelines.work_folder import WorkFolder, work_folder
from sws_compress.report.result import CompressionResult
from sws_compress.requests import Calibrated

GAIN_FEEDS, GAIN_ROWS = 2, 2
"""Sets of inputs that gains are measured on, and rows of each, at most: every weight takes a run."""

PRICE_FEEDS = 4
"""Sets of inputs that the price is tried on, at most."""

PILOT_PASSES = 2
"""Units of progress of a weight for it."""

PROGRESS_STEPS = 10_000
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
        Everything else.

    Raises
    ------
    ArgumentError
        If ``job`` has a goal or options that streaming does not know.
    ModelError
        If there is nothing to compress, or if a weight is NaN or infinite.
    OutputError
        If another run works at the same output.
    VerificationError
        If a check fails. What was at the output before stays as it is.
    """
    _refuse_goal(job)
    refuse_options(job)
    assert source.path is not None
    feeds = calibration_feeds(request.inputs, source)
    asked = f"quality {request.quality!r}"
    made_of = fingerprint(source.path, feeds, asked, job, version("sws-compress"))
    with work_folder(job.output, made_of) as folder, coding(source, job) as (source, coded):
        plan = Plan.of_file(source.model)
        if not plan.places:
            refuse_nothing_to_do(source.name, source.model, find_weights(source.model))
        overrides = overrides_of(job, {name: place.weight.operators for name, place in plan.places.items()})
        work = Work(_part(job.on_progress, 0, ASSIGNED_SHARE))
        work.expect((PILOT_PASSES + PASSES) * plan.elements)
        kept, held_out = divided(range(len(feeds)))
        resumed = _resumed(folder)
        if "price" not in folder.state:
            some = [feeds[number] for number in held_out[:PRICE_FEEDS]]
            few = [first_rows(given, source.model, GAIN_ROWS) for given in some[:GAIN_FEEDS]]
            chosen = [name for name in plan.places if name not in overrides.kept and name not in overrides.requests]
            pilot = Pilot(plan, chosen, few, some, folder, work, job)
            gains = pilot.gains()
            price = pilot.price(gains, request.quality)
            nothing = [0.0] * len(plan.scores)
            folder.save_state(price=price, gains=gains, segments=0, unmet=[], changes=nothing, energies=nothing)
        assignment = Assignment(plan, feeds, kept, held_out, overrides, folder, work, job)
        assignment.finish()
        told = replace(job, on_progress=_part(job.on_progress, ASSIGNED_SHARE, 1))
        for name in plan.places:
            if name not in overrides.kept:
                coded.add(name, assignment.palette(name))
        result = publish_coded(coded, source, {}, overrides, told)
        reasons = assignment.reasons | overrides.reasons
    notes = (*resumed, *_unseen(plan, assignment.unmet), *_missed(assignment.quality, request.quality))
    weights = [place.weight for place in plan.places.values()]
    return replace(
        result,
        notes=(*result.notes, *notes),
        decisions=decisions(weights, result.tensors, reasons),
    )


def _refuse_goal(job: Job) -> None:
    if job.goal is not None:
        (name,) = job.goal.given
        raise ArgumentError(
            f"{name} must be left out for a model of more than {job.limits.calibrated_bytes:,} bytes, got some: it is "
            "assigned once, to a quality; choose that"
        )


def _part(on_progress: OnProgress, first: float, last: float) -> OnProgress:
    """Progress of a part of the work as that of the whole."""

    def told(description: str, done: int, total: int) -> None:
        share = first + (last - first) * done / max(total, 1)
        on_progress(description, round(PROGRESS_STEPS * share), PROGRESS_STEPS)

    return told


def _resumed(folder: WorkFolder) -> tuple[str, ...]:
    """Notes on the work that was there before."""
    if folder.started_anew:
        return ("started anew: the unfinished work beside the output was of another model, request or version",)
    done = folder.state.get("segments", 0)
    return (f"went on where an earlier run was stopped, behind {done} segments of the network",) if done else ()


def _missed(found: float, asked: float) -> tuple[str, ...]:
    """What to say of a quality that is not the one that was asked for."""
    if abs(found - asked) <= 2 * QUALITY_TOLERANCE:
        return ()
    return (
        f"quality is {found:.1f} dB, asked for {asked:g}: a streamed model is assigned once; "
        f"ask for {max(2 * asked - found, 1):.1f} to come closer",
    )


def _unseen(plan: Plan, names: Sequence[str]) -> tuple[str, ...]:
    """What to say of weights whose inputs were not seen."""
    if not names:
        return ()
    named = first_few([shown(name) for name in names], ", ")
    return (
        f"{plan.size(names) / plan.elements:.0%} of the weights are read where their inputs cannot be seen ({named}): "
        "they were assigned by their values",
    )
