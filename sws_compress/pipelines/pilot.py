"""What errors in each weight do to the outputs, and the price per bit, for a model that is assigned once.

The network runs on a few inputs, segment by segment, beside variants of it: first with noise in one weight each, which
tells its gain, then with all weights coded at some price, each for itself. Coding with error feedback makes about the
same error at a price, for fewer bits. Errors of many layers do not add up in a way that is known beforehand: how those
of the outputs depend on the price tells the one at which a quality is met.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from sws_compress.calibrate.bit_allocation import Sample, levels
from sws_compress.calibrate.layers import LEAST_ENERGY, RELATIVE, TRIAL_NOISE, Layer
from sws_compress.onnx_io.analyse.segments import Segment
from sws_compress.ort.activations import Feeds, OutputErrors
from sws_compress.ort.session import Array
from sws_compress.pipelines.activation_store import ActivationStore
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.met import multiplied, samples
from sws_compress.pipelines.places import Place
from sws_compress.pipelines.price_search import LEAST_ERROR
from sws_compress.pipelines.segment_coding import coded_at
from sws_compress.pipelines.segment_runs import Plan
from sws_compress.pipelines.work import Work
from sws_compress.pipelines.work_folder import WorkFolder

PRICES = (1.0, 1 / 8, 1 / 64)
"""Prices that are tried, in units of the one that is right where the errors of layers add up."""

FLATTEST, STEEPEST = 0.5, 2.0
"""Least and greatest slope of the logarithm of the error over that of the price that is believed beyond those tried."""

SHRINKAGE = 0.1
"""Share of the mean in the mean square of each input: those that do not occur in so few samples are not impossible."""

MOST_TRIALS = 128
"""Variants with noise in one weight; of more weights, neighbours have it together."""

Change = Callable[[Place, "Array | None", int], Array]
"""Makes other values of a weight, given its place, samples of its inputs and its number in the segment."""


class Pilot:
    """Runs of a few inputs.

    Parameters
    ----------
    plan : Plan
        The network.
    chosen : sequence of str
        The weights that are to be assigned at one price.
    few, some : sequence of mapping of str to ndarray
        Sets of inputs for the gains, which take a run for each weight, and for the price.
    folder : WorkFolder
        For values between segments.
    work : Work
        Told what is done: a unit for each weight and run.
    job : Job
        Seed of the noise, and the size from which weights are coded alone.
    """

    def __init__(
        self,
        plan: Plan,
        chosen: Sequence[str],
        few: Sequence[Feeds],
        some: Sequence[Feeds],
        folder: WorkFolder,
        work: Work,
        job: Job,
    ) -> None:
        self._plan, self._chosen, self._few, self._some = plan, chosen, few, some
        self._folder, self._work, self._job = folder, work, job

    def gains(self) -> dict[str, float]:
        """What a relative error of each weight's outputs is taken to do to the outputs of the network, by name."""
        parts = np.array_split(np.arange(len(self._chosen)), min(MOST_TRIALS, len(self._chosen)))
        groups = [[self._chosen[number] for number in part] for part in parts]
        noisy = partial(_noisy, seed=self._job.seed)
        variants: list[dict[str, Change]] = [dict.fromkeys(names, noisy) for names in groups]
        errors = self._errors(variants, self._few, "measuring")
        own = {
            name: error / TRIAL_NOISE / len(names)
            for names, error in zip(groups, errors, strict=True)
            for name in names
        }
        trials = [Sample(np.empty(0), 1, 1.0, 1.0, own[name]) for name in self._chosen]
        return dict(zip(self._chosen, levels(trials), strict=True))

    def price(self, gains: Mapping[str, float], quality: float) -> float:
        """The price at which the outputs keep a quality, in decibels, where gains weigh the errors of all weights."""
        wanted = 10 ** (-quality / 10)
        start = 2 * math.log(2) * wanted / self._plan.size(self._chosen)
        prices = [price * start for price in PRICES]
        alone = self._job.limits.alone_elements
        variants: list[dict[str, Change]] = [
            {name: partial(_rounded, gain=gains[name], price=price, alone_elements=alone) for name in self._chosen}
            for price in prices
        ]
        return _met(wanted, prices, self._errors(variants, self._some, "trying the price of a bit in"))

    def _errors(self, variants: Sequence[Mapping[str, Change]], feeds: Sequence[Feeds], doing: str) -> list[float]:
        """Squared relative error of the outputs of each variant."""
        plan = self._plan
        original = self._store(feeds, "pilot")
        stores: dict[int, ActivationStore] = {}
        totals = [OutputErrors(len(plan.scores)) for _ in variants]
        for segment in plan.segments:
            own = [name for name in segment.weights if name in self._chosen]
            self._work.doing(f"{doing} {own[0] if own else 'the last part'}")
            met = _inputs(plan, segment, original, self._job.seed)
            noisy = {number: names for number, each in enumerate(variants) if (names := [n for n in own if n in each])}
            calm = [number for number in stores if number not in noisy]
            expected: dict[int, dict[str, Array]] = {}
            for place, feed, scores in self._passed(segment, [original, *(stores[number] for number in calm)], {}):
                if place:
                    self._count(totals[calm[place - 1]], expected[feed], scores)
                else:
                    expected[feed] = scores
            for number, names in noisy.items():
                if number not in stores:
                    stores[number] = self._store(feeds, f"pilot {number}", original)
                weights = {
                    name: variants[number][name](plan.loaded(name), met.get(name), place)
                    for place, name in enumerate(names)
                }
                for _, feed, scores in self._passed(segment, [stores[number]], weights):
                    self._count(totals[number], expected[feed], scores)
            for store in (original, *stores.values()):
                store.drop(segment.last)
            plan.free(segment)
            self._work.did(plan.size(segment.weights))
        return [total.mean for total in totals]

    def _store(self, feeds: Sequence[Feeds], network: str, before: ActivationStore | None = None) -> ActivationStore:
        return ActivationStore(self._folder, network, feeds, lasting=False, before=before)

    def _passed(
        self, segment: Segment, stores: Sequence[ActivationStore], weights: Mapping[str, Array]
    ) -> Iterator[tuple[int, int, dict[str, Array]]]:
        return self._plan.advance(segment, stores, weights, range(len(stores[0].feeds)))

    def _count(self, total: OutputErrors, expected: Mapping[str, Array], found: Mapping[str, Array]) -> None:
        for name, values in found.items():
            total.add(self._plan.scores.index(name), expected[name], values)


def share_of_error(size: int, price: float, gain: float) -> float:
    """Squared relative error of the outputs of a layer of so many weights that is coded at a price (Gish & Pierce)."""
    return min(size * price / (2 * math.log(2) * gain), 1.0)


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


def _noisy(place: Place, inputs: Array | None, number: int, *, seed: int) -> Array:
    """The weight with noise that makes an error of `TRIAL_NOISE` in its outputs, relative to their energy."""
    rows = place.layout.rows(place.weight.values).astype(np.float32)
    scaled = inputs is not None and place.layout.output_axis(place.weight.shape) is not None
    energies = _energies(rows, inputs)
    least = LEAST_ENERGY * max(energies.mean(), np.finfo(np.float32).tiny)
    costs = np.maximum(energies, least) ** -RELATIVE if scaled else np.ones(energies.shape, np.float32)
    made = rows.shape[1] * _squares(rows, inputs).sum()  # by noise of variance 1 / cost
    variance = TRIAL_NOISE * (costs * energies).sum() / made if made > 0 else 0.0
    noise = np.random.default_rng([seed, number]).random(rows.shape, np.float32)
    noise -= np.float32(0.5)
    noise *= np.sqrt(12 * variance / costs)[..., None].astype(np.float32)
    noise += rows
    return place.layout.weight(noise, place.weight.shape).astype(place.weight.values.dtype)


def _rounded(
    place: Place, inputs: Array | None, number: int, *, gain: float, price: float, alone_elements: int
) -> Array:
    """The weight coded at a price, each element for itself."""
    rows = place.layout.rows(place.weight.values).astype(np.float64)
    scaled = inputs is not None and place.layout.output_axis(place.weight.shape) is not None
    layer = Layer(rows, _squares(rows, inputs), scaled=scaled)
    energy = float((layer.costs * _energies(rows, inputs)).sum())
    coded = coded_at(layer, gain / energy if energy > 0 else gain, price, alone_elements)
    return place.palette(coded).expand()


def _met(wanted: float, prices: Sequence[float], errors: Sequence[float]) -> float:
    """The price, on lines between the logarithms of prices and errors, at which an error is expected.

    Parameters
    ----------
    wanted : float
        The error.
    prices : sequence of float
        Descending.
    errors : sequence of float
        At these prices.
    """
    logs = [(math.log(price), math.log(max(error, LEAST_ERROR))) for price, error in zip(prices, errors, strict=True)]
    goal = math.log(wanted)
    pairs = list(pairwise(logs))
    (high, above), (low, below) = next((pair for pair in pairs if pair[1][1] <= goal), pairs[-1])
    slope = max((above - below) / (high - low), FLATTEST)
    if not below <= goal <= above:
        slope = min(slope, STEEPEST)
    start, error = (high, above) if abs(above - goal) < abs(below - goal) else (low, below)
    return math.exp(start + (goal - error) / slope)
