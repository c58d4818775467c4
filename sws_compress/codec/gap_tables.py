"""Tables of bins for gaps: which gaps share a unary number, and how many bits tell them apart.

Bin h of a table, h = 1, 2, ..., holds the gaps ``base_h .. base_h + 2^(k_h) - 1``, and the bins follow one another from
gap 1 on. A gap in bin h costs h bits, unary, and k_h more. If all k_h are alike, this is a Golomb-Rice code. Other
tables follow what gaps really do: neighbours in a row, the pixel above, a long tail.

Dynamic programming over the ends of bins finds the best table, and tables that cost less together than apart are
merged. Ends of bins are multiples of 1 up to 64, of 8 up to 512, of 64 up to 4,096, and so on.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BIN_BITS = 20
"""Bits of the file that one more bin takes: its k and its base."""

_MOST_TABLES_IN_ALL_PAIRS = 20
"""Up to so many tables, any two may be merged; of more tables only neighbours, by mean gap, because pairs take time."""

_ANY_END_BELOW_GAP = 64
"""Below this gap a bin may end anywhere."""

_STEP_FACTOR = 8
"""Times which the steps between possible ends grow whenever gaps have grown as much."""


@dataclass(frozen=True)
class GapTable:
    """Bins of gaps.

    Parameters
    ----------
    low_bits : tuple of int
        Exponents k_h of the bins, in order.
    """

    low_bits: tuple[int, ...]

    @property
    def bases(self) -> npt.NDArray[np.int64]:
        """Least gap of every bin."""
        return 1 + np.cumsum([0, *(1 << low for low in self.low_bits[:-1])], dtype=np.int64)


def gap_tables(gaps: Sequence[npt.NDArray[np.int64]]) -> tuple[tuple[GapTable, ...], list[int]]:
    """Tables for classes of gaps.

    Parameters
    ----------
    gaps : sequence of ndarray, int64
        Gaps >= 1 of every class; a class may have none.

    Returns
    -------
    tables : tuple of GapTable
        Tables that are worth their bits.
    table_of : list of int
        Index of the table that each class uses.
    """
    ends = _possible_ends(max(int(one.max(initial=1)) for one in gaps))
    above = np.array([one.size - np.searchsorted(np.sort(one), ends, side="right") for one in gaps], np.float64)
    order = np.argsort([one.mean() if one.size else 0 for one in gaps], kind="stable")
    groups: list[tuple[int, ...]] = [(index,) for index in order.tolist()]
    known: dict[tuple[int, ...], tuple[float, GapTable]] = {}
    while True:
        pairs = _pairs(groups)
        wanted = [group for group in [*groups, *(left + right for left, right in pairs)] if group not in known]
        known |= dict(zip(wanted, _best_tables(above, wanted, ends), strict=True)) if wanted else {}
        saved = {pair: sum(known[one][0] for one in pair) - known[pair[0] + pair[1]][0] for pair in pairs}
        best = [pair for pair in sorted(pairs, key=lambda pair: -saved[pair]) if saved[pair] >= 0]
        if not best:
            break
        groups = _merged(groups, best)
    table_of = {index: number for number, group in enumerate(groups) for index in group}
    return tuple(known[group][1] for group in groups), [table_of[index] for index in range(len(gaps))]


def _pairs(groups: list[tuple[int, ...]]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    if len(groups) <= _MOST_TABLES_IN_ALL_PAIRS:
        return list(itertools.combinations(groups, 2))
    return list(itertools.pairwise(groups))


def _merged(
    groups: list[tuple[int, ...]], pairs: list[tuple[tuple[int, ...], tuple[int, ...]]]
) -> list[tuple[int, ...]]:
    """Groups joined by the pairs, in their order, each with at most one other; the first of two keeps its place."""
    joined: dict[tuple[int, ...], tuple[int, ...] | None] = {}
    for left, right in pairs:
        if left not in joined and right not in joined:
            joined[left], joined[right] = left + right, None
    return [whole for group in groups if (whole := joined.get(group, group)) is not None]


def _possible_ends(largest: int) -> npt.NDArray[np.int64]:
    """Gaps after which a bin may end: 0, ``largest``, and between them ever coarser multiples."""
    ends = [np.arange(min(_ANY_END_BELOW_GAP, largest))]
    start, step = _ANY_END_BELOW_GAP, _STEP_FACTOR
    while start < largest:
        ends.append(np.arange(start, min(start * _STEP_FACTOR, largest), step))
        start, step = start * _STEP_FACTOR, step * _STEP_FACTOR
    return np.append(np.concatenate(ends), largest).astype(np.int64)


def _best_tables(
    above: npt.NDArray[np.float64], groups: Sequence[tuple[int, ...]], ends: npt.NDArray[np.int64]
) -> list[tuple[float, GapTable]]:
    """Bits of the best table of each group of classes, and the table.

    With a_i the number of gaps beyond end i, ``above[c, i]`` for class c, the least bits for what is beyond end i are
    ``V_i = min_k a_i + k (a_i - a_j) + V_j`` and the bits of a bin, where end j is 2^k after end i.
    """
    counts = np.array([above[list(group)].sum(axis=0) for group in groups])
    last = len(ends) - 1
    bits = np.zeros(counts.shape)
    choice = np.zeros(counts.shape, np.int64)
    for index in range(last - 1, -1, -1):
        targets = _targets(ends, index)
        costs = [counts[:, index] + low * (counts[:, index] - counts[:, to]) + bits[:, to] for low, to in targets]
        chosen = np.argmin(costs, axis=0)
        bits[:, index] = np.min(costs, axis=0) + BIN_BITS
        choice[:, index] = np.array([low for low, _ in targets])[chosen]
    return [(float(bits[row, 0]), GapTable(_walk(choice[row], ends, counts[row]))) for row in range(len(groups))]


def _targets(ends: npt.NDArray[np.int64], index: int) -> list[tuple[int, int]]:
    """Exponents k that a bin after end ``index`` may have, each with the index of the end it reaches."""
    found: list[tuple[int, int]] = []
    for low in itertools.count():
        beyond = int(ends[index]) + (1 << low)
        if beyond >= ends[-1]:
            return [*found, (low, len(ends) - 1)]
        to = int(np.searchsorted(ends, beyond))
        if ends[to] == beyond:
            found.append((low, to))
    raise AssertionError


def _walk(
    choice: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], counts: npt.NDArray[np.float64]
) -> tuple[int, ...]:
    """Exponents chosen from the first end on, as far as there are gaps; at least one."""
    low_bits: list[int] = []
    index = 0
    while index < len(ends) - 1 and (counts[index] > 0 or not low_bits):
        low_bits.append(int(choice[index]))
        index = min(int(np.searchsorted(ends, ends[index] + (1 << low_bits[-1]))), len(ends) - 1)
    return tuple(low_bits)
