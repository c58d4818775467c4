"""The search for the smallest file whose metric falls by no more than the caller allows.

The metric falls with the price per bit, but with noise: some inputs more or less are right by chance. So what counts is
what was measured. The price is moved until one file keeps the metric and one does not; then the gap is narrowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from sws_compress.metric_sense import Sense

Made = TypeVar("Made")

MOST_TRIES = 12
"""Files that are measured, at most."""

NEAR_ENOUGH = 0.025
"""The search ends when the smallest file that keeps the metric is so much larger than the next that does not."""

USUAL_STEP = 2 * math.log(2)
"""Change of the logarithm of the price where the metric tells nothing: one bit per weight."""

STEPS = (math.log(2), 3.0)
"""Least and greatest change of it before the gap is known."""

INSIDE = 0.2
"""Share of the gap by which a try stays away from its ends."""


@dataclass(frozen=True, eq=False)
class Try(Generic[Made]):
    """A file that was measured.

    Parameters
    ----------
    log_price : float
        Natural logarithm of its price per bit.
    file_bytes : int
        Its size.
    drop : float
        How much worse its metric is than the original's.
    made : any type
        What it was made of.
    """

    log_price: float
    file_bytes: int
    drop: float
    made: Made


@dataclass(frozen=True, eq=False)
class Found(Generic[Made]):
    """The outcome of a search.

    Parameters
    ----------
    best : Try
        The smallest file that keeps the metric; if none does, the one with the least drop.
    tries : int
        How many files were measured.
    """

    best: Try[Made]
    tries: int


def smallest_within(
    max_drop: float, measure: Callable[[float], Try[Made]], start: float, finest: float, coarsest: float
) -> Found[Made]:
    """Find the smallest file that was measured to keep the metric.

    Parameters
    ----------
    max_drop : float
        How much worse the metric may become.
    measure : callable
        Makes the file of a logarithm of the price, and measures it.
    start, finest, coarsest : float
        Logarithms of the price: the first try, the least and the greatest.

    Returns
    -------
    Found
    """
    best: Try[Made] | None = None
    kept: tuple[float, int, float] | None = None  # log price, bytes and drop of the coarsest that keeps the metric
    lost: tuple[float, int, float] | None = None  # the finest beyond it that does not
    price, tries = start, 0
    while tries < MOST_TRIES:
        tried = measure(price)
        tries += 1
        best = _better(best, tried, max_drop)
        point = (price, tried.file_bytes, tried.drop)
        if tried.drop > max_drop:
            lost = point if lost is None or price < lost[0] else lost
        else:
            kept = point if kept is None or price > kept[0] else kept
        if kept is not None and lost is not None and kept[1] <= (1 + NEAR_ENOUGH) * lost[1]:
            break
        price = min(max(_next(kept, lost, max_drop), finest), coarsest)
        if price == point[0]:  # an end was tried
            break
    assert best is not None
    return Found(best, tries)


def drop_note(found: Found[Made], max_drop: float, sense: Sense) -> str:
    """What the result says of a search."""
    count, drop = found.tries, found.best.drop
    if drop <= max_drop:
        by = f"metric {sense.falls} by {max(drop, 0.0):.4g}"
        return f"{by}, at most {max_drop:g} asked for: smallest of {count} files evaluated"
    return (
        f"metric {sense.falls} by {drop:.4g}, more than the {max_drop:g} asked for: none of {count} files evaluated "
        "keeps it, and this is the one with the least drop; allow more"
    )


def _better(best: Try[Made] | None, tried: Try[Made], max_drop: float) -> Try[Made]:
    if best is None:
        return tried
    if tried.drop <= max_drop:
        return tried if best.drop > max_drop or tried.file_bytes < best.file_bytes else best
    return tried if (tried.drop, tried.file_bytes) < (best.drop, best.file_bytes) else best


def _next(kept: tuple[float, int, float] | None, lost: tuple[float, int, float] | None, max_drop: float) -> float:
    """The next logarithm of the price."""
    if kept is not None and lost is not None:
        share = (max_drop - kept[2]) / (lost[2] - kept[2])
        return kept[0] + min(max(share, INSIDE), 1 - INSIDE) * (lost[0] - kept[0])
    if kept is not None:
        return kept[0] + _step(max_drop, kept[2])
    assert lost is not None
    return lost[0] - _step(lost[2], max_drop)


def _step(larger: float, smaller: float) -> float:
    """How far to go if drops are in proportion to the price."""
    step = math.log(larger / smaller) if smaller > 0 else USUAL_STEP
    return min(max(step, STEPS[0]), STEPS[1])
