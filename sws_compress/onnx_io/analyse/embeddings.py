"""Embedding tables whose rows may stay packed while the model runs."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from sws_compress.onnx_io.analyse.weights import readers
from sws_compress.onnx_io.element_types import FLOAT_TYPES
from sws_compress.thresholds import SMALLEST_PACKED_TABLE


@dataclass(frozen=True)
class Embedding:
    """A floating-point table in which a Gather looks up rows.

    Parameters
    ----------
    name : str
        Name of the initialiser.
    shape : tuple of int
        Rows first.
    hindrance : str or None
        Why the table cannot stay packed, to be read after its name; None if it can.
    """

    name: str
    shape: tuple[int, ...]
    hindrance: str | None


def find_embeddings(model: ir.Model, *, smallest: int = SMALLEST_PACKED_TABLE) -> tuple[Embedding, ...]:
    """The embeddings of at least ``smallest`` elements, in the order of the graph."""
    found = []
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.dtype not in FLOAT_TYPES or tensor.size < smallest or len(tensor.shape) < 2:
            continue
        if any(node.op_type == "Gather" and not node.domain and number == 0 for node, number in readers(value, model)):
            found.append(Embedding(name, tuple(tensor.shape.numpy()), _hindrance(value)))
    return tuple(found)


def _hindrance(value: ir.Value) -> str | None:
    others = sorted({kind for use in value.uses() if (kind := _other_use(use.node, use.idx))})
    if value.is_graph_output():
        others.append("whoever runs the model, as an output")
    return f"is read by {' and '.join(others)}" if others else None


def _other_use(node: ir.Node, number: int) -> str | None:
    """The name of a use other than looking up rows at positions that are known only when the model runs; else None."""
    if node.op_type != "Gather" or node.domain or number:
        return node.op_type
    table, positions = node.inputs
    axis = node.attributes.get_int("axis", 0)
    if table is None or table.const_value is None or axis not in (0, -len(table.const_value.shape)):
        return f"Gather along axis {axis}"
    return "Gather at constant positions" if positions is None or positions.const_value is not None else None
