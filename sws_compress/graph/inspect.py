"""What a model file holds, tensor by tensor; works on plain and on compressed models."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from sws_compress.graph.expand import decoded_names, decoding_nodes, mark_of_proto
from sws_compress.graph.external import initializer_bytes
from sws_compress.graph.lift import lift_constants
from sws_compress.graph.lookups import look_ups
from sws_compress.graph.ops import DOMAIN, ROWS
from sws_compress.graph.rewrite import framed
from sws_compress.graph.scaled import scaled_names
from sws_compress.graph.verify import NOTHING_DECODED, Array, Decoding, ancestors, measured_decoding
from sws_compress.graph.weights import FLOAT_TYPES, Mark, Skipped, skipped_weights

_SMALLEST_ROW = 2
"""Elements from which a constant is listed; single numbers belong to the graph."""


@dataclass(frozen=True)
class TensorRow:
    """One floating-point tensor of a file.

    encoding           name of the encoding, or "dense"; with scales, or of vectors, that is said as well
    distinct_values    different bit patterns that occur, before scales; of vectors, rows of d weights
    zeros              share of zeros, 0..1
    entropy_bits       order-0 entropy of these per weight
    file_bytes         nodes, initialisers and shapes that are in the file for this tensor alone: payload, codebook,
                       graph (of a stream that several tensors share, the part by elements)
    file_share         the same as a share of the file, 0..1
    """

    name: str
    shape: tuple[int, ...]
    encoding: str
    distinct_values: int
    zeros: float
    entropy_bits: float
    file_bytes: int
    file_share: float

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    @property
    def file_bits(self) -> float:
        """Bits of the file per weight."""
        return 8 * self.file_bytes / max(self.size, 1)


@dataclass(frozen=True)
class Inspection:
    """All weights; bytes of what the decoders share (functions, literals); bytes of the rest (the network's own graph).

    ``format_version`` is None for a plain model; only of one it is said what compression would leave alone, and why
    (``skipped``). ``decoding`` is what a runtime does at load.
    """

    rows: tuple[TensorRow, ...]
    file_bytes: int
    shared_bytes: int
    graph_bytes: int
    format_version: str | None
    skipped: tuple[Skipped, ...] = ()
    decoding: Decoding = NOTHING_DECODED

    @property
    def compressed(self) -> bool:
        return self.format_version is not None


def inspect_model(data: bytes) -> Inspection:
    """Take a model file apart. Every byte counts once: in a tensor's row, in ``shared_bytes`` or in ``graph_bytes``."""
    proto = onnx.load_from_string(data)
    mark = mark_of_proto(proto)
    return _inspect_plain(proto, len(data)) if mark is None else _inspect_compressed(proto, data, mark)


def decoder_bytes(proto: onnx.ModelProto, elements: Mapping[str, int]) -> dict[str, int]:
    """``file_bytes`` of the tensors that a compressed model decodes, if its external tensors were in the file.

    ``elements``: how many each of them has.
    """
    mark = mark_of_proto(proto)
    if mark is None:
        return {}
    return _own_bytes(proto, _decoders(proto, mark), elements)


def _inspect_plain(proto: onnx.ModelProto, total: int) -> Inspection:
    """Rows of all weights and other floating-point constants, in bodies and functions too; equal ones are one row."""
    model = ir.from_proto(proto)
    lift_constants(model)
    rows = []
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and tensor.dtype in FLOAT_TYPES and tensor.size >= _SMALLEST_ROW:
            own = framed(ir.to_proto(tensor).ByteSize())
            rows.append(_row(name, tensor.numpy(), "dense", own, total))
    graph = total - sum(row.file_bytes for row in rows)
    return Inspection(tuple(rows), total, 0, graph, None, skipped_weights(model, smallest=_SMALLEST_ROW))


def _inspect_compressed(proto: onnx.ModelProto, data: bytes, mark: Mark) -> Inspection:
    decoders = _decoders(proto, mark)
    decoding = {name for part in decoders.values() for name in part.values}
    dense = {
        tensor.name: framed(tensor.ByteSize())
        for tensor in proto.graph.initializer
        if tensor.data_type in FLOAT_TYPES and math.prod(tensor.dims) >= _SMALLEST_ROW and tensor.name not in decoding
    }
    unscaled = {name: part.unscaled for name, part in decoders.items() if part.unscaled is not None}
    values, measured = measured_decoding(data, dict.fromkeys([*decoders, *dense, *unscaled.values()]))
    units = {name: values[unit] for name, unit in unscaled.items()}
    symbols = {name: unit for name, unit in units.items() if unit.dtype == np.float32 and unit.size}
    symbols = {name: unit for name, unit in symbols.items() if unit.shape == values[name].shape}
    own = dense | _own_bytes(proto, decoders, {name: values[name].size for name in decoders})
    encodings = {name: part.encoding for name, part in decoders.items()} | dict.fromkeys(dense, "dense")
    lengths = {name: part.vector_length for name, part in decoders.items()}
    rows = tuple(
        _row(name, symbols.get(name, values[name]), encoding, own[name], len(data), lengths.get(name, 1))
        for name, encoding in encodings.items()
    )
    every = sum(size for size, _ in _items(proto, decoders))
    shared = every - sum(own[name] for name in decoders)
    graph = len(data) - shared - sum(own.values())
    return Inspection(rows, len(data), shared, graph, mark.version, decoding=measured)


@dataclass(frozen=True, eq=False)
class _Decoder:
    """What is on the way to one tensor: nodes (each by the name of its first output), values and functions.

    ``unscaled``: of a tensor with scales, the value that is multiplied by them.
    """

    nodes: frozenset[str]
    values: frozenset[str]
    functions: frozenset[str]
    encoding: str
    vector_length: int = 1
    unscaled: str | None = None


def _decoders(proto: onnx.ModelProto, mark: Mark) -> dict[str, _Decoder]:
    """The tensors of a compressed model that are decoded, and those whose rows are when they are looked up."""
    decoding = decoding_nodes(proto, mark)
    found = {}
    names = decoded_names(proto, decoding)
    products = scaled_names(decoding, names)
    for name in names:
        nodes, values = ancestors(decoding, {name})
        functions = frozenset(_functions(nodes, proto))
        operators = [node.op_type for node in _operators(nodes, functions, proto)]
        encoding, unscaled, symbols = _encoding(operators), None, values
        if name in products:
            encoding, unscaled = f"{encoding}+scales", products[name].unscaled
            symbols = ancestors(decoding, {unscaled})[1]
        outputs = frozenset(node.output[0] for node in nodes)
        length = _vector_length(proto, symbols)
        found[name] = _Decoder(outputs, frozenset(values), functions, encoding, length, unscaled)
    for name, calls in look_ups(proto).items():
        functions = frozenset(_functions(calls, proto))
        found[name] = _Decoder(
            frozenset(call.output[0] for call in calls), frozenset(calls[0].input[1:]), functions, ROWS
        )
    return found


def _vector_length(proto: onnx.ModelProto, values: Collection[str]) -> int:
    """d of the codebook (k, d) among the ``values`` on the way to a tensor; 1 if it is of scalars."""
    codebooks = [t for t in proto.graph.initializer if t.name in values and t.data_type in FLOAT_TYPES]
    return max((int(tensor.dims[1]) for tensor in codebooks if len(tensor.dims) == 2), default=1)


def _functions(nodes: Sequence[onnx.NodeProto], proto: onnx.ModelProto) -> Iterator[str]:
    bodies = {function.name: function for function in proto.functions if function.domain == DOMAIN}
    for node in nodes:
        if node.domain == DOMAIN:
            yield node.op_type
            yield from _functions(bodies[node.op_type].node, proto)


def _operators(
    nodes: Sequence[onnx.NodeProto], functions: frozenset[str], proto: onnx.ModelProto
) -> Iterator[onnx.NodeProto]:
    yield from nodes
    for function in proto.functions:
        if function.name in functions:
            yield from function.node


def _encoding(operators: Sequence[str]) -> str:
    """Encodings show in their operators: Expand is a constant, Compress a prefix code, with several Range one of
    strides, TopK positions; Concat shifts those of classes, a Slice means that values are stored apart, and a Compress
    without it drops what fills up the runs of a Tunstall code."""
    prefix = "strides" if operators.count("Range") > 1 else "huffman"
    dense = prefix if "Compress" in operators else "constant" if "Expand" in operators else "radix"
    if "TopK" not in operators:
        return dense
    if "Concat" in operators and dense != prefix:
        return "classes"
    if "Slice" in operators:
        return f"sparse+{dense}"
    return "tunstall" if dense == prefix else "sparse"


def _items(proto: onnx.ModelProto, decoders: dict[str, _Decoder]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Bytes of each part of the file that decodes, and the tensors it is there for."""
    for node in proto.graph.node:
        if users := tuple(name for name, part in decoders.items() if node.output[0] in part.nodes):
            yield framed(node.ByteSize()), users
    for kind in (proto.graph.initializer, proto.graph.value_info):
        for entry in kind:
            if users := tuple(name for name, part in decoders.items() if entry.name in part.values):
                yield initializer_bytes(entry) if kind is proto.graph.initializer else framed(entry.ByteSize()), users
    for function in proto.functions:
        if users := tuple(name for name, part in decoders.items() if function.name in part.functions):
            yield framed(function.ByteSize()), users


def _own_bytes(proto: onnx.ModelProto, decoders: dict[str, _Decoder], elements: Mapping[str, int]) -> dict[str, int]:
    """Bytes in the file for each decoded tensor alone; of a stream all together, each by its share of the elements."""
    streams = {
        name: {other for other, its in decoders.items() if its.nodes & part.nodes} for name, part in decoders.items()
    }
    own = dict.fromkeys(decoders, 0.0)
    for size, users in _items(proto, decoders):
        if set(users) <= streams[users[0]]:
            total = sum(elements[name] for name in users)
            for name in users:
                own[name] += size * elements[name] / total
    ends = np.rint(np.cumsum(list(own.values()))).astype(int)  # rounding sums: no byte is lost, none counted twice
    return dict(zip(own, np.diff(ends, prepend=0).tolist(), strict=True))


def _row(name: str, values: Array, encoding: str, own: int, total: int, vector_length: int = 1) -> TensorRow:
    counts = _counts(values, vector_length)
    shares = counts / max(counts.sum(), 1)
    entropy = float(-(shares * np.log2(shares)).sum()) * counts.sum() / max(values.size, 1) + 0.0
    zeros = float(np.count_nonzero(values == 0)) / max(values.size, 1)
    return TensorRow(name, values.shape, encoding, counts.size, zeros, entropy, own, own / total)


def _counts(values: Array, vector_length: int) -> Array:
    """How often each bit pattern of ``vector_length`` consecutive values occurs."""
    patterns = values.reshape(-1).view(f"u{values.dtype.itemsize}")
    if vector_length > 1 and patterns.size % vector_length == 0:
        rows = np.ascontiguousarray(patterns).view(np.dtype((np.void, vector_length * values.dtype.itemsize)))
        return np.unique(rows, return_counts=True)[1]
    patterns = np.sort(patterns)
    return np.diff(np.flatnonzero(np.diff(patterns, prepend=~patterns[:1])), append=patterns.size)
