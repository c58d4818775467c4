"""How far the weights of two model files are apart, one weight after the other."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from sws_compress.onnx_io.analyse.weights import is_read_as_weight
from sws_compress.onnx_io.external_data import StoredModel
from sws_compress.onnx_io.read.on_disk import lifted
from sws_compress.ort.all_weights import TOGETHER_ELEMENTS, StoredWeights
from sws_compress.ort.session import Array
from sws_compress.ort.user_models import DECODABLE, callers_file

_PIECE_ELEMENTS = 1 << 21
"""Elements that are compared at a time."""


@dataclass(frozen=True)
class WeightDifference:
    """How far two models are apart in one weight.

    Parameters
    ----------
    name : str
        Name of the weight.
    relative_error : float
        Root mean square of the differences, divided by that of the first model's weight; 0 if all bits are equal.
    """

    name: str
    relative_error: float


def weight_differences(
    original: StoredModel,
    compressed: StoredModel,
    *,
    besides: Collection[str] = (),
    together_elements: int = TOGETHER_ELEMENTS,
) -> Iterator[WeightDifference]:
    """Compare the weights that have the same name and shape in two models, compressed or not.

    Parameters
    ----------
    original, compressed : StoredModel
        The models; the first one is the reference.
    besides : collection of str
        Names of weights that are not compared.
    together_elements : int
        Weights of the second model that are decoded together (`all_weights.decoded_parts`).

    Yields
    ------
    WeightDifference
        In the order in which the second model is decoded.
    """
    references = StoredWeights(original, together_elements=0)
    weights = StoredWeights(compressed, together_elements=together_elements)
    for weight in weights.each(set(weights.names).difference(besides)):
        with callers_file(original.path or Path(), *DECODABLE):
            reference = references.get(weight.name)
        if reference is not None and reference.values.shape == weight.values.shape:
            yield WeightDifference(weight.name, relative_error(reference.values, weight.values))
        del weight, reference  # not to be held while the next one is decoded


def computed_in_one(original: StoredModel, compressed: StoredModel) -> tuple[str, ...]:
    """Names that weights of one model share with what the other computes its weights from.

    A weight that `fold_weights` has computed has the name of the initialiser under it.

    Parameters
    ----------
    original, compressed : StoredModel
        The models.

    Returns
    -------
    tuple of str
        Weights of both models that products read in only one of them, behind nothing but moves.
    """
    first, second = lifted(original), lifted(compressed)
    left, right = _values(first), _values(second)
    others = set(StoredWeights(compressed).names)
    found = []
    for name in StoredWeights(original).names:
        if name in others and name in left and name in right:
            left[name].shape = right[name].shape = left[name].shape or right[name].shape
            if is_read_as_weight(left[name], first) != is_read_as_weight(right[name], second):
                found.append(name)
    return tuple(found)


def _values(model: ir.Model) -> dict[str, ir.Value]:
    """The initialisers of the main graph, and what its nodes compute, by name."""
    computed = (value for node in model.graph for value in node.outputs)
    return {str(value.name): value for value in (*model.graph.initializers.values(), *computed)}


def relative_error(expected: Array, actual: Array) -> float:
    """The `WeightDifference` of two arrays of one shape, in the memory of pieces; infinite where it is not known."""
    left, right = expected.reshape(-1), actual.reshape(-1)
    squares, scale = 0.0, 0.0
    for start in range(0, left.size, _PIECE_ELEMENTS):
        a, b = (array[start : start + _PIECE_ELEMENTS].astype(np.float64) for array in (left, right))
        with np.errstate(invalid="ignore", over="ignore"):
            difference = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, a - b)
            squares += float(np.square(difference).sum())
            scale += float(np.square(a[np.isfinite(a)]).sum())
    if squares == 0:
        return 0.0
    known = math.isfinite(squares) and math.isfinite(scale) and scale > 0
    return math.sqrt(squares / scale) if known else math.inf
