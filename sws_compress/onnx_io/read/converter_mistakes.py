"""Operators that the version converter of onnx gets wrong, made right in what it returns.

Every operator of opsets 7 to 12 was compared before and after conversion with onnx 1.23. Two kinds differ, in branches
as well:

- *Hardmax* flattened its input to two dimensions before version 13. The converter copies the node, which then works
  along one axis.
- *Upsample*, and *Resize* of version 10, measure coordinates from the corner (``asymmetric``), and ``nearest`` rounds
  down when it enlarges and up when it reduces. The converter leaves both to the defaults of *Resize* 11, which measures
  from the centres of pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from sws_compress.messages import shown
from sws_compress.onnx_io.traversal import graphs

KNOWN_FROM = 7
"""Oldest opset whose operators were all compared before and after conversion."""

CORNERS_BELOW = 11
"""Opset from which Resize has modes of coordinates."""

_ENLARGES_ONLY_BELOW = 10
"""Opset from which Resize can reduce; Upsample before it cannot."""

_MAX_RANK = 16
"""Most dimensions of a tensor whose scales are read."""

Floats = npt.NDArray[np.float32]


def corrected(proto: onnx.ModelProto, stated: int) -> str | None:
    """Set right what the converter makes of Hardmax, Upsample and Resize, in place.

    Parameters
    ----------
    proto : ModelProto
        What the converter returned, of opset 13.
    stated : int
        The opset that the model had before, below 13.

    Returns
    -------
    str or None
        What cannot be set right, as the end of "got ..."; None if everything is right.
    """
    for graph in graphs(proto):
        _flatten_hardmax(graph)
    if stated >= CORNERS_BELOW:
        return None
    scales = _scales(proto)
    for graph in graphs(proto):
        for node in graph.node:
            if node.op_type != "Resize" or node.domain:
                continue
            known = scales.get(node.input[2]) if len(node.input) > 2 else None
            if _attribute(node, "mode", b"nearest") != b"nearest":
                _set(node, coordinate_transformation_mode="asymmetric")
            elif (rounding := _rounding(known, stated, inner=graph is not proto.graph)) is None:
                return f"a nearest Resize {shown(node.output[0])} that may both enlarge and reduce"
            elif known is None or not _centres_agree(known):
                _set(node, coordinate_transformation_mode="asymmetric", nearest_mode=rounding)
    return None


def _rounding(scales: Floats | None, stated: int, *, inner: bool) -> str | None:
    """The rounding of an old ``nearest``; None if no single one does it, or if it is not known and cannot be compared.

    A Resize of the main graph whose scales are computed is taken to enlarge. Comparing the models shows whether it
    does; a branch may not be reached then.
    """
    if stated < _ENLARGES_ONLY_BELOW or (scales is None and not inner):
        return "floor"
    if scales is None:
        return None
    if (scales >= 1).all():
        return "floor"
    return "ceil" if (scales <= 1).all() else None


def _centres_agree(scales: Floats) -> bool:
    """Whether both kinds of coordinates pick the same elements: (x + 1/2) / s - 1/2 rounds to x // s for whole s."""
    return bool((scales >= 1).all() and (scales == np.round(scales)).all())


def _scales(proto: onnx.ModelProto) -> dict[str, Floats | None]:
    """Float vectors among initialisers and Constant nodes, by name; None where branches use a name for two values."""
    found: dict[str, Floats | None] = {}
    for graph in graphs(proto):
        tensors = [(tensor.name, tensor) for tensor in graph.initializer]
        for node in graph.node:
            if node.op_type == "Constant":
                tensors += [(node.output[0], entry.t) for entry in node.attribute if entry.name == "value"]
        for name, tensor in tensors:
            if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 1 and tensor.dims[0] <= _MAX_RANK:
                values = numpy_helper.to_array(tensor)
                held = found.setdefault(name, values)
                found[name] = values if held is not None and np.array_equal(held, values) else None
    return found


def _flatten_hardmax(graph: onnx.GraphProto) -> None:
    """Put Flatten and Reshape around every Hardmax that does not work along its last axis."""
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        axis = _attribute(node, "axis", 1)
        if node.op_type != "Hardmax" or node.domain or axis == -1:
            nodes.append(node)
            continue
        (data,), (out,) = node.input, node.output
        shape, flat, chosen = (f"{out}.{part}" for part in ("shape", "flat", "chosen"))
        nodes += [
            helper.make_node("Shape", [data], [shape]),
            helper.make_node("Flatten", [data], [flat], axis=axis),
            helper.make_node("Hardmax", [flat], [chosen], name=node.name, axis=-1),
            helper.make_node("Reshape", [chosen, shape], [out]),
        ]
    if len(nodes) != len(graph.node):
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)


def _attribute(node: onnx.NodeProto, name: str, default: object) -> Any:
    return next((helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), default)


def _set(node: onnx.NodeProto, **values: str) -> None:
    """Set attributes, in place of those of the same names."""
    kept = [entry for entry in node.attribute if entry.name not in values]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(name, value) for name, value in values.items())])
