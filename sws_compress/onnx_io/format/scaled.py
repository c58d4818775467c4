"""Decoded tensors that are products: the values that symbols stand for, times scales."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx


@dataclass(frozen=True)
class Scaled:
    """The two values whose product a decoded tensor is.

    Parameters
    ----------
    unscaled : str
        Name of the value of the tensor's shape.
    factors : str
        Name of the scales, which broadcast against it.
    """

    unscaled: str
    factors: str


def scaled_names(nodes: Sequence[onnx.NodeProto], names: Iterable[str]) -> dict[str, Scaled]:
    """The decoded tensors that are products. Only decoders of scaled tensors end in a product; a Cast may follow it.

    Parameters
    ----------
    nodes : sequence of NodeProto
        The nodes that decode.
    names : iterable of str
        The decoded tensors.

    Returns
    -------
    dict of str to Scaled
        Products by the name of the tensor.
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
