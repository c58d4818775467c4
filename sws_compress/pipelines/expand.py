"""The way back: decode nodes and look-ups out, dense initialisers and Gathers in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import onnx

from sws_compress.errors import ModelError
from sws_compress.files import checked_output, write_atomically
from sws_compress.onnx_io.format.decoders import compressed_names
from sws_compress.onnx_io.format.mark import mark_of_proto
from sws_compress.onnx_io.read.on_disk import bytes_on_disk, whole_file
from sws_compress.onnx_io.write.plain import make_plain
from sws_compress.ort.decode import decoded_weights
from sws_compress.ort.session import check_runs
from sws_compress.pipelines.source import refuse_own_input
from sws_compress.report.result import ExpansionResult


@dataclass(frozen=True)
class Expansion:
    """A plain model, and the weights that were decoded for it."""

    data: bytes
    expanded: tuple[str, ...]


def expand_model(data: bytes) -> Expansion:
    """The compressed model with its weights as plain initialisers of the same names, bit for bit.

    Of the decoders nothing stays: no nodes, tables, functions, shapes or mark, so that the result can be compressed
    again. Raises ModelError for a model that is not compressed, VerificationError where ONNX Runtime does not decode.
    """
    proto = onnx.load_from_string(data)
    mark = mark_of_proto(proto)
    if mark is None:
        raise ModelError("model must be compressed to be expanded, got a plain one: it can be used as it is")
    weights = decoded_weights(data, compressed_names(proto, mark))
    make_plain(proto, mark, weights)
    return Expansion(proto.SerializeToString(deterministic=True), tuple(weights))


def expand(path: str | os.PathLike[str], output: str | os.PathLike[str]) -> ExpansionResult:
    """Write the compressed model at ``path`` as a plain dense ONNX file to ``output``.

    Weights are initialisers again, of the same names and bit for bit those that the compressed file decodes to; the
    result can be compressed again. Raises ModelError where ``path`` is no compressed model, OutputError where
    ``output`` cannot be written or is the input; nothing is written then.
    """
    source, target = Path(path), checked_output(output)
    data = whole_file(source)
    refuse_own_input(source, target)
    expansion = expand_model(data)
    check_runs(expansion.data)
    write_atomically(target, expansion.data)
    return ExpansionResult(target, bytes_on_disk(source), len(expansion.data), expansion.expanded)
