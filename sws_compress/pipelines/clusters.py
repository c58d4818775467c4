"""The clusters of a model file: which weights share a value, as tables and as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sws_compress.errors import ArgumentError, ModelError, OutputError
from sws_compress.files import AnyPath, checked_output, file_path
from sws_compress.messages import first_few
from sws_compress.onnx_io.analyse.inputs import input_shapes
from sws_compress.onnx_io.external_data import StoredModel
from sws_compress.onnx_io.read.on_disk import stored_model
from sws_compress.ort.all_weights import TOGETHER_ELEMENTS, StoredWeight, StoredWeights
from sws_compress.ort.session import Array
from sws_compress.ort.user_models import DECODABLE, callers_file
from sws_compress.report.cluster_report import ClusterReport, Picture
from sws_compress.report.clustered import MIN_CLUSTERED_WEIGHTS, ClusteredTensor, TensorClusters, clustered
from sws_compress.report.drawing import drawing
from sws_compress.thresholds import MAX_CODEBOOK

DRAWN_TENSORS = 8
"""Tensors in a picture where none are named."""


def clusters(path: AnyPath, *, original: AnyPath | None = None) -> ClusterReport:
    """Find the clusters of every weight in a compressed file, and where their members are.

    A tensor with scales is shown before scaling: its weights are divided by the scale of their channel.

    Parameters
    ----------
    path : str or path
        The compressed file.
    original : str or path, optional
        The model that was compressed. With it, the report tells how widely the weights of a cluster were spread.

    Returns
    -------
    ClusterReport
        One entry per clustered tensor.

    Raises
    ------
    ModelError
        If a file is no model, if no weight is clustered, or if the original has none of the clustered weights.

    Examples
    --------
    >>> import numpy as np, onnx, sws_compress as sws
    >>> text = '<ir_version: 8, opset_import: ["": 17]> net (float[n, 64] x) => (float[n, 64] y) {y = MatMul(x, w)}'
    >>> weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    >>> model = onnx.parser.parse_model(text)
    >>> model.graph.initializer.extend([onnx.numpy_helper.from_array(weight, "w")])
    >>> onnx.save(model, "model.onnx")
    >>> result = sws.compress("model.onnx", "small.onnx", sws.WeightsOnly(components=8))

    >>> [tensor.name for tensor in sws.clusters("small.onnx").tensors]
    ['w']
    """
    model = stored_model(file_path("path", path))
    return model_clusters(model, None if original is None else stored_model(file_path("original", original)))


def model_clusters(
    model: StoredModel, original: StoredModel | None = None, *, together_elements: int = TOGETHER_ELEMENTS
) -> ClusterReport:
    """`clusters` of opened models, one weight after the other; ``together_elements`` as in `decoded_parts`."""
    weights = StoredWeights(model, together_elements=together_elements)
    before = None if original is None else StoredWeights(original, together_elements=0)
    found: dict[str, TensorClusters] = {}
    file = model.path or Path()
    with callers_file(file, *DECODABLE):
        for weight in weights.each():
            with callers_file(file if original is None else original.path or Path(), *DECODABLE):
                old = None if before is None else before.get(weight.name)
            tensor = clustered_weight(weight, None if old is None else old.values)
            if tensor is not None:
                found[weight.name] = tensor.summary()
            del weight, old, tensor  # not to be held while the next one is decoded
    if not found:
        raise _nothing_clustered(file)
    if original is not None and not any(tensor.compared for tensor in found.values()):
        raise ModelError(
            f"original {original.path} must have the weights of {file}, got none of their names and shapes: "
            "name the model that was compressed"
        )
    known = tuple(found[name] for name in weights.names if name in found)
    return ClusterReport(file, known, tuple(name for name in weights.names if name not in found))


def clustered_weight(weight: StoredWeight, original: Array | None = None) -> ClusteredTensor | None:
    """Take a weight as clusters, before scaling if it is scaled.

    Parameters
    ----------
    weight : StoredWeight
        The weight in the file.
    original : ndarray, optional
        What it was before; it is divided by the same scales.

    Returns
    -------
    ClusteredTensor or None
        None for a weight of many distinct values (`clustered`).
    """
    values = weight.values
    if weight.factors is not None:
        values, scales = weight.factors
        if original is not None and original.shape == values.shape:
            original = np.divide(original, scales, dtype=np.float32, casting="unsafe")
    return clustered(weight.name, values, original)


def _nothing_clustered(file: Path) -> ModelError:
    return ModelError(
        f"model {file} must have weights of at most {MAX_CODEBOOK} distinct values, got none "
        "in floats: compress it first, at a quality that needs no more and without --memory packed, and name the result"
    )


def picture(path: AnyPath, output: AnyPath, *, tensors: Sequence[str] = ()) -> Picture:
    """Draw the weight matrices and kernels of a compressed file in the colours of their clusters.

    Parameters
    ----------
    path : str or path
        The compressed file.
    output : str or path
        Where the picture goes; it ends in .png.
    tensors : sequence of str
        The tensors to draw. By default the eight with the most weights.

    Returns
    -------
    Picture
        The file, the tensors in it, and those that were left out.

    Raises
    ------
    ArgumentError
        If a name is no clustered tensor, or if matplotlib is missing.
    ModelError
        If the file is no model, or if it has no clustered matrix or kernel.
    OutputError
        If the picture cannot be written.
    """
    target = checked_output(output)
    if target.suffix.lower() != ".png":
        raise OutputError(f"output {target} must end in .png, got {target.suffix or 'no ending'}: it is a picture")
    figures = drawing("cluster_figure")
    model = stored_model(file_path("path", path))
    with callers_file(model.path or Path(), *DECODABLE):
        drawn, left_out = drawn_tensors(model, tensors)
    figures.cluster_figure(drawn, input_shapes(model.proto), target)
    return Picture(target, tuple(tensor.name for tensor in drawn), left_out)


def drawn_tensors(model: StoredModel, names: Sequence[str]) -> tuple[list[ClusteredTensor], tuple[str, ...]]:
    """The tensors of a picture. Only these are decoded, and what turns out to have no clusters.

    Parameters
    ----------
    model : StoredModel
        The model.
    names : sequence of str
        The tensors to draw, in order. If there are none, the `DRAWN_TENSORS` with the most weights are drawn, in the
        order of the file.

    Returns
    -------
    drawn : list of ClusteredTensor
        They hold one byte a weight.
    left_out : tuple of str
        Names of the other matrices and kernels: in a compressed file, of those that are decoded.

    Raises
    ------
    ArgumentError
        If one of ``names`` is no clustered matrix or kernel.
    ModelError
        If there is none at all.
    """
    weights = StoredWeights(model)
    shapes = weights.shapes()
    matrices = [name for name in weights.names if name not in shapes or _may_be_drawn(shapes[name])]
    found: dict[str, ClusteredTensor] = {}
    left = list(names) or sorted(matrices, key=lambda name: -math.prod(shapes.get(name, (math.inf,))))
    seen: set[str] = set()
    while left and len(found) < (len(names) or DRAWN_TENSORS):
        some = left[: (len(names) or DRAWN_TENSORS) - len(found)]
        left = left[len(some) :]
        seen.update(some)
        found |= {tensor.name: tensor for tensor in map(clustered_weight, weights.each(some)) if tensor is not None}
        found = {name: tensor for name, tensor in found.items() if len(tensor.shape) > 1}
    for name in names:
        if name not in matrices:
            raise ArgumentError(
                f"tensor must be one of {first_few(matrices, ', ')}, got {name}: see inspect --clusters"
            )
        if name not in found:
            raise ArgumentError(f"tensor {name} must have few distinct values, got many: see inspect --clusters")
    if not found:
        if any(clustered_weight(weight) for weight in weights.each(set(shapes) - set(matrices))):
            raise ModelError(
                f"model {model.path} must have a clustered matrix or kernel, got vectors alone: nothing to draw"
            )
        raise _nothing_clustered(model.path or Path())
    order = names or [name for name in weights.names if name in found]
    others = [name for name in weights.compressed or weights.names if name in matrices and name not in seen]
    return [found[name] for name in order], tuple(others)


def _may_be_drawn(shape: tuple[int, ...]) -> bool:
    return len(shape) > 1 and math.prod(shape) >= MIN_CLUSTERED_WEIGHTS
