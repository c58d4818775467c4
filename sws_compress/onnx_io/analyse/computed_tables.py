"""Large constants that are not weights, recognised by their values.

Position tables, spectral bases, filter banks and masks are computed, not learned: clustering them costs accuracy, and
no retraining brings it back. The operators that read them also read weights, so the values have to tell. A tensor is
taken as lines along each of its axes of 16 elements or more:

mask       every value is 0, 1, or a large negative number (-1e4 or less, -inf)
sinusoids  at least 90 % of all neighbours x, y, z on the lines satisfy x + z = c y to 0.5 % of the line's largest
           value, with one number c for each line between -2 and 2. Every sampled sinusoid does (c = 2 cos w), and so do
           constants and ramps (c = 2). Rotary and sinusoidal position tables; DFT, DCT and windowed STFT bases
spectrum   every line, without the zeros at its ends, is a windowed sinusoid: 99 % of its energy lies within 2 bins of
           one frequency, and the frequencies differ from line to line: constant-Q kernels
symmetric  every line, without the zeros at its ends, is its own mirror image, or the negative of it, to 0.1 % of its
           largest value: FIR filters for resampling
filters    every line is zero or more, rises once and falls once, most of it is zero, and the maxima move steadily from
           line to line: mel and other filter banks
monotone   every line is sorted, all in one direction: look-up tables, bins, decays

Learned weights satisfy none of these rules: 1 % of the neighbours of Gaussian values fulfil the equation of sinusoids,
where 90 % have to. A tensor with the same value everywhere is none of these tables.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


Lines = npt.NDArray[np.float64]


MASK = "a mask"
"""Kind of the tables of which every value counts."""


_SHORTEST_LINE_ELEMENTS = 16
"""Elements that an axis must have: on shorter lines chance satisfies a rule."""


_MASK_LARGEST_NEGATIVE = -1e4
"""Masks hold this value or a lower one where attention is forbidden; float16 goes down to -65504."""


_SAMPLED_LINES = 64
"""Lines that are looked at along an axis."""


_SAMPLED_ELEMENTS = 512
"""Elements of a line that are looked at, from its beginning."""


_RELATIVE_TOLERANCE = 5e-3
"""Error of the equation of sinusoids, relative to a line's largest value: above the rounding of float16 tables."""


_SINUSOID_SHARE = 0.9
"""Share of all neighbours that must fulfil the equation of sinusoids: windows and padding break it at their ends."""


_USABLE_RELATIVE_VALUE = 0.3
"""A neighbour of at least this size, relative to a line's largest value, gives a usable estimate of c."""


_LONG_LINE_ELEMENTS = 4096
"""Elements of a line that are looked at where its end matters: the end of a window, or of a filter."""


_SPECTRAL_BINS = 2
"""Bins on either side of a line's peak that count as the same frequency."""


_SPECTRAL_ENERGY_SHARE = 0.99
"""Share of a line's energy that must lie at its peak."""


_FREQUENCY_RESOLUTION = 1 / 512
"""Cycles per element by which the frequencies of two lines must differ."""


_FEWEST_LINES = 4
"""Lines that a spectral basis or a filter bank must have."""


_FEWEST_FREQUENCIES = 4
"""Frequencies that a spectral basis must have. Smooth learned kernels have the three lowest."""


_MIRROR_TOLERANCE = 1e-3
"""Difference of a value from its mirror image, relative to the line's largest value: above the rounding of float16."""


_FEWEST_LEVELS = 4
"""Values of a symmetric line that must differ by 1 % of its largest: nearly constant lines are symmetric by chance."""


def table_kind(values: Array) -> str | None:
    """What a tensor is if it is no weight.

    Parameters
    ----------
    values : ndarray, any shape, floating point
        The tensor. Up to 64 lines of up to 4096 elements along each axis are looked at; masks are read in full.

    Returns
    -------
    str or None
        "a mask", "a table of sinusoids", "a spectral basis", "a symmetric filter", "a filter bank" or "a monotone
        table"; None for others.
    """
    if not values.size or np.all(values == values.reshape(-1)[0]):
        return None
    if _is_mask(values):
        return MASK
    for axis, length in enumerate(values.shape):
        if length < _SHORTEST_LINE_ELEMENTS:
            continue
        long_lines = _lines(values, axis)
        if long_lines is None:
            continue
        lines = long_lines[:, :_SAMPLED_ELEMENTS]
        lines = lines[np.any(lines != 0, axis=1)]
        if len(lines) and _are_sinusoids(lines):
            return "a table of sinusoids"
        if _are_spectral_lines(long_lines):
            return "a spectral basis"
        if length <= _LONG_LINE_ELEMENTS and _are_symmetric(long_lines):
            return "a symmetric filter"
        if not len(lines):
            continue
        if _are_filters(lines):
            return "a filter bank"
        if _are_monotone(lines):
            return "a monotone table"
    return None


def _is_mask(values: Array) -> bool:
    """Whether every value is 0, 1 or a large negative number."""
    flat = values.reshape(-1)
    sample = flat[:: max(1, flat.size >> 14)]  # tells nearly all weights apart without reading them in full
    return all(np.all((part == 0) | (part == 1) | (part <= _MASK_LARGEST_NEGATIVE)) for part in (sample, flat))


def _lines(values: Array, axis: int) -> Lines | None:
    """Evenly spaced lines along an axis, shape (lines, length), without those of zeros; None if one is not finite."""
    columns = np.moveaxis(values, axis, 0)
    inner = columns.shape[1:]
    count = int(np.prod(inner))
    chosen = np.linspace(0, count - 1, min(_SAMPLED_LINES, count)).astype(int)
    places: tuple[Any, ...] = np.unravel_index(chosen, inner) if inner else ()
    with np.errstate(invalid="ignore"):  # signalling NaN
        lines = np.asarray(columns[:_LONG_LINE_ELEMENTS][(slice(None), *places)], np.float64)
    lines = lines.reshape(len(lines), -1).T
    if not np.isfinite(lines).all():
        return None
    lines = lines[np.any(lines != 0, axis=1)]
    if not len(lines):
        return None
    exponents = np.frexp(np.abs(lines).max(axis=1, keepdims=True))[1]
    return np.asarray(
        np.ldexp(lines, -exponents)
    )  # nothing changes but the unit: squares of any line are ordinary numbers


def _are_sinusoids(lines: Lines) -> bool:
    """Whether neighbours satisfy x + z = c y, with a c of their own for every line: the median of (x + z) / y."""
    outer, middle = lines[:, :-2] + lines[:, 2:], lines[:, 1:-1]
    largest = np.abs(lines).max(axis=1, keepdims=True)
    usable = np.abs(middle) > _USABLE_RELATIVE_VALUE * largest
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratios = np.where(usable, outer / middle, np.nan)
    known = usable.any(axis=1)
    if not known.all():
        ratios[~known] = 0.0  # the only value of such a line is at its end, where the equation fails anyway
    factors = np.nanmedian(ratios, axis=1, keepdims=True)
    fulfilled = np.abs(outer - factors * middle) <= _RELATIVE_TOLERANCE * largest
    fulfilled &= np.abs(factors) <= 2 + _RELATIVE_TOLERANCE
    counted = (np.abs(outer) > 0) | (np.abs(middle) > 0)
    return bool(fulfilled[counted].mean() >= _SINUSOID_SHARE) if counted.any() else False


def _are_spectral_lines(lines: Lines) -> bool:
    """Whether the energy of every line lies at one frequency, and a third of the lines differ in it.

    A line is transformed without the zeros at its ends, which would blur its spectrum. Short lines are not judged, but
    half of the lines must be.
    """
    peak_bins = 2 * _SPECTRAL_BINS + 1
    frequencies = []
    for line in map(_without_outer_zeros, lines):
        spectrum = np.abs(np.fft.rfft(line)) ** 2
        if len(spectrum) < 4 * peak_bins:
            continue
        peak = int(spectrum.argmax())
        near = spectrum[max(0, peak - _SPECTRAL_BINS) : peak + _SPECTRAL_BINS + 1]
        if near.sum() < _SPECTRAL_ENERGY_SHARE * spectrum.sum():
            return False
        frequencies.append(peak / len(line))
    if len(frequencies) < max(_FEWEST_LINES, len(lines) / 2):
        return False
    different = len(np.unique(np.round(np.array(frequencies) / _FREQUENCY_RESOLUTION)))
    return different >= max(_FEWEST_FREQUENCIES, len(frequencies) // 3)


def _are_symmetric(lines: Lines) -> bool:
    """Whether every line is its own mirror image or the negative of it, and none is nearly constant."""
    for line in map(_without_outer_zeros, lines):
        if len(line) < _SHORTEST_LINE_ELEMENTS:
            return False
        line = line / np.abs(line).max()
        apart = min(np.abs(line - line[::-1]).max(), np.abs(line + line[::-1]).max())
        if apart > _MIRROR_TOLERANCE or len(np.unique(np.round(line, 2))) < _FEWEST_LEVELS:
            return False
    return True


def _without_outer_zeros(line: Lines) -> Lines:
    """A line from its first to its last value that is not zero."""
    places = np.flatnonzero(line)
    return line[places[0] : places[-1] + 1]


def _are_filters(lines: Lines) -> bool:
    """Whether every line rises once and falls once, most values are zero, and maxima move steadily."""
    if len(lines) < _FEWEST_LINES or lines.min() < 0 or np.mean(lines == 0) < 0.5:
        return False
    steps = np.sign(np.diff(lines, axis=1, prepend=0, append=0))
    turns = [np.count_nonzero(np.diff(step[step != 0]) != 0) for step in steps]
    peaks = np.diff(lines.argmax(axis=1))
    return max(turns) == 1 and bool(np.all(peaks >= 0) or np.all(peaks <= 0)) and bool(peaks.any())


def _are_monotone(lines: Lines) -> bool:
    """Whether all lines are sorted in the same direction."""
    steps = np.diff(lines, axis=1)
    return bool(np.all(steps >= 0) or np.all(steps <= 0))
