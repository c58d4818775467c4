"""The last assignment of the weights: sizes are tried without training, until bytes or what is lost are as wanted."""

from __future__ import annotations

import math
from collections.abc import Callable

from sws_compress.train.collapse import GREATEST_LOSS_SHARE
from sws_compress.train.file_sizes import Measured, bits_between
from sws_compress.train.targets import AssignedWeights

SETTLING_MEASUREMENTS = 8
"""Measurements after assignments are frozen. Each corrects them, until the file is within `BYTES_TOLERANCE`."""

BYTES_TOLERANCE = 0.005
"""Error of a file, as a share of the bytes asked for, that needs no correction."""

ALLOWANCE_TRIES = 7
"""Sizes whose loss is measured when assignments are frozen: some steps to an end of the allowance, some between."""

ALLOWANCE_STEP = 1.12
"""Factor between sizes that are tried before one within the allowance and one beyond it are known."""

COLLAPSE_BISECTIONS = 5
"""Halvings, in logarithms, of the sizes between a network that works and a smaller one that does not. They leave 3 %
of a size that was half as large again."""


def settle_bytes(
    weights: AssignedWeights,
    target_bytes: int,
    measure: Callable[[], Measured],
    first: Measured,
    aim: Callable[[], float],
) -> Measured:
    """Assign the weights so that the file is as close to ``target_bytes`` as a few measurements tell.

    Parameters
    ----------
    weights : AssignedWeights
        The weights.
    target_bytes : int
        Bytes of the file.
    measure : callable
        Measures the file as it is.
    first : Measured
        The file before.
    aim : callable
        Coded bits to aim for, as the last measurement tells.

    Returns
    -------
    Measured
        The file that the weights make now.
    """
    tried = [first]
    while tried[-1].error(target_bytes) >= BYTES_TOLERANCE:
        if len(tried) == SETTLING_MEASUREMENTS:  # sizes jump where another code becomes the best
            best = min(tried, key=lambda one: one.error(target_bytes))
            weights.assign_at(best.bit_price)
            return best
        weights.assign_bits(bits_between(tried, target_bytes) or aim())
        tried.append(measure())
    return tried[-1]


def settle_allowance(weights: AssignedWeights, used_now: Callable[[], float], bits_before: float | None) -> None:
    """Assign the fewest bits that stay within the allowance, as far as a few tries tell.

    Sizes are tried in steps of `ALLOWANCE_STEP` until one is within it and the next is not, and then between.

    Parameters
    ----------
    weights : AssignedWeights
        The weights.
    used_now : callable
        Share of the allowance that the network uses as it is.
    bits_before : float or None
        Coded bits of the last epoch, which are taken again if no size is within the allowance.
    """
    kept: float | None = None
    lost: float | None = None
    kept_price = weights.bit_price
    for _ in range(ALLOWANCE_TRIES):
        if used_now() <= 1:
            if kept is None or weights.coded_bits < kept:
                kept, kept_price = weights.coded_bits, weights.bit_price
        else:
            lost = weights.coded_bits if lost is None else max(lost, weights.coded_bits)
        if kept is not None and lost is not None and kept <= lost * (1 + BYTES_TOLERANCE):
            break
        weights.assign_bits(_between(kept, lost))
    if kept is not None:
        weights.assign_at(kept_price)  # as it was measured: as many bits are not always the same ones
    elif bits_before is not None:
        weights.assign_bits(bits_before)


def settle_collapse(weights: AssignedWeights, working_bits: float | None, share_lost: Callable[[], float]) -> bool:
    """Assign more bits if the network does not work: at most ``working_bits``, with which it did.

    Parameters
    ----------
    weights : AssignedWeights
        The weights.
    working_bits : float or None
        Coded bits of the last epoch.
    share_lost : callable
        See ``Collapse.share_lost``.

    Returns
    -------
    bool
        Whether that was so.
    """
    low, high = weights.coded_bits, working_bits or 0.0
    if high <= low or share_lost() <= GREATEST_LOSS_SHARE:
        return False
    for _ in range(COLLAPSE_BISECTIONS):
        middle = math.sqrt(low * high)
        weights.assign_bits(middle)
        low, high = (low, middle) if share_lost() <= GREATEST_LOSS_SHARE else (middle, high)
    weights.assign_bits(high)
    return True


def _between(kept: float | None, lost: float | None) -> float:
    """The size to try next: beyond the only end that is known, or in the middle, in logarithms."""
    if kept is None:
        assert lost is not None
        return lost * ALLOWANCE_STEP
    return kept / ALLOWANCE_STEP if lost is None else math.sqrt(kept * lost)
