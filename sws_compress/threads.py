"""Pieces of a large array, worked on by a few threads. The pieces, and so every sum, do not depend on their number."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


MAX_THREADS = 8
"""All kernels here run at memory speed, which a handful of cores exhausts."""


def over_pieces(function: Callable[[slice], T], length: int, piece: int) -> Iterator[T]:
    """``function(slice)`` for consecutive slices of ``piece`` elements (the last may be shorter), results in order."""
    slices = [slice(start, min(start + piece, length)) for start in range(0, length, piece)]
    threads = min(len(slices), os.cpu_count() or 1, MAX_THREADS)
    if threads <= 1:
        yield from map(function, slices)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(function, slices)
