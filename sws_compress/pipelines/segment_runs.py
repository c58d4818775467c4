"""A model that is run segment by segment, and what its weights meet on the way: one segment is in memory at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import onnx_ir as ir

from sws_compress.onnx_io.analyse.bodies import Inside, values_inside
from sws_compress.onnx_io.analyse.segments import Segment, segments
from sws_compress.onnx_io.analyse.weights import Weight, each_weight
from sws_compress.onnx_io.external_data import forget
from sws_compress.onnx_io.write.part import part_of
from sws_compress.onnx_io.write.probed import score_names
from sws_compress.ort.activations import activations
from sws_compress.ort.session import Array
from sws_compress.pipelines.activation_store import ActivationStore
from sws_compress.pipelines.met import Meeting, meetings
from sws_compress.pipelines.places import Place, place_of
from sws_compress.thresholds import SMALLEST_WEIGHT

LEAST_SEGMENT_BYTES = 32 << 20
"""Weights of so many bytes may be in memory at a time, even if none is as large."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A model, how its weights lie, and its segments.

    Parameters
    ----------
    model : ir.Model
        Its weights stay on disk.
    places : mapping of str to Place
        Its weights by name, without their values.
    segments : tuple of Segment
        Its parts.
    scores : tuple of str
        Values by which an error of its outputs is told.
    """

    model: ir.Model
    places: Mapping[str, Place]
    segments: tuple[Segment, ...]
    scores: tuple[str, ...]

    @classmethod
    def of_file(cls, model: ir.Model) -> Plan:
        """The plan of a model on disk; its weights are read once, one after the other."""
        weights = each_weight(model, smallest=SMALLEST_WEIGHT, tables=True)
        return cls.of(model, {each.name: place_of(model, _bare(each)) for each in weights})

    @classmethod
    def of(cls, model: ir.Model, places: Mapping[str, Place]) -> Plan:
        """The plan of a model with these weights."""
        multiplied = {name: {product.value for product in place.products} for name, place in places.items()}
        sizes = {name: 4 * place.weight.size for name, place in places.items()}
        made = {str(value.name) for node in model.graph for value in node.outputs}
        scores = tuple(name for name in score_names(model) if name in made)
        most = max((LEAST_SEGMENT_BYTES, *sizes.values()))
        return cls(model, places, segments(model, multiplied, sizes, most), scores)

    @property
    def elements(self) -> int:
        """Elements of all weights."""
        return self.size(self.places)

    def size(self, names: Iterable[str]) -> int:
        """Elements of some weights."""
        return sum(self.places[name].weight.size for name in names)

    def loaded(self, name: str) -> Place:
        """The place of a weight with its values; `free` unmaps them."""
        place, value = self.places[name], self.model.graph.initializers[name]
        assert value.const_value is not None
        return replace(place, weight=replace(place.weight, values=value.const_value.numpy()))

    def free(self, segment: Segment) -> None:
        """Unmap the weights of a segment."""
        for name in segment.read:
            forget(self.model.graph.initializers[name])

    def run(
        self,
        segment: Segment,
        names: Sequence[str],
        stores: Sequence[ActivationStore],
        feeds: Sequence[int],
        weights: Mapping[str, Array],
    ) -> Iterator[dict[str, Array]]:
        """Values in or before a segment, with other values for some weights: for each store some sets of inputs."""
        given = (store.get(feed, segment.inputs) for store in stores for feed in feeds)
        if all(name in segment.inputs for name in names):
            yield from ({name: each[name] for name in names} for each in given)
            return
        examples = stores[0].get(feeds[0], segment.inputs)
        inner = [name for name in names if name not in segment.inputs]
        part = part_of(self.model, examples, inner, weights, self._known)
        yield from activations(part, names, given)

    def advance(
        self, segment: Segment, stores: Sequence[ActivationStore], weights: Mapping[str, Array], scored: Collection[int]
    ) -> Iterator[tuple[int, int, dict[str, Array]]]:
        """Run a segment on all sets of inputs of some stores, and keep there what later segments read.

        Yields
        ------
        store, feed : int
            Numbers of a store, and of one of the ``scored`` sets of inputs.
        scores : dict of str to ndarray
            Scores that the segment makes, if there are any.
        """
        scores = [name for name in self.scores if name in segment.made]
        names = tuple(dict.fromkeys((*segment.outputs, *scores)))
        feeds = range(len(stores[0].feeds)) if segment.outputs else sorted(scored) if scores else ()
        if not feeds:
            return
        places = ((number, feed) for number in range(len(stores)) for feed in feeds)
        for (number, feed), found in zip(places, self.run(segment, names, stores, feeds, weights), strict=True):
            stores[number].put(feed, {name: found[name] for name in segment.outputs})
            if scores and feed in scored:
                yield number, feed, {name: found[name] for name in scores}

    def meetings(self, segment: Segment) -> list[Meeting]:
        """The weights that a segment is the first to read, by the values of it that they multiply."""
        return meetings(self.places, segment.weights, lambda value: self._is_there(value, segment))

    def _is_there(self, value: str, segment: Segment) -> bool:
        """Whether a value, perhaps one inside of a body, is known in a segment."""
        owners = self._known[value].owners
        return value in segment.inputs or (str(owners[-1].node.outputs[0].name) if owners else value) in segment.made

    @cached_property
    def _known(self) -> dict[str, Inside]:
        return values_inside(self.model)


def _bare(weight: Weight) -> Weight:
    """A weight without its values, of the same type."""
    return replace(weight, values=np.empty(0, weight.values.dtype))
