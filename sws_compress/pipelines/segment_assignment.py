"""Weights that are assigned segment by segment, each to what its inputs have become; finished segments are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sws_compress.onnx_io.analyse.segments import Segment
from sws_compress.ort.activations import Feeds, OutputErrors
from sws_compress.pipelines.activation_store import ActivationStore
from sws_compress.pipelines.alone import rounded_alone
from sws_compress.pipelines.calibration_inputs import divided
from sws_compress.pipelines.decided import Reason
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.kept_palettes import keep_palette, kept_palette
from sws_compress.pipelines.met import Met
from sws_compress.pipelines.overrides import Overrides
from sws_compress.pipelines.price_search import SEEN, UNSEEN
from sws_compress.pipelines.segment_coding import bytes_in_words, coded_at, curve_from, curve_of
from sws_compress.pipelines.segment_inputs import met_in
from sws_compress.pipelines.segment_runs import Plan
from sws_compress.pipelines.work import Work
from sws_compress.pipelines.work_folder import WorkFolder
from sws_compress.quantize.palette import Palette

PASSES = 4
"""Units of work of a weight: its inputs are taken, it is assigned, which counts twice, and both networks pass it."""

CHECKED_FEEDS = 4
"""Sets of inputs that tell whether a layer follows its inputs, at most."""


class Assignment:
    """The assignment of all weights of a model at one price per bit.

    Parameters
    ----------
    plan : Plan
        The model.
    feeds : sequence of mapping of str to ndarray
        Inputs that it is run on: moments are made of some, and the error is measured on others.
    overrides : Overrides
        Weights that stay as they are, or are rounded alone.
    folder : WorkFolder
        Where finished segments lie. Its state has the price, what each weight gets at it, and how far the work is.
    work : Work
        Told what is done: some units for each weight.
    job : Job
        Seed of the positions that are taken, and the size from which a weight is coded alone.

    Attributes
    ----------
    unmet : list of str
        Weights whose inputs were not seen.
    bytes_in_words : float
        What the weights that are coded alone take in the file.
    curves : dict
        What bits buy in each weight; those of an earlier assignment stay as they are.
    """

    def __init__(
        self,
        plan: Plan,
        feeds: Sequence[Feeds],
        overrides: Overrides,
        folder: WorkFolder,
        work: Work,
        job: Job,
    ) -> None:
        kept, held_out = divided(range(len(feeds)))
        self._plan, self._kept, self._held_out = plan, frozenset(kept), tuple(held_out)
        self._overrides, self._folder, self._work, self._seed = overrides, folder, work, job.seed
        self._original = ActivationStore(folder, "original", feeds)
        self._assigned = ActivationStore(folder, "assigned", feeds)
        self._errors = OutputErrors(len(plan.scores))
        self._elements = plan.size([name for segment in plan.segments for name in segment.weights])
        self._alone_elements = job.limits.alone_elements
        self.unmet: list[str] = []
        self.bytes_in_words = 0.0
        self.curves: dict[str, dict[str, Any]] = {}

    def finish(self) -> None:
        """Assign all weights that are not assigned yet."""
        state, segments = self._folder.state, self._plan.segments
        done = int(state["segments"])
        self.unmet, self.curves = list(state["unmet"]), dict(state["curves"])
        self.bytes_in_words = float(state["bytes_in_words"])
        self._errors.changes[:], self._errors.energies[:] = state["changes"], state["energies"]
        for segment in segments[:done]:
            self._work.did(PASSES * self._plan.size(segment.weights))
        for number, segment in enumerate(segments[done:], done):
            self._assign(segment, first=not number)
            self._pass(segment)
            self._plan.free(segment)
            self._folder.save_state(
                **self._folder.state
                | {
                    "segments": number + 1,
                    "unmet": self.unmet,
                    "curves": self.curves,
                    "bytes_in_words": self.bytes_in_words,
                    "changes": self._errors.changes.tolist(),
                    "energies": self._errors.energies.tolist(),
                }
            )
            for store in (self._original, self._assigned):
                store.drop(segment.last)

    def _assign(self, segment: Segment, *, first: bool) -> None:
        """Assign the weights of a segment, and keep them."""
        chosen = [name for name in segment.weights if name not in self._overrides.kept]
        self._work.doing("collecting inputs of layers")
        stores = [self._original] if first else [self._original, self._assigned]  # nothing has changed before the first
        met = met_in(self._plan, segment, stores, self._kept, self._held_out[:CHECKED_FEEDS], self._seed)
        self._work.did(self._plan.size(segment.weights))
        self.unmet += [name for name in chosen if name not in met and name not in self._overrides.requests]
        for name in chosen:
            self._work.doing(f"assigning {name}")
            request = self._overrides.requests.get(name)
            if request is not None:
                weight = self._plan.loaded(name).weight
                found = rounded_alone(
                    self._plan.model, weight, request, elements=self._elements, seed=self._seed
                ).palette
                reason = Reason()
            else:
                found, reason = self._coded(name, met.pop(name, None))
            keep_palette(self._folder, name, found, reason)
            if found.indices.size >= self._alone_elements:
                self.bytes_in_words += bytes_in_words(found)
            self._work.did(2 * self._plan.size([name]))

    def _coded(self, name: str, met: Met | None) -> tuple[Palette, Reason]:
        """The palette of a weight at the price."""
        place, price = self._plan.loaded(name), float(self._folder.state["price"])
        layer = place.layer(None) if met is None else met.layer(place)
        how = UNSEEN if met is None else SEEN
        del met  # its moments are as large as the layer's own
        gain = float(self._folder.state["gains"][name])
        if name not in self.curves:
            self.curves[name] = asdict(curve_of(layer, self._alone_elements))
        rate = curve_from(self.curves[name]).at(gain, price)
        coded = coded_at(layer, gain, price, rate.entries)
        level = gain / layer.energy if layer.energy > 0 else gain
        return place.palette(coded), Reason(how, coded.step, level, gain * rate.error)

    def _pass(self, segment: Segment) -> None:
        """Run a segment in both networks, and compare what comes out of the network in it."""
        names = [name for name in segment.read if name not in self._overrides.kept]
        passed = self._plan.advance(segment, [self._original], {}, self._held_out)
        expected = {feed: scores for _, feed, scores in passed}
        weights = {name: self.palette(name).expand() for name in names}
        for _, feed, scores in self._plan.advance(segment, [self._assigned], weights, self._held_out):
            for name, values in scores.items():
                self._errors.add(self._plan.scores.index(name), expected[feed][name], values)
        self._work.did(self._plan.size(segment.weights))

    def palette(self, name: str) -> Palette:
        """The palette of a weight that is assigned."""
        return kept_palette(self._folder, name)[0]

    @property
    def reasons(self) -> dict[str, Reason]:
        """Why the weights have their bits."""
        chosen = (name for name in self._plan.places if name not in self._overrides.kept)
        return {name: kept_palette(self._folder, name)[1] for name in chosen}

    @property
    def error(self) -> float:
        """Squared relative error of the outputs on inputs that were held out."""
        return self._errors.mean
