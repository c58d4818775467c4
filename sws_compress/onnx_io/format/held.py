"""How a runtime holds the tensors of a file while the model runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from sws_compress.onnx_io.format.blocked_weight import CONTRIB_DOMAIN, PRODUCT_OPERATOR, of_bytes
from sws_compress.onnx_io.traversal import nodes_of

FLOATS = "floats"
"""Route of tensors that are numbers as they are."""

PRODUCT, DEQUANTISED, ROWS = "product", "dequantised", "rows"
"""Routes of integers: matrix products in few bits, a DequantizeLinear, and look-ups of rows."""


@dataclass(frozen=True)
class Product:
    """What a matrix product in few bits says of its weight.

    Parameters
    ----------
    inputs, outputs : int
        Size of the matrix.
    bits : int
        Bits per weight.
    """

    inputs: int
    outputs: int
    bits: int

    def integers(self, words: npt.NDArray[np.uint8]) -> npt.NDArray[np.int16]:
        """The integers in packed words (outputs, blocks, bytes), 0 being the middle; shape (inputs, outputs)."""
        steps = of_bytes(words.reshape(len(words), -1), self.bits)[:, : self.inputs]
        return (steps.astype(np.int16) - (1 << (self.bits - 1))).T


@dataclass(frozen=True)
class Held:
    """How one tensor is held.

    Parameters
    ----------
    route : str
        `FLOATS`, `PRODUCT`, `DEQUANTISED` or `ROWS`.
    product : Product or None
        That of the route.
    """

    route: str
    product: Product | None = None


def held_tensors(proto: onnx.ModelProto, names: Collection[str]) -> Mapping[str, Held]:
    """How tensors of integers are held, by what reads them; others are left out.

    Parameters
    ----------
    proto : ModelProto
        A model.
    names : collection of str
        Its tensors of integers.
    """
    found: dict[str, Held] = {}
    casts = {
        name
        for node in nodes_of(proto.graph.node)
        if node.op_type in ("Cast", "DequantizeLinear")
        for name in node.input[:1]
    }
    for node in nodes_of(proto.graph.node):
        operator = (node.domain, node.op_type)
        if operator == (CONTRIB_DOMAIN, PRODUCT_OPERATOR) and len(node.input) > 1 and node.input[1] in names:
            given = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
            size = (given.get("K", 0), given.get("N", 0), given.get("bits", 4))
            if all(isinstance(each, int) and each > 0 for each in size) and size[2] in (2, 4, 8):
                found[node.input[1]] = Held(PRODUCT, Product(*size))
        elif operator == ("", "DequantizeLinear") and node.input and node.input[0] in names:
            found[node.input[0]] = Held(DEQUANTISED)
        elif operator == ("", "Gather") and node.input and node.input[0] in names and casts.intersection(node.output):
            found.setdefault(node.input[0], Held(ROWS))
    return found
