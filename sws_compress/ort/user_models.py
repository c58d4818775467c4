"""The caller's own models in ONNX Runtime: whether they load, what they are fed, what they answer.

What goes wrong here is bad input: ModelError or DataError. `ort.session` and `ort.compare` speak of files that this
package wrote.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from sws_compress.errors import DataError, ModelError, VerificationError
from sws_compress.files import AnyPath
from sws_compress.messages import shown
from sws_compress.ort.comparable import comparable_session
from sws_compress.ort.differences import tells
from sws_compress.ort.given_inputs import as_input
from sws_compress.ort.sample_inputs import FREE_SIZES, drawn_type, sample_inputs, too_many
from sws_compress.ort.session import Session, SessionError, out_of_bounds, reason_of

Array = npt.NDArray[Any]


Feeds = Mapping[str, Array]
"""Inputs by name."""


DECODABLE = ("decode to weights in ONNX Runtime", "the file is damaged")
"""Rule and cure of a compressed file (`callers_file`)."""


def open_model(path: AnyPath) -> Session:
    """Load the model at ``path`` as it is run to be compared (`comparable_session`).

    Raises
    ------
    ModelError
        If ONNX Runtime does not take it.
    """
    with callers_file(path, "load in ONNX Runtime", "export it for this runtime, or install a newer one"):
        return comparable_session(path)


@contextmanager
def callers_file(path: AnyPath, rule: str, cure: str) -> Iterator[None]:
    """Work on a file of the caller's: what it does not pass is bad input, not a fault of this package.

    Parameters
    ----------
    path : path-like
        The file.
    rule : str
        What it must do.
    cure : str
        What to do if it does not.

    Raises
    ------
    ModelError
        If the work raises VerificationError.
    """
    try:
        yield
    except VerificationError as error:
        raise ModelError(f"model {os.fspath(path)} must {rule}, got '{reason_of(error)}': {cure}") from error


def feeds_for(model: Session, inputs: AnyPath | Feeds | None, *, seed: int) -> dict[str, Array]:
    """Inputs for a model.

    Parameters
    ----------
    model : Session
        The model.
    inputs : path-like, mapping of str to array-like, or None
        The inputs by name, or an .npz file of them; None draws random ones (`sample_inputs`).
    seed : int
        Seed of random inputs.

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    DataError
        If inputs are not named like those of the model, if all of them are empty, or if one holds no finite number; if
        none can be drawn.
    """
    if inputs is None:
        return sample_inputs(model, seed=seed, batch=FREE_SIZES[0])
    given = load_feeds(inputs) if isinstance(inputs, str | os.PathLike) else inputs
    stated = {entry.name: entry.type for entry in model.inputs}
    if set(given) != set(stated):
        raise DataError(
            f"inputs must be arrays named {_listed(list(stated))}, got {_listed(sorted(map(str, given)))}: "
            "name them like the model's inputs"
        )
    feeds = {name: as_input(name, values, stated[name]) for name, values in given.items()}
    _refuse_telling_nothing(feeds)
    return feeds


def _refuse_telling_nothing(feeds: Feeds) -> None:
    """Raise DataError if all inputs are empty (the past of a decoder's first step may be), or one is never finite."""
    arrays = {name: np.asarray(given) for name, given in feeds.items() if isinstance(given, np.ndarray)}
    if arrays and all(values.size == 0 for values in arrays.values()):
        name, values = next(iter(arrays.items()))
        raise DataError(
            f"input {shown(name)} must hold numbers, got shape {values.shape}: any two models would agree on it"
        )
    for name, values in arrays.items():
        if values.size and values.dtype.kind == "f" and not np.isfinite(values).any():
            found = "nothing but NaN" if np.isnan(values).all() else "no finite one"
            raise DataError(f"input {shown(name)} must hold numbers, got {found}: any two models would agree on it")


def feeds_with_answers(
    model: Session,
    path: AnyPath,
    inputs: AnyPath | Feeds | None,
    *,
    seed: int,
    ranges: Mapping[str, range],
) -> tuple[dict[str, Array], list[Array]]:
    """Inputs on which a model runs, and its outputs.

    Parameters
    ----------
    model : Session
        The model.
    path : path-like
        The file it comes from, for messages.
    inputs : path-like, mapping of str to array-like, or None
        As in `feeds_for`; None draws random ones, with free dimensions of `FREE_SIZES` in turn, and with booleans that
        are drawn, all true, or all false, until it runs. Where outputs are finite for no other inputs, floats are >= 0.
    seed : int
        Seed of random inputs.
    ranges : mapping of str to range
        What integer inputs may hold (`index_ranges`).

    Returns
    -------
    feeds : dict of str to ndarray
    outputs : list of ndarray

    Raises
    ------
    DataError
        If the model does not run on the given inputs, or on none of the random ones.
    """
    if inputs is not None:
        feeds = feeds_for(model, inputs, seed=seed)
        return feeds, answers(model, path, feeds, given=True)
    failures: list[DataError] = []
    all_flags = (None, True, False) if any(entry.type == "tensor(bool)" for entry in model.inputs) else (None,)
    for size, flags in itertools.product(FREE_SIZES, all_flags):
        if failures and too_many(model, size):
            continue
        feeds = sample_inputs(model, seed=seed, batch=size, ranges=ranges, flags=flags)
        try:
            outputs = answers(open_model(path) if failures else model, path, feeds, given=False)
        except DataError as error:
            failures.append(error)
            if out_of_bounds(error):  # larger ones take more
                break
            continue
        if any(map(tells, outputs)):
            return feeds, outputs
        draw = sample_inputs(model, seed=seed, batch=size, ranges=ranges, flags=flags, positive=True)
        return _better(path, (feeds, outputs), draw)
    raise failures[-1] if out_of_bounds(failures[-1]) else failures[0]


def _better(
    path: AnyPath, found: tuple[dict[str, Array], list[Array]], feeds: dict[str, Array]
) -> tuple[dict[str, Array], list[Array]]:
    """Other inputs with their outputs, if these hold finite numbers; else those that were ``found``."""
    try:
        outputs = answers(open_model(path), path, feeds, given=False)
    except DataError:
        return found
    return (feeds, outputs) if any(map(tells, outputs)) else found


def answers(model: Session, path: AnyPath, feeds: Feeds, *, given: bool) -> list[Array]:
    """Run a model.

    Parameters
    ----------
    model : Session
        The model.
    path : path-like
        The file it comes from, for messages.
    feeds : mapping of str to ndarray
        Its inputs by name.
    given : bool
        Whether the caller chose the inputs, for messages.

    Returns
    -------
    list
        The outputs, in the order of the model: arrays, and lists and dicts for sequences and maps.

    Raises
    ------
    DataError
        If the model does not run on these inputs.
    """
    try:
        outputs = model.run(feeds, given=given)
    except SessionError as error:
        kind, cure = (
            ("the given", "check their shapes and types")
            if given
            else ("random", "give inputs that fit, as an .npz file")
        )
        raise DataError(
            f"model {os.fspath(path)} must run on {kind} inputs, got '{reason_of(error)}': {cure}"
        ) from error
    return outputs


def run_model(model: AnyPath, feeds: Feeds) -> dict[str, Array]:
    """The outputs of an ONNX file by name, on inputs that the caller chose; errors as `open_model` and `answers`."""
    runtime = open_model(model)
    names = [output.name for output in runtime.outputs]
    return dict(zip(names, answers(runtime, model, feeds, given=True), strict=True))


def feeds_as(model: Session, feeds: Feeds) -> dict[str, Array]:
    """Inputs in the types that a model states: one of its weights in float16 may want them in float16, too."""
    stated = {entry.name: drawn_type(entry.type) for entry in model.inputs}
    return {
        name: values if stated[name] is None else _converted(values, stated[name]) for name, values in feeds.items()
    }


def _converted(values: Array, dtype: np.dtype[Any] | None) -> Array:
    numbers = isinstance(values, np.ndarray) and values.dtype.kind in "iuf"
    return values.astype(dtype) if numbers and values.dtype != dtype else values


def check_same_interface(first: Session, second: Session) -> None:
    """Check that two models have inputs and outputs of the same names, in any order.

    Raises
    ------
    ModelError
        If they do not.
    """
    for kind, left, right in (
        ("inputs", first.inputs, second.inputs),
        ("outputs", first.outputs, second.outputs),
    ):
        wanted, found = [entry.name for entry in left], [entry.name for entry in right]
        if sorted(wanted) != sorted(found):
            raise ModelError(
                f"{kind} of the second model must be {_listed(wanted)} as in the first, got {_listed(found)}: "
                "compare a model with its own compressed file"
            )


def load_feeds(path: AnyPath) -> dict[str, Array]:
    """The arrays of an .npz file.

    Raises
    ------
    DataError
        If it is none, or if it cannot be read.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise DataError(f"inputs {path} must be an ordinary file, got a directory, device or pipe: save them first")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except OSError as error:
        raise DataError(f"inputs {path} must be readable, got '{error.strerror or error}': check the path") from error
    except Exception as error:  # whatever a broken archive makes of NumPy and zipfile
        found = type(error).__name__
        if isinstance(error, TypeError):
            found = "a single array"  # of an .npy file, which is no context manager
        elif "Object arrays" in str(error):
            found = "arrays of Python objects, which lists of unequal lengths and None become"
        elif "pickle" in str(error):  # what NumPy takes all unknown bytes for
            found = "a file of another format"
        raise DataError(
            f"inputs {path} must be an .npz of arrays of numbers named like the model's inputs, got {found}: "
            "write it with numpy.savez(path, name=array, ...)"
        ) from error


def _listed(names: Sequence[str]) -> str:
    """Names on one line, each of bounded length."""
    return ", ".join(shown(name) for name in names) or "none"
