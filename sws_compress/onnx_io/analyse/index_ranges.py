"""Integer inputs that pick rows of tables, and how many rows there are."""

from __future__ import annotations

import onnx_ir as ir

_KEEPS_NUMBERS = frozenset({"Cast", "Unsqueeze", "Squeeze", "Reshape", "Flatten", "Transpose", "Identity", "Slice"})
"""Operators that hand on the elements of their first input."""


def index_ranges(model: ir.Model) -> dict[str, int]:
    """How many rows the inputs of a model choose from.

    Parameters
    ----------
    model : ir.Model
        The model.

    Returns
    -------
    dict of str to int
        For every input that reaches the indices of a Gather unchanged: the rows of the smallest such table.
    """
    found: dict[str, int] = {}
    for entry in model.graph.inputs:
        waiting: list[ir.Value] = [entry]
        seen = {id(entry)}
        while waiting:
            for node, place in waiting.pop().uses():
                if node.op_type == "Gather" and place == 1 and (rows := _rows(node)):
                    found[str(entry.name)] = min(rows, found.get(str(entry.name), rows))
                if node.op_type in _KEEPS_NUMBERS and place == 0:
                    new = [value for value in node.outputs if id(value) not in seen]
                    seen.update(map(id, new))
                    waiting += new
    return found


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
