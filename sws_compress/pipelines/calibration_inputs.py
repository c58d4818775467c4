"""Calibration inputs as sets of arrays by input name, from whatever a caller has."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sws_compress.errors import ArgumentError, DataError
from sws_compress.messages import shown
from sws_compress.ort.activations import Feeds
from sws_compress.ort.given_inputs import as_array, in_type
from sws_compress.ort.user_models import load_feeds
from sws_compress.pipelines.source import Source
from sws_compress.train.request import batches_of

TRIAL_FEEDS = 16
"""Sets of inputs that layers are tried on and the quality is measured on, at most."""

HELD_OUT = 5
"""One of so many sets of inputs is kept for these trials: moments are not made of it."""

ROWS_PER_FEED = 8
"""Rows that a network with a free batch dimension gets at a time: activations are held for all of them."""

NUMBERS = (
    *(ir.DataType.FLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.BOOL),
    *(ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64),
    *(ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64),
)
"""Types of inputs that NumPy has as numbers."""

T = TypeVar("T")


def calibration_feeds(inputs: Any, source: Source) -> tuple[Feeds, ...]:
    """Sets of inputs to run a model on.

    Parameters
    ----------
    inputs
        Arrays by input name with many rows each, or one array for the only input; the path of an .npz file of them, or
        of a folder of such files; or an iterable of arrays by name, of arguments in the order of the model's inputs, or
        of lone arguments. Arrays may be torch tensors.
    source : Source
        The model.

    Raises
    ------
    ArgumentError
        If ``inputs`` is nothing of the kind.
    DataError
        If there are none, or if their names, types or shapes are not those of the model's inputs.
    """
    found = tuple(feed for given in given_sets(inputs) for feed in _split(_named(given, source), source.model))
    if not found:
        raise DataError("calibration inputs must not be empty, got none: give some hundred rows")
    for feed in found:
        _refuse_misfit(feed, source.model)
    return found


def _refuse_misfit(feed: Feeds, model: ir.Model) -> None:
    """Raise DataError if an input has another type or shape than the model states."""
    for value in model.graph.inputs:
        given, dtype = feed[str(value.name)], value.dtype
        if dtype not in NUMBERS or value.shape is None:
            continue
        sizes = value.shape.dims
        fits = len(sizes) == given.ndim and all(
            stated == found for stated, found in zip(sizes, given.shape, strict=True) if isinstance(stated, int)
        )
        if not fits or given.dtype != dtype.numpy():
            wanted = ", ".join(str(size) if isinstance(size, int) else "any" for size in sizes)
            raise DataError(
                f"calibration input {shown(str(value.name))} must be {dtype.numpy().name} ({wanted}), got "
                f"{given.dtype.name} {given.shape}: give what the model takes"
            )


def given_sets(inputs: Any) -> Iterable[Any]:
    """Sets of inputs as they were given; a lone array or tensor is one, whatever its rows.

    Raises
    ------
    ArgumentError
        If ``inputs`` is nothing of the kind that `calibration_feeds` takes.
    DataError
        If a file or loader cannot be read.
    """
    if isinstance(inputs, str | os.PathLike):
        path = Path(inputs)
        files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
        if not files:
            raise DataError(f"calibration folder {path} must hold .npz files, got none: write them with numpy.savez")
        return (load_feeds(file) for file in files)
    if isinstance(inputs, Mapping) or hasattr(inputs, "__array__"):
        return (inputs,)
    if isinstance(inputs, Iterable) and not isinstance(inputs, bytes):
        return batches_of(inputs, "calibration inputs")
    raise ArgumentError(
        f"calibration inputs must be arrays by name, a path, or an iterable of them, got {type(inputs).__name__}: "
        "for example a dict of arrays with some hundred rows"
    )


def _named(given: Any, source: Source) -> dict[str, Any]:
    """One set of inputs by name; what a module's loader yields besides, such as labels, is left out."""
    names = [str(value.name) for value in source.model.graph.inputs]
    if isinstance(given, list | tuple) and given and isinstance(given[0], Mapping):
        given = given[0]  # before the labels
    if isinstance(given, Mapping):
        labelled = source.module is not None and set(given) > set(names)
        arrays = {name: given[name] for name in names} if labelled else dict(given)
    else:
        arguments: Sequence[Any] = given if isinstance(given, list | tuple) else (given,)
        arrays = dict(zip(names, arguments, strict=False))  # labels that come after the inputs are left out
    if set(arrays) != set(names):
        raise DataError(
            f"calibration inputs must be named {', '.join(map(shown, names))}, got "
            f"{', '.join(shown(str(name)) for name in sorted(arrays)) or 'none'}: name them like the model's inputs"
        )
    types = {str(value.name): value.dtype for value in source.model.graph.inputs}
    return {name: _of_type(np.asarray(as_array(values)), types[name]) for name, values in arrays.items()}


def _of_type(values: npt.NDArray[Any], dtype: ir.DataType | None) -> npt.NDArray[Any]:
    """Numbers in the type of an input, where the model states one that NumPy has."""
    return in_type(values, dtype.numpy()) if dtype in NUMBERS else values


def _split(arrays: Mapping[str, Any], model: ir.Model) -> Iterable[dict[str, Any]]:
    """Arrays with many rows as sets of as many rows as the model takes; those without rows go into every set.

    Where the model takes a fixed number, the last set is filled with rows of the one before, so that none is left out.
    """
    sizes = {str(value.name): _rows(value) for value in model.graph.inputs}
    batched = {name for name, values in arrays.items() if values.ndim and sizes[name] is not None}
    counts = {len(arrays[name]) for name in batched}
    at_once = min((sizes[name] or ROWS_PER_FEED for name in batched), default=0)
    if len(counts) != 1 or not at_once or max(counts) <= at_once:
        return [dict(arrays)]
    (count,) = counts
    last = count - at_once if any(sizes[name] for name in batched) else count  # a full set that overlaps the one before
    return [
        {name: values[start : start + at_once] if name in batched else values for name, values in arrays.items()}
        for start in (min(start, last) for start in range(0, count, at_once))
    ]


def first_rows(given: Feeds, model: ir.Model, most: int) -> Feeds:
    """The first rows of a set of inputs, where all inputs have rows and the model takes any number of them."""
    free = all(_rows(value) == 0 for value in model.graph.inputs) and all(values.ndim for values in given.values())
    counts = {len(values) for values in given.values()} if free else set()
    return {name: values[:most] for name, values in given.items()} if len(counts) == 1 else given


def _rows(value: ir.Value) -> int | None:
    """Rows of an input: 0 if they are free, None if it has no axis."""
    if value.shape is None:
        return 0
    if not len(value.shape):
        return None
    rows = value.shape[0]
    return max(rows, 0) if isinstance(rows, int) else 0


def divided(feeds: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    """Sets of inputs for moments, and others for trials and checks; all for both if there are few."""
    if len(feeds) < HELD_OUT:
        return feeds, feeds
    apart = max(HELD_OUT, -(-len(feeds) // TRIAL_FEEDS))
    return [each for number, each in enumerate(feeds) if number % apart], feeds[::apart]
