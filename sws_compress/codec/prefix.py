"""Lengths and codes of prefix codes.

Codes are canonical with the shorter ones first: each is the one before plus one, shifted to its own length.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sws_compress.entropy import entropy_bits

_SECTIONS, _SECTIONINGS = 32, 8
"""The multiplier is found to 2^-40 of where it may lie."""


_GAPS = ((1, 1, 2), (1, 2, 2), (1, 2, 3), (2, 2, 2), (2, 2, 3), (2, 3, 3), (1, 1, 2, 3), (1, 2, 2, 3), (2, 2, 2, 3))
"""Differences of lengths that are tried."""


def code_lengths(counts: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Lengths of an optimal prefix code, in bits; 0 where the count is 0. Huffman 1952.

    Of the optimal codes the one with the smallest longest code: ties go to the shallower tree.
    """
    lengths = np.zeros(len(counts), np.int64)
    heap: list[tuple[int, int, int, tuple[int, ...]]] = [
        (int(count), 0, symbol, (symbol,)) for symbol, count in enumerate(counts) if count
    ]
    heapq.heapify(heap)
    serial = len(counts)
    while len(heap) > 1:
        low, high = heapq.heappop(heap), heapq.heappop(heap)
        members = low[3] + high[3]
        lengths[list(members)] += 1
        heapq.heappush(heap, (low[0] + high[0], 1 + max(low[1], high[1]), serial, members))
        serial += 1
    return lengths


def restricted_lengths(counts: npt.NDArray[np.integer], allowed: Sequence[int]) -> npt.NDArray[np.int64] | None:
    """Lengths of a good prefix code whose lengths are all in ``allowed`` (ascending); 0 where the count is 0.

    Minimises sum_i counts_i l_i + mu 2^(-l_i), for about the least mu that meets Kraft's inequality, then spends what
    is left of it on the most frequent symbols. None where even the longest codes are too few.
    """
    options = np.array(allowed, np.int64)
    used = np.flatnonzero(counts)
    order = used[np.argsort(-counts[used], kind="stable")]
    rising = counts[order][::-1].astype(float)
    cells = 1 << (options[-1] - options)  # what a code of each length takes, in codes of the longest
    room = int(cells[0]) << int(options[0])
    if order.size > room:
        return None
    # Length j + 1 is better than length j where counts (l_(j+1) - l_j) < mu (2^-l_j - 2^-l_(j+1)).
    slopes = (cells[:-1] - cells[1:]) / np.diff(options)

    def numbers(multipliers: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """How many symbols have each length, a row for each multiplier: the rarer, the longer."""
        longer = np.searchsorted(rising, np.multiply.outer(multipliers, slopes))
        bounds = np.zeros((multipliers.size, options.size + 1), np.int64)
        bounds[:, 0], bounds[:, 1:-1] = order.size, longer
        return bounds[:, :-1] - bounds[:, 1:]

    low, high = 0.0, 1.0 + float(rising[-1]) / float(slopes.min(initial=1.0))
    for _ in range(_SECTIONINGS):
        inner = np.linspace(low, high, _SECTIONS + 1)
        fits = int(np.argmax(numbers(inner[1:]) @ cells <= room))  # the last one does
        low, high = inner[fits], inner[fits + 1]
    having = numbers(np.array([high]))[0]
    for shorter in range(len(options) - 1):
        gain = int(cells[shorter] - cells[shorter + 1])
        promoted = min(int(having[shorter + 1]), (room - int(having @ cells)) // gain)
        having[shorter : shorter + 2] += promoted, -promoted
    lengths = np.zeros(len(counts), np.int64)
    lengths[order] = np.repeat(options, having)
    return lengths


def few_lengths(counts: npt.NDArray[np.integer], longest_first: int, near: float) -> npt.NDArray[np.int64] | None:
    """Few different lengths of a prefix code that takes at most ``near`` times the entropy; None if none was found.

    The shortest is at most ``longest_first``. Of the codes tried the one in which fewest symbols are longer than each
    of its lengths, taken together, those longer than the shortest counted half as much again: they are kept apart.
    """
    bits = entropy_bits(counts)
    optimal = code_lengths(counts)
    shortest = int(optimal[optimal > 0].min())
    best: tuple[float, npt.NDArray[np.int64]] | None = None
    for start in range(shortest, min(shortest + 2, longest_first) + 1):
        for gaps in _GAPS:
            allowed = [start, *(start + np.cumsum(gaps)).tolist()]
            lengths = restricted_lengths(counts, allowed)
            if lengths is None or counts @ lengths > near * bits:
                continue
            longer = [float(counts @ (lengths > length)) for length in allowed[:-1]]
            cost = sum(longer) + longer[0] / 2
            if best is None or cost < best[0]:
                best = cost, lengths
    return None if best is None else best[1]


def canonical_codes(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Canonical codes for ascending lengths."""
    codes = np.zeros(len(lengths), np.int64)
    for index in range(1, len(lengths)):
        codes[index] = (codes[index - 1] + 1) << (lengths[index] - lengths[index - 1])
    return codes
