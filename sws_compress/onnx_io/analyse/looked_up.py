"""Tables whose rows a network looks up at positions that it computes or is given."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from sws_compress.onnx_io.analyse.bodies import values_inside
from sws_compress.onnx_io.analyse.layouts import Array
from sws_compress.onnx_io.analyse.weights import readers
from sws_compress.onnx_io.format.blocked_weight import CONTRIB_DOMAIN

_POSITIONS = {("EmbedLayerNormalization", 2): 0, ("EmbedLayerNormalization", 4): 1}
"""Operators of com.microsoft and inputs of them that are tables, and which input has the positions."""


@dataclass(frozen=True)
class Rows:
    """The layout of a table: its rows.

    Parameters
    ----------
    scaled : bool
        Whether every row may have a scale of its own.
    """

    scaled: bool

    def rows(self, values: Array) -> Array:
        return values.reshape(1, len(values), -1)

    def weight(self, rows: Array, shape: tuple[int, ...]) -> Array:
        return rows.reshape(shape)

    def output_axis(self, shape: tuple[int, ...]) -> int | None:
        return 0 if self.scaled else None


def positions_of(model: ir.Model, table: str) -> tuple[str, ...]:
    """The values that say which rows of an initialiser are looked up.

    Parameters
    ----------
    model : ir.Model
        The model.
    table : str
        Name of the initialiser.

    Returns
    -------
    tuple of str
        One name per node that reads it; empty if one of them does something else, or knows its positions beforehand.
    """
    known = values_inside(model)
    found = []
    value = model.graph.initializers[table]
    for node, number in readers(value, model):
        positions = _positions(node, number) if node.inputs[number] is value else None
        inside = None if positions is None or positions.const_value is not None else known.get(str(positions.name))
        if inside is None or inside.value is not positions:
            return ()
        found.append(str(inside.value.name))
    return tuple(found)


def _positions(node: ir.Node, number: int) -> ir.Value | None:
    """The positions at which a node looks up rows in its input ``number``."""
    if node.op_type == "Gather" and not node.domain and not number and not node.attributes.get_int("axis", 0):
        return node.inputs[1]
    other = _POSITIONS.get((node.op_type, number)) if node.domain == CONTRIB_DOMAIN else None
    return None if other is None else node.inputs[other]
