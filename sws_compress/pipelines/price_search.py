"""The search for the price per bit that meets the goal of a calibrated file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from sws_compress.calibrate.bit_allocation import Sample, levels, price_for
from sws_compress.calibrate.layers import Layer
from sws_compress.calibrate.rate_curves import quality_of
from sws_compress.calibrate.re_solve import re_solved
from sws_compress.errors import DataError, ModelError
from sws_compress.messages import shown
from sws_compress.onnx_io.write.replaced import with_values
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.activations import Feeds, Trials
from sws_compress.ort.compare import outputs_in_runtime
from sws_compress.ort.session import Array
from sws_compress.packing.pack import find_palettes
from sws_compress.pipelines.calibration_inputs import divided
from sws_compress.pipelines.calibration_layers import Assigned, Collector
from sws_compress.pipelines.decided import Reason
from sws_compress.pipelines.drop_search import Try, drop_note, smallest_within
from sws_compress.pipelines.file_metric import finite
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.mean_outputs import kept_where_they_help, with_means_kept
from sws_compress.pipelines.metrics import measured, metric_before, refuse_wrong_sense
from sws_compress.pipelines.places import Place
from sws_compress.pipelines.publish import packed_as
from sws_compress.pipelines.source import Source
from sws_compress.pipelines.work import Work
from sws_compress.pipelines.write_back import written_back
from sws_compress.quantize.palette import Palette
from sws_compress.report.result import MeasuredSize

SAMPLE_FEEDS = 4
"""Those of them that the effect of one layer is measured on: the noise that it is tried with is one draw anyway."""

SEARCHED_SHARE = 0.8
"""Share of the progress that packing and checking do not have."""

MOST_ROUNDS = 6
"""Times that all weights are assigned, to meet a goal."""

BYTES_PER_LOG_PRICE = 1 / (16 * math.log(2))
"""Bytes that a weight loses at high rate when the price grows by a factor of e: half a bit per factor of 2."""

SIZE_TOLERANCE = 0.01
"""A size is met if the file is so much smaller or larger."""

FARTHEST = 3.0
"""Most that the logarithm of the price changes at a time."""

QUALITY_TOLERANCE = 0.5
"""A quality is met within so many decibels."""

SEEN, UNSEEN = "inputs of its layer", "its values and a trial: inputs not seen"
COUNTED = "how often its rows are looked up"
"""What decides about weights."""

MOST_ROUNDS_IN_TURN = 3
"""Times that weights are assigned one layer after the other, which runs the network several times."""

EXPECTED_PASSES = 4, 1
"""Passes over all layers at once, and in turn, that are expected, for the time that is left."""

DROP_QUALITIES = (25.0, 60.0, 3.0)
"""Decibels at which the search for a drop starts, and at which it ends on either side."""


Excess: TypeAlias = Callable[[Assigned], float]


@dataclass(frozen=True, eq=False)
class _Tried:
    """Weights assigned at a price, and by how much they exceed the goal."""

    price: float
    missed: float
    assigned: Assigned


class PriceSearch:
    """Prices per bit, until the goal is met.

    Parameters
    ----------
    source : Source
        The model, in memory.
    places : mapping of str to Place
        Its weights, by name.
    alone : mapping of str to Palette
        Further weights, which no price changes.
    feeds : sequence of mapping of str to ndarray
        The calibration inputs.
    quality : float
        The goal, in decibels, unless ``job`` has a size.
    job : Job
        Everything else.

    Attributes
    ----------
    notes : tuple of str
        How far the goal was missed.
    work : Work
        What is done and what is to come.
    score_error : float
        Relative error of what is read out at the outputs, on inputs that were held out.
    idle : set of str
        Weights that did nothing to the outputs on these inputs.
    """

    def __init__(
        self,
        source: Source,
        places: Mapping[str, Place],
        alone: Mapping[str, Palette],
        feeds: Sequence[Feeds],
        quality: float,
        job: Job,
    ) -> None:
        self._alone = alone
        self._source, self._places, self._quality, self._job = source, places, quality, job
        kept, held_out = divided(feeds)
        self.work = Work(job.on_progress, SEARCHED_SHARE)
        self._collector = Collector(source.model, places, kept, seed=job.seed, work=self.work)
        biases = {place.bias.name for place in places.values() if place.bias is not None}
        self._trials = Trials(source.model, (*places, *alone, *biases), held_out)
        self.notes: tuple[str, ...] = ()
        self.curve: tuple[MeasuredSize, ...] = ()
        self.score_error = math.nan
        self.idle: set[str] = set()
        self._latest: tuple[float, Assigned] | None = None

    @property
    def unmet(self) -> set[str]:
        """Weights whose inputs were not seen."""
        return self._collector.unmet

    def assigned(self) -> Assigned:
        """The weights that meet the goal."""
        passes, turns = EXPECTED_PASSES
        self._collector.expect(passes, turns if len(self._collector.plan.segments) > 1 else 0)
        found = kept_where_they_help(self._found(), self._trials.error)
        self.score_error = math.sqrt(self._trials.error(found.values))
        return found

    def _found(self) -> Assigned:
        samples = {
            name: self._sample(name, layer, i) for i, (name, layer) in enumerate(self._collector.layers("measuring"))
        }
        self.idle = {name for name, sample in samples.items() if sample.idle}
        own = dict(zip(samples, levels(tuple(samples.values())), strict=True))
        goal = self._job.goal
        if goal is None:
            return self._by_quality(samples, own)
        if goal.max_drop is not None:
            return self._by_metric(samples, own, goal.max_drop)
        wanted = goal.target_bytes or self._source.dense_bytes / (goal.ratio or 1)
        return self._by_size(samples, own, wanted)

    def _sample(self, name: str, layer: Layer, seed: int) -> Sample:
        changes = layer.trial(seed)
        place = self._places[name]
        tried = {name: place.changed(changes)} | with_means_kept(
            self._source.model, place, layer, layer.rows + changes, {}
        )
        found, energy = self._trials.error(tried, most_feeds=SAMPLE_FEEDS), layer.error(changes)
        return Sample.of(layer, found / energy if energy > 0 else 0.0, seed)

    def _by_size(self, samples: Mapping[str, Sample], own: Mapping[str, float], wanted: float) -> Assigned:
        """Correct the price by the bytes that the file turns out to have."""
        rest_bytes = self._file_bytes(Assigned({**self._alone, **self._nothing}, {}, {}))
        price = price_for(tuple(samples.values()), 8 * max(wanted - rest_bytes, wanted / 10))
        slope = -BYTES_PER_LOG_PRICE * sum(sample.count for sample in samples.values()) / wanted

        bytes_per_bit: float | None = None  # of the entropy of the weights, in the first file

        def excess(assigned: Assigned) -> float:
            return math.log(self._file_bytes(assigned) / wanted)

        def about(assigned: Assigned) -> float:
            nonlocal bytes_per_bit
            bits = sum(assigned.palettes[name].entropy_bits * place.weight.size for name, place in self._places.items())
            if bytes_per_bit is None:
                bytes_per_bit = (self._file_bytes(assigned) - rest_bytes) / max(bits, 1)
            return math.log(max(rest_bytes + bytes_per_bit * bits, 1) / wanted)

        missed, assigned = self._met(own, price, excess, SIZE_TOLERANCE, slope, about)
        if abs(missed) > 2 * SIZE_TOLERANCE:
            word = "larger" if missed > 0 else "smaller"
            self.notes = (f"file is {abs(math.expm1(missed)):.0%} {word} than the {wanted:.0f} bytes asked for",)
        return assigned

    def _file_bytes(self, assigned: Assigned) -> int:
        return len(self._file(with_values(self._source.model, assigned.values), assigned.palettes))

    def _file(self, model: ir.Model, palettes: Mapping[str, Palette]) -> bytes:
        self.work.doing("packing")
        return packed_as(self._job.file, model, {**find_palettes(model, besides=palettes), **palettes}).data

    def _by_metric(self, samples: Mapping[str, Sample], own: Mapping[str, float], max_drop: float) -> Assigned:
        """Find the smallest file that keeps the caller's metric."""
        before = metric_before(self._source, self._job)
        assert before is not None
        constant = self._constant_metric()
        if constant is not None:
            refuse_wrong_sense(before, constant, self._job.sense)
        total = sum(sample.count for sample in samples.values())
        start, finest, coarsest = (math.log(10 ** (-quality / 10) / total) for quality in DROP_QUALITIES)

        curve: list[MeasuredSize] = []

        def measure(log_price: float) -> Try[Assigned]:
            assigned = self._assigned(own, math.exp(log_price))
            file_bytes, after = self.measured(assigned)
            curve.append(MeasuredSize(file_bytes, after))
            return Try(log_price, file_bytes, self._job.sense.drop(before, after), assigned)

        found = smallest_within(max_drop, measure, start, finest, coarsest)
        self.curve = tuple(sorted(curve, key=lambda size: -size.file_bytes))
        self.notes = (drop_note(found, max_drop, self._job.sense),)
        return found.best.made

    def _constant_metric(self) -> float | None:
        """The caller's metric of a file whose weights are all zero; None if there is none."""
        try:
            return self.measured(Assigned({**self._alone, **self._nothing}, {}, {}))[1]
        except DataError:  # where zeros are divided by
            return None

    @property
    def _nothing(self) -> dict[str, Palette]:
        """Zeros in the places of all weights."""
        return {name: _zeros_like(place.weight.values) for name, place in self._places.items()}

    def measured(self, assigned: Assigned) -> tuple[int, float]:
        """Bytes of the file with these weights, and the caller's metric of it."""
        values = assigned.values
        model = with_values(self._source.model, values)
        data = self._file(model, assigned.palettes)
        self.work.doing("evaluating")
        if self._job.file_metric is not None:
            return len(data), self._job.file_metric.of(data)
        module, evaluate, feeds = self._source.module, self._job.evaluate, self._source.feeds
        assert module is not None
        assert evaluate is not None
        assert feeds is not None
        copy = written_back(self._source, module, values, outputs_in_runtime(to_bytes(model), feeds))
        if copy.missing:
            raise ModelError(
                f"max_drop must be measured on all weights, got {shown(copy.missing[0])}, which the module computes: "
                "export the module, and compress the file with a metric of files"
            )
        return len(data), finite(measured(copy.network, evaluate))

    def _by_quality(self, samples: Mapping[str, Sample], own: Mapping[str, float]) -> Assigned:
        """Correct the price by the error that it turns out to make, which grows about in proportion."""
        total = sum(sample.count for sample in samples.values())
        price = 10 ** (-self._quality / 10) / total  # every weight costs about its share of the error

        def excess(assigned: Assigned) -> float:
            return quality_of(self._trials.error(assigned.values)) - self._quality

        missed, assigned = self._met(own, price, excess, QUALITY_TOLERANCE, -10 / math.log(10))
        if abs(missed) > 2 * QUALITY_TOLERANCE:
            self.notes = (f"quality is {self._quality + missed:.1f} dB, asked for {self._quality:g}",)
        return assigned

    def _met(
        self,
        own: Mapping[str, float],
        price: float,
        excess: Excess,
        tolerance: float,
        slope: float,
        about: Excess | None = None,
    ) -> tuple[float, Assigned]:
        """Weights whose excess over the goal, which falls with the price, is least in size; and that excess.

        ``about`` is an estimate of it that takes less time.
        """
        rough = _nearest(lambda price: self._at_once(own, price), price, about or excess, tolerance, slope, MOST_ROUNDS)
        found = _nearest(
            lambda price: self._assigned(own, price), rough.price, excess, tolerance, slope, MOST_ROUNDS_IN_TURN
        )
        if abs(found.missed) <= max(2 * tolerance, abs(rough.missed)):
            return found.missed, found.assigned
        return excess(rough.assigned), rough.assigned

    def _assigned(self, own: Mapping[str, float], price: float) -> Assigned:
        """All weights, at once or in turn: what comes closer on inputs that neither has seen."""
        at_once = self._at_once(own, price)
        if len(self._collector.plan.segments) == 1:
            return at_once
        found = at_once, self._in_turn(own, price)
        return min(found, key=lambda each: self._trials.error(each.values))

    def _at_once(self, own: Mapping[str, float], price: float) -> Assigned:
        """Every weight with the inputs that it meets in the user's network."""
        if self._latest is not None and self._latest[0] == price:
            return self._latest[1]
        found = Assigned(dict(self._alone), {}, {})
        for name, layer in self._collector.layers("assigning"):
            self._assign(name, layer.at_level(own[name]), price, found)
        self._latest = price, found
        return found

    def _in_turn(self, own: Mapping[str, float], price: float) -> Assigned:
        """Every weight with the inputs that it meets once those before it are assigned."""
        found = Assigned(dict(self._alone), {}, {})
        for name, layer in self._collector.in_turn(found.values_of):
            self._assign(name, layer.at_level(own[name]), price, found)
        return found

    def _assign(self, name: str, layer: Layer, price: float, found: Assigned) -> None:
        place = self._places[name]
        coded = re_solved(layer, layer.coded(price))
        found.palettes[name] = place.palette(coded)
        rows = place.layout.rows(found.palettes[name].expand()).astype(np.float64)
        changes = rows - layer.rows
        found.biases.update(with_means_kept(self._source.model, place, layer, rows, found.biases))
        how = UNSEEN if name in self.unmet else COUNTED if place.counted else SEEN
        found.reasons[name] = Reason(how, coded.step, layer.level, layer.level * layer.error(changes))


def _nearest(
    assign: Callable[[float], Assigned], price: float, excess: Excess, tolerance: float, slope: float, rounds: int
) -> _Tried:
    """The try whose excess over the goal, which falls with the price, is least in size."""
    tried: list[tuple[float, float]] = []
    best: _Tried | None = None
    for _ in range(rounds):
        assigned = assign(price)
        missed = excess(assigned)
        if best is None or abs(missed) < abs(best.missed):
            best = _Tried(price, missed, assigned)
        if abs(missed) <= tolerance:
            break
        tried.append((math.log(price), missed))
        price = math.exp(_root(tried, slope))
    assert best is not None
    return best


def _zeros_like(values: Array) -> Palette:
    """The palette of a weight of zeros, which takes next to no bytes."""
    return Palette(np.zeros(1, values.dtype), np.zeros(values.size, np.uint8), values.shape)


def _root(tried: Sequence[tuple[float, float]], slope: float) -> float:
    """The next place to try for the zero of a falling function.

    Parameters
    ----------
    tried : sequence of (x, y)
        Values of the function, the latest last.
    slope : float
        What its slope is taken to be as long as all values have the same sign and no two differ.
    """
    x, y = tried[-1]
    above = [point for point in tried if point[1] > 0]
    below = [point for point in tried if point[1] <= 0]
    if above and below:
        (left, high), (right, low) = max(above), min(below)
        return left + (right - left) * high / (high - low)
    if len(tried) > 1 and (x - tried[-2][0]) * (y - tried[-2][1]) < 0:
        slope = (y - tried[-2][1]) / (x - tried[-2][0])
    return x - min(max(y / slope, -FARTHEST), FARTHEST)
