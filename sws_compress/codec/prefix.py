"""Lengths and codes of prefix codes.

Codes are canonical, the shorter ones first: each code is the one before plus one, shifted to its own length.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sws_compress.entropy import entropy_bits

_SECTIONS, _SECTIONINGS = 32, 8
"""Parts into which the range of the multiplier is cut, and how often: it is found to 2^-40 of the range."""

_LENGTH_DIFFERENCES = (
    (1, 1, 2),
    (1, 2, 2),
    (1, 2, 3),
    (2, 2, 2),
    (2, 2, 3),
    (2, 3, 3),
    (1, 1, 2, 3),
    (1, 2, 2, 3),
    (2, 2, 2, 3),
)
"""Differences between neighbouring lengths that `few_lengths` tries."""


def code_lengths(counts: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Lengths of an optimal prefix code. Huffman 1952.

    There are several optimal codes. This one has the least longest code: ties go to the shallower tree.

    Parameters
    ----------
    counts : ndarray (k,), integers
        How often each symbol occurs.

    Returns
    -------
    ndarray (k,), int64
        Length of each code in bits; 0 where the count is 0.

    Examples
    --------
    >>> code_lengths(np.array([5, 0, 1, 1])).tolist()
    [1, 0, 2, 2]
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
    """Lengths of a good prefix code that has only some lengths.

    They minimise ``sum_i counts_i l_i + mu 2^(-l_i)`` for about the least mu that meets Kraft's inequality. What that
    leaves of the inequality then shortens codes of the most frequent symbols.

    Parameters
    ----------
    counts : ndarray (k,), integers
        How often each symbol occurs.
    allowed : sequence of int
        Lengths that codes may have, ascending.

    Returns
    -------
    ndarray (k,), int64, or None
        Length of each code in bits; 0 where the count is 0. None if there are too few codes of even the longest length.
    """
    options = np.array(allowed, np.int64)
    used = np.flatnonzero(counts)
    order = used[np.argsort(-counts[used], kind="stable")]
    rising = counts[order][::-1].astype(float)
    cells = 1 << (options[-1] - options)  # how many codes of the longest length a code of each length takes away
    room = int(cells[0]) << int(options[0])
    if order.size > room:
        return None
    # Length j + 1 is better than length j where counts (l_(j+1) - l_j) < mu (2^-l_j - 2^-l_(j+1)).
    slopes = (cells[:-1] - cells[1:]) / np.diff(options)

    def numbers(multipliers: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Number of symbols of each length, a row for each multiplier; rarer symbols have longer codes."""
        longer = np.searchsorted(rising, np.multiply.outer(multipliers, slopes))
        bounds = np.zeros((multipliers.size, options.size + 1), np.int64)
        bounds[:, 0], bounds[:, 1:-1] = order.size, longer
        return bounds[:, :-1] - bounds[:, 1:]

    low, high = 0.0, 1.0 + float(rising[-1]) / float(slopes.min(initial=1.0))
    for _ in range(_SECTIONINGS):
        inner = np.linspace(low, high, _SECTIONS + 1)
        fits = int(np.argmax(numbers(inner[1:]) @ cells <= room))  # the last one always fits
        low, high = inner[fits], inner[fits + 1]
    having = numbers(np.array([high]))[0]
    for shorter in range(len(options) - 1):
        gain = int(cells[shorter] - cells[shorter + 1])
        promoted = min(int(having[shorter + 1]), (room - int(having @ cells)) // gain)
        having[shorter : shorter + 2] += promoted, -promoted
    lengths = np.zeros(len(counts), np.int64)
    lengths[order] = np.repeat(options, having)
    return lengths


def few_lengths(
    counts: npt.NDArray[np.integer], longest_first: int, entropy_ratio: float
) -> npt.NDArray[np.int64] | None:
    """Lengths of a prefix code of few different lengths, of which most symbols have the shortest.

    Of the codes that are tried it is the one of the fewest visits: a decoder visits a symbol once more for every length
    that its code exceeds. The first of these visits counts half as much again, because it sets the symbol apart.

    Parameters
    ----------
    counts : ndarray (k,), integers
        How often each symbol occurs.
    longest_first : int
        What the shortest length may be at most.
    entropy_ratio : float
        Times the bits of the entropy that the code may take.

    Returns
    -------
    ndarray (k,), int64, or None
        Length of each code in bits; 0 where the count is 0. None if no code that was tried is within the ratio.
    """
    bits = entropy_bits(counts)
    optimal = code_lengths(counts)
    shortest = int(optimal[optimal > 0].min())
    best: tuple[float, npt.NDArray[np.int64]] | None = None
    for start in range(shortest, min(shortest + 2, longest_first) + 1):
        for differences in _LENGTH_DIFFERENCES:
            allowed = [start, *(start + np.cumsum(differences)).tolist()]
            lengths = restricted_lengths(counts, allowed)
            if lengths is None or counts @ lengths > entropy_ratio * bits:
                continue
            longer = [float(counts @ (lengths > length)) for length in allowed[:-1]]
            cost = sum(longer) + longer[0] / 2
            if best is None or cost < best[0]:
                best = cost, lengths
    return None if best is None else best[1]


def canonical_codes(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Canonical codes, int64 (k,), of codes whose ascending lengths are given.

    Examples
    --------
    >>> [format(code, "b") for code in canonical_codes(np.array([1, 3, 3]))]
    ['0', '100', '101']
    """
    codes = np.zeros(len(lengths), np.int64)
    for index in range(1, len(lengths)):
        codes[index] = (codes[index - 1] + 1) << (lengths[index] - lengths[index - 1])
    return codes
