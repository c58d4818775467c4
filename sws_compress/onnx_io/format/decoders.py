"""The decode nodes of a compressed model: which they are, what leads to each tensor, and how many bytes it takes."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from sws_compress.onnx_io.float_types import FLOAT_TYPES
from sws_compress.onnx_io.format.look_ups import is_look_up, look_ups
from sws_compress.onnx_io.format.mark import DOMAIN, Mark, mark_of
from sws_compress.onnx_io.format.scaled import scaled_names
from sws_compress.onnx_io.format.sizes import framed, initializer_bytes


def mark_of_proto(proto: onnx.ModelProto) -> Mark | None:
    """`mark_of` for a model as it is in the file."""
    return mark_of({entry.key: entry.value for entry in proto.metadata_props})


def decoding_nodes(proto: onnx.ModelProto, mark: Mark) -> list[onnx.NodeProto]:
    """The nodes of a compressed model that decode: of the first ones that it states, those that need no input."""
    constants = {node.output[0] for node in constant_nodes(proto) if node.output}
    first = (node for node in proto.graph.node[: mark.decode_nodes] if not is_look_up(node))
    return [node for node in first if node.output and node.output[0] in constants]


def decoded_names(proto: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> list[str]:
    """The values that ``nodes`` make for others, in order."""
    made = {name for node in nodes for name in node.output}
    read = {name for node in proto.graph.node if not made.issuperset(node.output) for name in reads(node)}
    read |= {value.name for value in proto.graph.output}
    return [name for node in nodes for name in node.output if name in read]


def decoder_bytes(proto: onnx.ModelProto, elements: Mapping[str, int]) -> dict[str, int]:
    """``file_bytes`` of the tensors that a compressed model decodes, if its external tensors were in the file.

    ``elements``: how many each of them has.
    """
    mark = mark_of_proto(proto)
    if mark is None:
        return {}
    return own_bytes(proto, find_decoders(proto, mark), elements)


@dataclass(frozen=True, eq=False)
class Decoder:
    """What is on the way to one tensor: nodes (each by the name of its first output), values and functions.

    ``operators``: those of all these nodes and of the functions' nodes, by which its encoding is recognised.
    ``unscaled``: of a tensor with scales, the value that is multiplied by them.
    """

    nodes: frozenset[str]
    values: frozenset[str]
    functions: frozenset[str]
    operators: tuple[str, ...]
    vector_length: int = 1
    unscaled: str | None = None


def find_decoders(proto: onnx.ModelProto, mark: Mark) -> dict[str, Decoder]:
    """The tensors of a compressed model that are decoded, and those whose rows are when they are looked up."""
    decoding = decoding_nodes(proto, mark)
    found = {}
    names = decoded_names(proto, decoding)
    products = scaled_names(decoding, names)
    for name in names:
        nodes, values = ancestors(decoding, {name})
        functions = frozenset(_functions(nodes, proto))
        unscaled, symbols = None, values
        if name in products:
            unscaled = products[name].unscaled
            symbols = ancestors(decoding, {unscaled})[1]
        outputs = frozenset(node.output[0] for node in nodes)
        length = _vector_length(proto, symbols)
        operators = _operators(nodes, functions, proto)
        found[name] = Decoder(outputs, frozenset(values), functions, operators, length, unscaled)
    for name, calls in look_ups(proto).items():
        functions = frozenset(_functions(calls, proto))
        outputs, operators = frozenset(call.output[0] for call in calls), _operators(calls, functions, proto)
        found[name] = Decoder(outputs, frozenset(calls[0].input[1:]), functions, operators)
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


def _operators(nodes: Sequence[onnx.NodeProto], functions: frozenset[str], proto: onnx.ModelProto) -> tuple[str, ...]:
    """Operator names of ``nodes`` and of the functions' nodes, each node's once."""
    bodies = (function.node for function in proto.functions if function.name in functions)
    return tuple(node.op_type for node in itertools.chain(nodes, *bodies))


def decoder_parts(proto: onnx.ModelProto, decoders: dict[str, Decoder]) -> Iterator[tuple[int, tuple[str, ...]]]:
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


def own_bytes(proto: onnx.ModelProto, decoders: dict[str, Decoder], elements: Mapping[str, int]) -> dict[str, int]:
    """Bytes in the file for each decoded tensor alone; of a stream all together, each by its share of the elements."""
    streams = {
        name: {other for other, its in decoders.items() if its.nodes & part.nodes} for name, part in decoders.items()
    }
    own = dict.fromkeys(decoders, 0.0)
    for size, users in decoder_parts(proto, decoders):
        if set(users) <= streams[users[0]]:
            total = sum(elements[name] for name in users)
            for name in users:
                own[name] += size * elements[name] / total
    ends = np.rint(np.cumsum(list(own.values()))).astype(int)  # rounding sums: no byte is lost, none counted twice
    return dict(zip(own, np.diff(ends, prepend=0).tolist(), strict=True))


def constant_nodes(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes of the main graph that depend on no input of the model, in order."""
    known = {tensor.name for tensor in proto.graph.initializer} - {value.name for value in proto.graph.input} | {""}
    found = []
    for node in proto.graph.node:
        subgraphs = any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
        if not subgraphs and known.issuperset(node.input):
            known.update(node.output)
            found.append(node)
    return found


def ancestors(nodes: Sequence[onnx.NodeProto], names: Collection[str]) -> tuple[list[onnx.NodeProto], set[str]]:
    """The ``nodes`` (in order) that lead to the values ``names``, and all values on the way."""
    needed, kept = set(names), []
    for node in reversed(nodes):
        if needed & set(node.output):
            needed.update(node.input)
            kept.append(node)
    return kept[::-1], needed


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Values a node reads, those of its subgraphs included."""
    yield from node.input
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            for inner in graph.node:
                yield from reads(inner)
