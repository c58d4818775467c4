"""The compiled loops (numba) of `error_feedback` where several ways to assign a row are followed."""

from __future__ import annotations

from typing import Any

import numpy as np

from sws_compress.mixture.kernels import compiled

REACH = 3
"""Entries on either side of a weight that may follow."""


@compiled
def extend_survivors(
    rows: Any,
    spread: Any,
    curvatures: Any,
    codebook: Any,
    costs: Any,
    totals: Any,
    parents: Any,
    entries: Any,
    origins: Any,
    errors: Any,
) -> None:
    """Extend the survivors of all rows by some columns.

    Each survivor has the errors of these columns so far for itself. They are copied when one survivor becomes several.

    Parameters
    ----------
    rows : (n, survivors, rest) float64: what the first of these columns and all later ones have become for each
    spread : (columns, columns) float64: what a unit of error in column j adds to column i > j, at [i, j]
    curvatures : (columns,) float64, what a unit of squared error costs in each column
    codebook : (k,) float64, ascending
    costs : (k,) float64, price of each entry's symbol
    totals : (n, survivors) float64, overwritten: costs of the survivors so far, ascending, inf where there is none
    parents : (columns, n, survivors) uint8, written: which survivor each one extends
    entries : (columns, n, survivors) uint8 or uint16, written: by which entry
    origins : (n, survivors) intp, written: which one of ``rows`` each one comes from
    errors : (n, survivors, columns) float64, written: the error of each column
    """
    count, columns = errors.shape[1], errors.shape[2]
    last = len(codebook) - 1
    fresh, change = np.empty(count), np.empty(count)
    history, copied = np.zeros((count, columns)), np.zeros((count, columns))
    origin, moved = np.zeros(count, np.intp), np.zeros(count, np.intp)
    for r in range(len(rows)):
        total = totals[r]
        for t in range(count):
            origin[t] = t
        for j in range(columns):
            line, parent, entry = spread[j], parents[j, r], entries[j, r]
            fresh[:] = np.inf
            for t in range(count):
                if total[t] >= fresh[count - 1]:
                    break  # neither this one nor those behind it
                x = rows[r, origin[t], j]
                own = history[t]
                for i in range(j):
                    x += own[i] * line[i]
                middle = np.searchsorted(codebook, x)
                for k in range(max(middle - REACH, 0), min(middle + REACH, last + 1)):
                    error = x - codebook[k]
                    price = total[t] + curvatures[j] * error * error + costs[k]
                    at = count - 1
                    if price < fresh[at]:
                        while at > 0 and price < fresh[at - 1]:
                            fresh[at], change[at] = fresh[at - 1], change[at - 1]
                            parent[at], entry[at] = parent[at - 1], entry[at - 1]
                            at -= 1
                        fresh[at], change[at], parent[at], entry[at] = price, error, t, k
            for t in range(count):
                total[t] = fresh[t]
                if fresh[t] == np.inf:
                    continue
                source, target = history[parent[t]], copied[t]
                for i in range(j):
                    target[i] = source[i]
                target[j] = change[t]
                moved[t] = origin[parent[t]]
            history, copied = copied, history
            origin, moved = moved, origin
        for t in range(count):
            origins[r, t] = origin[t]
            errors[r, t] = history[t]


@compiled
def trace_back(totals: Any, parents: Any, entries: Any, chosen: Any) -> None:
    """Write the entries of the cheapest survivor of every row: ``chosen`` (n, d), others as in `extend_survivors`."""
    for r in range(len(chosen)):
        t = np.argmin(totals[r])
        for j in range(chosen.shape[1] - 1, -1, -1):
            chosen[r, j] = entries[j, r, t]
            t = parents[j, r, t]
