"""The decoders in a compressed model: which nodes, values and functions lead to each tensor."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx

from sws_compress.errors import ModelError
from sws_compress.messages import shown
from sws_compress.onnx_io.element_types import FLOAT_TYPES
from sws_compress.onnx_io.format.look_ups import is_look_up, look_ups
from sws_compress.onnx_io.format.mark import DOMAIN, Mark
from sws_compress.onnx_io.format.scaled import scaled_names
from sws_compress.onnx_io.traversal import constant_nodes, reads

MOST_DECODER_VALUES = 1_000_000
"""Values that all decoders of a file may read together: of ours each reads some ten, and a model has some thousand."""


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

    Raises
    ------
    ModelError
        If decoders call functions that are missing, or read more than `MOST_DECODER_VALUES`.
    """
    decoding = decoding_nodes(proto, mark)
    names = decoded_names(proto, decoding)
    products = scaled_names(decoding, names)
    reach, functions = _Reach(decoding), _Functions(proto)
    lengths = {
        t.name: int(t.dims[1]) for t in proto.graph.initializer if t.data_type in FLOAT_TYPES and len(t.dims) == 2
    }
    found = {}
    for name in names:
        nodes, values = reach.of(name)
        unscaled, symbols = None, values
        if name in products:
            unscaled = products[name].unscaled
            symbols = reach.of(unscaled)[1]
        called, operators = functions.of(nodes)
        length = max((lengths[value] for value in symbols & lengths.keys()), default=1)
        outputs = frozenset(node.output[0] for node in nodes)
        found[name] = Decoder(outputs, values, called, operators, length, unscaled)
    for name, calls in look_ups(proto).items():
        called, operators = functions.of(calls)
        outputs = frozenset(call.output[0] for call in calls)
        found[name] = Decoder(outputs, frozenset(calls[0].input[1:]), called, operators)
    return found


class _Reach:
    """The nodes and values that values of decoding ``nodes`` are computed from."""

    def __init__(self, nodes: Sequence[onnx.NodeProto]) -> None:
        self._nodes = nodes
        self._makers = {name: number for number, node in enumerate(nodes) for name in node.output}
        self._left = MOST_DECODER_VALUES

    def of(self, name: str) -> tuple[list[onnx.NodeProto], frozenset[str]]:
        """Nodes in order, and values. Takes no longer than there are of them."""
        values, numbers, ahead = {name}, set(), [name]
        while ahead:
            number = self._makers.get(ahead.pop())
            if number is None or number in numbers:
                continue
            numbers.add(number)
            new = set(self._nodes[number].input) - values
            values |= new
            ahead.extend(new)
            if len(values) > self._left:
                raise ModelError(
                    f"decoders must read at most {MOST_DECODER_VALUES} values together, got more at {shown(name)}: "
                    "the file is damaged"
                )
        self._left -= len(values)
        return [self._nodes[number] for number in sorted(numbers)], frozenset(values)


class _Functions:
    """The functions of ours in a model."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._bodies = {function.name: function.node for function in proto.functions if function.domain == DOMAIN}
        self._called = {name: _called(body) for name, body in self._bodies.items()}

    def of(self, nodes: Sequence[onnx.NodeProto]) -> tuple[frozenset[str], tuple[str, ...]]:
        """Names of those that ``nodes`` call, directly or through others, and all operators, one entry per node."""
        found: set[str] = set()
        ahead = _called(nodes)
        while ahead:
            name = ahead.pop()
            if name not in self._called:
                raise ModelError(
                    f"decoders must call functions that are in the file, got {shown(name)}: the file is damaged"
                )
            found.add(name)
            ahead |= self._called[name] - found
        bodies = (body for name, body in self._bodies.items() if name in found)
        return frozenset(found), tuple(node.op_type for node in itertools.chain(nodes, *bodies))


def _called(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Names of the functions of ours that nodes call."""
    return {node.op_type for node in nodes if node.domain == DOMAIN}
