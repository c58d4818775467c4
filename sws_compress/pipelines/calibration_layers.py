"""The weights of a model as layers: each with the second moment of the inputs that it meets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property

import onnx_ir as ir

from sws_compress.calibrate.layers import Layer
from sws_compress.onnx_io.analyse.segments import Segment
from sws_compress.ort.activations import Feeds
from sws_compress.ort.session import Array
from sws_compress.pipelines.activation_store import ActivationStore
from sws_compress.pipelines.decided import Reason
from sws_compress.pipelines.held_arrays import HeldArrays
from sws_compress.pipelines.met import Meeting, Met, add_run, meetings, met_by, multiplied
from sws_compress.pipelines.places import Place
from sws_compress.pipelines.segment_runs import Plan
from sws_compress.pipelines.work import Work
from sws_compress.quantize.palette import Palette

MOMENT_BYTES = 1 << 30
"""Second moments that are held at a time; more are collected in several passes over the inputs."""


@dataclass(frozen=True, eq=False)
class Assigned:
    """Weights that were assigned at one price, why they have their bits, and biases that follow them; all by name."""

    palettes: dict[str, Palette]
    reasons: dict[str, Reason]
    biases: dict[str, Array]

    @property
    def values(self) -> dict[str, Array]:
        """The new values of all initialisers that have some."""
        return self.values_of(self.palettes)

    def values_of(self, names: Collection[str]) -> dict[str, Array]:
        """The new values of these weights, as far as they are assigned, and of all biases."""
        chosen = {name: self.palettes[name].expand() for name in names if name in self.palettes}
        return {**chosen, **self.biases}


class Collector:
    """Layers with the moments of their inputs, collected by running the model.

    Parameters
    ----------
    model : ir.Model
        The model.
    places : mapping of str to Place
        Its weights, by name.
    feeds : sequence of mapping of str to ndarray
        Inputs that it is run on.
    seed : int
        Seed of the positions that are taken.
    work : Work
        Told what is done: a unit for each weight that is assigned, and for each whose inputs are taken once.

    Attributes
    ----------
    unmet : set of str
        Weights whose inputs were not seen, among the layers so far.
    """

    def __init__(
        self,
        model: ir.Model,
        places: Mapping[str, Place],
        feeds: Sequence[Feeds],
        *,
        seed: int,
        work: Work,
    ) -> None:
        self._model, self._places, self._feeds, self._seed = model, places, feeds, seed
        self._work, self._weights = work, sum(place.weight.size for place in places.values())
        self._batches = tuple(_batches(places))
        self._held: dict[str, Layer] | None = None
        self.unmet: set[str] = set()

    def layers(self, doing: str) -> Iterator[tuple[str, Layer]]:
        """All layers; they are kept if one pass over the inputs has collected all moments."""
        self._work.expect((1 if self._held is not None else 2) * self._weights)
        if self._held is None and len(self._batches) == 1:
            self._held = dict(self._collected(self._batches[0]))
        batches = (self._collected(batch) for batch in self._batches)
        found = self._held.items() if self._held is not None else (pair for batch in batches for pair in batch)
        for name, layer in found:
            self._work.doing(f"{doing} {name}")
            yield name, layer
            self._work.did(layer.rows.size)

    def expect(self, passes: int, turns: int) -> None:
        """Expect passes over all layers, and others in turn."""
        per_pass = 1 if len(self._batches) == 1 else 2
        self._work.expect((2 + per_pass * (passes - 1) + 3 * turns) * self._weights)

    @cached_property
    def plan(self) -> Plan:
        """The segments of the model."""
        return Plan.of(self._model, self._places)

    def in_turn(self, changed: Callable[[Collection[str]], Mapping[str, Array]]) -> Iterator[tuple[str, Layer]]:
        """All layers, segment by segment: they follow their inputs in the network as it has become.

        Parameters
        ----------
        changed : callable
            Gives the new values of some weights, which this method has yielded, and of all biases.
        """
        self._work.expect(3 * self._weights)
        with closing(HeldArrays()) as held:
            before, now = (ActivationStore(held, network, self._feeds) for network in ("before", "now"))
            for number, segment in enumerate(self.plan.segments):
                for name, layer in self._following(segment, before, now if number else None):
                    self._work.doing(f"following {name}")
                    yield name, layer
                    self._work.did(layer.rows.size)
                for _ in self.plan.advance(segment, [now], changed(segment.read), ()):
                    pass
                for store in (before, now):
                    store.drop(segment.last)
        read = {name for segment in self.plan.segments for name in segment.weights}
        for name in self._places:
            if name not in read:
                yield name, self._places[name].layer(None)

    def _following(
        self, segment: Segment, before: ActivationStore, now: ActivationStore | None
    ) -> Iterator[tuple[str, Layer]]:
        """The layers of a segment with the moments of their inputs, and how these have drifted.

        The segment is passed in the network as it was. A weight that later segments use as well keeps the moment of
        all its uses.
        """
        together = self.plan.meetings(segment)
        values = multiplied(together)
        names, feeds = tuple(dict.fromkeys((*values, *segment.outputs))), range(len(self._feeds))
        met = [Met() for _ in together]
        runs = [self.plan.run(segment, names, [before], feeds, {})] if names else []
        if runs and values and now is not None:
            runs.append(self.plan.run(segment, values, [now], feeds, {}))
        for feed, *seen in zip(feeds, *runs, strict=True) if runs else ():
            self._work.doing("collecting inputs of layers")
            add_run(met, together, (self._seed, feed), *seen)
            before.put(feed, {name: seen[0][name] for name in segment.outputs})
        self._work.did(self.plan.size(segment.weights))
        for meeting, each in zip(together, met, strict=True):
            for name in meeting.names:
                whole = len(meeting.products) == len(self._places[name].products)
                held = None if whole or self._held is None else self._held[name]
                yield name, each.layer(self._places[name]) if held is None else held

    def _collected(self, together: Sequence[Meeting]) -> Iterator[tuple[str, Layer]]:
        """The layers of some weights, with the moments of their inputs."""
        units = sum(self._places[name].weight.size for meeting in together for name in meeting.names)
        self._work.doing("collecting inputs of layers")

        def told() -> None:
            self._work.did(units / len(self._feeds))
            self._work.doing("collecting inputs of layers")

        met = met_by(self._model, together, self._feeds, self._seed, told)
        for meeting, each in zip(together, met, strict=True):
            if each.moment is None:
                self.unmet.update(name for name in meeting.names if self._places[name].counts is None)
            for name in meeting.names:
                yield name, each.layer(self._places[name])


def _batches(places: Mapping[str, Place]) -> Iterator[list[Meeting]]:
    """Weights whose moments are collected in one pass over the inputs."""
    batch: list[Meeting] = []
    held = 0
    for meeting in meetings(places, places):
        own = places[meeting.names[0]].moment_bytes
        if batch and held + own > MOMENT_BYTES:
            yield batch
            batch, held = [], 0
        batch.append(meeting)
        held += own
    yield batch
