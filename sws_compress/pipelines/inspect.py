"""What a model file holds, tensor by tensor, compressed or not."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from sws_compress.codec.encodings import recognise
from sws_compress.codec.transforms.scales import scaled_name
from sws_compress.entropy import entropy_bits
from sws_compress.files import AnyPath
from sws_compress.onnx_io.analyse.tensor_kinds import is_listed, tensor_kinds
from sws_compress.onnx_io.analyse.weights import skipped_weights
from sws_compress.onnx_io.format.byte_shares import decoder_parts, own_bytes
from sws_compress.onnx_io.format.decoders import Decoder, find_decoders
from sws_compress.onnx_io.format.mark import Mark, mark_of_proto
from sws_compress.onnx_io.format.sizes import framed
from sws_compress.onnx_io.map_types import model_from_proto
from sws_compress.onnx_io.read.lift import lift_constants
from sws_compress.onnx_io.read.on_disk import bytes_on_disk, whole_file
from sws_compress.ort.decode import NOTHING_DECODED, decoded_weights, measured_decoding
from sws_compress.ort.session import Array
from sws_compress.ort.user_models import DECODABLE, callers_file
from sws_compress.report.inspection import ModelParts, TensorRow
from sws_compress.report.result import Inspection
from sws_compress.thresholds import SMALLEST_LISTED_TENSOR


def inspect(path: AnyPath) -> Inspection:
    """What a model file is made of, compressed or not.

    Parameters
    ----------
    path : str or path
        An ONNX file; external data counts.

    Returns
    -------
    Inspection
        A row per weight tensor with its encoding, entropy and bytes, and the bytes of the rest.

    Raises
    ------
    ModelError
        If there is no sound model.

    Examples
    --------
    >>> import numpy as np, onnx, sws_compress as sws
    >>> text = '<ir_version: 8, opset_import: ["": 17]> net (float[n, 64] x) => (float[n, 64] y) {y = MatMul(x, w)}'
    >>> weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    >>> model = onnx.parser.parse_model(text)
    >>> model.graph.initializer.extend([onnx.numpy_helper.from_array(weight, "w")])
    >>> onnx.save(model, "model.onnx")

    >>> for row in sws.inspect("model.onnx").parts.rows:
    ...     print(row.name, row.shape, row.encoding, row.file_bytes)
    w (64, 64) dense 16401
    """
    file = Path(path)
    data = whole_file(file)
    with callers_file(file, *DECODABLE):
        parts = inspect_model(data)
    return Inspection(file, bytes_on_disk(file), parts)


def inspect_model(data: bytes, *, written: bool = False) -> ModelParts:
    """Take a model file apart; one that was ``written`` just now is trusted, and its decoding is not measured.

    Every byte counts once: in a tensor's row, in ``shared_bytes`` or in ``graph_bytes``.
    """
    proto = onnx.load_from_string(data)
    mark = mark_of_proto(proto)
    return _inspect_plain(proto, len(data)) if mark is None else _inspect_compressed(proto, data, mark, written)


def _inspect_plain(proto: onnx.ModelProto, total: int) -> ModelParts:
    """Rows of all listed constants, those in bodies and functions included; equal ones share a row."""
    model = model_from_proto(proto)
    lift_constants(model)
    rows = []
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and is_listed(tensor.dtype, tensor.size):
            own = framed(ir.to_proto(tensor).ByteSize())
            kind = tensor_kinds(model, {name: tensor.dtype})[name]
            rows.append(_row(name, tensor.numpy(), "dense", own, total, kind))
    graph = total - sum(row.file_bytes for row in rows)
    return ModelParts(tuple(rows), total, 0, graph, None, skipped_weights(model, smallest=SMALLEST_LISTED_TENSOR))


def _inspect_compressed(proto: onnx.ModelProto, data: bytes, mark: Mark, written: bool) -> ModelParts:
    decoders = find_decoders(proto, mark)
    decoding = {name for part in decoders.values() for name in part.values}
    dense = {
        tensor.name: framed(tensor.ByteSize())
        for tensor in proto.graph.initializer
        if is_listed(ir.DataType(tensor.data_type), math.prod(tensor.dims)) and tensor.name not in decoding
    }
    unscaled = {name: part.unscaled for name, part in decoders.items() if part.unscaled is not None}
    names = dict.fromkeys([*decoders, *dense, *unscaled.values()])
    if written:
        values, measured = decoded_weights(data, names, trusted=True), NOTHING_DECODED
    else:
        values, measured = measured_decoding(data, names)
    units = {name: values[unit] for name, unit in unscaled.items()}
    symbols = {name: unit for name, unit in units.items() if unit.dtype == np.float32 and unit.size}
    symbols = {name: unit for name, unit in symbols.items() if unit.shape == values[name].shape}
    own = dense | own_bytes(proto, decoders, {name: values[name].size for name in decoders})
    encodings = {name: _encoding(part) for name, part in decoders.items()} | dict.fromkeys(dense, "dense")
    lengths = {name: part.vector_length for name, part in decoders.items()}
    types = {name: ir.DataType.from_numpy(values[name].dtype) for name in encodings}
    kinds = tensor_kinds(model_from_proto(proto), types)
    rows = tuple(
        _row(name, symbols.get(name, values[name]), encoding, own[name], len(data), kinds[name], lengths.get(name, 1))
        for name, encoding in encodings.items()
    )
    every = sum(size for size, _ in decoder_parts(proto, decoders))
    shared = every - sum(own[name] for name in decoders)
    graph = len(data) - shared - sum(own.values())
    return ModelParts(rows, len(data), shared, graph, mark.version, decoding=measured)


def _encoding(decoder: Decoder) -> str:
    name = recognise(decoder.operators)
    return name if decoder.unscaled is None else scaled_name(name)


def _row(name: str, values: Array, encoding: str, own: int, total: int, kind: str, vector_length: int = 1) -> TensorRow:
    counts = _counts(values, vector_length)
    entropy = entropy_bits(counts) / max(values.size, 1)
    zeros = float(np.count_nonzero(values == 0)) / max(values.size, 1)
    return TensorRow(name, values.shape, encoding, counts.size, zeros, entropy, own, own / total, kind)


def _counts(values: Array, vector_length: int) -> Array:
    """How often each bit pattern of ``vector_length`` consecutive values occurs."""
    patterns = values.reshape(-1).view(f"u{values.dtype.itemsize}")
    if vector_length > 1 and patterns.size % vector_length == 0:
        rows = np.ascontiguousarray(patterns).view(np.dtype((np.void, vector_length * values.dtype.itemsize)))
        return np.unique(rows, return_counts=True)[1]
    patterns = np.sort(patterns)
    return np.diff(np.flatnonzero(np.diff(patterns, prepend=~patterns[:1])), append=patterns.size)
