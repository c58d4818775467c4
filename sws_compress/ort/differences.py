"""How far two values of one output are apart: arrays of numbers or text, and sequences and maps of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sws_compress.errors import VerificationError
from sws_compress.onnx_io.messages import shown
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
    elements : int
        Elements of the first model's output. There is nothing to compare in an empty one.
    differing_share : float, optional
        Share of the entries that differ, 0..1, in outputs of names: texts, booleans, and integers of more than
        `LEVEL_BYTES`. None in outputs of quantities.
    """

    name: str
    largest_absolute: float
    largest_relative: float
    elements: int
    differing_share: float | None = None

    @property
    def deviation(self) -> float:
        """What tells how far the models are apart: the share of names that differ, or else the relative difference.

        Where shapes differ, or numbers are infinitely far apart, it is inf.
        """
        return self.largest_relative if self.differing_share is None else self.differing_share

    @property
    def untold(self) -> str | None:
        """Why nothing of the output could be compared; None if something was."""
        if not self.elements:
            return "is empty"
        return "holds no finite number" if np.isnan(self.largest_relative) else None


def telling_difference(name: str, expected: Output, actual: Output) -> OutputDifference:
    """`difference`, but NaN where two models agree on nothing but NaN and infinities: no two would differ."""
    found = difference(name, expected, actual)
    if found.largest_absolute == 0 and found.elements and not tells(expected):
        return OutputDifference(name, np.nan, np.nan, found.elements)
    return found


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
    pairs = [(values, right[part]) for part, values in left.items() if values.size]
    return _difference_of_all(name, pairs)


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


def _difference_of_all(name: str, pairs: Sequence[tuple[Array, Array]]) -> OutputDifference:
    """The largest difference of all pairs, relative to the largest finite magnitude of all first ones."""
    largest = scale = 0.0
    for expected, actual in pairs:
        if _is_text(expected):
            largest, scale = max(largest, float((expected != actual).any())), max(scale, 1.0)
            continue
        left, right = expected.astype(np.float64), actual.astype(np.float64)
        equal = (expected == actual) | (np.isnan(left) & np.isnan(right))
        with np.errstate(invalid="ignore", over="ignore"):
            distances = np.where(equal, 0.0, np.abs(left - right))
        if expected.dtype.kind in "iu" and actual.dtype.kind in "iu":
            distances = np.where(equal, 0.0, np.maximum(distances, 1.0))  # float64 rounds integers beyond 2^53
        largest = max(largest, float(np.max(np.where(np.isnan(distances), np.inf, distances))))
        scale = max(scale, float(np.max(np.abs(left[np.isfinite(left)]), initial=0.0)))
    elements = sum(expected.size for expected, _ in pairs)
    relative = largest / scale if scale else (0.0 if largest == 0 else np.inf)
    return OutputDifference(name, largest, relative, elements, _differing_share(pairs))


def _differing_share(pairs: Sequence[tuple[Array, Array]]) -> float | None:
    """Share of entries that differ; None if there are none, or if some are quantities."""
    if not pairs or not all(map(_holds_names, itertools.chain(*pairs))):
        return None
    differing = sum(np.count_nonzero(expected != actual) for expected, actual in pairs)
    return float(differing / sum(expected.size for expected, _ in pairs))


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
