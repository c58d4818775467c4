"""What the result of a training run says besides: sizes that were missed, and what was lost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sws_compress.metric_sense import Sense
from sws_compress.pipelines.job import Job
from sws_compress.train.targets import SteeringTarget

if TYPE_CHECKING:
    from sws_compress.train.select import ParameterGroup

SIZE_TOLERANCE = 0.03
"""Relative miss of the size asked for up to which the result has no note."""


def missed_note(target: SteeringTarget | None, file_bytes: int, broke: bool, components: int) -> Iterable[str]:
    """A line if the run did not reach the size asked for, with the cure; ``broke`` if smaller networks did not work."""
    wanted = None if target is None else target.file_bytes
    if wanted is None or abs(file_bytes - wanted) <= SIZE_TOLERANCE * wanted:
        return
    if file_bytes < wanted:
        why = (
            f"with {components} values for each weight tensor the run found no better use for more; raise components= "
            "if it has lost too much"
        )
    elif broke:
        why = (
            "smaller networks no longer worked on the way (result.curve has their sizes and metrics); train for more "
            "epochs, or ask for a larger file"
        )
    else:
        why = "graph and codebooks take much of it; train for more epochs to come closer"
    yield f"the file has {file_bytes} bytes, {wanted} were asked for: {why}"


def unasked_note(target: SteeringTarget | None, job: Job) -> Iterable[str]:
    """A line about what a run without a goal went for."""
    if job.goal is not None or target is None:
        return
    if target.metric_drop is not None:
        share = f"{job.sense.usual_share:.0%} of itself"
        allowed = f"metric {job.sense.falls} by at most {target.metric_drop:.4g} ({share})"
        yield f"no goal was given, so the file is as small as the run could make it while the {allowed}"
    if target.loss_share is not None:
        yield (
            "neither a goal nor evaluate was given, so the file is as small as the run could make it while the loss "
            f"rises by at most {target.loss_share:.0%} of the way to that of constant outputs"
        )


def forgotten_note(target: SteeringTarget | None, used: float | None) -> Iterable[str]:
    """A line if more of what the network knows was lost than a run without a goal allows."""
    if target is not None and target.loss_share is not None and used is not None and not used <= 1:
        yield (
            f"the loss rose by {used * target.loss_share:.1%} of the way to that of constant outputs, more than the "
            f"{target.loss_share:.0%} allowed: train for more epochs, or with more components"
        )


def fallen_note(
    target: SteeringTarget | None, before: float | None, after: float | None, sense: Sense
) -> Iterable[str]:
    """A line if the metric got worse by more than was allowed, or is usual where nothing was said."""
    if before is None or after is None:
        return
    fall, drop = sense.drop(before, after), None if target is None else target.metric_drop
    if drop is not None and not fall <= drop:
        yield (
            f"the metric {sense.fell} by {fall:.4g}, {drop:g} were allowed: train for more epochs, or with more "
            "components"
        )
    if drop is None and not fall <= sense.usual_drop(before):
        yield (
            f"the metric {sense.fell} from {before:.4g} to {after:.4g}: ask for a larger file, train for more epochs, "
            "or say what is allowed with max_drop="
        )


def emptied_note(groups: Iterable[ParameterGroup]) -> Iterable[str]:
    """A line for every compressed parameter that holds nothing but zeros."""
    for group in groups:
        for name, parameter in zip(group.names, group.parameters, strict=True):
            if not parameter.any():
                yield f"{name} holds nothing but zeros: ask for a larger file, or train for more epochs"
