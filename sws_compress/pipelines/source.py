"""What every pipeline checks of an ONNX file before it starts."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from sws_compress.errors import ArgumentError, ModelError, OutputError
from sws_compress.onnx_io.analyse.weights import Weight, skipped_weights
from sws_compress.onnx_io.read.model import read_model
from sws_compress.onnx_io.read.on_disk import external_files
from sws_compress.ort.conversion import check_conversion
from sws_compress.ort.user_models import Feeds, answers, feeds_for, open_model
from sws_compress.thresholds import SMALLEST_WEIGHT

OnProgress = Callable[[str, int, int], None]
"""Called as ``on_progress(description, done, total)``."""


def silent(description: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


def open_source(source: Path, *targets: Path) -> ir.Model:
    """The model at ``source``, which may be written to ``targets``.

    Raises ModelError where it is no sound model or its conversion from an older opset computes something else,
    OutputError where a target is the model itself.
    """
    model = read_model(source)
    check_conversion(source, model)
    refuse_own_input(source, *targets)
    return model


def refuse_own_input(source: Path, *targets: Path) -> None:
    """OutputError if writing one of ``targets`` would overwrite the model or its external data."""
    for file, target in itertools.product((source, *external_files(source)), targets):
        if target.exists() and target.samefile(file):
            raise OutputError(f"output {target} must not be the input, got the same file: choose another path")


def checked_feeds(source: Path, inputs: Any, seed: int) -> Feeds:
    """Inputs on which the original runs: found out before the work, and not taken for a failure of the result."""
    if not (inputs is None or isinstance(inputs, str | os.PathLike | Mapping)):
        raise ArgumentError(
            f"example_inputs of an ONNX file must be arrays by input name, got {type(inputs).__name__}: "
            "pass a dict, or the path of an .npz file"
        )
    original = open_model(source)
    feeds = feeds_for(original, inputs, seed=seed)
    answers(original, source, feeds, given=inputs is not None)
    return feeds


def refuse_nothing_to_do(source: Path, model: ir.Model, weights: Sequence[Weight]) -> None:
    if not weights:
        skipped = max(
            skipped_weights(model, smallest=SMALLEST_WEIGHT), key=lambda one: np.prod(one.shape), default=None
        )
        largest = "" if skipped is None else f"; the largest, {skipped.name}, {skipped.reason}"
        raise ModelError(
            f"model {source} must have a float weight of at least {SMALLEST_WEIGHT} elements, got none{largest}: "
            "it is small enough already, or its weights are no constants"
        )
    if all(np.all(weight.values == weight.values.flat[0]) for weight in weights):
        raise ModelError(
            f"{weights[0].name} must not be constant, got {weights[0].values.flat[0]:g} everywhere and no other weight "
            "that varies: pass a trained model"
        )
