"""The weights of a model as layers: each with the second moment of the inputs that it meets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TypeVar

import numpy as np
import onnx_ir as ir

from sws_compress.calibrate.drift import Drift
from sws_compress.calibrate.layers import Layer
from sws_compress.calibrate.moments import InputMoment
from sws_compress.onnx_io.analyse.products import Product
from sws_compress.ort.activations import Feeds, activations
from sws_compress.ort.session import Array
from sws_compress.pipelines.decided import Reason
from sws_compress.pipelines.places import Place, in_order
from sws_compress.pipelines.work import Work
from sws_compress.quantize.palette import Palette

MOMENT_BYTES = 1 << 30
"""Second moments that are held at a time; more are collected in several passes over the inputs."""

SAMPLES_PER_FEED = 400
"""Inputs of a layer that are taken from each set of inputs of the network: neighbours in an image or a text tell
little more than one of them."""


Sum = TypeVar("Sum", InputMoment, Drift)

MOST_STAGES = 24
"""Steps in which layers follow those before them, at most: each step runs both networks as far as its layers."""


@dataclass(frozen=True, eq=False)
class Assigned:
    """Weights that were assigned at one price, why they have their bits, and biases that follow them; all by name."""

    palettes: dict[str, Palette]
    reasons: dict[str, Reason]
    biases: dict[str, Array]

    @property
    def values(self) -> dict[str, Array]:
        """The new values of all initialisers that have some."""
        return {**{name: palette.expand() for name, palette in self.palettes.items()}, **self.biases}


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
        self._held: tuple[tuple[str, Layer], ...] | None = None
        self.unmet: set[str] = set()

    def layers(self, doing: str) -> Iterator[tuple[str, Layer]]:
        """All layers; they are kept if one pass over the inputs has collected all moments."""
        self._work.expect((1 if self._held is not None else 2) * self._weights)
        if self._held is None and len(self._batches) == 1:
            self._held = tuple(self._collected(self._batches[0]))
        batches = (self._collected(batch) for batch in self._batches)
        for name, layer in self._held if self._held is not None else (pair for batch in batches for pair in batch):
            self._work.doing(f"{doing} {name}")
            yield name, layer
            self._work.did(layer.rows.size)

    def expect(self, passes: int, turns: int) -> None:
        """Expect passes over all layers, and others in turn."""
        per_pass = 1 if len(self._batches) == 1 else 2
        self._work.expect((2 + per_pass * (passes - 1) + 3 * turns) * self._weights)

    @cached_property
    def stages(self) -> tuple[tuple[str, ...], ...]:
        """The weights in the order in which the network uses them, `MOST_STAGES` steps or as many as moments need."""
        read = in_order(self._model, self._places)
        names = [*read, *(name for name in self._places if name not in read)]
        ends = np.linspace(0, len(names), min(MOST_STAGES, len(names)) + 1).round().astype(int)
        groups = ({name: self._places[name] for name in names[start:end]} for start, end in pairwise(ends))
        return tuple(tuple(batch) for group in groups for batch in _batches(group, copies=2))

    def in_turn(self, changed: Callable[[], ir.Model]) -> Iterator[tuple[str, Layer]]:
        """All layers, stage by stage: they follow their inputs in the model that ``changed`` gives before each."""
        self._work.expect(3 * self._weights)
        for names in self.stages:
            for name, layer in self._following(names, changed()):
                self._work.doing(f"following {name}")
                yield name, layer
                self._work.did(layer.rows.size)

    def _following(self, names: Sequence[str], changed: ir.Model) -> Iterator[tuple[str, Layer]]:
        """Layers with the moments of their inputs in a changed model, and their drift from those in the model."""
        moments: dict[str, InputMoment] = {}
        drifts: dict[str, Drift] = {}
        before, now = (self._inputs(model, names) for model in (self._model, changed))
        for (name, first), (_, second) in zip(before, now, strict=True):
            if first is None:
                continue
            if second is None or second.shape != first.shape:  # another branch, or more or fewer times
                second = first
            added(moments, name, InputMoment.of(second))
            added(drifts, name, Drift.of(first, second))
        for name in names:
            yield name, self._places[name].layer(moments.pop(name, None), drifts.pop(name, None))

    def _collected(self, names: Sequence[str]) -> Iterator[tuple[str, Layer]]:
        """The layers of some weights, with the moments of their inputs."""
        moments: dict[str, InputMoment] = {}
        for name, inputs in self._inputs(self._model, names):
            if inputs is not None:
                added(moments, name, InputMoment.of(inputs))
        self.unmet |= {name for name in names if name not in moments}
        for name in names:
            yield name, self._places[name].layer(moments.pop(name, None))

    def _inputs(self, model: ir.Model, names: Sequence[str]) -> Iterator[tuple[str, Array | None]]:
        """Samples of what some weights multiply, at the same places in every model of the same graph.

        None where a branch was not taken, or a body did not run.
        """
        values = sorted({product.value for name in names for product in self._places[name].products})
        units = sum(self._places[name].weight.size for name in names)
        for feed, found in enumerate(activations(model, values, self._feeds) if values else ()):
            self._work.doing("collecting inputs of layers")
            for number, name in enumerate(names):
                for product in self._places[name].products:
                    random = np.random.default_rng([self._seed, feed, number])
                    yield name, samples_of(product, found[product.value], random)
            self._work.did(units / len(self._feeds))
        if not values:
            self._work.did(units)


def samples_of(product: Product, found: Array, random: np.random.Generator) -> Array | None:
    """Some of what a product multiplies, at all times that its body ran; None if that was never."""
    if not found.size:
        return None
    times = found.reshape(-1, *found.shape[product.stacks :]) if product.stacks else (found,)
    most = max(SAMPLES_PER_FEED // len(times), 1)
    return np.concatenate([product.layout.inputs(each, most, random) for each in times])


def added(sums: dict[str, Sum], name: str, part: Sum) -> None:
    sums[name] = sums[name] + part if name in sums else part


def _batches(places: Mapping[str, Place], *, copies: int = 1) -> Iterator[list[str]]:
    """Names of weights whose moments, so many for each, are collected in one pass over the inputs."""
    batch: list[str] = []
    held = 0
    for name, place in places.items():
        own = copies * place.moment_bytes
        if batch and held + own > MOMENT_BYTES:
            yield batch
            batch, held = [], 0
        batch.append(name)
        held += own
    yield batch
