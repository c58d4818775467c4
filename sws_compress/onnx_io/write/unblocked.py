"""Weights in few bits as plain float32 again: MatMulNBits becomes MatMul, and packed look-ups become Gather."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from sws_compress.onnx_io.external_data import is_external
from sws_compress.onnx_io.format.blocked_weight import CONTRIB_DOMAIN, PRODUCT_OPERATOR, BlockedWeight, Floats
from sws_compress.onnx_io.traversal import constant_nodes, graphs, nodes, reads

_PARTS = (".indices", ".scales", ".zeros")
"""Ends of the names of the tensors that a weight is stored as."""

_LONGEST_LOOK_UP = 16
"""Nodes from a look-up of packed rows to the decoded ones, at most."""


@dataclass(frozen=True)
class _LookUp:
    """A chain of nodes that looks up packed rows and decodes them.

    Parameters
    ----------
    weight : str
        The embedding.
    positions : str
        What rows are looked up.
    last : NodeProto
        The node that makes the decoded rows.
    columns, bits : int
        Width of the embedding, and bits per weight.
    """

    weight: str
    positions: str
    last: onnx.NodeProto
    columns: int
    bits: int


def expand_blocked(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Give weights in few bits their float32 values back, in place.

    Parameters
    ----------
    proto : ModelProto
        A model that `matmul_nbits.rewrite_affine` wrote. Other MatMulNBits stay as they are.

    Returns
    -------
    tuple of str
        Names of the weights; they have the values that the runtime multiplies by.
    """
    stored = {tensor.name: tensor for tensor in proto.graph.initializer if not is_external(tensor)}
    look_ups = [found for graph in graphs(proto) for found in _look_ups(graph, stored)]
    values: dict[str, Floats] = {}
    rows = {found.weight for found in look_ups if _expanded(found.weight, found.columns, found.bits, stored, values)}
    for found in look_ups:
        if found.weight in rows:
            found.last.CopyFrom(helper.make_node("Gather", [found.weight, found.positions], list(found.last.output)))
    turned: set[str] = set()
    for node in nodes(proto):
        name = _multiplied(node, stored)
        if name is None:
            continue
        given = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        if _expanded(name, given.get("K", 0), given.get("bits", 4), stored, values):
            weight = f"{name}.columns" if name in rows else name
            turned.update({name} & rows)
            node.CopyFrom(helper.make_node("MatMul", [node.input[0], weight], list(node.output), name=node.name))
    for name in sorted(turned):
        _put_first(proto.graph, helper.make_node("Transpose", [name], [f"{name}.columns"], perm=[1, 0]))
    _drop_unread(proto)
    for name, array in values.items():
        kept = array if name in rows else np.ascontiguousarray(array.T)
        proto.graph.initializer.append(numpy_helper.from_array(kept, name))
    if not any(node.domain == CONTRIB_DOMAIN for node in nodes(proto)):
        for index in reversed(range(len(proto.opset_import))):
            if proto.opset_import[index].domain == CONTRIB_DOMAIN:
                del proto.opset_import[index]
    return tuple(values)


def blocked_left(proto: onnx.ModelProto) -> int:
    """How many products in few bits a model has."""
    return sum(node.op_type == PRODUCT_OPERATOR and node.domain == CONTRIB_DOMAIN for node in nodes(proto))


def computed_scales(proto: onnx.ModelProto) -> tuple[str, ...]:
    """The scales of products in few bits that nodes of the main graph compute from constants."""
    made = {name for node in constant_nodes(proto) for name in node.output}
    read = (node.input[2] for node in nodes(proto) if _is_product(node) and len(node.input) > 2)
    return tuple(dict.fromkeys(name for name in read if name in made))


def store_scales(proto: onnx.ModelProto, values: Mapping[str, npt.NDArray[np.generic]]) -> None:
    """Make computed scales initialisers, in place, and drop what has computed them.

    Without optimisation, ONNX Runtime prepares words that are constants without scales that are not.
    """
    if not values:
        return
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in values.items())
    for index in reversed(range(len(proto.graph.node))):
        if values.keys() >= set(proto.graph.node[index].output):
            del proto.graph.node[index]
    _drop_unread(proto)


def _is_product(node: onnx.NodeProto) -> bool:
    return bool(node.op_type == PRODUCT_OPERATOR and node.domain == CONTRIB_DOMAIN)


def _multiplied(node: onnx.NodeProto, stored: Mapping[str, TensorProto]) -> str | None:
    """The weight that a product of ours multiplies by; None for all other nodes."""
    if node.op_type != PRODUCT_OPERATOR or node.domain != CONTRIB_DOMAIN or len(node.input) not in (3, 4):
        return None
    name = node.input[1].removesuffix(_PARTS[0])
    names = [f"{name}{part}" for part in _PARTS[: len(node.input) - 1]]
    return name if list(node.input[1:]) == names and stored.keys() >= set(names) and name not in stored else None


def _values(name: str, stored: Mapping[str, TensorProto], *, columns: int, bits: int) -> Floats | None:
    """The weight in float32, shape (rows, columns); None if the tensors are not laid out like ours."""
    indices, scales, zeros = (stored.get(f"{name}{part}") for part in _PARTS)
    if indices is None or scales is None or bits not in (4, 8) or len(indices.dims) != 3:
        return None
    rows, blocks, block_bytes = indices.dims
    packed = -(-blocks * bits // 8)
    fits = (
        indices.data_type == TensorProto.UINT8
        and (scales.data_type, list(scales.dims)) == (TensorProto.FLOAT, [rows, blocks])
        and (zeros is None or (zeros.data_type, list(zeros.dims)) == (TensorProto.UINT8, [rows, packed]))
        and 0 < columns <= blocks * block_bytes * 8 // bits
    )
    if not fits:
        return None
    return BlockedWeight.of_packed(
        numpy_helper.to_array(indices),
        numpy_helper.to_array(scales),
        None if zeros is None else numpy_helper.to_array(zeros),
        columns=columns,
        bits=bits,
    ).expand()


def _expanded(name: str, columns: int, bits: int, stored: Mapping[str, TensorProto], values: dict[str, Floats]) -> bool:
    """Whether a weight is laid out like ours; its values are put into ``values``."""
    if name not in values:
        array = _values(name, stored, columns=columns, bits=bits)
        if array is None:
            return False
        values[name] = array
    return bool(values[name].shape[1] == columns)


def _look_ups(graph: onnx.GraphProto, stored: Mapping[str, TensorProto]) -> Iterator[_LookUp]:
    """The look-ups of packed rows in one graph."""
    made = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in graph.node:
        if node.op_type != "Gather" or not node.input[0].endswith(_PARTS[0]) or node.input[0] not in stored:
            continue
        weight, flat = node.input[0].removesuffix(_PARTS[0]), made.get(node.input[1])
        if weight in stored or f"{weight}{_PARTS[1]}" not in stored or flat is None or flat.op_type != "Reshape":
            continue
        found = _followed(node, readers, made)
        if found is None:
            continue
        last, bits = found
        width = stored.get(made[last.input[1]].input[1])
        if width is not None:
            columns = int(numpy_helper.to_array(width).reshape(-1)[0])
            yield _LookUp(weight, flat.input[0], last, columns, bits)


def _followed(
    node: onnx.NodeProto, readers: Mapping[str, list[onnx.NodeProto]], made: Mapping[str, onnx.NodeProto]
) -> tuple[onnx.NodeProto, int] | None:
    """The node that makes the rows looked up by ``node``, and bits per weight; None if it is another chain."""
    bits = 8
    for _ in range(_LONGEST_LOOK_UP):
        following = readers.get(node.output[0], [])
        if len(following) != 1:
            return None
        node = following[0]
        if node.op_type == "Gather":  # the table of the halves of a byte
            bits = 4
        shape = made.get(node.input[1]) if node.op_type == "Reshape" else None
        if shape is not None and shape.op_type == "Concat":
            return node, bits
    return None


def _put_first(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    rest = [onnx.NodeProto.FromString(each.SerializeToString()) for each in graph.node]
    del graph.node[:]
    graph.node.extend([node, *rest])


def _drop_unread(proto: onnx.ModelProto) -> None:
    """Drop nodes of all graphs, and initialisers, that nothing reads any more, in place."""
    for graph in graphs(proto):
        counts = Counter(name for node in graph.node for name in reads(node))
        counts.update(entry.name for entry in graph.output)
        for index in reversed(range(len(graph.node))):
            node = graph.node[index]
            if not any(counts[name] for name in node.output):
                counts.subtract(reads(node))
                del graph.node[index]
    read = {name for node in proto.graph.node for name in reads(node)}
    read |= {entry.name for entry in (*proto.graph.output, *proto.graph.input)}
    for index in reversed(range(len(proto.graph.initializer))):
        if proto.graph.initializer[index].name not in read:
            del proto.graph.initializer[index]
