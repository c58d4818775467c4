"""Sizes of buckets: the code of two numbers and a rest that takes fewest bits.

Words are in a fixed order, the popular ones about first. A *bucket* is ``2 ** r`` of them in a row. A first number of
``first_bits`` bits names one of the first buckets; its largest value says that a second number of ``second_bits`` bits
names one of the other buckets. Then r bits tell which word of the bucket it is.

Dynamic programming over the ends of buckets finds the best sizes, from both sides: the first buckets from the front,
the others from the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LARGEST_EXPONENT = 9
"""Largest r: a decoder reads r bits at any place from 16."""

_BUCKET_BITS = 8
"""Bits of the file that a bucket takes: its r is a byte."""

_FIRST_BITS = (1, 2, 3, 4, 6, 7)
"""Bits that a first number may have; those of 5 bits take most memory to read, and save nothing over 4 and 6."""

_SECOND_BITS = 6
"""Bits of a second number at most."""

_CARRIED = 255
"""Mark of a place behind the last word, which takes no more buckets."""

Costs = npt.NDArray[np.float32]


@dataclass(frozen=True)
class BucketPlan:
    """Buckets, and how they are named.

    Parameters
    ----------
    first_bits : int
        Bits of the first number, >= 1.
    second_bits : int
        Bits of the second number; 0 if there is none, and the first number names all buckets.
    exponents : tuple of int
        r of every bucket, in order.
    bits : float
        Bits of all words, and of the exponents.
    """

    first_bits: int
    second_bits: int
    exponents: tuple[int, ...]
    bits: float

    @property
    def firsts(self) -> int:
        """Number of buckets that the first number names."""
        return (1 << self.first_bits) - (self.second_bits > 0)


def bucket_plan(counts: npt.NDArray[np.int64]) -> BucketPlan:
    """The plan that takes fewest bits.

    Parameters
    ----------
    counts : ndarray (w,), int64
        How often each word occurs, in the order of the words; w >= 2.

    Returns
    -------
    BucketPlan
        Its buckets hold all words; the last one may reach beyond them.

    Examples
    --------
    >>> plan = bucket_plan(np.array([900, 300, 200, 200, 10, 10, 10, 10]))
    >>> plan.first_bits, plan.second_bits, plan.exponents
    (1, 2, (0, 0, 0, 0, 2))
    """
    table = _Table.of(counts)
    front, rest = list(table.front()), list(table.rest())
    best: tuple[float, int, int, int] | None = None
    for first in _FIRST_BITS:
        for second in range(_SECOND_BITS + 1):
            firsts, others = (1 << first) - (second > 0), 1 << second if second else 0
            costs = front[firsts][0] + rest[others][0] + second * (table.total - table.below)
            place = int(np.argmin(costs))
            bits = float(costs[place]) + first * table.total + _BUCKET_BITS * (firsts + others)
            if best is None or bits < best[0]:
                best = bits, first, second, place
    assert best is not None  # 2 ** 7 buckets of 2 ** 9 words hold any alphabet
    bits, first, second, place = best
    firsts, others = (1 << first) - (second > 0), 1 << second if second else 0
    chosen = [*_back(front, firsts, place), *_on(rest, others, place)]
    return BucketPlan(first, second, tuple(chosen), bits)


Steps = list[tuple[Costs, npt.NDArray[np.uint8]]]


def _back(front: Steps, buckets: int, place: int) -> list[int]:
    """Exponents of the buckets in front of a place."""
    found: list[int] = []
    for step in range(buckets, 0, -1):
        exponent = int(front[step][1][place])
        if exponent != _CARRIED:
            found.append(exponent)
            place -= 1 << exponent
    return found[::-1]


def _on(rest: Steps, buckets: int, place: int) -> Iterator[int]:
    """Exponents of the buckets from a place on."""
    for step in range(buckets, 0, -1):
        exponent = int(rest[step][1][place])
        if exponent != _CARRIED:
            yield exponent
            place += 1 << exponent


@dataclass(frozen=True, eq=False)
class _Table:
    """Places 0 .. w between words, and more behind them to which the last bucket may reach.

    Parameters
    ----------
    words : int
        w.
    below : ndarray, float32
        How many words occur in front of each place.
    spans : tuple of ndarray
        For every exponent r the bits that tell the words of a bucket of this size apart, by the place of its begin.
    """

    words: int
    below: Costs
    spans: tuple[Costs, ...]

    @classmethod
    def of(cls, counts: npt.NDArray[np.int64]) -> _Table:
        exponents = range(min(LARGEST_EXPONENT, (len(counts) - 1).bit_length()) + 1)
        beyond = 1 << exponents[-1]
        below = np.concatenate([[0], np.cumsum(counts), np.full(beyond - 1, counts.sum())]).astype(np.float32)
        spans = tuple(exponent * (below[1 << exponent :] - below[: -1 << exponent]) for exponent in exponents)
        return cls(len(counts), below, spans)

    @property
    def total(self) -> float:
        """Number of words that occur."""
        return float(self.below[-1])

    def front(self) -> Iterator[tuple[Costs, npt.NDArray[np.uint8]]]:
        """Least bits of the words in front of every place, and the last exponent, for 0, 1, 2, .. buckets."""
        costs, last = self._start(0)
        yield costs, last
        for _ in range(1 << _FIRST_BITS[-1]):
            before, costs = costs, np.full_like(costs, np.inf)
            costs[self.words :], last = before[self.words :], np.full_like(last, _CARRIED)
            for exponent, span in enumerate(self.spans):
                found = before[: span.size] + span
                found[self.words :] = np.inf
                _take(costs[1 << exponent :], last[1 << exponent :], found, exponent)
            yield costs, last

    def rest(self) -> Iterator[tuple[Costs, npt.NDArray[np.uint8]]]:
        """Least bits of the words from every place on, and the first exponent, for 0, 1, 2, .. buckets."""
        costs, first = self._start(self.words)
        yield costs, first
        for _ in range(1 << _SECOND_BITS):
            after, costs = costs, self._start(self.words)[0]
            first = np.full_like(first, _CARRIED)
            for exponent, span in enumerate(self.spans):
                _take(costs, first, after[1 << exponent :] + span, exponent)
            yield costs, first

    def _start(self, place: int) -> tuple[Costs, npt.NDArray[np.uint8]]:
        """No buckets: nothing in front of place 0, or from the end on."""
        costs = np.full_like(self.below, np.inf)
        costs[place : None if place else 1] = 0
        return costs, np.full(costs.size, _CARRIED, np.uint8)


def _take(costs: Costs, chosen: npt.NDArray[np.uint8], found: Costs, exponent: int) -> None:
    """Note an exponent where it takes fewer bits, in place."""
    better = np.flatnonzero(found < costs[: found.size])
    costs[better], chosen[better] = found[better], exponent
