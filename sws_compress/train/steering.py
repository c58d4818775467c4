"""How a run finds the size it was asked for: bytes of the file, or a drop of the caller's metric."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from sws_compress.errors import ArgumentError, TrainingError
from sws_compress.train.allowance import SEARCH_ENDS_AT, Allowance
from sws_compress.train.best_network import BestNetworks, Kept, Rating, check_rating
from sws_compress.train.descent import Descent
from sws_compress.train.file_sizes import Measured
from sws_compress.train.measures import Measures
from sws_compress.train.prior import SoftWeightSharing
from sws_compress.train.saved_state import check_number
from sws_compress.train.schedule import Schedule, Stage
from sws_compress.train.settling import BYTES_TOLERANCE, settle_allowance, settle_bytes, settle_collapse
from sws_compress.train.targets import DEFAULT_CODED_RATIO, FLOAT_BITS, AssignedWeights, SteeringTarget

MEASURED_AT = (0.0, 0.08, 0.16, 0.24, 0.32, 0.4, 0.48, 0.56, 0.64, 0.7, 0.76, 0.82, 0.88, 0.94, 0.98)
"""Shares of the hard stage at which the file is written out and measured, which may take a second. What a file has
besides its order-0 bits changes while it shrinks, and a jump at the end could not be trained away."""

CAUGHT_UP_SHARE = 0.95
"""Share of their coded bits that weights which lag behind their aim keep after an EM step. Where bits hardly answer to
the price, it would rise for most of a short run before they do."""

LEAST_BITS_SHARE = 0.05
"""Share of the present coded bits: the least to aim for at once. Below it a file is all codebook and graph."""


class Steering:
    """Measures a run, and tells its prior how many coded bits to aim for: it is a ``SizeTarget``.

    Parameters
    ----------
    target : SteeringTarget or None
        What the run is steered to; None if it follows a price of a bit. With None or ``coded_ratio`` the run is
        measured, but not steered.
    model : torch.nn.Module
        The network that is trained.
    elements : int
        Number of compressed weights.
    schedule : Schedule
        When the stages begin.
    measures : Measures
        How file and metric are measured.
    share_lost : callable, optional
        How much of what the network knew is lost now (``Collapse.share_lost``).

    Attributes
    ----------
    metric : float or None
        The caller's metric as last measured.
    final_bits : float
        Coded bits that the run should end at, as far as is known now.
    descent : Descent
        The way to them.
    curve : list of (int, float)
        Bytes and metric after every epoch from the hard stage on.
    allowance_used : float or None
        Share of ``metric_drop`` or ``loss_share`` that the network of the end uses; None before, or without either.

    Raises
    ------
    ArgumentError
        If the target cannot be measured.
    """

    def __init__(
        self,
        target: SteeringTarget | None,
        model: nn.Module,
        elements: int,
        schedule: Schedule,
        measures: Measures,
        share_lost: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._share_lost = share_lost
        self._sense = measures.sense
        validate_file = measures.validate_file or measures.validate
        validate_float = measures.validate_float or measures.validate
        self._allowance = Allowance(target, validate_float, validate_file, share_lost, measures.sense)
        self._target_bytes = None if target is None else target.file_bytes
        if self._target_bytes is not None and measures.file_bytes is None:
            raise ArgumentError("file_bytes must come with a measure of the file, got none: pass Measures(file_bytes=)")
        coded_ratio = None if target is None else target.coded_ratio
        self._coded_bits = 0.0 if coded_ratio is None else FLOAT_BITS * elements / float(coded_ratio)
        self._schedule = schedule
        self._file_bytes, self._validate = measures.file_bytes, measures.validate
        self._least_bytes = measures.least_bytes
        if self._target_bytes is None:
            self.final_bits = FLOAT_BITS * elements / DEFAULT_CODED_RATIO  # until the metric was measured
        else:
            self.final_bits = 8.0 * self._target_bytes  # until a measurement tells what else is in the file
        self._held_bits: float | None = None
        self._measurements = 0
        self._last: Measured | None = None
        self.metric: float | None = None
        self.descent = Descent(schedule)
        self._networks = BestNetworks(model, by_size=self._allowance.given)
        self._last_rating: Rating | None = None
        self.curve: list[tuple[int, float]] = []
        self.allowance_used: float | None = None

    @property
    def steers(self) -> bool:
        """Whether the run is to ask for the bits to aim at."""
        return self._target_bytes is not None or self._allowance.given

    # -- what the prior asks ---------------------------------------------------------------------------------------

    def bits(self, progress: float, first_bits: float) -> float:
        """Coded bits to aim for: what the last metric allows, else the way to ``final_bits``."""
        if self._held_bits is not None:
            return self._held_bits
        if progress >= 1:
            return max(self.final_bits, self.descent.floor_bits)
        return self.descent.aim_bits or first_bits

    def settle(self, weights: AssignedWeights) -> None:
        """Assign the weights for the last time, at the price of a bit whose file is closest to the bytes asked for.

        If the network does not work there, it gets the fewest bits with which it does.
        """
        self._measurements = len(MEASURED_AT) + 1
        self.settle_at_end(weights)
        if self._file_bytes is not None:
            self._settle_bytes(weights, self._file_bytes)
        working_bits = None if self._last_rating is None else self._last_rating.coded_bits
        if not self._allowance.given and settle_collapse(weights, working_bits, self._share_lost):
            self.descent.floor_bits = weights.coded_bits

    def settle_at_end(self, weights: AssignedWeights | None) -> None:
        """Use what is left of the allowance; after codebook tuning, which has won some of it back, once more."""
        if weights is not None and self._allowance.given:
            before = None if self._last_rating is None else self._last_rating.coded_bits
            settle_allowance(weights, self._allowance.used_now, before)

    def _settle_bytes(self, weights: AssignedWeights, file_bytes: Callable[[], int]) -> None:
        def measure() -> Measured:
            return self._measure(file_bytes, weights.coded_bits, weights.bit_price)

        first = measure()
        if self._target_bytes is not None and self.descent.floor_bits <= self.final_bits:
            self._last = settle_bytes(weights, self._target_bytes, measure, first, lambda: self.final_bits)

    # -- what the loop calls ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Measure the metric of the float network, if an allowance counts from it."""
        self._allowance.start()

    def refuse_unmeasured(self, loss_tells: bool) -> None:
        """Raise ArgumentError if there is an allowance of the loss, and the loss does not tell what is lost."""
        if self._allowance.loss_share is not None and not loss_tells:
            raise ArgumentError(
                "ratio, target_bytes or evaluate must be given for this network, got none: its loss does not tell what "
                "it knows, because outputs are not one tensor, or hardly better than constant ones"
            )

    def after_step(self, prior: SoftWeightSharing) -> None:
        """Measure the file when it is time."""
        bits, price = prior.coded_bits, prior.bit_price
        if bits is not None and self._target_bytes is not None and not prior.tuning:
            self.descent.advance(prior.progress, bits, self.final_bits)
            if prior.steps % self._schedule.hard_every == 0 and self.descent.lags(bits):
                prior.assign_bits(CAUGHT_UP_SHARE * bits)
        if self._file_bytes is None or bits is None or price is None:
            return
        begin, end = self._schedule.soft_until, self._schedule.tune_from
        due = sum(begin + share * (end - begin) <= prior.progress for share in MEASURED_AT) + prior.tuning
        if due > self._measurements:
            self._measurements = due
            self._measure(self._file_bytes, bits, price)

    def _measure(self, file_bytes: Callable[[], int], coded_bits: float, bit_price: float) -> Measured:
        """Measure the file of the present weights; if bytes are asked for, correct the bits to aim for."""
        found = Measured(coded_bits, file_bytes(), bit_price)
        if self._target_bytes is not None:
            self.final_bits = max(found.bits_at(self._target_bytes, self._least_bytes), LEAST_BITS_SHARE * coded_bits)
        self._last = found
        return found

    def projected_bytes(self, coded_bits: float | None) -> int | None:
        """Bytes of the file that weights of ``coded_bits`` would make; None before a file was measured."""
        return None if coded_bits is None or self._last is None else round(self._last.other_bytes + coded_bits / 8)

    def after_epoch(self, prior: SoftWeightSharing, epochs: int, share_lost: float) -> None:
        """Measure the metric of the snapped network, and keep the network if it is a good one.

        With ``metric_drop``, decide the size of the next epoch.

        Parameters
        ----------
        prior : SoftWeightSharing
            The run.
        epochs : int
            Its length.
        share_lost : float
            See ``Collapse.share_lost``.
        """
        bits = prior.coded_bits
        if bits is None:
            return
        if self._allowance.metric_drop is not None and prior.progress >= SEARCH_ENDS_AT:
            self.metric = self._allowance.measured()[0]
        elif self._validate is not None:
            self.metric = float(self._validate())
        self.descent.note(share_lost, bits)
        lost = share_lost
        fits = self._fits(bits, share_lost)
        if self._allowance.metric_drop is not None and fits:
            share_lost = 0.0  # whatever the loss tells
        self._last_rating = Rating(bits, share_lost, self._signed(self.metric), fits)
        self._networks.offer(self._last_rating)
        projected = self.projected_bytes(bits)
        if self.metric is not None and projected is not None and math.isfinite(self.metric):
            self.curve.append((projected, self.metric))
        if self._allowance.given and prior.stage is Stage.HARD:
            used = self._allowance.used(self.metric, lost)
            held = self._allowance.next_bits(bits, used, self._schedule, prior.progress, epochs)
            self._held_bits = max(held, self.descent.floor_bits)

    def keeps_metric(self) -> bool:
        """Whether the metric, measured now, falls by no more than ``metric_drop``; False without one."""
        return self._allowance.metric_drop is not None and self._allowance.used_now() <= 1

    def _fits(self, coded_bits: float, share_lost: float) -> bool:
        """Whether the network, as it was measured, is what was asked for."""
        if self._allowance.given:
            return self._allowance.used(self.metric, share_lost) <= 1
        if self._target_bytes is None:
            return coded_bits <= (1 + BYTES_TOLERANCE) * self._coded_bits
        projected = self.projected_bytes(coded_bits)
        return projected is not None and projected <= (1 + BYTES_TOLERANCE) * self._target_bytes

    def after_collapse(self, prior: SoftWeightSharing, broken_bits: float) -> None:
        """Begin again from the network that ``prior`` went back to, after one of ``broken_bits`` did not work."""
        self.descent.restart(prior.progress, prior.coded_bits, broken_bits)
        if self._held_bits is not None and prior.coded_bits is not None:
            self._held_bits = max(prior.coded_bits, self.descent.floor_bits)

    def ending(self, coded_bits: float) -> Kept | None:
        """The network to end with, if it is not the last one, which has ``coded_bits``.

        Raises
        ------
        TrainingError
            If no network of the run works.
        """
        last = self._last_rating
        if last is None:
            return None
        if self._allowance.given:
            last = self._measured_again(replace(last, coded_bits=coded_bits))
        kept = self._networks.instead_of(last)
        if kept is None and not last.works:
            raise TrainingError(
                "a network must still work at the end of a run, got outputs little better than constant ones at all "
                "sizes: lower learning_rate, train for more epochs, or ask for a larger file"
            )
        if kept is not None:
            self.metric = self._signed(kept.rating.metric)
        return kept

    def confirms(self, kept: Kept) -> bool:
        """Whether a network that was kept, and is back now, uses no more than the allowance, or than the last one."""
        if not self._allowance.given:
            return True
        metric, used = self.metric, self.allowance_used
        again = self._measured_again(kept.rating)
        if again.fits or used is None or self._allowance.used(self._signed(again.metric), again.share_lost) <= used:
            return True
        self.metric, self.allowance_used = metric, used
        return False

    def _measured_again(self, rating: Rating) -> Rating:
        """The rating of the network as its file will hold it."""
        metric, share_lost = self._allowance.measured()
        self.metric = self.metric if metric is None else metric
        self.allowance_used = self._allowance.used(metric, share_lost)
        if self._allowance.loss_share is not None:
            rating = replace(rating, share_lost=share_lost)
        return replace(rating, metric=self._signed(metric), fits=self.allowance_used <= 1)

    def _signed(self, metric: float | None) -> float | None:
        """A metric so that more is better, and back."""
        return None if metric is None else self._sense.signed(metric)

    # -- state -----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """State as tensors, numbers, lists and dicts."""
        return {
            "final_bits": self.final_bits,
            "held_bits": self._held_bits,
            "measurements": self._measurements,
            "last": None if self._last is None else vars(self._last),
            "metric": self.metric,
            "metric_before": self._allowance.metric_before,
            "descent": self.descent.state_dict(),
            "networks": self._networks.state_dict(),
            "last_rating": None if self._last_rating is None else vars(self._last_rating),
            "curve": list(self.curve),
        }

    def check_saved(self, saved: dict[str, Any]) -> None:
        """Raise an error unless ``saved`` is what `state_dict` returns for this network."""
        check_number("coded bits", saved["final_bits"], least=0)
        check_number("measurements", saved["measurements"], whole=True, least=0)
        for name in ("held_bits", "metric", "metric_before"):
            if saved[name] is not None:
                check_number(name, saved[name])
        if saved["last"] is not None:
            for name, value in vars(Measured(**saved["last"])).items():
                check_number(name, value)
        self.descent.check_saved(saved["descent"])
        self._networks.check_saved(saved["networks"])
        if saved["last_rating"] is not None:
            check_rating(saved["last_rating"])
        for file_bytes, metric in saved["curve"]:
            check_number("bytes of a file", file_bytes, whole=True, least=0)
            check_number("metric", metric)

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from `state_dict`, which `check_saved` has found to be one."""
        self.final_bits, self._held_bits = saved["final_bits"], saved["held_bits"]
        self._measurements = saved["measurements"]
        self._last = None if saved["last"] is None else Measured(**saved["last"])
        self.metric, self._allowance.metric_before = saved["metric"], saved["metric_before"]
        self.descent.load_state_dict(saved["descent"])
        self._networks.load_state_dict(saved["networks"])
        self._last_rating = None if saved["last_rating"] is None else Rating(**saved["last_rating"])
        self.curve = [(file_bytes, metric) for file_bytes, metric in saved["curve"]]
