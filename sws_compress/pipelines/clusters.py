"""Which weights of a model file share which cluster: as tables, and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sws_compress.errors import ArgumentError, ModelError, OutputError
from sws_compress.files import AnyPath, checked_output
from sws_compress.onnx_io.analyse.inputs import input_shapes
from sws_compress.onnx_io.read.on_disk import whole_file
from sws_compress.ort.all_weights import all_weights, unscaled_weights
from sws_compress.report.clustered import ClusteredTensor, ClusterReport, Picture, clustered
from sws_compress.report.drawing import drawing

MOST_DRAWN = 8
"""Tensors in a picture, unless others are asked for."""


def clusters(path: AnyPath, *, original: AnyPath | None = None) -> ClusterReport:
    """The clusters of every weight in the model at ``path``, and where their members are.

    Of a tensor with scales they are those of the weights divided by the scale of their channel. With the ``original``
    model, whose weights have the same names and shapes, it is known how wide the weights of a cluster were spread.
    Raises ModelError where a path is no model, where no weight is clustered, or where the original has none of them.
    """
    file = Path(path)
    return _clusters(file, whole_file(file), None if original is None else Path(original))


def picture(path: AnyPath, output: AnyPath, *, tensors: Sequence[str] = ()) -> Picture:
    """Draw the weight matrices and kernels of the model at ``path`` in the colours of their clusters; ``output`` (PNG).

    ``tensors`` names those to draw; by default the MOST_DRAWN with the most weights. Raises as ``clusters``;
    ArgumentError for a name that is no clustered tensor, or where matplotlib is missing; OutputError.
    """
    target = checked_output(output)
    if target.suffix.lower() != ".png":
        raise OutputError(f"output {target} must end in .png, got {target.suffix or 'no ending'}: it is a picture")
    figures = drawing("cluster_figure")
    file = Path(path)
    data = whole_file(file)
    known = {tensor.name: tensor for tensor in _clusters(file, data, None).tensors if len(tensor.shape) > 1}
    if not known:
        raise ModelError(f"model {file} must have a clustered matrix or kernel, got vectors alone: nothing to draw")
    for name in tensors:
        if name not in known:
            raise ArgumentError(f"tensor must be one of {', '.join(known)}, got {name}: see inspect --clusters")
    drawn = [known[name] for name in tensors] or _largest(list(known.values()))
    figures.cluster_figure(drawn, input_shapes(data), target)
    names = tuple(tensor.name for tensor in drawn)
    return Picture(target, names, tuple(name for name in known if name not in names))


def _clusters(file: Path, data: bytes, original: Path | None) -> ClusterReport:
    weights = all_weights(data)
    before = {} if original is None else all_weights(whole_file(original))
    units = unscaled_weights(data)
    found = []
    for name, values in weights.items():
        unscaled, factors = units.get(name, (values, None))
        old = before.get(name)
        if factors is not None and old is not None and old.shape == unscaled.shape:
            old = np.divide(old, factors, dtype=np.float32, casting="unsafe")
        found.append(clustered(name, unscaled, old))
    tensors = tuple(tensor for tensor in found if tensor is not None)
    if not tensors:
        raise ModelError(
            f"model {file} must have weights of few distinct values, got none: compress it first, and name the result"
        )
    if original is not None and all(tensor.original is None for tensor in tensors):
        raise ModelError(
            f"original {original} must have the weights of {file}, got none of their names and shapes: "
            "name the model that was compressed"
        )
    known = {tensor.name for tensor in tensors}
    return ClusterReport(file, tensors, tuple(name for name in weights if name not in known))


def _largest(tensors: Sequence[ClusteredTensor]) -> list[ClusteredTensor]:
    """In the order of the file."""
    chosen = sorted(tensors, key=lambda tensor: -tensor.palette.indices.size)[:MOST_DRAWN]
    return [tensor for tensor in tensors if tensor in chosen]
