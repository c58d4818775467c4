"""What must hold before bytes of unknown origin are handed to code that allocates or recurses by what they say.

The ONNX checker looks at names and types. It does not compare shapes with the data that is there, does not follow
functions in a circle, and is itself C++. So everything here is checked first, in plain integers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TypeAlias

import onnx
from google.protobuf.message import Message  # type: ignore[import-untyped,unused-ignore]

from sws_compress.errors import ModelError
from sws_compress.messages import shown
from sws_compress.onnx_io.read.tensor_data import check_tensor
from sws_compress.onnx_io.traversal import graphs, nodes, nodes_of, subgraphs, tensors

_Key: TypeAlias = "tuple[str, str]"

_MESSAGES = {
    onnx.AttributeProto.TENSOR: "t",
    onnx.AttributeProto.GRAPH: "g",
    onnx.AttributeProto.SPARSE_TENSOR: "sparse_tensor",
    onnx.AttributeProto.TYPE_PROTO: "tp",
}
"""The fields of attributes that hold one message, by type."""

CALLS_OF_A_NODE = 100
"""Times that a node of a function is called, on average: networks have some hundred layers."""

INLINED_NODES = 10_000
"""Nodes that a model may have besides, once its functions are inlined. ONNX Runtime inlines them all, some thousand a
second; functions that each call the next one twice make 2^n nodes of n."""


def check_untrusted(file: Path, proto: onnx.ModelProto) -> None:
    """Check what the ONNX checker takes for granted.

    Names are text, and those of initialisers unique; attributes have values; every tensor has the data that its shape
    and type promise; external data lies beside the model; functions read what they define, do not call each other in a
    circle, do not grow without bound when they are inlined, and are called with no more inputs and outputs than they
    have.

    Parameters
    ----------
    file : Path
        The file that the model comes from.
    proto : ModelProto
        The model as it was parsed.

    Raises
    ------
    ModelError
        If something of this does not hold.
    """
    _check_text(proto)
    for graph in graphs(proto):
        _check_names(graph)
        if graph.sparse_initializer:
            name = graph.sparse_initializer[0].values.name
            raise ModelError(f"initialiser {shown(name)} must be dense, got a sparse one: export dense weights")
        _check_declarations(graph)
    for tensor in tensors(proto):
        check_tensor(tensor, file)
    for node in nodes(proto):
        _check_attributes(node)
    if any(attribute.ref_attr_name for node in nodes_of(proto.graph.node) for attribute in node.attribute):
        raise ModelError("attributes outside of functions must have values, got a reference to another: export again")
    _check_growth(proto, _check_functions(proto.functions))
    _check_calls(proto)


def _check_text(message: Message) -> None:
    """Check that all strings are UTF-8: the parser lets others through as bytes, and nothing can write them again."""
    for field, value in message.ListFields():
        entries = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else (value,)
        if field.type == field.TYPE_STRING:
            wrong = next((entry for entry in entries if isinstance(entry, bytes)), None)
            if wrong is not None:
                raise ModelError(f"{field.name} must be text, got bytes {shown(repr(wrong))}: the file is damaged")
        elif field.message_type is not None:
            for entry in entries:
                _check_text(entry)


def _check_names(graph: onnx.GraphProto) -> None:
    counts = Counter(tensor.name for tensor in graph.initializer)
    for name, count in counts.items():
        if not name or count > 1:
            raise ModelError(
                f"names of initialisers must be unique and not empty, got {shown(name)} {count} times: export again"
            )


def _check_declarations(graph: onnx.GraphProto) -> None:
    """Check that no input, output or initialiser is declared twice with different types."""
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for entry in (*graph.input, *graph.output):
        kind = entry.type.tensor_type.elem_type
        if types.setdefault(entry.name, kind) != kind:
            raise ModelError(
                f"value {shown(entry.name)} must have one type, got numbers {types[entry.name]} and {kind} of those "
                "that ONNX defines: export again"
            )


def _check_attributes(node: onnx.NodeProto) -> None:
    """Check that attributes have a type, and that those that say they hold a message do."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.UNDEFINED:
            raise ModelError(
                f"attribute {shown(attribute.name)} of {shown(node.op_type)} must have a type, got none: export again"
            )
        field = _MESSAGES.get(attribute.type)
        if field is not None and not attribute.ref_attr_name and not attribute.HasField(field):
            raise ModelError(
                f"attribute {shown(attribute.name)} of {shown(node.op_type)} must hold a {field}, got none: "
                "the file is damaged"
            )


def _check_functions(functions: Sequence[onnx.FunctionProto]) -> tuple[_Key, ...]:
    """Check what functions read and make, and that none calls itself, directly or through others; callees first."""
    for function in functions:
        known = set(function.input)
        _check_scope(function.node, known, function.name)
        missing = next((name for name in function.output if name not in known), None)
        if missing is not None:
            raise ModelError(
                f"function {shown(function.name)} must make its outputs, got none named {shown(missing)}: export again"
            )
    calls = {
        _key(function.domain, function.name): {_key(node.domain, node.op_type) for node in nodes_of(function.node)}
        for function in functions
    }
    try:
        return tuple(TopologicalSorter({key: called & calls.keys() for key, called in calls.items()}).static_order())
    except CycleError as error:
        circle = shown(" -> ".join(name for _, name in error.args[1]))
        raise ModelError(f"functions must not call themselves, got {circle}: export without recursion") from error


def _check_growth(proto: onnx.ModelProto, order: Iterable[_Key]) -> None:
    """Check how many nodes there are when all functions are inlined; ``order`` has the functions, callees first."""
    bodies = {_key(function.domain, function.name): function.node for function in proto.functions}
    inlined: dict[_Key, int] = {}
    for key in order:
        inlined[key] = _inlined(bodies[key], inlined)
    stored = sum(1 for _ in nodes(proto))
    most, total = INLINED_NODES + CALLS_OF_A_NODE * stored, _inlined(proto.graph.node, inlined)
    if total > most:
        raise ModelError(
            f"functions must make at most {most} nodes of {stored} when they are inlined, got {shown(total)}: "
            "export without functions"
        )


def _inlined(body: Iterable[onnx.NodeProto], inlined: Mapping[_Key, int]) -> int:
    """Nodes of a body once its calls are replaced by the nodes of the functions."""
    return sum(inlined.get(_key(node.domain, node.op_type), 1) for node in nodes_of(body))


def _check_calls(proto: onnx.ModelProto) -> None:
    """Check that functions are called with no more inputs and outputs than they have."""
    arities = {_key(entry.domain, entry.name): (len(entry.input), len(entry.output)) for entry in proto.functions}
    for node in nodes(proto):
        inputs, outputs = arities.get(_key(node.domain, node.op_type), (None, None))
        if inputs is not None and outputs is not None and (len(node.input) > inputs or len(node.output) > outputs):
            raise ModelError(
                f"calls of {shown(node.op_type)} must have at most {inputs} inputs and {outputs} outputs, got "
                f"{len(node.input)} and {len(node.output)}: export again"
            )


def _check_scope(body: Iterable[onnx.NodeProto], known: set[str], function: str) -> None:
    """Check that nodes of a function read ``known`` and what nodes before them make, and add what they make to it."""
    for node in body:
        for name in node.input:
            if name and name not in known:
                raise ModelError(
                    f"function {shown(function)} must define what its nodes read, got {shown(name)} from nowhere: "
                    "export again"
                )
        for attribute in node.attribute:
            for graph in subgraphs(attribute):
                own = {entry.name for entry in (*graph.input, *graph.initializer)}
                _check_scope(graph.node, known | own, function)
        known.update(node.output)


def _key(domain: str, name: str) -> _Key:
    """Domain and name of an operator; the default domain goes by two names."""
    return ("" if domain == "ai.onnx" else domain), name
