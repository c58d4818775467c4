"""What the weights of a segment meet, in a network that is run segment by segment."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sws_compress.onnx_io.analyse.segments import Segment
from sws_compress.pipelines.activation_store import ActivationStore
from sws_compress.pipelines.met import Met, add_run, multiplied
from sws_compress.pipelines.segment_runs import Plan


def met_in(
    plan: Plan,
    segment: Segment,
    stores: Sequence[ActivationStore],
    kept: Collection[int],
    held_out: Collection[int],
    seed: int,
) -> dict[str, Met]:
    """What the weights of a segment meet, by name; without those that meet nothing.

    Parameters
    ----------
    plan : Plan
        The model.
    segment : Segment
        The segment, not passed yet.
    stores : sequence of ActivationStore
        Values before it in the network as it was, and in the one that it becomes unless they are the same.
    kept, held_out : collection of int
        Sets of inputs that moments are made of, and others that tell whether weights shall follow their inputs.
    seed : int
        Seed of the positions that are taken.
    """
    together = plan.meetings(segment)
    values, feeds = multiplied(together), sorted({*kept, *held_out})
    if not values or not feeds:
        return {}
    found = [Met() for _ in together]
    runs = [plan.run(segment, values, [store], feeds, {}) for store in stores]
    for feed, *seen in zip(feeds, *runs, strict=True):
        add_run(found, together, (seed, feed), *seen, fitted=feed in kept, held_out=feed in held_out)
    return {
        name: met
        for meeting, met in zip(together, found, strict=True)
        if met.moment is not None
        for name in meeting.names
    }
