"""Bytes of a compressed file, shared out among the tensors they are there for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx
import onnx_ir as ir

from sws_compress.onnx_io.element_types import FLOAT_TYPES
from sws_compress.onnx_io.format.decoders import Decoder, find_decoders
from sws_compress.onnx_io.format.mark import mark_of_proto
from sws_compress.onnx_io.format.sizes import data_bytes, framed, initializer_bytes

SYMBOL_TYPES = (ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.INT32)
"""Types of the arrays that carry symbols."""


def decoder_bytes(proto: onnx.ModelProto, elements: Mapping[str, int]) -> dict[str, int]:
    """Bytes in the file for each compressed tensor, as `own_bytes`; external tensors count as if they were in the file.

    Parameters
    ----------
    proto : ModelProto
        A model; there are no such tensors if it is not compressed.
    elements : mapping of str to int
        The number of elements of each compressed tensor.
    """
    mark = mark_of_proto(proto)
    if mark is None:
        return {}
    return own_bytes(proto, find_decoders(proto, mark), elements)


def decoder_parts(proto: onnx.ModelProto, decoders: Mapping[str, Decoder]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The parts of the file that decode: nodes, initialisers, shapes and functions.

    Yields
    ------
    size : int
        Bytes of the part.
    users : tuple of str
        The tensors it is there for.
    """
    nodes, values, functions = (
        _users((name, getattr(part, kind)) for name, part in decoders.items())
        for kind in ("nodes", "values", "functions")
    )
    for node in proto.graph.node:
        if users := nodes.get(next(iter(node.output), "")):
            yield framed(node.ByteSize()), tuple(users)
    for tensor in proto.graph.initializer:
        if users := values.get(tensor.name):
            yield initializer_bytes(tensor), tuple(users)
    for entry in proto.graph.value_info:
        if users := values.get(entry.name):
            yield framed(entry.ByteSize()), tuple(users)
    for function in proto.functions:
        if users := functions.get(function.name):
            yield framed(function.ByteSize()), tuple(users)


def _users(parts: Iterable[tuple[str, Iterable[str]]]) -> dict[str, list[str]]:
    """The tensors that each part is there for, from the parts of each tensor."""
    users: dict[str, list[str]] = {}
    for name, own in parts:
        for part in own:
            users.setdefault(part, []).append(name)
    return users


def own_bytes(proto: onnx.ModelProto, decoders: Mapping[str, Decoder], elements: Mapping[str, int]) -> dict[str, int]:
    """Bytes in the file for each compressed tensor, without what unrelated tensors use as well.

    What a stream's tensors have together is shared out by their numbers of elements.

    Parameters
    ----------
    proto : ModelProto
        A compressed model.
    decoders : dict of str to Decoder
        Those of `find_decoders`.
    elements : mapping of str to int
        The number of elements of each tensor in ``decoders``.

    Returns
    -------
    dict of str to int
        Bytes by tensor.
    """
    return _shared_out(decoder_parts(proto, decoders), decoders, elements)


def stored_bytes(
    proto: onnx.ModelProto, decoders: Mapping[str, Decoder], elements: Mapping[str, int]
) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes of `own_bytes` that are data: symbols, and values of codebooks.

    Parameters
    ----------
    proto, decoders, elements
        As for `own_bytes`.

    Returns
    -------
    symbols, codebooks : dict of str to int
        Bytes by tensor. Symbols are unsigned or int32, and the values that they stand for floating-point; tables of
        words count as symbols.
    """
    users = _users((name, part.values) for name, part in decoders.items())
    symbols: list[tuple[int, tuple[str, ...]]] = []
    codebooks: list[tuple[int, tuple[str, ...]]] = []
    for tensor in proto.graph.initializer:
        kind = ir.DataType(tensor.data_type)
        if tensor.name in users and (kind in FLOAT_TYPES or kind in SYMBOL_TYPES):
            parts = codebooks if kind in FLOAT_TYPES else symbols
            parts.append((data_bytes(tensor), tuple(users[tensor.name])))
    return _shared_out(symbols, decoders, elements), _shared_out(codebooks, decoders, elements)


def _shared_out(
    parts: Iterable[tuple[int, tuple[str, ...]]], decoders: Mapping[str, Decoder], elements: Mapping[str, int]
) -> dict[str, int]:
    """The bytes of parts that one stream uses, by tensor."""
    streams = _streams(decoders)
    own = dict.fromkeys(decoders, 0.0)
    for size, users in parts:
        if len({streams[name] for name in users}) == 1:
            total = sum(elements[name] for name in users) or 1  # empty tensors
            for name in users:
                own[name] += size * elements[name] / total
    ends = np.rint(np.cumsum(list(own.values()))).astype(int)  # sums are rounded: no byte is lost or counted twice
    return dict(zip(own, np.diff(ends, prepend=0).tolist(), strict=True))


def _streams(decoders: Mapping[str, Decoder]) -> dict[str, str]:
    """The stream of each tensor, by the name of one in it: tensors that share nodes, if only through others."""
    parents = {name: name for name in decoders}

    def root(name: str) -> str:
        while parents[name] != name:
            parents[name] = parents[parents[name]]
            name = parents[name]
        return name

    for users in _users((name, part.nodes) for name, part in decoders.items()).values():
        for other in users[1:]:
            parents[root(other)] = root(users[0])
    return {name: root(name) for name in decoders}
