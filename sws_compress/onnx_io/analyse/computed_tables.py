"""Large constants that are no weights, told by their values.

Position tables, spectral bases, filter banks and masks are computed, not learned: clustering them costs accuracy and
no retraining brings it back. They are read by the same operators as weights, so their values have to tell. Rules, for a
tensor taken as lines along any of its axes of 16 elements or more:

mask       every value is 0, 1, or a large negative number (-1e4 or less, -inf)
sinusoids  at least 90 % of all neighbours x, y, z on the lines satisfy x + z = c y to 0.5 % of the line's largest
           value, with one number c for each line between -2 and 2. Every sampled sinusoid does (c = 2 cos w), and so do
           constants and ramps (c = 2). Rotary and sinusoidal position tables; DFT, DCT and windowed STFT bases
spectrum   every line is a windowed sinusoid: 99 % of its energy lies within 2 bins of one frequency, and the
           frequencies differ from line to line
filters    every line is zero or more, rises once and falls once, most of it is zero, and the maxima move steadily from
           line to line: mel and other filter banks
monotone   every line is sorted, all in one direction: look-up tables, bins, decays

Learned weights satisfy none of them: of Gaussian values 1 % fulfil the equation of sinusoids, where 90 % have to. A
tensor with one value throughout is nothing of all this.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


Lines = npt.NDArray[np.float64]


SHORTEST_LINE = 16


MOST_NEGATIVE = -1e4


_LINES = 64


_LENGTH = 512


_TOLERANCE = 5e-3


_SHARE = 0.9


def table_kind(values: Array) -> str | None:
    """What a floating-point tensor of any shape is instead of a weight, or None.

    Looks at up to 64 lines of up to 512 elements along each axis, whatever the size.
    """
    if not values.size or np.all(values == values.reshape(-1)[0]):
        return None
    if _is_mask(values):
        return "a mask"
    for axis, length in enumerate(values.shape):
        if length < SHORTEST_LINE:
            continue
        lines = _lines(values, axis)
        if lines is None:
            continue
        if _are_sinusoids(lines):
            return "a table of sinusoids"
        if _are_spectral_lines(lines):
            return "a spectral basis"
        if _are_filters(lines):
            return "a filter bank"
        if _are_monotone(lines):
            return "a monotone table"
    return None


def _is_mask(values: Array) -> bool:
    flat = values.reshape(-1)
    sample = flat[:: max(1, flat.size >> 14)]
    return all(np.all((part == 0) | (part == 1) | (part <= MOST_NEGATIVE)) for part in (sample, flat))


def _lines(values: Array, axis: int) -> Lines | None:
    """Evenly chosen lines along an axis that are not zero throughout, shape (lines, length); None if not finite."""
    columns = np.moveaxis(values, axis, 0)
    inner = columns.shape[1:]
    count = int(np.prod(inner))
    chosen = np.linspace(0, count - 1, min(_LINES, count)).astype(int)
    places: tuple[Any, ...] = np.unravel_index(chosen, inner) if inner else ()
    lines = np.asarray(columns[:_LENGTH][(slice(None), *places)], np.float64)
    lines = lines.reshape(len(lines), -1).T
    if not np.isfinite(lines).all():
        return None
    lines = lines[np.any(lines != 0, axis=1)]
    return lines if len(lines) else None


def _are_sinusoids(lines: Lines) -> bool:
    outer, middle = lines[:, :-2] + lines[:, 2:], lines[:, 1:-1]
    largest = np.abs(lines).max(axis=1, keepdims=True)
    usable = np.abs(middle) > 0.3 * largest
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(usable, outer / middle, np.nan)
    known = usable.any(axis=1)
    if not known.all():
        ratios[~known] = 0.0  # one value at an end of the line: the equation fails there anyway
    factors = np.nanmedian(ratios, axis=1, keepdims=True)
    fulfilled = np.abs(outer - factors * middle) <= _TOLERANCE * largest
    fulfilled &= np.abs(factors) <= 2 + _TOLERANCE
    counted = (np.abs(outer) > 0) | (np.abs(middle) > 0)
    return bool(fulfilled[counted].mean() >= _SHARE) if counted.any() else False


def _are_spectral_lines(lines: Lines) -> bool:
    spectrum = np.abs(np.fft.rfft(lines, axis=1)) ** 2
    if len(lines) < 4 or spectrum.shape[1] < 4 * 5:
        return False
    peaks = spectrum.argmax(axis=1)
    bins = np.arange(spectrum.shape[1])
    near = np.abs(bins - peaks[:, None]) <= 2
    concentrated = (spectrum * near).sum(axis=1) >= 0.99 * spectrum.sum(axis=1)
    return bool(concentrated.all() and len(np.unique(peaks)) >= len(lines) // 3)


def _are_filters(lines: Lines) -> bool:
    if len(lines) < 4 or lines.min() < 0 or np.mean(lines == 0) < 0.5:
        return False
    steps = np.sign(np.diff(lines, axis=1, prepend=0, append=0))
    turns = [np.count_nonzero(np.diff(step[step != 0]) != 0) for step in steps]
    peaks = np.diff(lines.argmax(axis=1))
    return max(turns) == 1 and bool(np.all(peaks >= 0) or np.all(peaks <= 0)) and bool(peaks.any())


def _are_monotone(lines: Lines) -> bool:
    steps = np.diff(lines, axis=1)
    return bool(np.all(steps >= 0) or np.all(steps <= 0))
