"""What errors in each weight do to the outputs, for a model that is run segment by segment.

The network runs on a few inputs beside variants of it with noise in one weight each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sws_compress.calibrate.layers import LEAST_ENERGY, RELATIVE, TRIAL_NOISE
from sws_compress.onnx_io.analyse.segments import Segment
from sws_compress.ort.activations import Feeds, OutputErrors
from sws_compress.ort.session import Array
from sws_compress.pipelines.activation_store import ActivationStore
from sws_compress.pipelines.met import multiplied, samples
from sws_compress.pipelines.places import Place
from sws_compress.pipelines.segment_runs import Plan
from sws_compress.pipelines.work import Work
from sws_compress.pipelines.work_folder import WorkFolder

SHRINKAGE = 0.1
"""Share of the mean in the mean square of each input: those that do not occur in so few samples are not impossible."""

MOST_TRIALS = 128
"""Variants with noise in one weight; of more weights, neighbours have it together."""


class Pilot:
    """Runs of a few inputs.

    Parameters
    ----------
    plan : Plan
        The network.
    chosen : sequence of str
        The weights that are tried.
    feeds : sequence of mapping of str to ndarray
        A few sets of inputs: every weight takes a run.
    folder : WorkFolder
        For values between segments.
    work : Work
        Told what is done: a unit for each weight.
    seed : int
        Seed of the noise.
    """

    def __init__(
        self,
        plan: Plan,
        chosen: Sequence[str],
        feeds: Sequence[Feeds],
        folder: WorkFolder,
        work: Work,
        seed: int,
    ) -> None:
        self._plan, self._folder, self._work, self._seed = plan, folder, work, seed
        parts = np.array_split(np.arange(len(chosen)), min(MOST_TRIALS, len(chosen)))
        self._groups = [[chosen[number] for number in part] for part in parts]
        self._original = ActivationStore(folder, "pilot", feeds, lasting=False)
        self._noisy: dict[int, ActivationStore] = {}
        self._errors = [OutputErrors(len(plan.scores)) for _ in self._groups]

    def gains(self) -> dict[str, float]:
        """Squared relative error of the outputs per unit of that of each weight's own outputs, by name."""
        for segment in self._plan.segments:
            self._work.doing(f"measuring {next(iter(segment.weights), 'the last part')}")
            self._pass(segment)
            for store in (self._original, *self._noisy.values()):
                store.drop(segment.last)
            self._plan.free(segment)
            self._work.did(self._plan.size(segment.weights))
        return {
            name: errors.mean / TRIAL_NOISE / len(names)
            for names, errors in zip(self._groups, self._errors, strict=True)
            for name in names
        }

    def _pass(self, segment: Segment) -> None:
        """Run a segment in the network and in its variants, and compare what comes out of the network in it."""
        plan, feeds = self._plan, range(len(self._original.feeds))
        groups = [[name for name in segment.weights if name in group] for group in self._groups]
        met = _inputs(plan, segment, self._original, self._seed)
        calm = [number for number in self._noisy if not groups[number]]
        expected: dict[int, dict[str, Array]] = {}
        stores = [self._original, *(self._noisy[number] for number in calm)]
        for place, feed, scores in plan.advance(segment, stores, {}, feeds):
            if place:
                self._count(calm[place - 1], expected[feed], scores)
            else:
                expected[feed] = scores
        for number, names in enumerate(groups):
            if names:
                seeds = [(self._seed, number, place) for place in range(len(names))]
                weights = map(_with_noise, map(plan.loaded, names), map(met.get, names), seeds)
                store = ActivationStore(
                    self._folder, f"pilot {number}", self._original.feeds, lasting=False, before=self._original
                )
                store = self._noisy.setdefault(number, store)
                for _, feed, scores in plan.advance(segment, [store], dict(zip(names, weights, strict=True)), feeds):
                    self._count(number, expected[feed], scores)

    def _count(self, number: int, expected: Mapping[str, Array], found: Mapping[str, Array]) -> None:
        for name, values in found.items():
            self._errors[number].add(self._plan.scores.index(name), expected[name], values)


def _inputs(plan: Plan, segment: Segment, store: ActivationStore, seed: int) -> dict[str, Array]:
    """Samples of what the weights of a segment multiply, (n, groups, d), by name; without those that met nothing."""
    met: dict[str, list[Array]] = {}
    together = plan.meetings(segment)
    values = multiplied(together)
    feeds = range(len(store.feeds) if values else 0)
    for feed, found in zip(feeds, plan.run(segment, values, [store], feeds, {}) if values else (), strict=True):
        for number, meeting in enumerate(together):
            drawn = samples(meeting.products, found, (seed, feed, number))
            for name in meeting.names:
                met.setdefault(name, []).extend(each for each in drawn if each is not None)
    return {name: np.concatenate(found) for name, found in met.items() if found}


def _energies(rows: Array, inputs: Array | None) -> Array:
    """Mean energy of each output, shape (groups, n)."""
    if inputs is None:
        energies: Array = np.square(rows).sum(axis=2)
        return energies
    columns = np.moveaxis(inputs, 0, 2).astype(rows.dtype)
    found: Array = np.square(rows @ columns).mean(axis=2)
    return found


def _squares(rows: Array, inputs: Array | None) -> Array:
    """Mean square of each input, shape (groups, d)."""
    if inputs is None:
        return np.ones((len(rows), rows.shape[2]))
    squares = np.square(inputs, dtype=np.float64).mean(axis=0)
    level = squares.mean(axis=1, keepdims=True)
    drawn = (1 - SHRINKAGE) * squares + SHRINKAGE * np.where(level > 0, level, 1.0)
    return np.broadcast_to(drawn, (len(rows), rows.shape[2]))


def _with_noise(place: Place, inputs: Array | None, seed: Sequence[int]) -> Array:
    """The weight with noise that makes an error of `TRIAL_NOISE` in its outputs, relative to their energy."""
    rows = place.layout.rows(place.weight.values).astype(np.float32)
    scaled = inputs is not None and place.layout.output_axis(place.weight.shape) is not None
    energies = _energies(rows, inputs)
    least = LEAST_ENERGY * max(energies.mean(), np.finfo(np.float32).tiny)
    costs = np.maximum(energies, least) ** -RELATIVE if scaled else np.ones(energies.shape, np.float32)
    made = rows.shape[1] * _squares(rows, inputs).sum()  # by noise of variance 1 / cost
    variance = TRIAL_NOISE * (costs * energies).sum() / made if made > 0 else 0.0
    noise = np.random.default_rng(seed).random(rows.shape, np.float32)
    noise -= np.float32(0.5)
    noise *= np.sqrt(12 * variance / costs)[..., None].astype(np.float32)
    noise += rows
    return place.layout.weight(noise, place.weight.shape).astype(place.weight.values.dtype)
