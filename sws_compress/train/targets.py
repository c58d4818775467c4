"""What a run aims for: the caller's goal as a number that training can measure, and the coded bits that follow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from sws_compress.errors import ArgumentError
from sws_compress.train.schedule import Schedule

FLOAT_BITS = 32
"""Bits of an uncompressed weight, which ratios count from."""

DEFAULT_CODED_RATIO = 20.0
"""Coded ratio that a run aims for if nothing else is asked for."""

USUAL_LOSS_SHARE = 0.01
"""Share of what the network knows that may be lost where there is neither a goal nor a metric. On three small networks
(a perceptron, a CNN with batch norms, a GRU) it cost 1.0 to 1.3 points of accuracy on validation data."""


@dataclass(frozen=True, kw_only=True)
class SteeringTarget:
    """The one quantity that a run is steered to: exactly one of the four is given.

    Parameters
    ----------
    file_bytes : int, optional
        Bytes of the whole file.
    metric_drop : float, optional
        How much worse the metric may become than that of the float network.
    loss_share : float, optional
        Share of what the network knows that may be lost on the training data: of the way from the loss of the float
        network to that of constant outputs.
    coded_ratio : float, optional
        32 bits per compressed weight over the coded bits; it needs no measure of file or metric.

    Raises
    ------
    ArgumentError
        If not exactly one is given, or it is out of range.

    Examples
    --------
    >>> SteeringTarget(file_bytes=5600).file_bytes
    5600
    """

    file_bytes: int | None = None
    metric_drop: float | None = None
    loss_share: float | None = None
    coded_ratio: float | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None}
        if len(given) != 1:
            names = ", ".join(given) or "none"
            raise ArgumentError(f"a run must be steered to one of {', '.join(vars(self))}, got {names}: give one")
        ((name, value),) = given.items()
        least = 1 if name == "coded_ratio" else 0
        if not least < value or (value == math.inf and name != "coded_ratio"):
            raise ArgumentError(f"{name} must be > {least}, got {value}: ask for more")


class AssignedWeights(Protocol):
    """Weights with components, of which a target may choose the price: ``SnappedWeights``."""

    @property
    def coded_bits(self) -> float:
        """Coded bits at the last assignment."""

    @property
    def bit_price(self) -> float:
        """Price of a bit at the last assignment."""

    def assign_bits(self, coded_bits: float) -> None:
        """Assign the weights so that they take ``coded_bits``."""

    def assign_at(self, bit_price: float) -> None:
        """Assign the weights at a price of a bit."""


class SizeTarget(Protocol):
    """Tells the hard stage how many coded bits to aim for."""

    @property
    def final_bits(self) -> float:
        """Coded bits that the run should end at, as far as is known now."""

    def bits(self, progress: float, first_bits: float) -> float:
        """Coded bits to aim for now.

        Parameters
        ----------
        progress : float
            Share of the run that is done, 0..1; 1.0 asks for the end of the run.
        first_bits : float
            Coded bits that the hard stage started from.
        """

    def settle(self, weights: AssignedWeights) -> None:
        """Correct the last assignment of the weights, after the first step of codebook tuning."""


@dataclass(frozen=True)
class FixedSize:
    """A number of coded bits that is known from the start; the schedule says how fast to get there.

    Parameters
    ----------
    final_bits : float
        Coded bits at the end of the run.
    schedule : Schedule
        When the path to them begins and ends (``soft_until``, ``target_at``).

    Examples
    --------
    >>> target = FixedSize(100.0, Schedule(soft_until=0.2, target_at=0.6))
    >>> [round(target.bits(progress, first_bits=1600.0)) for progress in (0.2, 0.4, 0.6, 1.0)]
    [1600, 400, 100, 100]
    """

    final_bits: float
    schedule: Schedule

    def bits(self, progress: float, first_bits: float) -> float:
        """Coded bits on a geometric path from ``first_bits`` to ``final_bits``."""
        return self.schedule.target_bits(progress, first_bits, self.final_bits)

    def settle(self, weights: AssignedWeights) -> None:
        """Nothing: coded bits need no measurement."""
