"""Models that hold nothing to compress."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from sws_compress.errors import ModelError
from sws_compress.onnx_io.analyse.weights import Weight, skipped_weights
from sws_compress.thresholds import SMALLEST_WEIGHT


def refuse_nothing_to_do(name: str, model: ir.Model, weights: Sequence[Weight]) -> None:
    """Raise ModelError if a model has no weights, or if all of them are constant.

    Parameters
    ----------
    name : str
        What the error calls the model.
    model : ir.Model
        The model; its largest skipped weight is named in the error.
    weights : sequence of Weight
        The weights of at least SMALLEST_WEIGHT elements that were found in it.
    """
    if not weights:
        skipped = skipped_weights(model, smallest=SMALLEST_WEIGHT)
        largest = max(skipped, key=lambda one: math.prod(one.shape), default=None)
        found = "" if largest is None else f"; the largest, {largest.name}, {largest.reason}"
        raise ModelError(
            f"model {name} must have a float weight of at least {SMALLEST_WEIGHT} elements, got none{found}: "
            "it is small enough already, or its weights are not constants"
        )
    if all(np.all(weight.values == weight.values.flat[0]) for weight in weights):
        raise ModelError(
            f"{weights[0].name} must not be constant, got {weights[0].values.flat[0]:g} everywhere and no other weight "
            "that varies: pass a trained model"
        )
