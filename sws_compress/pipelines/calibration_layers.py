"""The weights of a model as layers: each with the second moment of the inputs that it meets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from sws_compress.calibrate.layers import Layer
from sws_compress.calibrate.moments import InputMoment
from sws_compress.ort.activations import Feeds, activations
from sws_compress.pipelines.decided import Reason
from sws_compress.pipelines.job import OnProgress
from sws_compress.pipelines.places import Place
from sws_compress.quantize.palette import Palette

MOMENT_BYTES = 1 << 30
"""Second moments that are held at a time; more are collected in several passes over the inputs."""

SAMPLES_PER_FEED = 400
"""Inputs of a layer that are taken from each set of inputs of the network: neighbours in an image or a text tell
little more than one of them."""


@dataclass(frozen=True, eq=False)
class Assigned:
    """Weights that were assigned at one price, and why they have their bits; both by name."""

    palettes: dict[str, Palette]
    reasons: dict[str, Reason]


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
    on_progress : callable
        Told which layer is worked on.
    """

    def __init__(
        self,
        model: ir.Model,
        places: Mapping[str, Place],
        feeds: Sequence[Feeds],
        *,
        seed: int,
        on_progress: OnProgress,
    ) -> None:
        self._model, self._places, self._feeds, self._seed = model, places, feeds, seed
        self._on_progress = on_progress
        self._batches = tuple(_batches(places))
        self._held: tuple[tuple[str, Layer], ...] | None = None

    def layers(self, doing: str) -> Iterator[tuple[str, Layer]]:
        """All layers; they are kept if one pass over the inputs has collected all moments."""
        if self._held is None and len(self._batches) == 1:
            self._held = tuple(self._collected(self._batches[0]))
        done, total = 0, sum(place.weight.size for place in self._places.values())
        batches = (self._collected(batch) for batch in self._batches)
        for name, layer in self._held if self._held is not None else (pair for batch in batches for pair in batch):
            self._on_progress(f"{doing} {name}", done, total)
            yield name, layer
            done += layer.rows.size

    def _collected(self, names: Sequence[str]) -> Iterator[tuple[str, Layer]]:
        """The layers of some weights, with the moments of their inputs."""
        random = np.random.default_rng(self._seed)
        moments: dict[str, InputMoment] = {}
        values = sorted({product.value for name in names for product in self._places[name].products})
        for found in activations(self._model, values, self._feeds) if values else ():
            for name in names:
                for product in self._places[name].products:
                    inputs = product.layout.inputs(found[product.value], SAMPLES_PER_FEED, random)
                    moment = InputMoment.of(inputs)
                    moments[name] = moments[name] + moment if name in moments else moment
        for name in names:
            yield name, self._places[name].layer(moments.pop(name, None))


def _batches(places: Mapping[str, Place]) -> Iterator[list[str]]:
    """Names of weights whose moments are collected in one pass over the inputs."""
    batch: list[str] = []
    held = 0
    for name, place in places.items():
        if batch and held + place.moment_bytes > MOMENT_BYTES:
            yield batch
            batch, held = [], 0
        batch.append(name)
        held += place.moment_bytes
    yield batch
