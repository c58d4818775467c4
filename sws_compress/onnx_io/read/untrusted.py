"""What must hold before bytes of unknown origin are handed to anything that allocates by what they say.

The ONNX checker looks at names and types. It does not compare shapes with the data that is there, does not follow
functions in a circle, and its own code is C++: everything here is checked first, in plain integers.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import Message  # type: ignore[import-untyped,unused-ignore]
from onnx import TensorProto

from sws_compress.errors import ModelError
from sws_compress.onnx_io.messages import shown

_FIELDS = {
    "float_data": (TensorProto.FLOAT, TensorProto.COMPLEX64),
    "double_data": (TensorProto.DOUBLE, TensorProto.COMPLEX128),
    "int64_data": (TensorProto.INT64,),
    "uint64_data": (TensorProto.UINT32, TensorProto.UINT64),
    "string_data": (TensorProto.STRING,),
}
"""Where a tensor without raw bytes keeps elements of its type; all others are in int32_data."""


_COMPLEX = (TensorProto.COMPLEX64, TensorProto.COMPLEX128)


def check_untrusted(file: Path, proto: onnx.ModelProto) -> None:
    """Raise ModelError unless every tensor has the data that its shape and type promise, external data lies beside the
    model, names are text and those of initialisers unique, and functions read what they define and do not call each
    other in a circle."""
    _check_text(proto)
    for graph in graphs(proto):
        _check_names(graph)
        if graph.sparse_initializer:
            name = graph.sparse_initializer[0].values.name
            raise ModelError(f"initialiser {shown(name)} must be dense, got a sparse one: export dense weights")
    for tensor in tensors(proto):
        _check_tensor(tensor, file.parent)
    _check_functions(proto.functions)
    _check_calls(proto)


def graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The main graph and all subgraphs, those in functions included."""
    yield proto.graph
    for node in nodes(proto):
        for attribute in node.attribute:
            yield from _subgraphs(attribute)


def nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of subgraphs and functions included."""
    for body in (proto.graph.node, *(function.node for function in proto.functions)):
        yield from nodes_of(body)


def tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """All tensors: initialisers of all graphs, and attributes of all nodes."""
    for graph in graphs(proto):
        yield from graph.initializer
    yield from attribute_tensors(proto)


def attribute_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Tensors that nodes (and defaults of function attributes) hold."""
    defaults = (attribute for function in proto.functions for attribute in function.attribute_proto)
    for attribute in (*(attribute for node in nodes(proto) for attribute in node.attribute), *defaults):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        sparse = (attribute.sparse_tensor,) if attribute.HasField("sparse_tensor") else ()
        for entry in (*sparse, *attribute.sparse_tensors):
            yield entry.values
            yield entry.indices


def nodes_of(body: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph or function, those of subgraphs included."""
    for node in body:
        yield node
        for attribute in node.attribute:
            for graph in _subgraphs(attribute):
                yield from nodes_of(graph.node)


def _subgraphs(attribute: onnx.AttributeProto) -> Iterator[onnx.GraphProto]:
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def _check_text(message: Message) -> None:
    """All strings are UTF-8: the parser lets through others, as bytes, and nothing can write them again."""
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


def _check_tensor(tensor: onnx.TensorProto, folder: Path) -> None:
    count = _element_count(tensor)
    if tensor.data_location == TensorProto.EXTERNAL:
        _check_external(tensor, _byte_count(tensor, count), folder)
    elif tensor.HasField("raw_data"):
        if tensor.data_type == TensorProto.STRING:
            raise ModelError(
                f"strings of tensor {shown(tensor.name)} must be in string_data, got raw bytes: export again"
            )
        wanted, found = _byte_count(tensor, count), len(tensor.raw_data)
        if found != wanted:
            raise _wrong_length(tensor, f"{wanted} bytes", found)
    else:
        field = next((name for name, types in _FIELDS.items() if tensor.data_type in types), "int32_data")
        wanted = 2 * count if tensor.data_type in _COMPLEX else count
        found = len(getattr(tensor, field))
        packed = field == "int32_data" and found == _byte_count(tensor, count) < count  # types of less than a byte
        if found != wanted and not packed:
            raise _wrong_length(tensor, f"{wanted} numbers in {field}", found)


def _element_count(tensor: onnx.TensorProto) -> int:
    if any(size < 0 for size in tensor.dims):
        raise ModelError(
            f"shape of tensor {shown(tensor.name)} must not be negative, got {shown(list(tensor.dims))}: export again"
        )
    if tensor.HasField("segment"):
        raise ModelError(f"tensor {shown(tensor.name)} must be in one piece, got a segment: export again")
    if tensor.data_type != TensorProto.STRING:
        _bits(tensor)
    return math.prod(tensor.dims)


def _bits(tensor: onnx.TensorProto) -> int:
    try:
        return int(8 * ir.DataType(tensor.data_type).itemsize)
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"type of tensor {shown(tensor.name)} must be one that ONNX defines, got number {tensor.data_type}: "
            "export again, or install a newer onnx"
        ) from error


def _byte_count(tensor: onnx.TensorProto, count: int) -> int:
    return -(-count * _bits(tensor) // 8)


def _wrong_length(tensor: onnx.TensorProto, wanted: str, found: int) -> ModelError:
    return ModelError(
        f"tensor {shown(tensor.name)} of shape {shown(list(tensor.dims))} must hold {wanted}, got {found}: "
        "the file is damaged"
    )


def external_location(tensor: onnx.TensorProto) -> Mapping[str, str]:
    """The fields of an external tensor: location, offset, length."""
    return {entry.key: entry.value for entry in tensor.external_data}


def external_path(tensor: onnx.TensorProto, folder: Path) -> Path:
    """The file that holds an external tensor; ModelError unless it is an ordinary one in the model's own folder.

    A path out of the folder (also by a link) could name any file of the reader's.
    """
    location = external_location(tensor).get("location", "")
    try:
        home = folder.resolve()
        path = (home / location).resolve()
        inside = bool(location) and not os.path.isabs(location) and home in path.parents
        exists = inside and path.is_file()
    except (OSError, ValueError, RuntimeError):  # names that no file can have; links in a circle
        inside = exists = False
    if not inside:
        raise ModelError(
            f"external data of {shown(tensor.name)} must lie in the model's folder, got {shown(location)}: move it"
        )
    if not exists:
        raise ModelError(
            f"external data of {shown(tensor.name)} must exist, got no file {shown(location)}: copy it beside the model"
        )
    if path.stat().st_nlink > 1:  # by which any file of the reader's can be brought into the folder
        raise ModelError(
            f"external data of {shown(tensor.name)} must have one name, got a hard link {shown(location)}: "
            "copy the file"
        )
    return path


def _check_external(tensor: onnx.TensorProto, wanted: int, folder: Path) -> None:
    if tensor.data_type == TensorProto.STRING:
        raise ModelError(f"strings of tensor {shown(tensor.name)} must be in the file, got external data: export again")
    size = external_path(tensor, folder).stat().st_size
    fields = external_location(tensor)
    offset, length = (_number(tensor, key, fields.get(key)) for key in ("offset", "length"))
    if length is not None and length != wanted:
        raise _wrong_length(tensor, f"{wanted} bytes", length)
    if (offset or 0) + wanted > size:
        raise ModelError(
            f"external data of {shown(tensor.name)} must end within the {size} bytes of its file, got {wanted} bytes "
            f"from {offset or 0}: the file is cut off or another one"
        )


def _number(tensor: onnx.TensorProto, key: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ModelError(
            f"{key} of external data of {shown(tensor.name)} must be a number >= 0, got {shown(text)}: export again"
        )
    return int(text)


def _check_functions(functions: Sequence[onnx.FunctionProto]) -> None:
    for function in functions:
        _check_scope(function.node, set(function.input), function.name)
    calls = {
        _key(function.domain, function.name): {_key(node.domain, node.op_type) for node in nodes_of(function.node)}
        for function in functions
    }
    try:
        tuple(TopologicalSorter({key: called & calls.keys() for key, called in calls.items()}).static_order())
    except CycleError as error:
        circle = shown(" -> ".join(name for _, name in error.args[1]))
        raise ModelError(f"functions must not call themselves, got {circle}: export without recursion") from error


def _check_calls(proto: onnx.ModelProto) -> None:
    arities = {_key(entry.domain, entry.name): (len(entry.input), len(entry.output)) for entry in proto.functions}
    for node in nodes(proto):
        inputs, outputs = arities.get(_key(node.domain, node.op_type), (None, None))
        if inputs is not None and outputs is not None and (len(node.input) > inputs or len(node.output) > outputs):
            raise ModelError(
                f"calls of {shown(node.op_type)} must have at most {inputs} inputs and {outputs} outputs, got "
                f"{len(node.input)} and {len(node.output)}: export again"
            )


def _check_scope(body: Iterable[onnx.NodeProto], known: set[str], function: str) -> None:
    """Nodes of a function read its inputs and what nodes before them make; the ONNX checker does not look."""
    for node in body:
        for name in node.input:
            if name and name not in known:
                raise ModelError(
                    f"function {shown(function)} must define what its nodes read, got {shown(name)} from nowhere: "
                    "export again"
                )
        for attribute in node.attribute:
            for graph in _subgraphs(attribute):
                own = {entry.name for entry in (*graph.input, *graph.initializer)}
                _check_scope(graph.node, known | own, function)
        known.update(node.output)


def _key(domain: str, name: str) -> tuple[str, str]:
    return ("" if domain == "ai.onnx" else domain), name
