"""Compressed models turned into plain ones: decoders go, dense initialisers come."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from sws_compress.errors import ModelError
from sws_compress.files import AnyPath, checked_output, write_atomically
from sws_compress.onnx_io.format.decoders import compressed_names
from sws_compress.onnx_io.format.mark import mark_of_proto
from sws_compress.onnx_io.read.on_disk import bytes_on_disk, refuse_overwriting, whole_file
from sws_compress.onnx_io.write.plain import make_plain
from sws_compress.ort.decode import decoded_weights
from sws_compress.ort.session import check_runs
from sws_compress.ort.user_models import DECODABLE, callers_file
from sws_compress.report.result import ExpansionResult


@dataclass(frozen=True)
class Expansion:
    """A plain model.

    Parameters
    ----------
    data : bytes
        The file.
    expanded : tuple of str
        Names of the weights that were decoded for it.
    """

    data: bytes
    expanded: tuple[str, ...]


def expand_model(data: bytes) -> Expansion:
    """Turn a compressed model into a plain one whose initialisers hold the decoded weights, bit for bit.

    Nothing stays of the decoders: no nodes, tables, functions, shapes or mark. The result can be compressed again.

    Raises
    ------
    ModelError
        If the model is not compressed.
    VerificationError
        If ONNX Runtime does not decode it.
    """
    proto = onnx.load_from_string(data)
    mark = mark_of_proto(proto)
    if mark is None:
        raise ModelError("model must be compressed to be expanded, got a plain one: use it as it is")
    weights = decoded_weights(data, compressed_names(proto, mark))
    make_plain(proto, mark, weights)
    return Expansion(proto.SerializeToString(deterministic=True), tuple(weights))


def expand(path: AnyPath, output: AnyPath) -> ExpansionResult:
    """Write a compressed file as a plain dense ONNX file.

    Weights become initialisers again, under the same names and bit for bit as the compressed file decodes them. The
    result can be compressed again.

    Parameters
    ----------
    path : str or path
        The compressed file.
    output : str or path
        Where the plain file goes.

    Returns
    -------
    ExpansionResult
        Sizes, and the names of the decoded weights.

    Raises
    ------
    ModelError
        If the file is no compressed model, or if it is damaged.
    OutputError
        If the output cannot be written, or if it is the input.

    Examples
    --------
    >>> import numpy as np, onnx, sws_compress as sws
    >>> text = '<ir_version: 8, opset_import: ["": 17]> net (float[n, 64] x) => (float[n, 64] y) {y = MatMul(x, w)}'
    >>> weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    >>> model = onnx.parser.parse_model(text)
    >>> model.graph.initializer.extend([onnx.numpy_helper.from_array(weight, "w")])
    >>> onnx.save(model, "model.onnx")
    >>> result = sws.compress("model.onnx", "small.onnx", sws.WeightsOnly(components=8))

    >>> sws.expand("small.onnx", "dense.onnx").expanded
    ('w',)
    """
    source, target = Path(path), checked_output(output)
    data = whole_file(source)
    refuse_overwriting(source, target)
    with callers_file(source, *DECODABLE):
        expansion = expand_model(data)
    with callers_file(source, "become a sound model without its decoders", "the file is damaged"):
        check_runs(expansion.data)
    write_atomically(target, expansion.data)
    return ExpansionResult(target, bytes_on_disk(source), len(expansion.data), expansion.expanded)
