"""The way down to a size: along the schedule, and slower from a network that works after one that does not."""

from __future__ import annotations

import math
from typing import Any

from sws_compress.train.saved_state import check_number
from sws_compress.train.schedule import Schedule

ARRIVES_AT = 0.75
"""Share of what is left of the hard stage in which a way that begins again gets to its size."""

UNKNOWN_FACTOR = 1.5
"""Factor of the size of a broken network at which the way ends if no size that works is known."""


class Descent:
    """Coded bits to aim for as a run goes on.

    Parameters
    ----------
    schedule : Schedule
        The first way.

    Attributes
    ----------
    restarts : int
        How often the way began again.
    floor_bits : float
        Coded bits that the run does not go below any more; 0 until the second restart.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self.restarts = 0
        self.floor_bits = 0.0
        self._begun_at, self._begun_bits = 0.0, 0.0

    def bits(self, progress: float, first_bits: float, final_bits: float) -> float:
        """Coded bits to aim for at ``progress``; ``first_bits`` are those at the start of the hard stage."""
        final_bits = max(final_bits, self.floor_bits)
        if self._begun_bits == 0:
            return max(self._schedule.target_bits(progress, first_bits, final_bits), self.floor_bits)
        end = self._begun_at + ARRIVES_AT * (self._schedule.tune_from - self._begun_at)
        share = min(max((progress - self._begun_at) / max(end - self._begun_at, 1e-9), 0.0), 1.0)
        first = max(first_bits if self._begun_bits == math.inf else self._begun_bits, final_bits)
        return float(first ** (1 - share) * final_bits**share)

    def restart(self, progress: float, working_bits: float | None, broken_bits: float) -> None:
        """Begin again from a network of ``working_bits``, as one of ``broken_bits`` did not work.

        The first time the way only becomes slower. From the second time on, it ends halfway between the two, in
        logarithms; at `UNKNOWN_FACTOR` of the smaller if the one that worked was not coded yet (None).
        """
        self.restarts += 1
        self._begun_at, self._begun_bits = progress, math.inf if working_bits is None else working_bits
        if self.restarts > 1:
            working_bits = UNKNOWN_FACTOR**2 * broken_bits if working_bits is None else working_bits
            between = math.sqrt(working_bits * min(broken_bits, working_bits))
            self.floor_bits = max(self.floor_bits, between)

    def state_dict(self) -> dict[str, float]:
        """State as numbers."""
        return {
            "restarts": self.restarts,
            "floor_bits": self.floor_bits,
            "begun_at": self._begun_at,
            "begun_bits": self._begun_bits,
        }

    def check_saved(self, saved: dict[str, Any]) -> None:
        """Raise an error unless ``saved`` is what `state_dict` returns."""
        check_number("restarts", saved["restarts"], whole=True, least=0)
        for name in ("floor_bits", "begun_at", "begun_bits"):
            check_number(name, saved[name], least=0)

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.restarts, self.floor_bits = saved["restarts"], saved["floor_bits"]
        self._begun_at, self._begun_bits = saved["begun_at"], saved["begun_bits"]
