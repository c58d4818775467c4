"""Work on the pieces of a large array in a few threads. The pieces, and so all sums, do not depend on their number."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


MAX_THREADS = 8
"""More threads gain nothing: the loops run at memory speed, which a handful of cores exhausts."""


def over_pieces(function: Callable[[slice], T], length: int, piece: int) -> Iterator[T]:
    """Call a function for consecutive slices of an array, in threads.

    Parameters
    ----------
    function : callable
        Called with each slice.
    length : int
        Number of elements of the array.
    piece : int
        Elements of a slice; the last may be shorter.

    Yields
    ------
    T
        The results, in the order of the slices.
    """
    slices = [slice(start, min(start + piece, length)) for start in range(0, length, piece)]
    threads = min(len(slices), os.cpu_count() or 1, MAX_THREADS)
    if threads <= 1:
        yield from map(function, slices)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(function, slices)
