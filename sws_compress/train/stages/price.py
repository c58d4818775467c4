"""How the price of a bit moves through the hard stage: along a ramp, or as a size target demands."""

from __future__ import annotations

import math
from typing import Any, Protocol

from sws_compress.train.schedule import Schedule
from sws_compress.train.stages.snapped import GREATEST_BIT_PRICE, LEAST_BIT_PRICE, SnappedWeights
from sws_compress.train.targets import SizeTarget

FEEDBACK_GAIN = 0.3
"""d log(price) per d log(bits) and EM step; the measured bits answer within a few EM steps."""

GREATEST_PRICE_STEP_NATS = 0.3
"""Greatest change of log(price) in one EM step."""

FIRST_BITS_SHARE = 0.9
"""Share of the first coded bits that the first price is set to reach: with more bits they hardly answer to the price.
"""

LEAST_STEP_SHARE = 0.88
"""Share of the coded bits that an EM step leaves at least. Zeros make zeros cheaper, so a price that was right a
moment ago may empty whole layers at once; training must have time to make up for what it loses."""


class PriceControl(Protocol):
    """Decides at which price of a bit the weights are assigned, from the start of the hard stage on."""

    def begin(self, weights: SnappedWeights) -> None:
        """Set the first price; the weights have just been assigned for the first time."""

    def before_em_step(self, weights: SnappedWeights, progress: float) -> None:
        """Set the price of the EM step that follows."""

    def after_em_step(self, weights: SnappedWeights, progress: float) -> None:
        """Correct the price for the EM steps to come."""

    def before_tuning(self, weights: SnappedWeights) -> None:
        """Assign the weights for the last time: no EM step follows."""

    def settle(self, weights: SnappedWeights) -> None:
        """Correct the last assignment, after the first step of codebook tuning."""

    def state_dict(self) -> dict[str, Any]:
        """State as numbers."""

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from `state_dict`."""


class PriceRamp:
    """Price that rises geometrically to ``bit_price``, whatever size comes out.

    Parameters
    ----------
    bit_price : float
        Price at the end of the ramp, in mean sensitivity-weighted squared weights per bit.
    schedule : Schedule
        When the ramp begins and ends (``soft_until``, ``target_at``).
    """

    def __init__(self, bit_price: float, schedule: Schedule) -> None:
        self.bit_price, self._schedule = bit_price, schedule

    def begin(self, weights: SnappedWeights) -> None:
        """Nothing: every EM step sets its own price."""

    def before_em_step(self, weights: SnappedWeights, progress: float) -> None:
        """Set the price on the ramp."""
        weights.bit_price = self._schedule.bit_price(progress, LEAST_BIT_PRICE, self.bit_price)

    def after_em_step(self, weights: SnappedWeights, progress: float) -> None:
        """Nothing."""

    def before_tuning(self, weights: SnappedWeights) -> None:
        """Assign at the final price, where EM steps were too few to get there."""
        if weights.bit_price != self.bit_price:
            weights.assign_at(self.bit_price)

    def settle(self, weights: SnappedWeights) -> None:
        """Nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Nothing to restore."""


class SizeFeedback:
    """Price that follows a size target: it rises while the weights take more bits than the target asks for.

    Parameters
    ----------
    target : SizeTarget
        Asked for the coded bits to aim for at every EM step.
    """

    def __init__(self, target: SizeTarget) -> None:
        self.target = target
        self.first_bits = math.inf
        self._bits_before = 0.0

    def begin(self, weights: SnappedWeights) -> None:
        """Jump to the price from which bits answer to the price."""
        final_bits = self.target.final_bits
        self.first_bits = max(weights.coded_bits, final_bits)
        weights.assign_bits(max(FIRST_BITS_SHARE * self.first_bits, final_bits))

    def before_em_step(self, weights: SnappedWeights, progress: float) -> None:
        """Nothing: the price was set after the EM step before."""
        self._bits_before = weights.coded_bits

    def after_em_step(self, weights: SnappedWeights, progress: float) -> None:
        """Move the price towards the one at which the weights take the bits of the target."""
        least = LEAST_STEP_SHARE * self._bits_before
        if weights.coded_bits < least:
            price = weights.bit_price
            weights.assign_bits(least)
            if weights.coded_bits < least:  # components were merged: at no price do they come back
                weights.assign_at(price)
        follow(weights, self.target.bits(progress, self.first_bits))

    def before_tuning(self, weights: SnappedWeights) -> None:
        """Assign the weights so that they take the bits of the target."""
        weights.assign_bits(self.target.bits(1.0, self.first_bits))

    def settle(self, weights: SnappedWeights) -> None:
        """Let the target correct the assignment by what it measures."""
        self.target.settle(weights)

    def state_dict(self) -> dict[str, Any]:
        """The bits that the path to the target starts from."""
        return {"first_bits": self.first_bits}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.first_bits = saved["first_bits"]


def follow(weights: SnappedWeights, target_bits: float) -> None:
    """Move the price by a share of the error in the logarithm of the coded bits."""
    error = math.log(weights.coded_bits / target_bits)
    step = min(max(FEEDBACK_GAIN * error, -GREATEST_PRICE_STEP_NATS), GREATEST_PRICE_STEP_NATS)
    weights.bit_price *= math.exp(step)
    weights.bit_price = min(max(weights.bit_price, LEAST_BIT_PRICE), GREATEST_BIT_PRICE)
