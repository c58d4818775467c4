"""Files that a run has measured, and the size to try next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_FIXED_SHARE = 0.6
"""Least share of one guess of the bits to aim for that the other may be. Far from its end a file has many bytes that
go with its weights, and the lower guess would be nothing."""

LEAST_BRACKET_SHARE = 0.1
"""Least distance of a try from one that was too small or too large, as a share of what lies between the two. So the
bracket shrinks even where sizes jump."""


@dataclass(frozen=True)
class Measured:
    """A measured file: its coded bits, its bytes, and the price of a bit at which its weights were assigned."""

    coded_bits: float
    file_bytes: int
    bit_price: float

    @property
    def other_bytes(self) -> float:
        """Bytes of the file beyond the coded bits."""
        return self.file_bytes - self.coded_bits / 8

    def bits_at(self, wanted_bytes: int, least_bytes: int) -> float:
        """Coded bits at which the file would have ``wanted_bytes``, as far as one file and the smallest one tell.

        A line from the smallest file, whose weights are all zero, guesses too high: what is not coded falls less than
        in proportion. That it stays as it is guesses too low. Midway between the two, in logarithms, was within 12 % of
        what was needed in the end when the file was 1.2 to 1.4 times too large (``python -m benchmarks.training
        residual_cnn mixer unet tutorial_mlp --ratios 20``).
        """
        least = min(least_bytes, wanted_bytes)
        line = self.coded_bits * (wanted_bytes - least) / max(self.file_bytes - least, 1)
        fixed = 8 * (wanted_bytes - self.other_bytes)
        return math.sqrt(line * max(min(fixed, line / LEAST_FIXED_SHARE), LEAST_FIXED_SHARE * line))

    def error(self, target_bytes: int) -> float:
        """Distance from ``target_bytes``, as a share of them."""
        return abs(self.file_bytes - target_bytes) / target_bytes


def bits_between(tried: Sequence[Measured], target_bytes: int) -> float | None:
    """Coded bits of the target, interpolated from the closest files below and above it; None if there are not both."""
    below = [one for one in tried if one.file_bytes < target_bytes]
    above = [one for one in tried if one.file_bytes > target_bytes]
    if not below or not above:
        return None
    low, high = max(below, key=lambda one: one.file_bytes), min(above, key=lambda one: one.file_bytes)
    share = (target_bytes - low.file_bytes) / (high.file_bytes - low.file_bytes)
    share = min(max(share, LEAST_BRACKET_SHARE), 1 - LEAST_BRACKET_SHARE)
    return low.coded_bits + share * (high.coded_bits - low.coded_bits)
