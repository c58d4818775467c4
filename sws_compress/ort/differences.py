"""How far two values of one output are apart: arrays of numbers or text, and sequences and maps of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sws_compress.errors import VerificationError
from sws_compress.messages import shown
from sws_compress.ort.session import Array

LEVEL_BYTES = 1
"""Integers of so few bytes are pixels or quantised values, of which one more is little. Wider ones are numbers of
things: next to class 11 lies another class."""

Output = Any
"""What the runtime returns for an output: an array, a list or dict of outputs, a number, text, or None."""


@dataclass(frozen=True)
class OutputDifference:
    """How far two models are apart in one output.

    Parameters
    ----------
    name : str
        Name of the output.
    largest_absolute : float
        Largest absolute difference of two elements; inf if only one of them is NaN or infinite. Texts that differ are 1
        apart. NaN where both models give no finite number at all, which tells nothing about them.
    largest_relative : float
        The same, divided by the largest finite magnitude in the first model's output.
    relative_error : float
        Norm of all differences over the norm of the first model's output: what rounded weights do to it on the whole.
        Inf and NaN as above.
    elements : int
        Elements of the first model's output. There is nothing to compare in an empty one.
    differing_share : float, optional
        Share of the entries that differ, 0..1, in outputs of names: texts, booleans, and integers of more than
        `LEVEL_BYTES`. None in outputs of quantities.
    """

    name: str
    largest_absolute: float
    largest_relative: float
    relative_error: float
    elements: int
    differing_share: float | None = None

    @property
    def deviation(self) -> float:
        """The most that any entry differs: the share of names that do, or else the largest relative difference.

        Where shapes differ, or numbers are infinitely far apart, it is inf.
        """
        return self.largest_relative if self.differing_share is None else self.differing_share

    @property
    def error(self) -> float:
        """How far the models are apart on the whole: the share of names that differ, or else the relative error.

        Where shapes differ, or numbers are infinitely far apart, it is inf.
        """
        return self.relative_error if self.differing_share is None else self.differing_share

    @property
    def untold(self) -> str | None:
        """Why nothing of the output could be compared; None if something was."""
        if not self.elements:
            return "is empty"
        return "holds no finite number" if np.isnan(self.largest_relative) else None


class Differences:
    """How far two models are apart in one output, on several inputs.

    Parameters
    ----------
    name : str
        Name of the output.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._largest = self._scale = self._change = self._energy = 0.0
        self._elements = self._differing = 0
        self._names: list[bool] = []
        self._told = self._other = False

    def add(self, expected: Output, actual: Output) -> None:
        """Add the answers of both models to some inputs, of the same structure (`same_structure`)."""
        self._told |= tells(expected)
        for (_, wanted), (_, found) in zip(_leaves(expected), _leaves(actual), strict=True):
            if wanted.size:
                self._add(wanted, found)

    def add_other(self, expected: Output) -> None:
        """Add an answer to which the other model's has another structure."""
        self._other = True
        self._elements += elements(expected)

    @property
    def found(self) -> OutputDifference:
        """The difference so far."""
        if self._other:
            return OutputDifference(self._name, np.inf, np.inf, np.inf, self._elements)
        relative = _ratio(self._largest, self._scale)
        error = math.sqrt(_ratio(self._change, self._energy))
        if not math.isfinite(self._energy):  # numbers beyond 1e154
            error = relative
        share = self._differing / self._elements if self._names and all(self._names) else None
        return OutputDifference(self._name, self._largest, relative, error, self._elements, share)

    @property
    def telling(self) -> OutputDifference:
        """The same, but NaN where two models agree on nothing but NaN and infinities: no two would differ."""
        if self._largest == 0 and self._elements and not self._told and not self._other:
            return OutputDifference(self._name, np.nan, np.nan, np.nan, self._elements)
        return self.found

    def _add(self, expected: Array, actual: Array) -> None:
        self._elements += expected.size
        self._names.append(_holds_names(expected) and _holds_names(actual))
        self._differing += int(np.count_nonzero(expected != actual))
        if _is_text(expected):
            distances, magnitudes = (expected != actual).astype(np.float64), np.ones(1)
        else:
            left, right = expected.astype(np.float64), actual.astype(np.float64)
            equal = (expected == actual) | (np.isnan(left) & np.isnan(right))
            with np.errstate(invalid="ignore", over="ignore"):
                distances = np.where(equal, 0.0, np.abs(left - right))
            if expected.dtype.kind in "iu" and actual.dtype.kind in "iu":
                distances = np.where(equal, 0.0, np.maximum(distances, 1.0))  # float64 rounds integers beyond 2^53
            distances, magnitudes = np.where(np.isnan(distances), np.inf, distances), np.abs(left[np.isfinite(left)])
        self._largest = max(self._largest, float(np.max(distances)))
        self._scale = max(self._scale, float(np.max(magnitudes, initial=0.0)))
        with np.errstate(over="ignore"):
            self._change += float(np.square(distances).sum())
            self._energy += expected.size if _is_text(expected) else float(np.square(magnitudes).sum())


def telling_difference(name: str, expected: Output, actual: Output) -> OutputDifference:
    """`difference`, but NaN where two models agree on nothing but NaN and infinities: no two would differ."""
    return _checked(name, expected, actual).telling


def difference(name: str, expected: Output, actual: Output) -> OutputDifference:
    """Compare two values of one output.

    Parameters
    ----------
    name : str
        Name of the output.
    expected, actual : ndarray, list, dict, number, str or None
        The reference, and what is compared with it.

    Raises
    ------
    VerificationError
        If they have other shapes, or other parts.
    """
    return _checked(name, expected, actual).found


def _checked(name: str, expected: Output, actual: Output) -> Differences:
    """The differences of two values of the same structure; errors as `difference`."""
    left, right = dict(_leaves(expected)), dict(_leaves(actual))
    if left.keys() != right.keys():
        raise VerificationError(
            f"output {shown(name)} must have the parts {shown(_listed(left))}, got {shown(_listed(right))}: "
            "compare the right models"
        )
    for part, values in left.items():
        if (found := _stated(right[part])) != (wanted := _stated(values)):
            raise VerificationError(
                f"output {shown(name + part)} must have shape {wanted}, got {found}: compare the right models"
            )
    differences = Differences(name)
    differences.add(expected, actual)
    return differences


def tells(output: Output) -> bool:
    """Whether an output holds text, or a finite number: otherwise any two models agree on it."""
    return any(values.size and (_is_text(values) or np.isfinite(values).any()) for _, values in _leaves(output))


def elements(output: Output) -> int:
    """Numbers and texts in an output."""
    return sum(values.size for _, values in _leaves(output))


def same_structure(expected: Output, actual: Output) -> bool:
    """Whether two outputs have the same parts, of the same shapes."""
    shapes = [[(part, values.shape, _is_text(values)) for part, values in _leaves(each)] for each in (expected, actual)]
    return shapes[0] == shapes[1]


def _ratio(part: float, whole: float) -> float:
    """A quotient; of 0 by 0 it is 0."""
    return part / whole if whole else (0.0 if part == 0 else math.inf)


def _leaves(output: Output, part: str = "") -> Iterator[tuple[str, Array]]:
    """The arrays in an output, each with its place; None has none."""
    if isinstance(output, Mapping):
        for key in sorted(output, key=repr):
            yield from _leaves(output[key], f"{part}[{key!r}]")
    elif isinstance(output, list | tuple):
        for index, each in enumerate(output):
            yield from _leaves(each, f"{part}[{index}]")
    elif output is not None:
        yield part, np.asarray(output)


def _stated(values: Array) -> str:
    """Shape of an array, and whether it holds text, in words."""
    return f"{values.shape}{' of text' if _is_text(values) else ''}"


def _holds_names(values: Array) -> bool:
    """Whether values say which, and not how much."""
    return _is_text(values) or values.dtype.kind == "b" or (values.dtype.kind in "iu" and values.itemsize > LEVEL_BYTES)


def _is_text(values: Array) -> bool:
    return values.dtype.kind in "OUS"


def _listed(parts: Mapping[str, Array]) -> str:
    return ", ".join(parts) or "none"
