"""What errors in each weight do to the outputs, and the price per bit, for a model that is assigned once.

The network runs on a few inputs, segment by segment, beside variants of it with noise in their weights: first in one
weight each, which tells its gain, then in all of them, as much as coding at some price makes. Errors of many layers do
not add up in a way that is known beforehand: how those of the outputs depend on the price tells the one at which a
quality is met.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from sws_compress.calibrate.bit_allocation import Sample, levels
from sws_compress.calibrate.layers import LEAST_ENERGY, RELATIVE, TRIAL_NOISE
from sws_compress.onnx_io.analyse.segments import Segment
from sws_compress.ort.activations import Feeds, OutputErrors
from sws_compress.ort.session import Array
from sws_compress.pipelines.activation_store import ActivationStore
from sws_compress.pipelines.met import samples
from sws_compress.pipelines.places import Place
from sws_compress.pipelines.segment_runs import Plan
from sws_compress.pipelines.work import Work
from sws_compress.pipelines.work_folder import WorkFolder

PRICES = (1.0, 1 / 8)
"""Prices that are tried, in units of the one that is right where the errors of layers add up."""

LEAST_ERROR = 1e-15
"""Squared relative errors count as at least this: it is that of float32."""

FLATTEST, STEEPEST = 0.5, 2.0
"""Least and greatest slope of the logarithm of the error over that of the price that is believed."""

MOST_TRIALS = 128
"""Variants with noise in one weight; of more weights, neighbours have it together."""

Shares = Mapping[str, float]
"""Noise of weights by name: energy of the error of their outputs over that of the outputs."""


class Pilot:
    """Runs of a few inputs.

    Parameters
    ----------
    plan : Plan
        The network.
    chosen : sequence of str
        The weights that are to be assigned at one price.
    feeds : sequence of mapping of str to ndarray
        A few sets of inputs.
    folder : WorkFolder
        For values between segments.
    work : Work
        Told what is done: a unit for each weight and run.
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
        self._plan, self._chosen, self._feeds = plan, chosen, feeds
        self._folder, self._work, self._seed = folder, work, seed

    def gains(self) -> dict[str, float]:
        """What a relative error of each weight's outputs is taken to do to the outputs of the network, by name."""
        parts = np.array_split(np.arange(len(self._chosen)), min(MOST_TRIALS, len(self._chosen)))
        groups = [[self._chosen[number] for number in part] for part in parts]
        errors = self._errors([dict.fromkeys(names, TRIAL_NOISE) for names in groups], "measuring")
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
        variants = [
            {name: share_of_error(self._plan.size([name]), price, gains[name]) for name in self._chosen}
            for price in prices
        ]
        return _met(wanted, prices, self._errors(variants, "trying the price of a bit in"))

    def _errors(self, variants: Sequence[Shares], doing: str) -> list[float]:
        """Squared relative error of the outputs of each variant."""
        plan, numbers = self._plan, range(len(self._feeds))
        original = ActivationStore(self._folder, "pilot", self._feeds, lasting=False)
        stores: dict[int, ActivationStore] = {}
        totals = [OutputErrors(len(plan.scores)) for _ in variants]
        for segment in plan.segments:
            own = [name for name in segment.weights if name in self._chosen]
            self._work.doing(f"{doing} {own[0] if own else 'the last part'}")
            met = _inputs(plan, segment, original, self._seed)
            expected = dict(plan.advance(segment, original, {}, numbers))
            for number, shares in enumerate(variants):
                noisy = [name for name in own if name in shares]
                if noisy and number not in stores:
                    stores[number] = ActivationStore(
                        self._folder, f"pilot {number}", self._feeds, lasting=False, before=original
                    )
                if number not in stores:
                    continue
                weights = {
                    name: _noisy(plan.loaded(name), met.get(name), shares[name], (self._seed, number, place))
                    for place, name in enumerate(noisy)
                }
                for feed, scores in plan.advance(segment, stores[number], weights, numbers):
                    for name, values in scores.items():
                        totals[number].add(plan.scores.index(name), expected[feed][name], values)
            for store in (original, *stores.values()):
                store.drop(segment.last)
            plan.free(segment)
            self._work.did(plan.size(segment.weights))
        return [total.mean for total in totals]


def share_of_error(size: int, price: float, gain: float) -> float:
    """Squared relative error of the outputs of a layer of so many weights that is coded at a price (Gish & Pierce)."""
    return min(size * price / (2 * math.log(2) * gain), 1.0)


def _inputs(plan: Plan, segment: Segment, store: ActivationStore, seed: int) -> dict[str, Array]:
    """Samples of what the weights of a segment multiply, (n, groups, d), by name; without those that met nothing."""
    met: dict[str, list[Array]] = {}
    together = plan.meetings(segment)
    values = sorted({product.value for each in together for product in each.products})
    feeds = range(len(store.feeds) if values else 0)
    for feed, found in zip(feeds, plan.run(segment, values, store, feeds, {}) if values else (), strict=True):
        for number, meeting in enumerate(together):
            drawn = samples(meeting.products, found, (seed, feed, number))
            for name in meeting.names:
                met.setdefault(name, []).extend(each for each in drawn if each is not None)
    return {name: np.concatenate(found) for name, found in met.items() if found}


def _noisy(place: Place, inputs: Array | None, share: float, seed: Sequence[int]) -> Array:
    """The weight with noise that makes so much error in its outputs, relative to their energy."""
    rows = place.layout.rows(place.weight.values).astype(np.float32)
    scaled = inputs is not None and place.layout.output_axis(place.weight.shape) is not None
    if inputs is None:
        energies, squares = np.square(rows).sum(axis=2), np.full(len(rows), rows.shape[2])
    else:
        by_group = np.moveaxis(inputs, 1, 0).astype(np.float32)
        energies = np.square(rows @ np.swapaxes(by_group, 1, 2)).mean(axis=2)
        squares = np.broadcast_to(np.square(by_group).sum(axis=2).mean(axis=1), (len(rows),))
    least = LEAST_ENERGY * max(energies.mean(), np.finfo(np.float32).tiny)
    costs = np.maximum(energies, least) ** -RELATIVE if scaled else np.ones(energies.shape, np.float32)
    made = rows.shape[1] * squares.sum()  # by noise of variance 1 / cost
    variance = share * (costs * energies).sum() / made if made > 0 else 0.0
    noise = np.random.default_rng(seed).random(rows.shape, np.float32)
    noise -= np.float32(0.5)
    noise *= np.sqrt(12 * variance / costs)[..., None].astype(np.float32)
    noise += rows
    return place.layout.weight(noise, place.weight.shape).astype(place.weight.values.dtype)


def _met(wanted: float, prices: Sequence[float], errors: Sequence[float]) -> float:
    """The price at which an error is expected that is a power of it."""
    (high, low), (above, below) = prices, (max(error, LEAST_ERROR) for error in errors)
    slope = math.log(above / below) / math.log(high / low)
    slope = min(max(slope, FLATTEST), STEEPEST)
    nearest = high if abs(math.log(above / wanted)) < abs(math.log(below / wanted)) else low
    error = above if nearest == high else below
    return nearest * math.exp(math.log(wanted / error) / slope)
