"""Attributes that change nothing, such as the defaults that torch's exporter writes out."""

from __future__ import annotations

import onnx
import onnx_ir as ir

_STEPS = {"strides": 1, "dilations": 1, "pads": 0}
"""Attributes with one number per axis (two for pads), and the number that changes nothing."""


_WINDOWED = {"Conv": _STEPS, "ConvTranspose": _STEPS, "MaxPool": _STEPS, "AveragePool": _STEPS, "LpPool": _STEPS}
"""Operators whose defaults are missing in ONNX's schemas, because their length depends on the number of axes."""


_TOLD_BY_SECOND_INPUT = {"Conv": "kernel_shape", "ConvTranspose": "kernel_shape", "Reshape": "allowzero"}
"""Attributes that change nothing if the second input is known and agrees."""


def drop_idle_attributes(node: ir.Node, version: int | None) -> None:
    """Drop the attributes of a node that change nothing, in place.

    These are attributes at their default, the shape of kernels whose weight is known, and ``allowzero`` of a known
    shape without zeros.

    Parameters
    ----------
    node : ir.Node
        The node; operators that ONNX does not define are left alone.
    version : int or None
        Opset version of the node's domain.
    """
    if version is None or not onnx.defs.has(node.op_type, version, node.domain):
        return
    schema = onnx.defs.get_schema(node.op_type, version, node.domain)
    told = _TOLD_BY_SECOND_INPUT.get(node.op_type)
    for name, attribute in list(node.attributes.items()):
        if attribute.is_ref():
            continue
        idle = _is_default(attribute, schema)
        if not node.domain:
            idle = idle or _is_usual(attribute, node.op_type) or (name == told and _is_told(attribute, node))
        if idle:
            del node.attributes[name]


def _is_default(attribute: ir.Attr, schema: onnx.defs.OpSchema) -> bool:
    """Whether the schema states this value as the default."""
    if attribute.name not in schema.attributes:
        return False
    stated = schema.attributes[attribute.name].default_value
    if not stated.name:
        return False
    default = onnx.AttributeProto()
    default.CopyFrom(stated)
    default.name = attribute.name
    default.ClearField("doc_string")
    return bool(ir.to_proto(attribute).SerializeToString() == default.SerializeToString())


def _is_usual(attribute: ir.Attr, operator: str) -> bool:
    """Whether a window's attribute has its usual number along every axis."""
    usual = _WINDOWED.get(operator, {}).get(attribute.name)
    return usual is not None and set(attribute.as_ints()) == {usual}


def _is_told(attribute: ir.Attr, node: ir.Node) -> bool:
    """Whether the second input, a constant, makes the attribute of `_TOLD_BY_SECOND_INPUT` unnecessary."""
    second = node.inputs[1] if len(node.inputs) > 1 else None
    if second is None or second.const_value is None or second.is_graph_input():
        return False
    if attribute.name == "allowzero":
        return bool((second.const_value.numpy() != 0).all())
    return tuple(attribute.as_ints()) == tuple(second.const_value.shape.numpy())[2:]
