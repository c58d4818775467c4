"""Outputs of two models on the same inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from sws_compress.errors import VerificationError
from sws_compress.messages import shown
from sws_compress.ort.comparable import comparable_session
from sws_compress.ort.differences import (
    Differences,
    OutputDifference,
    difference,
    elements,
    same_structure,
    telling_difference,
)
from sws_compress.ort.sample_inputs import sample_inputs
from sws_compress.ort.session import Array, Model, SessionError, reason_of


def compare_outputs(
    original: Model, compressed: Model, feeds: Mapping[str, Array] | None = None, *, seed: int = 0, batch: int = 2
) -> tuple[OutputDifference, ...]:
    """Run two models on the same inputs.

    Parameters
    ----------
    original, compressed : bytes or path-like
        The models; the first one is the reference.
    feeds : mapping of str to ndarray, or None
        Inputs by name; None draws random ones (`sample_inputs`).
    seed, batch : int
        Seed, and size of free dimensions, of random inputs.

    Returns
    -------
    tuple of OutputDifference
        One for every output, in the order of the model.

    Raises
    ------
    VerificationError
        If the models do not run on these inputs, or differ in the names or shapes of their outputs.
    DataError
        If no inputs can be drawn.
    """
    with comparable_session(original) as reference, comparable_session(compressed) as candidate:
        names = [output.name for output in reference.outputs]
        if names != [output.name for output in candidate.outputs]:
            raise VerificationError(
                f"outputs must be {shown(names)}, got others in the compressed model: compare the right models"
            )
        if feeds is None:
            feeds = sample_inputs(reference, seed=seed, batch=batch)
        try:
            expected, actual = reference.run(feeds), candidate.run(feeds)
        except SessionError as error:
            raise VerificationError(
                f"models must run on sample inputs, got '{reason_of(error)}': pass inputs that fit"
            ) from error
    return tuple(difference(name, left, right) for name, left, right in zip(names, expected, actual, strict=True))


def differences_on(
    original: Model, compressed: Model, feeds: Iterable[Mapping[str, Array]]
) -> tuple[OutputDifference, ...]:
    """How far a compressed network is from the original on several inputs (`differences_from_original`).

    Parameters
    ----------
    original, compressed : bytes or path-like
        Models that this package made, with the same outputs.
    feeds : iterable of mapping of str to ndarray
        Inputs by name, one set after the other.

    Returns
    -------
    tuple of OutputDifference
        One for every output, in order.
    """
    with comparable_session(original, trusted=True) as reference, comparable_session(compressed, trusted=True) as other:
        found = [Differences(output.name) for output in reference.outputs]
        for given in feeds:
            for differences, left, right in zip(found, reference.run(given), other.run(given), strict=True):
                if same_structure(left, right):
                    differences.add(left, right)
                else:
                    differences.add_other(left)
    return tuple(differences.telling for differences in found)


def outputs_in_runtime(model: Model, feeds: Mapping[str, Array], *, optimize: bool = True) -> list[Array]:
    """Outputs of a model that this package made (`comparable_session`), in its order."""
    with comparable_session(model, trusted=True, optimize=optimize) as runtime:
        return runtime.run(feeds)


def largest_if_repeated(
    model: Model, feeds: Mapping[str, Array], expected: Sequence[Array], actual: Sequence[Array], tolerance: float
) -> float:
    """`largest_relative`; NaN where the model answers differently every time, so that no difference tells anything.

    Parameters
    ----------
    model : bytes or path-like
        The model that answered ``actual``.
    feeds : mapping of str to ndarray
        Inputs by name.
    expected, actual : sequence of ndarray
        The reference, and what is compared with it, in the order of the model's outputs.
    tolerance : float
        Only above it the model is run again.

    Raises
    ------
    VerificationError
        If an output has another shape, and would again.
    """
    with comparable_session(model, trusted=True) as runtime:
        names = [output.name for output in runtime.outputs]
    try:
        largest = largest_relative(names, expected, actual)
    except VerificationError:
        if _repeats(model, names, feeds, actual, tolerance):
            raise
        return np.nan
    return largest if largest <= tolerance or _repeats(model, names, feeds, actual, tolerance) else np.nan


def _repeats(
    model: Model, names: Sequence[str], feeds: Mapping[str, Array], outputs: Sequence[Array], tolerance: float
) -> bool:
    """Whether a new session of a model answers the same."""
    try:
        return largest_relative(names, outputs, outputs_in_runtime(model, feeds)) <= tolerance
    except VerificationError:  # other shapes
        return False


def differences_from_original(
    names: Sequence[str], expected: Sequence[Array], actual: Sequence[Array]
) -> tuple[OutputDifference, ...]:
    """How far a compressed network is from the original; other shapes are infinitely far, and no error.

    Parameters
    ----------
    names : sequence of str
        Names of the outputs.
    expected, actual : sequence of ndarray
        What the original and the compressed network answer to the same inputs.

    Returns
    -------
    tuple of OutputDifference
        One for every output, in order.
    """
    return tuple(
        telling_difference(name, left, right)
        if same_structure(left, right)
        else OutputDifference(name, np.inf, np.inf, np.inf, elements(left))
        for name, left, right in zip(names, expected, actual, strict=True)
    )


def largest_relative(names: Sequence[str], expected: Sequence[Array], actual: Sequence[Array]) -> float:
    """Largest difference of known outputs, each relative to the largest finite magnitude of its reference.

    Parameters
    ----------
    names : sequence of str
        Names of the outputs.
    expected, actual : sequence of ndarray
        The reference, and what is compared with it.

    Raises
    ------
    VerificationError
        If an output has another shape.
    """
    differences = (difference(name, left, right) for name, left, right in zip(names, expected, actual, strict=True))
    return max((each.largest_relative for each in differences), default=0.0)
