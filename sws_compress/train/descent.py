"""The way down to a size: steady, slower where the network suffers, and again from one that works if it breaks down."""

from __future__ import annotations

import math
from typing import Any

from sws_compress.train.collapse import GREATEST_LOSS_SHARE
from sws_compress.train.saved_state import check_number
from sws_compress.train.schedule import Schedule

ARRIVES_AT = 0.75
"""Share of what is left of the hard stage in which a way that begins again gets to its size."""

LEAST_TIME_LEFT = 0.1
"""Share of the run in which the way closes what is left of it by a factor of e, once its time is over."""

LEAST_STEPS_LEFT = 3
"""Shares of e, at least, in which it closes what is left before assignments are frozen."""

GREATEST_LAG = 0.06
"""Share of the run by which weights may lag behind the way before it waits for them. Beyond that the price of a bit
would go on rising, and the weights would fall far below their aim when they answer."""

LEAST_LAG_NATS = 0.2
"""Lag that they may have in any case, in the logarithm of bits: it is what moves the price in a short run."""

LAGGING_SHARE = 0.75
"""Share of that lag beyond which weights are taken down at once."""

GREATEST_LEAD = 1.1
"""Factor of the coded bits above which there is no aim on the way down: bits that mergers of components have saved are
not to come back, and the price would have to rise again from where it fell meanwhile."""

FLOOR_NEARNESS = 1.1
"""Factor of a floor within which a network that hardly suffers takes the floor away."""

GREATEST_SPEED = 8.0
"""Greatest speed of the way, in the logarithm of bits per run: the hard stage leaves time for a factor of 500. A size
that cannot be reached would otherwise be rushed at, past smaller networks that work (``python -m benchmarks.training
tutorial_mlp --ratios 50``: 2,487 bytes at 94 % of validation, where the run to 20 times had 2,588 at 98 %)."""

UNKNOWN_FACTOR = 1.5
"""Factor of the size of a broken network at which the way ends if no size that works is known."""


class Descent:
    """Coded bits to aim for as a run goes on.

    Parameters
    ----------
    schedule : Schedule
        When the way begins and ends, at first.

    Attributes
    ----------
    aim_bits : float
        Coded bits to aim for now; 0 before the hard stage.
    share_lost : float
        What the network lost of what it knew, when last measured (``Collapse.share_lost``).
    restarts : int
        How often the way began again.
    floor_bits : float
        Coded bits that the run does not go below for now; 0 until the second restart.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self.aim_bits = self.share_lost = self.floor_bits = 0.0
        self.restarts = 0
        self._at, self._arrives_at = schedule.soft_until, schedule.target_at

    def advance(self, progress: float, coded_bits: float, final_bits: float) -> None:
        """Go on to ``progress``, with weights of ``coded_bits`` now, on a geometric path to ``final_bits``.

        The more the network has lost, the slower. What is not covered in time is left for later, so a way that had to
        wait becomes steeper, and one whose end turns out to be larger goes up as smoothly as down.
        """
        final_bits = max(final_bits, self.floor_bits)
        if self.aim_bits == 0:
            self.aim_bits = max(coded_bits, final_bits)
        passed, self._at = max(progress - self._at, 0.0), progress
        freezing = max(self._schedule.tune_from - progress, passed) / LEAST_STEPS_LEFT
        left = max(self._arrives_at - progress, min(LEAST_TIME_LEFT, freezing))
        speed = math.log(self.aim_bits / final_bits) / left
        if speed > 0:
            speed = min(speed, GREATEST_SPEED) * max(1 - self.share_lost / GREATEST_LOSS_SHARE, 0.0)
            least = coded_bits * math.exp(-max(speed * GREATEST_LAG, LEAST_LAG_NATS))
            aim = max(self.aim_bits * math.exp(-speed * passed), min(least, self.aim_bits))
            self.aim_bits = max(min(aim, GREATEST_LEAD * coded_bits), final_bits)
        else:
            self.aim_bits *= math.exp(-speed * min(passed, left))

    def lags(self, coded_bits: float) -> bool:
        """Whether weights of ``coded_bits`` are too far behind for a price that rises slowly."""
        return math.log(coded_bits / self.aim_bits) > LAGGING_SHARE * LEAST_LAG_NATS

    def note(self, share_lost: float, coded_bits: float) -> None:
        """Take note of what the network has lost with ``coded_bits``.

        One that is broken is not to become smaller. One that has lost less than half of that, close to the floor, shows
        that the floor is too high: training has gone on since.
        """
        self.share_lost = share_lost
        if share_lost > GREATEST_LOSS_SHARE:
            self.aim_bits = max(self.aim_bits, coded_bits)
        elif share_lost < GREATEST_LOSS_SHARE / 2 and coded_bits < FLOOR_NEARNESS * self.floor_bits:
            self.floor_bits = 0.0

    def restart(self, progress: float, working_bits: float | None, broken_bits: float) -> None:
        """Begin again from a network of ``working_bits``, as one of ``broken_bits`` did not work.

        The first time the way only becomes slower. From the second time on, it ends halfway between the two, in
        logarithms; at `UNKNOWN_FACTOR` of the smaller if the one that worked was not coded yet (None).
        """
        self.restarts += 1
        self._at = progress
        self._arrives_at = progress + ARRIVES_AT * max(self._schedule.tune_from - progress, 0.0)
        self.aim_bits = 0.0 if working_bits is None else working_bits
        if self.restarts > 1:
            working_bits = UNKNOWN_FACTOR**2 * broken_bits if working_bits is None else working_bits
            between = math.sqrt(working_bits * min(broken_bits, working_bits))
            self.floor_bits = max(self.floor_bits, between)

    def state_dict(self) -> dict[str, float]:
        """State as numbers."""
        return {
            "aim_bits": self.aim_bits,
            "share_lost": self.share_lost,
            "restarts": self.restarts,
            "floor_bits": self.floor_bits,
            "at": self._at,
            "arrives_at": self._arrives_at,
        }

    def check_saved(self, saved: dict[str, Any]) -> None:
        """Raise an error unless ``saved`` is what `state_dict` returns."""
        check_number("restarts", saved["restarts"], whole=True, least=0)
        for name in ("aim_bits", "share_lost", "floor_bits", "at", "arrives_at"):
            check_number(name, saved[name], least=0)

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.aim_bits, self.share_lost = saved["aim_bits"], saved["share_lost"]
        self.restarts, self.floor_bits = saved["restarts"], saved["floor_bits"]
        self._at, self._arrives_at = saved["at"], saved["arrives_at"]
