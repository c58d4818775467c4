"""The decoders in a compressed model: which nodes, values and functions lead to each tensor."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import onnx

from sws_compress.onnx_io.element_types import FLOAT_TYPES
from sws_compress.onnx_io.format.look_ups import is_look_up, look_ups
from sws_compress.onnx_io.format.mark import DOMAIN, Mark
from sws_compress.onnx_io.format.scaled import scaled_names
from sws_compress.onnx_io.traversal import ancestors, constant_nodes, reads


def decoding_nodes(proto: onnx.ModelProto, mark: Mark) -> list[onnx.NodeProto]:
    """The nodes that decode tensors at load.

    Parameters
    ----------
    proto : ModelProto
        A compressed model.
    mark : Mark
        Its mark. Damaged files may count too many nodes: only nodes that depend on no input are taken.
    """
    constants = {node.output[0] for node in constant_nodes(proto) if node.output}
    first = (node for node in proto.graph.node[: mark.decode_nodes] if not is_look_up(node))
    return [node for node in first if node.output and node.output[0] in constants]


def decoded_names(proto: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> list[str]:
    """The outputs of ``nodes`` that the rest of the model reads, in order."""
    made = {name for node in nodes for name in node.output}
    read = {name for node in proto.graph.node if not made.issuperset(node.output) for name in reads(node)}
    read |= {value.name for value in proto.graph.output}
    return [name for node in nodes for name in node.output if name in read]


def compressed_names(proto: onnx.ModelProto, mark: Mark) -> list[str]:
    """The tensors that a compressed model stores in packed form: those decoded at load, then tables of packed rows."""
    return [*decoded_names(proto, decoding_nodes(proto, mark)), *look_ups(proto)]


@dataclass(frozen=True, eq=False)
class Decoder:
    """What one tensor is decoded by.

    Parameters
    ----------
    nodes : frozenset of str
        The nodes on the way to the tensor, each by the name of its first output.
    values : frozenset of str
        All values on the way, the tensor included.
    functions : frozenset of str
        Names of the functions that are called on the way.
    operators : tuple of str
        The operators of all these nodes and of the nodes in these functions: they tell the encoding.
    vector_length : int
        Number of consecutive weights that share an index.
    unscaled : str or None
        The value that scales multiply; None for a tensor without scales.
    """

    nodes: frozenset[str]
    values: frozenset[str]
    functions: frozenset[str]
    operators: tuple[str, ...]
    vector_length: int = 1
    unscaled: str | None = None


def find_decoders(proto: onnx.ModelProto, mark: Mark) -> dict[str, Decoder]:
    """The decoder of every compressed tensor: those decoded at load, and tables whose rows are decoded when looked up.

    Parameters
    ----------
    proto : ModelProto
        A compressed model.
    mark : Mark
        Its mark.

    Returns
    -------
    dict of str to Decoder
        Decoders by the name of the tensor, in the order of the file.
    """
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
    """The number d of columns of the codebook (k, d) among ``values``; 1 for a codebook of scalars."""
    codebooks = [t for t in proto.graph.initializer if t.name in values and t.data_type in FLOAT_TYPES]
    return max((int(tensor.dims[1]) for tensor in codebooks if len(tensor.dims) == 2), default=1)


def _functions(nodes: Sequence[onnx.NodeProto], proto: onnx.ModelProto) -> Iterator[str]:
    """Names of the functions that ``nodes`` call, directly or through other functions."""
    bodies = {function.name: function for function in proto.functions if function.domain == DOMAIN}
    for node in nodes:
        if node.domain == DOMAIN:
            yield node.op_type
            yield from _functions(bodies[node.op_type].node, proto)


def _operators(nodes: Sequence[onnx.NodeProto], functions: frozenset[str], proto: onnx.ModelProto) -> tuple[str, ...]:
    """The operators of ``nodes`` and of the nodes in ``functions``, one entry per node."""
    bodies = (function.node for function in proto.functions if function.name in functions)
    return tuple(node.op_type for node in itertools.chain(nodes, *bodies))
