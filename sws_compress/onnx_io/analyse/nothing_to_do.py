"""Models that hold nothing to compress."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from sws_compress.errors import ModelError
from sws_compress.onnx_io.analyse.left_dense import dense_tensors, named, quantised
from sws_compress.onnx_io.analyse.weights import Weight
from sws_compress.thresholds import SMALLEST_WEIGHT


def refuse_nothing_to_do(name: str, model: ir.Model, weights: Sequence[Weight]) -> None:
    """Raise ModelError if a model has no weights, or if all of them are constant.

    Parameters
    ----------
    name : str
        What the error calls the model.
    model : ir.Model
        The model; its largest tensors are named in the error.
    weights : sequence of Weight
        The weights of at least SMALLEST_WEIGHT elements that were found in it.
    """
    if not weights:
        rule = f"must have a float weight of at least {SMALLEST_WEIGHT} elements"
        raise ModelError(f"model {name} {rule}, got none: {_why_none(model)}")
    if all(np.all(weight.values == weight.values.flat[0]) for weight in weights):
        raise ModelError(
            f"{weights[0].name} must not be constant, got {weights[0].values.flat[0]:g} everywhere and no other weight "
            "that varies: pass a trained model"
        )


def _why_none(model: ir.Model) -> str:
    """What the model holds instead of weights, and what can be done."""
    integers, floats = quantised(model), dense_tensors(model)
    if integers and integers[0].stored_bytes >= max((each.stored_bytes for each in floats), default=0):
        return f"it is quantised already, {named(integers)}; ship it as it is, or compress the float model"
    if not floats:
        return "it holds no floating-point tensors; ship it as it is, or export it with its weights as initialisers"
    return f"{named(floats)}; ship it as it is, or export it with its weights as initialisers"
