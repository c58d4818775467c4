"""Inputs of nodes that the exporter computes although they are known, or need not be given."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sws_compress.onnx_io.rewrite.sizes_of_axes import Shapes, constant, constant_shape

_STATES = {"GRU": (5,), "LSTM": (5, 6), "RNN": (5,)}
"""Inputs of recurrent layers that are their initial states: zeros if they are not given."""

_KEEP_ZEROS = (
    "Concat",
    "Expand",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
)
"""Operators that make zeros of zeros; data come first, but all inputs of Concat are data."""

_LIKE_FIRST = (
    "Mul",
    "Add",
    "Sub",
    "Div",
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Identity",
    "Slice",
    "Gather",
)
"""Operators whose output has the type of their first input."""

_FARTHEST = np.iinfo(np.int32).max
"""Ends of slices from here on are those of any axis."""


def fix_shapes(graph: ir.Graph) -> None:
    """Give Reshape nodes constant shapes where one constant does for all inputs, in place."""
    shapes = Shapes(graph)
    for node in graph:
        if node.domain or node.op_type != "Reshape" or shapes.numbers(node.inputs[1]) is not None:
            continue
        shape, wanted = shapes.of(node.inputs[0]), shapes.moved(node, shapes.of(node.inputs[0]) or ())
        numbers = None if shape is None or wanted is None else constant_shape(shape, wanted)
        if numbers is not None:
            node.replace_input_with(1, constant(graph, numbers))
            node.attributes.pop("allowzero", None)


def drop_zero_states(graph: ir.Graph) -> None:
    """Leave initial states of recurrent layers out that are zeros, in place."""
    for node in graph:
        states = [number for number in _STATES.get(node.op_type, ()) if not node.domain and number < len(node.inputs)]
        for number in states:
            value = node.inputs[number]
            if value is not None and _is_zero(value):
                node.replace_input_with(number, None)
        if states:
            given = [number for number, value in enumerate(node.inputs) if value is not None]
            node.resize_inputs(given[-1] + 1)


def drop_idle_nodes(graph: ir.Graph) -> None:
    """Leave out slices that cut nothing off, and casts to the type that a tensor has, in place."""
    for node in list(graph):
        source = node.inputs[0] if node.inputs and not node.domain else None
        if (
            source is not None
            and not node.outputs[0].is_graph_output()
            and (_cuts_nothing(node) or _casts_nothing(node))
        ):
            ir.convenience.replace_all_uses_with(node.outputs[0], source)


def _is_zero(value: ir.Value) -> bool:
    """Whether all elements are zeros, whatever the inputs."""
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        return not tensor.numpy().any()
    node = value.producer()
    if node is None or node.domain:
        return False
    if node.op_type == "ConstantOfShape":
        filling = node.attributes.get_tensor("value")
        return filling is None or not filling.numpy().any()
    inputs = node.inputs if node.op_type == "Concat" else node.inputs[:1]
    return node.op_type in _KEEP_ZEROS and all(each is not None and _is_zero(each) for each in inputs)


def _cuts_nothing(node: ir.Node) -> bool:
    """Whether a node is a Slice from the first to the last element."""
    if node.op_type != "Slice":
        return False
    tensors = [None if value is None else ir.convenience.get_const_tensor(value) for value in node.inputs[1:]]
    if None in tensors[:2] or (len(tensors) > 3 and tensors[3] is None):
        return False
    first, last, *rest = (tensor.numpy() for tensor in tensors if tensor is not None)
    steps = rest[-1] if len(tensors) > 3 else np.ones(1)
    return bool((first == 0).all() and (last >= _FARTHEST).all() and (steps == 1).all())


def _casts_nothing(node: ir.Node) -> bool:
    """Whether a node casts a tensor to the type that it has."""
    if node.op_type != "CastLike":
        return False
    held, wanted = (_dtype(value) for value in node.inputs)
    return held is not None and held == wanted


def _dtype(value: ir.Value | None) -> ir.DataType | None:
    """The type of a value, as it is stated or follows from what it is made of."""
    if value is None:
        return None
    if value.const_value is not None:
        return value.const_value.dtype
    node = value.producer()
    if value.dtype is not None or node is None or node.domain or node.op_type not in _LIKE_FIRST:
        return value.dtype
    return _dtype(node.inputs[0])
