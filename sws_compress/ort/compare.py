"""Outputs of two models on the same inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sws_compress.errors import VerificationError
from sws_compress.onnx_io.messages import shown
from sws_compress.ort.fixed_draws import with_fixed_draws
from sws_compress.ort.sample_inputs import sample_inputs
from sws_compress.ort.session import Array, Model, SessionError, reason_of, session


@dataclass(frozen=True)
class OutputDifference:
    """How far two models are apart in one output.

    Parameters
    ----------
    name : str
        Name of the output.
    largest_absolute : float
        Largest absolute difference of two elements; inf if only one of them is NaN or infinite. NaN where both models
        give no finite number at all, which tells nothing about them.
    largest_relative : float
        The same, divided by the largest finite magnitude in the first model's output.
    """

    name: str
    largest_absolute: float
    largest_relative: float


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
    with session(with_fixed_draws(original)) as reference, session(with_fixed_draws(compressed)) as candidate:
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


def outputs_in_runtime(model: Model, feeds: Mapping[str, Array]) -> list[Array]:
    """Outputs of a model that this package made, in its order; random numbers are the same every time."""
    with session(with_fixed_draws(model), trusted=True) as runtime:
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
    with session(model, trusted=True) as runtime:
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
        telling_difference(name, left, right) if left.shape == right.shape else OutputDifference(name, np.inf, np.inf)
        for name, left, right in zip(names, expected, actual, strict=True)
    )


def largest_difference(model: Model, feeds: Mapping[str, Array], expected: Sequence[Array]) -> float:
    """Largest difference between the outputs of a model and known ones.

    Parameters
    ----------
    model : bytes or path-like
        The model, made by this package.
    feeds : mapping of str to ndarray
        Inputs by name.
    expected : sequence of ndarray
        The reference, in the order of the model's outputs.

    Returns
    -------
    float
        The largest over all outputs, each relative to the largest finite magnitude of its reference.

    Raises
    ------
    VerificationError
        If an output has another shape.
    """
    with session(with_fixed_draws(model), trusted=True) as runtime:
        names = [output.name for output in runtime.outputs]
        actual = runtime.run(feeds)
    return largest_relative(names, expected, actual)


def largest_relative(names: Sequence[str], expected: Sequence[Array], actual: Sequence[Array]) -> float:
    """`largest_difference` of outputs that are known already, by their names."""
    differences = (difference(name, left, right) for name, left, right in zip(names, expected, actual, strict=True))
    return max((each.largest_relative for each in differences), default=0.0)


def telling_difference(name: str, expected: Array, actual: Array) -> OutputDifference:
    """`difference`, but NaN where two models agree on nothing but NaN and infinities: no two would differ."""
    found = difference(name, expected, actual)
    if found.largest_absolute == 0 and expected.size and not np.isfinite(expected).any():
        return OutputDifference(name, np.nan, np.nan)
    return found


def difference(name: str, expected: Array, actual: Array) -> OutputDifference:
    """Compare two values of one output.

    Parameters
    ----------
    name : str
        Name of the output.
    expected, actual : ndarray
        The reference, and what is compared with it.

    Raises
    ------
    VerificationError
        If their shapes differ.
    """
    if expected.shape != actual.shape:
        raise VerificationError(
            f"output {shown(name)} must have shape {expected.shape}, got {actual.shape}: compare the right models"
        )
    if expected.size == 0:
        return OutputDifference(name, 0.0, 0.0)
    left, right = expected.astype(np.float64), actual.astype(np.float64)
    equal = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        distances = np.where(equal, 0.0, np.abs(left - right))
    largest = float(np.max(np.where(np.isnan(distances), np.inf, distances)))
    scale = float(np.max(np.abs(left[np.isfinite(left)]), initial=0.0))
    return OutputDifference(name, largest, largest / scale if scale else (0.0 if largest == 0 else np.inf))
