"""Bytes of a compressed file, shared out among the tensors they are there for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx

from sws_compress.onnx_io.format.decoders import Decoder, find_decoders
from sws_compress.onnx_io.format.mark import mark_of_proto
from sws_compress.onnx_io.format.sizes import framed, initializer_bytes


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


def decoder_parts(proto: onnx.ModelProto, decoders: dict[str, Decoder]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The parts of the file that decode: nodes, initialisers, shapes and functions.

    Yields
    ------
    size : int
        Bytes of the part.
    users : tuple of str
        The tensors it is there for.
    """
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


def own_bytes(proto: onnx.ModelProto, decoders: dict[str, Decoder], elements: Mapping[str, int]) -> dict[str, int]:
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
    streams = {
        name: {other for other, its in decoders.items() if its.nodes & part.nodes} for name, part in decoders.items()
    }
    own = dict.fromkeys(decoders, 0.0)
    for size, users in decoder_parts(proto, decoders):
        if set(users) <= streams[users[0]]:
            total = sum(elements[name] for name in users)
            for name in users:
                own[name] += size * elements[name] / total
    ends = np.rint(np.cumsum(list(own.values()))).astype(int)  # sums are rounded: no byte is lost or counted twice
    return dict(zip(own, np.diff(ends, prepend=0).tolist(), strict=True))
