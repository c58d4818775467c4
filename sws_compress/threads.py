"""Work on the pieces of a large array in a few threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


MAX_THREADS = 8
"""More threads gain nothing: the loops run at memory speed, which a handful of cores exhausts."""


def over_pieces(function: Callable[[slice], T], length: int, piece: int) -> Iterator[T]:
    """Call a function for consecutive slices of an array, in threads; no slice, and so no sum, depends on their number.

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
    # Cores are not counted for one slice: that takes longer than a small slice does.
    threads = 1 if len(slices) <= 1 else min(len(slices), os.cpu_count() or 1, MAX_THREADS)
    if threads == 1:
        yield from map(function, slices)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(function, slices)


def over_shares(function: Callable[[slice], None], length: int, least: int) -> None:
    """Call a function for one slice of an array per thread, for work whose slices do not matter.

    The caller's own thread takes the first share, so that two threads cost the start of one.

    Parameters
    ----------
    function : callable
        Called with each slice.
    length : int
        Number of elements of the array.
    least : int
        Elements that are worth a thread.
    """
    threads = 1 if length < 2 * least else min(length // least, os.cpu_count() or 1, MAX_THREADS)
    if threads == 1:
        function(slice(0, length))
        return
    first, *others = (slice(length * i // threads, length * (i + 1) // threads) for i in range(threads))
    with ThreadPoolExecutor(threads - 1) as pool:
        running = [pool.submit(function, share) for share in others]
        function(first)
        for one in running:
            one.result()
