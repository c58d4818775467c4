"""Calibrated weights, distilled: what can move while assignments stay comes closer to the float network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from sws_compress.errors import VerificationError
from sws_compress.messages import first_line
from sws_compress.module_modes import evaluating
from sws_compress.onnx_io.write.replaced import with_values
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.activations import Feeds, Trials
from sws_compress.ort.compare import outputs_in_runtime
from sws_compress.pipelines.calibration_layers import Assigned
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.metrics import metric_before
from sws_compress.pipelines.places import Place
from sws_compress.pipelines.source import Source
from sws_compress.pipelines.tunable import Tunable, tunable_copy
from sws_compress.pipelines.twins import NoTwinError, twin_of
from sws_compress.pipelines.work import Work
from sws_compress.pipelines.write_back import written_back
from sws_compress.report.distances import percent_text

LEFT_OUT = "distillation was left out: {}"
"""The note of a network that is not distilled, with the reason."""

NOT_KEPT = "distillation was not kept: {}"
"""The note of one whose distillation does not help, with the reason."""

KEPT = "distillation took the error on inputs that were held out from {} to {}, in {} steps"
"""The note of one that is distilled."""

MOST_SECONDS = 1000.0
"""Processor time of a distillation, at most: several times what the operations that are counted usually take."""


@dataclass(frozen=True, eq=False)
class Distillate:
    """Weights after a distillation, or as they were; their error on the inputs held out; and what was done."""

    assigned: Assigned
    error: float
    notes: tuple[str, ...]


def distilled(
    source: Source,
    assigned: Assigned,
    places: Mapping[str, Place],
    weights: Collection[str],
    feeds: tuple[Sequence[Feeds], Sequence[Feeds]],
    error: float,
    job: Job,
    work: Work,
    metric: Callable[[Assigned], float],
) -> Distillate:
    """Distil a network for a few minutes; kept only where its outputs come closer on inputs that were held out.

    Parameters
    ----------
    source : Source
        A module, exported, or a file, in memory.
    assigned : Assigned
        Its weights.
    places : mapping of str to Place
        Those that may move.
    weights : collection of str
        All weights of the model: those that are not assigned stay as they are.
    feeds : pair of sequences of mapping of str to ndarray
        Inputs to learn from, and others to judge by.
    error : float
        Relative error of the scores on the latter, so far.
    job : Job
        Its seed, and a metric that may fall only so far.
    work : Work
        Told of every step.
    metric : callable
        The caller's metric of such weights; called where it may fall only so far.
    """
    try:
        tuned, steps = _run(source, assigned, places, weights, feeds, job, work)
    except NoTwinError as caught:
        return Distillate(assigned, error, (LEFT_OUT.format(caught),))
    except Exception as caught:  # whatever a module raises when it is asked for gradients
        return Distillate(assigned, error, (LEFT_OUT.format(first_line(caught)),))
    if not steps:
        return Distillate(assigned, error, (NOT_KEPT.format("no step brought the outputs closer"),))
    found = tuned.assigned(assigned)
    after = math.sqrt(Trials(source.model, tuple(found.values), feeds[1]).error(found.values))
    reason = (
        "the outputs of the file do not come closer"
        if after >= error
        else _refused(source, assigned, found, job, metric)
    )
    if reason is not None:
        return Distillate(assigned, error, (NOT_KEPT.format(reason),))
    return Distillate(found, after, (KEPT.format(percent_text(error), percent_text(after), steps),))


def _refused(
    source: Source, assigned: Assigned, found: Assigned, job: Job, metric: Callable[[Assigned], float]
) -> str | None:
    """Why distilled weights are not taken, though their outputs are closer."""
    if source.module is not None and not _fits_module(source, found):
        return "the module computes something else from what has moved"
    if job.goal is None or job.goal.max_drop is None:
        return None
    before = metric_before(source, job)
    assert before is not None
    after = metric(found)
    lost = job.sense.drop(before, after) > job.goal.max_drop and job.sense.drop(metric(assigned), after) > 0
    return f"the metric {job.sense.falls}" if lost else None


def _fits_module(source: Source, found: Assigned) -> bool:
    """Whether the module answers as the graph does with these weights."""
    assert source.module is not None
    outputs = [] if source.feeds is None else outputs_in_runtime(
        to_bytes(with_values(source.model, found.values)), source.feeds
    )  # fmt: skip
    try:
        written_back(source, source.module, found.values, outputs)
    except VerificationError:
        return False
    return True


def _run(
    source: Source,
    assigned: Assigned,
    places: Mapping[str, Place],
    weights: Collection[str],
    feeds: tuple[Sequence[Feeds], Sequence[Feeds]],
    job: Job,
    work: Work,
) -> tuple[Tunable, int]:
    """A distilled copy, and the steps that it took; 0 if none helped or can be afforded."""
    work.doing("distilling")
    twin = twin_of(source, assigned.palettes, feeds[1][0])
    from sws_compress.train import output_distillation as distillation

    tunable = tunable_copy(source, twin.network, assigned, places, weights)
    network = tunable.network
    inputs, held_out = ([twin.arguments(each) for each in part] for part in feeds)
    together = -(-distillation.ROWS_PER_STEP // max(rows_of(feeds[0][0]), 1))
    with evaluating(network), evaluating(twin.network):
        steps = distillation.affordable_steps(network, inputs[0], together)
        if steps < distillation.FEWEST_STEPS:
            raise NoTwinError(f"it would take {distillation.MOST_OPERATIONS:.0e} operations for {steps} steps")
        units = sum(tensor.size for tensor in source.tensors()) / steps
        work.expect(steps * units)
        watch = _Watch(steps)

        def told() -> None:
            watch.stepped()
            work.did(units)
            work.doing("distilling")

        distillery = distillation.Distillery(
            network,
            twin.network,
            [*tunable.codebooks.values(), *tunable.vectors.values()],
            twin.readouts,
            inputs,
            held_out,
        )
        found = distillery.run(steps, together, job.seed, told)
    return tunable, found.steps


class _Watch:
    """Stops a distillation that would take too long: some operators are far slower than they are counted."""

    def __init__(self, steps: int) -> None:
        self._steps, self._done, self._started = steps, 0, time.process_time()

    def stepped(self) -> None:
        """Count a step. Raises NoTwinError if all would take more than `MOST_SECONDS`."""
        self._done += 1
        seconds = self._steps / self._done * (time.process_time() - self._started)
        if seconds > MOST_SECONDS:
            raise NoTwinError(f"it would take {seconds / 60:.0f} minutes of a core, more than {MOST_SECONDS / 60:.0f}")


def rows_of(feeds: Feeds) -> int:
    """Rows of a set of inputs: the longest of their first axes."""
    return max((len(values) for values in feeds.values() if values.ndim), default=1)
