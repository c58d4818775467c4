"""What a load budget buys: each stream gets the code whose bytes and load together cost least, at one price for all.

A price says how many bytes of the file the whole budget is worth. At the least price at which the model loads within
the budget, no byte that is saved elsewhere takes less of it. What is left over then goes to single streams.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sws_compress.codec.load_cost import LoadCost

_FIRST_PRICE, _PRICE_FACTOR, _HIGHEST_PRICE = 1.0, 8.0, 1e12
"""Bytes that the budget may be worth: the first try, the growth at a time, and where it ends. More would hide which of
two options that load equally fast is smaller."""

_HALVINGS = 24
"""Times that the range of the logarithm of the price is halved."""

_LEAST_LIMIT = 1e-12
"""Seconds and bytes of a limit count as at least this, so that shares of it are finite."""

Array = npt.NDArray[np.float64]
Picks = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Options:
    """Ways to store streams; at least one for each.

    Parameters
    ----------
    own_bytes : ndarray (streams, options), float64
        Bytes in the file; inf where a stream has fewer options.
    seconds, peak_bytes : ndarray (streams, options), float64
        What loading costs.
    limit : LoadCost
        What loading all streams may cost: at least what the options cost that load for the smallest share of it.
    """

    own_bytes: Array
    seconds: Array
    peak_bytes: Array
    limit: LoadCost

    @classmethod
    def of(cls, rows: Sequence[Sequence[tuple[float, LoadCost]]], limit: LoadCost) -> Options:
        """Options whose bytes and costs are given stream by stream, and a limit, which may be too low for all."""
        shape = (len(rows), max(map(len, rows), default=0))
        own_bytes, seconds, peak_bytes = np.full(shape, np.inf), np.zeros(shape), np.zeros(shape)
        for row, options in enumerate(rows):
            for column, (size, load) in enumerate(options):
                own_bytes[row, column] = size
                seconds[row, column], peak_bytes[row, column] = load.seconds, load.peak_bytes
        found = cls(own_bytes, seconds, peak_bytes, limit)
        least = found.load(np.where(np.isfinite(own_bytes), found.shares, np.inf).argmin(axis=1))
        return replace(
            found, limit=LoadCost(max(limit.seconds, least.seconds), max(limit.peak_bytes, least.peak_bytes))
        )

    @property
    def shares(self) -> Array:
        """Share of the limit that each option takes: of its seconds and of its memory, added."""
        seconds, peak_bytes = max(self.limit.seconds, _LEAST_LIMIT), max(self.limit.peak_bytes, _LEAST_LIMIT)
        return self.seconds / seconds + self.peak_bytes / peak_bytes

    def load(self, picks: Picks) -> LoadCost:
        """Cost of loading all streams with one option each."""
        rows = np.arange(len(picks))
        return LoadCost(float(self.seconds[rows, picks].sum()), float(self.peak_bytes[rows, picks].sum()))

    def within(self, picks: Picks) -> bool:
        """Whether one option for each stream loads within the limit."""
        return self.load(picks).within(self.limit)

    def price(self) -> float:
        """The least price, in bytes of the file for the whole limit, at which the cheapest options are within it.

        Returns
        -------
        float
            0.0 if the smallest options are within the limit.
        """
        shares = self.shares

        def fits(price: float) -> bool:
            return self.within((self.own_bytes + price * shares).argmin(axis=1))

        if fits(0.0):
            return 0.0
        high = _FIRST_PRICE
        while not fits(high) and high < _HIGHEST_PRICE:
            high *= _PRICE_FACTOR
        low = high / _PRICE_FACTOR
        for _ in range(_HALVINGS):
            middle = math.sqrt(low * high)
            low, high = (low, middle) if fits(middle) else (middle, high)
        return high

    def filled(self, picks: Picks) -> Picks:
        """Picks in which smaller options replace others as long as all are within the limit.

        Parameters
        ----------
        picks : ndarray (streams,), integers
            Where they are not within the limit they stay as they are.
        """
        rows, picks = np.arange(len(picks)), picks.copy()
        while self.within(picks):
            now = rows, picks
            load = self.load(picks)
            seconds = load.seconds + self.seconds - self.seconds[now][:, None]
            peak_bytes = load.peak_bytes + self.peak_bytes - self.peak_bytes[now][:, None]
            fits = (seconds <= self.limit.seconds) & (peak_bytes <= self.limit.peak_bytes)
            saved = np.where(fits, self.own_bytes[now][:, None] - self.own_bytes, 0.0)
            row, column = np.unravel_index(saved.argmax(), saved.shape)
            if not saved[row, column] > 0:
                break
            picks[row] = column
        return picks
