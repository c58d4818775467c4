"""What a model file holds, tensor by tensor, compressed or not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from sws_compress.codec.encodings import recognise
from sws_compress.codec.transforms.scales import scaled_name
from sws_compress.files import AnyPath, file_path
from sws_compress.onnx_io.analyse.tensor_kinds import FLOAT, is_listed, tensor_kinds
from sws_compress.onnx_io.analyse.weights import skipped_weights
from sws_compress.onnx_io.external_data import StoredModel, forget
from sws_compress.onnx_io.format.byte_shares import decoder_parts, own_bytes, stored_bytes
from sws_compress.onnx_io.format.decoders import Decoder, find_decoders
from sws_compress.onnx_io.format.held import FLOATS, ROWS, Held, Product, held_tensors
from sws_compress.onnx_io.format.look_ups import look_ups
from sws_compress.onnx_io.format.mark import Mark, mark_of_proto
from sws_compress.onnx_io.format.sizes import data_bytes, initializer_bytes
from sws_compress.onnx_io.read.model import model_in_ir
from sws_compress.onnx_io.read.on_disk import bytes_on_disk, lifted, stored_model
from sws_compress.ort.all_weights import TOGETHER_ELEMENTS, StoredWeight, decoded_parts
from sws_compress.ort.decode import NOTHING_DECODED
from sws_compress.ort.session import Array
from sws_compress.ort.user_models import DECODABLE, callers_file
from sws_compress.report.file_reports import Inspection
from sws_compress.report.inspection import ModelParts, TensorRow
from sws_compress.thresholds import SMALLEST_LISTED_TENSOR

PIECE_ELEMENTS = 1 << 22
"""Elements that are counted at a time."""


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
    file = file_path("path", path)
    model = stored_model(file)
    with callers_file(file, *DECODABLE):
        parts = inspect_model(model)
    return Inspection(file, bytes_on_disk(file), parts)


def inspect_model(
    model: StoredModel, *, written: bool = False, together_elements: int = TOGETHER_ELEMENTS
) -> ModelParts:
    """Take a model apart, a few tensors at a time.

    Every byte counts once: in a tensor's row, in ``shared_bytes`` or in ``graph_bytes``.

    Parameters
    ----------
    model : StoredModel
        The model. Its external tensors count as if they were in the file.
    written : bool
        Whether this package wrote the model just now: it is trusted, and its decoding is not measured.
    together_elements : int
        Weights that are decoded together, in elements (`decoded_parts`).
    """
    mark = mark_of_proto(model.proto)
    return _inspect_plain(model) if mark is None else _inspect_compressed(model, mark, written, together_elements)


def _inspect_plain(stored: StoredModel) -> ModelParts:
    """Rows of all listed constants, those in bodies and functions included; equal ones share a row."""
    model, total = lifted(stored), stored.file_bytes
    rows = []
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and is_listed(tensor.dtype, tensor.size):
            kind = tensor_kinds(model, {name: tensor.dtype})[name]
            own = initializer_bytes(ir.to_proto(tensor))
            rows.append(_row(name, _statistics(tensor.numpy()), "dense", own, total, kind))
            forget(value)
    graph = total - sum(row.file_bytes for row in rows)
    return ModelParts(tuple(rows), total, 0, graph, None, skipped_weights(model, smallest=SMALLEST_LISTED_TENSOR))


def _inspect_compressed(model: StoredModel, mark: Mark, written: bool, together_elements: int) -> ModelParts:
    proto, total = model.proto, model.file_bytes
    decoders = find_decoders(proto, mark)
    inside = {name for part in decoders.values() for name in part.values}
    dense = {
        tensor.name: tensor
        for tensor in proto.graph.initializer
        if is_listed(ir.DataType(tensor.data_type), math.prod(tensor.dims)) and tensor.name not in inside
    }
    known: dict[str, _Statistics] = {}
    held = dict(held_tensors(proto, {*decoders, *dense}))
    products = {name: each.product for name, each in held.items() if each.product is not None}
    tables = {name: _stored_bytes(proto, name) for name in look_ups(proto)}
    held |= {name: Held(ROWS) for name in tables}
    held_bytes: dict[str, int] = {}
    taken = NOTHING_DECODED
    parts = decoded_parts(
        model, decoders, list(decoders), together_elements=together_elements, measured=not written, trusted=written
    )
    for weights, decoding in parts:
        taken += decoding
        while weights:
            weight = weights.pop()
            values = _symbols(weight)
            held_bytes[weight.name] = tables.get(weight.name, weight.values.nbytes)
            product = products.get(weight.name)
            if product is not None and _is_packed(values, product):
                values = product.integers(values)
            known[weight.name] = _statistics(values, decoders[weight.name].vector_length)
            del weight, values  # not to be held while the next one is decoded
    for name, tensor in dense.items():
        values = model.values(tensor)
        known[name], held_bytes[name] = _statistics(values), values.nbytes
    own = {name: initializer_bytes(tensor) for name, tensor in dense.items()}
    elements = {name: math.prod(known[name].shape) for name in decoders}
    own |= own_bytes(proto, decoders, elements)
    symbols, codebooks = stored_bytes(proto, decoders, elements)
    encodings = {name: _encoding(part) for name, part in decoders.items()} | dict.fromkeys(dense, "dense")
    kinds = tensor_kinds(model_in_ir(model.path or Path(), proto), {name: known[name].type for name in encodings})
    rows = tuple(
        replace(
            _row(name, known[name], encoding, own[name], total, kinds[name]),
            codebook_bytes=codebooks.get(name, 0),
            decoder_bytes=own[name] - symbols[name] - codebooks[name] if name in symbols else 0,
            route=held[name].route if name in held and (name in tables or kinds[name] != FLOAT) else FLOATS,
            held_bytes=held_bytes[name],
        )
        for name, encoding in encodings.items()
    )
    every = sum(size for size, _ in decoder_parts(proto, decoders))
    shared = every - sum(own[name] for name in decoders)
    graph = total - shared - sum(own.values())
    return ModelParts(rows, total, shared, graph, mark.version, decoding=taken)


def _encoding(decoder: Decoder) -> str:
    name = recognise(decoder.operators)
    return name if decoder.unscaled is None else scaled_name(name)


def _stored_bytes(proto: onnx.ModelProto, name: str) -> int:
    """Bytes of the elements of an initialiser."""
    return next((data_bytes(tensor) for tensor in proto.graph.initializer if tensor.name == name), 0)


def _is_packed(values: Array, product: Product) -> bool:
    """Whether decoded values are the words of a product; those of a damaged file may be anything."""
    enough = values.ndim == 3 and values.shape[1] * values.shape[2] * 8 >= product.inputs * product.bits
    return values.dtype == np.uint8 and enough and len(values) == product.outputs


def _symbols(weight: StoredWeight) -> Array:
    """What a decoder's symbols stand for: the weights before scaling, if they are scaled."""
    unit, values = weight.unscaled, weight.values
    whole = unit is not None and unit.dtype == np.float32 and unit.size and unit.shape == values.shape
    return unit if unit is not None and whole else values


@dataclass(frozen=True)
class _Statistics:
    """What a row tells of a tensor's values."""

    shape: tuple[int, ...]
    type: ir.DataType
    distinct_values: int
    zeros: float
    entropy_bits: float


def _row(name: str, known: _Statistics, encoding: str, own: int, total: int, kind: str) -> TensorRow:
    counts = known.distinct_values, known.zeros, known.entropy_bits
    return TensorRow(name, known.shape, encoding, *counts, own, own / total, kind)


def _statistics(values: Array, vector_length: int = 1) -> _Statistics:
    """Count values in the memory of one copy of them."""
    elements = max(values.size, 1)
    flat = values.reshape(-1)
    pieces = (flat[start : start + PIECE_ELEMENTS] for start in range(0, flat.size, PIECE_ELEMENTS))
    zeros = sum(int(np.count_nonzero(piece == 0)) for piece in pieces)
    distinct, bits = 0, 0.0
    ordered = _ordered_patterns(flat, vector_length)
    for lengths in _run_lengths(ordered):
        distinct += lengths.size
        bits -= float((lengths * np.log2(lengths / ordered.size)).sum())
    kind = ir.DataType.from_numpy(values.dtype)
    return _Statistics(values.shape, kind, distinct, zeros / elements, bits / elements + 0.0)  # -0.0 + 0.0 = 0.0


def _ordered_patterns(flat: Array, vector_length: int) -> Array:
    """The bit patterns of ``vector_length`` consecutive values each, equal ones side by side."""
    patterns = flat.view(f"u{flat.dtype.itemsize}")
    if vector_length > 1 and patterns.size % vector_length == 0:
        patterns = np.ascontiguousarray(patterns).view(np.dtype((np.void, vector_length * flat.dtype.itemsize)))
    return np.sort(patterns)


def _run_lengths(ordered: Array) -> Iterator[Array]:
    """Lengths of the runs of equal elements, some at a time."""
    begin = 0
    for start in range(1, ordered.size, PIECE_ELEMENTS):
        stop = min(start + PIECE_ELEMENTS, ordered.size)
        edges = start + np.flatnonzero(ordered[start:stop] != ordered[start - 1 : stop - 1])
        if edges.size:
            yield np.diff(edges, prepend=begin)
            begin = int(edges[-1])
    if ordered.size:
        yield np.array([ordered.size - begin])
