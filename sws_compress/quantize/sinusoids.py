"""Tables of sampled sinusoids as one period of the cosine, a window, and where every line stands in the period.

A line i of such a table along an axis is ``A_i w(n) cos(2 pi (a_i n + b_i) / P)``: the bases of Fourier, cosine and
lapped transforms, with or without a window. That is a palette: the codebook holds a period for every amplitude, the
scales along the axis are the window, and the indices are progressions, which `codec.encodings.progressions` stores as
two numbers for a line.

The window is found from the squares of all lines, the frequency of a line near the peak of its spectrum, and both are
fitted once more with what is known of the other. A table is only taken where that gives it back but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sws_compress.quantize.palette import Palette, index_type
from sws_compress.quantize.weight_scales import ChannelScales
from sws_compress.thresholds import MAX_EVEN_CODEBOOK

Floats = npt.NDArray[np.float64]

_SHORTEST_LINE = 16
"""Samples of a line, at least."""

_FEWEST_LINES = 4
"""Lines of a table, at least: the window is found from their sum."""

_MOST_ELEMENTS = 1 << 24
"""Elements of a table, at most: the fit takes some dozen bytes for each."""

_PERIODS = (1, 2, 4, 8)
"""Periods that are tried, in lengths of a line: Fourier transforms have 1, cosine transforms and lapped ones 4."""

_MOST_AMPLITUDES = 8
"""Amplitudes of one table, at most; a codec knows no more."""

_SAME_AMPLITUDE = 1e-5
"""Relative difference of amplitudes that are one: above the rounding of float32, below any two that are meant."""

_NEAR_BINS = 1
"""Bins of a line's spectrum on either side of its peak that are tried: the negative frequency moves the peak."""

_LOBE_BINS = 4
"""Bins of a line's spectrum on either side of its peak that a window smears it over."""

_LEAST_EXPLAINED = 0.9
"""Share of the energy that the first fit must explain to go on."""

_MOST_ROUNDS = 12
"""Times that window and lines are fitted in turn, at most."""

_CONVERGED = 1e-9
"""Change of the window, of its largest value, at which the rounds end: below the rounding of float32."""

_TINY = np.finfo(np.float64).tiny

_LEAST_WINDOW = np.float32(2.0**-100)
"""Factor for samples where the window is zero: nothing is left of them, and products are no subnormal numbers."""

_ROUNDINGS = 2.0
"""Error of a value, in units of rounding of the table's largest value, at most."""


@dataclass(frozen=True, eq=False)
class _Lines:
    """Frequency and phase of every line, int64 in units of 1 / P, and its amplitude, float64; all (lines,)."""

    steps: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    amplitudes: Floats

    def places(self, length: int, period: int) -> npt.NDArray[np.int64]:
        """The place of every sample in the period, (lines, length)."""
        grown: npt.NDArray[np.int64] = self.starts[:, None] + self.steps[:, None] * np.arange(length)
        return grown % period


def sinusoid_palette(values: npt.NDArray[Any]) -> Palette | None:
    """The palette of a table of sinusoids, exact but for rounding.

    Parameters
    ----------
    values : ndarray, floating point, of any shape
        A tensor.

    Returns
    -------
    Palette or None
        Scales lie along the axis of the samples. The error of a value is at most two units of rounding of the largest
        one, in the tensor's type. None if the tensor is no such table, or is none to that precision.
    """
    if values.dtype.kind != "f" or not _FEWEST_LINES * _SHORTEST_LINE <= values.size <= _MOST_ELEMENTS:
        return None
    for axis in reversed(range(values.ndim)):
        length = values.shape[axis]
        if length < _SHORTEST_LINE or values.size // length < _FEWEST_LINES:
            continue
        along = np.moveaxis(values, axis, -1)
        if not _may_be_sinusoids(along):
            continue
        lines = along.reshape(-1, length).astype(np.float64)
        largest = np.abs(lines).max()
        if not 0 < largest < np.inf:
            continue
        lines /= largest
        for period in (length * times for times in _PERIODS):
            for window in _windows(lines):
                palette = _palette(values, axis, period, *_fitted(lines, window, period), largest)
                if palette is not None:
                    return palette
    return None


def _may_be_sinusoids(along: npt.NDArray[Any]) -> bool:
    """Whether a few lines along the last axis have most of their energy near one frequency: nearly no others have.

    The tensor is not copied: all weights come here.
    """
    count = along.size // along.shape[-1]
    chosen = np.unravel_index(np.arange(0, count, max(1, count // 8)), along.shape[:-1])
    with np.errstate(invalid="ignore", over="ignore"):  # values that are not finite fail the comparison
        spectra = np.abs(np.fft.rfft(along[chosen].astype(np.float64), axis=1)) ** 2
        bins = np.arange(spectra.shape[1])
        near = np.abs(bins - spectra.argmax(axis=1)[:, None]) <= _LOBE_BINS
        return bool(((spectra * near).sum(axis=1) >= 0.8 * spectra.sum(axis=1)).all())


def _windows(lines: Floats) -> Iterator[Floats]:
    """Windows to begin with: none, and the root of the mean square, which is near any window of many frequencies."""
    yield np.ones(lines.shape[1])
    found = np.sqrt(np.square(lines).mean(axis=0))
    yield found / found.max()


def _fitted(lines: Floats, window: Floats, period: int) -> tuple[_Lines, Floats]:
    """Lines and window, each fitted to what is known of the other until neither changes."""
    cosine, energy = _cosine(period), np.square(lines).sum()
    for _ in range(_MOST_ROUNDS):
        found = _lines(lines, window, period)
        samples = found.amplitudes[:, None] * cosine[found.places(lines.shape[1], period)]
        before, squares = window, np.square(samples).sum(axis=0)
        window = np.maximum((samples * lines).sum(axis=0) / np.maximum(squares, _TINY), 0.0)
        left = np.square(window * samples - lines).sum()
        if left > (1 - _LEAST_EXPLAINED) * energy or np.abs(window - before).max() <= _CONVERGED * window.max():
            break
    return found, window


def _cosine(period: int) -> Floats:
    """One period of the cosine, (P,), with zeros where it crosses zero."""
    cosine = np.cos(2 * np.pi * np.arange(period) / period)
    cosine[np.abs(cosine) < 1e-12] = 0.0
    return cosine


def _lines(lines: Floats, window: Floats, period: int) -> _Lines:
    """The frequency near the peak of every line whose windowed cosine and sine explain most of it, and where it starts.

    Both waves are fitted by least squares. Steps up to P / 2 suffice, since the cosine is even.
    """
    count, length = lines.shape
    peaks = np.abs(np.fft.rfft(lines * window, period, axis=1)).argmax(axis=1)
    best = np.full(count, -np.inf)
    steps, starts, amplitudes = np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count)
    cosine = _cosine(period)
    near = -(-period // length) * _NEAR_BINS + 1
    for offset in range(-near, near + 1):
        tried = np.clip(peaks + offset, 0, period // 2)
        places = tried[:, None] * np.arange(length) % period
        cosines, sines = window * cosine[places], window * cosine[(places - period // 4) % period]
        if period % 4:
            sines = window * np.sin(2 * np.pi * places / period)
        cc, ss, cs = ((left * right).sum(axis=1) for left, right in ((cosines,) * 2, (sines,) * 2, (cosines, sines)))
        yc, ys = (cosines * lines).sum(axis=1), (sines * lines).sum(axis=1)
        determinant = cc * ss - cs * cs
        single = determinant <= 1e-9 * np.maximum(cc * ss, _TINY)  # no sine, or no cosine
        whole = np.where(single, 1.0, determinant)
        c = np.where(single, yc / np.maximum(cc, 1e-300), (yc * ss - ys * cs) / whole)
        s = np.where(single, 0.0, (ys * cc - yc * cs) / whole)
        explained = c * yc + s * ys
        better = explained > best + 1e-12
        best[better] = explained[better]
        steps[better] = tried[better]
        amplitudes[better] = np.hypot(c, s)[better]
        starts[better] = np.round(np.arctan2(-s, c)[better] * period / (2 * np.pi)).astype(np.int64) % period
    return _Lines(steps, starts, amplitudes)


def _palette(
    values: npt.NDArray[Any], axis: int, period: int, lines: _Lines, window: Floats, largest: float
) -> Palette | None:
    """The palette of lines and a window, if it gives the table back."""
    lines = _without_silence(lines, period)
    amplitudes, of_line = _amplitudes(lines.amplitudes)
    if len(amplitudes) > _MOST_AMPLITUDES or len(amplitudes) * period > MAX_EVEN_CODEBOOK:
        return None
    if len(np.unique(lines.steps)) < 2:  # a constant, or one wave
        return None
    length = values.shape[axis]
    single = np.float32 if values.dtype == np.float64 else values.dtype
    codebook = ((amplitudes[:, None] * _cosine(period)).reshape(-1) + 0.0).astype(single).astype(values.dtype)
    places = lines.places(length, period) + period * of_line[:, None]
    shape = (*np.delete(values.shape, axis).tolist(), length)
    indices = np.moveaxis(places.reshape(shape), -1, axis).reshape(-1).astype(index_type(len(codebook)))
    factors = (window * lines.amplitudes.max() * largest).astype(np.float32)
    factors[factors < _LEAST_WINDOW] = _LEAST_WINDOW
    if not np.isfinite(factors).all():
        return None
    palette = Palette(codebook, indices, values.shape, ChannelScales(factors, axis))
    error = np.abs(palette.expand().astype(np.float64) - values.astype(np.float64)).max()
    rounding = max(float(np.finfo(kind).eps) for kind in (values.dtype, np.float32))  # products are in float32
    return palette if error <= _ROUNDINGS * rounding * largest else None


def _without_silence(lines: _Lines, period: int) -> _Lines:
    """Lines of zeros as a zero of the others' cosine, if it has one: the codebook needs no period of zeros then."""
    silent = lines.amplitudes <= _SAME_AMPLITUDE * lines.amplitudes.max()
    if period % 4:
        return lines
    starts, steps = np.where(silent, period // 4, lines.starts), np.where(silent, 0, lines.steps)
    return _Lines(steps, starts, np.where(silent, lines.amplitudes.max(), lines.amplitudes))


def _amplitudes(found: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """The different amplitudes, the largest being 1, and which of them every line has."""
    order = np.argsort(found)
    ascending = found[order] / found.max()
    new = np.diff(ascending, prepend=-1.0) > _SAME_AMPLITUDE
    number = np.cumsum(new) - 1
    means = np.bincount(number, ascending) / np.bincount(number)
    of_line = np.empty(len(found), np.int64)
    of_line[order] = number
    return means / means.max(), of_line
