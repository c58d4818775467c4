"""The clusters of a model file: which weights share a value, as tables and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sws_compress.errors import ArgumentError, ModelError, OutputError
from sws_compress.files import AnyPath, checked_output
from sws_compress.onnx_io.analyse.inputs import input_shapes
from sws_compress.onnx_io.read.on_disk import whole_file
from sws_compress.ort.all_weights import all_weights, unscaled_weights
from sws_compress.ort.user_models import DECODABLE, callers_file
from sws_compress.report.clustered import ClusteredTensor, ClusterReport, Picture, clustered
from sws_compress.report.drawing import drawing

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
    file = Path(path)
    return _clusters(file, whole_file(file), None if original is None else Path(original))


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
    with callers_file(file, *DECODABLE):
        weights, units = all_weights(data), unscaled_weights(data)
    before = {}
    if original is not None:
        with callers_file(original, *DECODABLE):
            before = all_weights(whole_file(original))
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
    """The tensors with the most weights, in the order of the file."""
    chosen = sorted(tensors, key=lambda tensor: -tensor.palette.indices.size)[:DRAWN_TENSORS]
    return [tensor for tensor in tensors if tensor in chosen]
