"""Decoded tensors as they are before they are scaled: what their symbols stand for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx


@dataclass(frozen=True)
class Scaled:
    """Names of the two values whose product a decoded tensor is: of its shape, and the factors."""

    unscaled: str
    factors: str


def scaled_names(nodes: Sequence[onnx.NodeProto], names: Iterable[str]) -> dict[str, Scaled]:
    """Which of the decoded ``names`` are products; a Cast may follow. ``nodes`` are those that decode.

    No other decoder ends in a product.
    """
    makers: Mapping[str, onnx.NodeProto] = {output: node for node in nodes for output in node.output}
    found = {}
    for name in names:
        node = makers.get(name)
        if node is not None and node.op_type == "Cast" and len(node.input) == 1:
            node = makers.get(node.input[0])
        if node is None or node.op_type != "Mul" or node.domain or len(node.input) != 2:
            continue
        if node.input[0] in makers:
            found[name] = Scaled(*node.input)
    return found
