"""Copies of a model that show what is inside: activations as outputs, and weights that may be replaced at every run."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from sws_compress.onnx_io.analyse.bodies import Inside, values_inside

READOUTS = frozenset({
    "ArgMax", "Cast", "Flatten", "Greater", "GreaterOrEqual", "Hardmax", "Identity", "LabelEncoder", "Less",
    "LessOrEqual", "LogSoftmax", "Not", "Optional", "Reshape", "Sigmoid", "Softmax", "Squeeze", "Transpose",
    "Unsqueeze", "ZipMap",
})  # fmt: skip
"""Operators at the end of a network that hide how far its answer is from changing, or move it."""


JOINING = frozenset({"Concat", "SequenceConstruct"})
"""Operators that join values to one output."""

MOST_PARTS = 8
"""Values that are joined to one output, at most, to be judged each by itself: more are steps of one kind."""


def score_names(model: ir.Model) -> tuple[str, ...]:
    """The values behind the outputs that tell most of an error: those before a last softmax, sigmoid or argmax.

    Of several values that are joined to one output, such as the boxes and the classes of a detector, each counts: one
    of them may be much larger than the others.

    Returns
    -------
    tuple of str
        At least one name per floating-point output, without repetitions.
    """
    found: dict[str, None] = {}
    for output in model.graph.outputs:
        names = [value.name for value in _scores(output) if value.name and _may_be_float(value)]
        if not names and output.name and _may_be_float(output):
            names = [output.name]
        found.update(dict.fromkeys(filter(None, names)))
    return tuple(found)


def _scores(output: ir.Value) -> list[ir.Value]:
    """What is read out as a value."""
    value = output
    while (node := value.producer()) is not None and node.domain in ("", "ai.onnx.ml"):
        inner = [each for each in node.inputs if each is not None and each.const_value is None]
        if node.op_type in JOINING and 1 < len(inner) <= MOST_PARTS:
            return [score for each in inner if each.producer() is not None for score in _scores(each)]
        if node.op_type not in READOUTS or not node.inputs or not inner or node.inputs[0] is not inner[0]:
            break
        value = inner[0]
    return [value]


def _may_be_float(value: ir.Value) -> bool:
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        return False
    return value.dtype is None or _is_float(value)


def _is_float(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()


def showing(model: ir.Model, values: Iterable[str], *, replaceable: Iterable[str] = ()) -> ir.Model:
    """A copy of a model with other outputs.

    Parameters
    ----------
    model : ir.Model
        It is not changed.
    values : iterable of str
        Values to give out, in this order. Those inside of bodies are given out as float32: empty where a branch was
        not taken, and stacked along a new first axis by a Loop or Scan.
    replaceable : iterable of str
        Initialisers that become inputs as well: a run may give other values for them.
    """
    changed = model.clone()
    graph = changed.graph
    known = values_inside(changed)
    graph.outputs[:] = [_outside(known[name], number) for number, name in enumerate(values)]
    given = {value.name for value in graph.inputs}
    graph.inputs.extend(graph.initializers[name] for name in replaceable if name not in given)
    return changed


def _outside(inside: Inside, number: int) -> ir.Value:
    """A value as one of the main graph; the bodies that it is in give it out, under names with a number."""
    value = inside.value
    for depth, owner in enumerate(inside.owners):
        if not depth:
            value = _appended(owner.body, "Cast", [value], f"{number} inside", to=ir.DataType.FLOAT.value)
        owner.body.outputs.append(value)
        for other in _bodies(owner.node):
            if other is not owner.body:  # the branch that is not taken
                empty = ir.tensor(np.zeros(0, np.float32))
                other.outputs.append(_appended(other, "Constant", [], f"{number} not taken {depth}", value=empty))
        for name in ("scan_output_axes", "scan_output_directions"):
            if name in owner.node.attributes:
                numbers = owner.node.attributes[name].as_ints()
                owner.node.attributes[name] = ir.AttrInt64s(name, [*numbers, 0])
        owner.node.resize_outputs(len(owner.node.outputs) + 1)
        value = owner.node.outputs[-1]
        value.name, value.type = f"{number} outside {depth}", ir.TensorType(ir.DataType.FLOAT)
    return value


def _bodies(node: ir.Node) -> list[ir.Graph]:
    return [each.as_graph() for each in node.attributes.values() if each.type == ir.AttributeType.GRAPH]


def _appended(
    graph: ir.Graph, operator: str, inputs: list[ir.Value], name: str, **attributes: int | ir.TensorProtocol
) -> ir.Value:
    """The output of a new node at the end of a graph."""
    node = ir.node(operator, inputs, attributes=attributes)
    graph.append(node)
    (output,) = node.outputs
    output.name, output.type = name, ir.TensorType(ir.DataType.FLOAT)
    return output
