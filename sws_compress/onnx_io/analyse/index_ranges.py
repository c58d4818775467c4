"""Integers that inputs may hold: rows of tables that they pick, and numbers that they are compared with."""

from __future__ import annotations

import onnx_ir as ir

_KEEPS_NUMBERS = frozenset({"Cast", "Unsqueeze", "Squeeze", "Reshape", "Flatten", "Transpose", "Identity", "Slice"})
"""Operators that hand on the elements of their first input."""


def index_ranges(model: ir.Model) -> dict[str, range]:
    """The integers that make sense as inputs of a model.

    Parameters
    ----------
    model : ir.Model
        The model.

    Returns
    -------
    dict of str to range
        For every input that reaches the indices of a Gather unchanged: the rows of the smallest such table. For every
        scalar that is compared with a constant, such as a sample rate: that number alone.
    """
    found: dict[str, range] = {}
    for entry in model.graph.inputs:
        waiting: list[ir.Value] = [entry]
        seen = {id(entry)}
        while waiting:
            for node, place in waiting.pop().uses():
                name = str(entry.name)
                if node.op_type == "Gather" and place == 1 and (rows := _rows(node)):
                    found[name] = range(min(rows, found.get(name, range(rows)).stop))
                if node.op_type == "Equal" and _is_scalar(entry):
                    number = _number(node.inputs[1 - place])
                    if number is not None:
                        found.setdefault(name, range(number, number + 1))
                if node.op_type in _KEEPS_NUMBERS and place == 0:
                    new = [value for value in node.outputs if id(value) not in seen]
                    seen.update(map(id, new))
                    waiting += new
    return found


def _is_scalar(value: ir.Value) -> bool:
    return value.shape is not None and all(size == 1 for size in value.shape)


def _number(value: ir.Value | None) -> int | None:
    """The integer that a constant of one element holds; None for all other values."""
    constant = None if value is None else value.const_value
    if constant is None or constant.size != 1 or not constant.dtype.is_integer():
        return None
    return int(constant.numpy().reshape(-1)[0])


def _rows(node: ir.Node) -> int | None:
    """Rows of the table of a Gather; None if they are not known."""
    table, axis = node.inputs[0], node.attributes.get("axis")
    if table is None:
        return None
    shape = table.shape if table.const_value is None else table.const_value.shape
    along = 0 if axis is None else axis.as_int()
    if shape is None or not -len(shape) <= along < len(shape):
        return None
    size = shape[along]
    return size if isinstance(size, int) else None
