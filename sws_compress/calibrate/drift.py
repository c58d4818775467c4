"""How the inputs of a layer drift once the layers before it are coded, and the weights that follow them.

A layer W met x in the network as it was and meets x' now. The weights that come closest to W x are

    W + W E[(x - x') x'^T] E[x' x'^T]^-1

so that a layer makes up for part of what the layers before it have lost. The moments are those of some samples: only a
share of the correction is made.

References
----------
Li, Yin, Lin, Yang & Panda, GPTAQ, arXiv 2504.02692: the same target, with the whole correction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sws_compress.calibrate.error_feedback import Feedback
from sws_compress.calibrate.moments import BAND_ROWS, Array, by_groups
from sws_compress.errors import ArgumentError

FOLLOWED = 0.5
"""Share of the correction that is made."""


@dataclass(frozen=True, eq=False)
class Drift:
    """Sums of (x - x') x'^T over samples of the inputs of a layer.

    Parameters
    ----------
    sums : ndarray, shape (groups, d, d), float64, or float32 for `WIDE_INPUTS`
        One matrix per group of a grouped convolution; other layers have one group.
    before, now : ndarray, shape (groups, d), float64
        Sums of x and of x'.
    samples : int
        Number of pairs that were added up.
    """

    sums: Array
    before: Array
    now: Array
    samples: int

    @classmethod
    def of(cls, before: npt.NDArray[np.floating], now: npt.NDArray[np.floating]) -> Drift:
        """The drift between samples of x and of x', both of shape (n, groups, d).

        Raises
        ------
        ArgumentError
            If their shapes differ.
        """
        if before.shape != now.shape or before.ndim != 3:
            raise ArgumentError(
                f"inputs must have the same shape (n, groups, d), got {before.shape} and {now.shape}: take them at the "
                "same places"
            )
        first, second = by_groups(before), by_groups(now)
        totals = first.sum(axis=1, dtype=np.float64), second.sum(axis=1, dtype=np.float64)
        first -= second
        return cls(np.swapaxes(first, 1, 2) @ second, *totals, len(now))

    def include(self, before: npt.NDArray[np.floating], now: npt.NDArray[np.floating]) -> Drift:
        """The drift with more samples, as for `of`; its matrices become those of the result."""
        first, second = by_groups(before), by_groups(now)
        totals = (
            self.before + first.sum(axis=1, dtype=np.float64),
            self.now + second.sum(axis=1, dtype=np.float64),
        )
        first -= second
        for start in range(0, first.shape[2], BAND_ROWS):
            band = np.swapaxes(first[:, :, start : start + BAND_ROWS], 1, 2)
            self.sums[:, start : start + BAND_ROWS] += band @ second
        return Drift(self.sums, *totals, self.samples + len(now))

    def centred(self) -> Drift:
        """The drift of x and x' less their means."""
        sums, nothing = self.sums.copy(), np.zeros_like(self.now)
        change = (self.before - self.now) / self.samples
        for start in range(0, sums.shape[1], BAND_ROWS):
            band = slice(start, start + BAND_ROWS)
            sums[:, band] -= (change[:, band, None] * self.now[:, None]).astype(sums.dtype)
        return Drift(sums, nothing, nothing, self.samples)

    def followed(self, rows: Array, feedback: Sequence[Feedback]) -> Array:
        """The weights that half follow the inputs.

        Parameters
        ----------
        rows : ndarray, shape (groups, n, d), float64
            W of each group.
        feedback : sequence of Feedback
            That for E[x' x'^T] of each group.

        Returns
        -------
        ndarray, shape (groups, n, d), float64
        """
        lost = rows @ self.sums
        lost *= lost.dtype.type(FOLLOWED / self.samples)
        return rows + np.stack([by.over_moment(each) for each, by in zip(lost, feedback, strict=True)])
