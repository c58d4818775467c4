"""Attributes that say what the operator does anyway; torch's exporter writes them all out."""

from __future__ import annotations

import onnx
import onnx_ir as ir

_STEPS = {"strides": 1, "dilations": 1, "pads": 0}


_WINDOWED = {"Conv": _STEPS, "ConvTranspose": _STEPS, "MaxPool": _STEPS, "AveragePool": _STEPS, "LpPool": _STEPS}
"""Defaults that the standard states in words, because their number depends on the axes."""


_TOLD_BY_SECOND_INPUT = {"Conv": "kernel_shape", "ConvTranspose": "kernel_shape", "Reshape": "allowzero"}


def drop_idle_attributes(node: ir.Node, version: int | None) -> None:
    """Drop, in place, attributes without which the node does the same; ``version`` is the opset of its domain.

    Those at their default; the shape of kernels that a weight of known shape has; ``allowzero`` of a known shape
    without zeros.
    """
    if version is None or not onnx.defs.has(node.op_type, version, node.domain):
        return
    schema = onnx.defs.get_schema(node.op_type, version, node.domain)
    for name, attribute in list(node.attributes.items()):
        default = schema.attributes[name].default_value if name in schema.attributes else None
        if default is None or not default.name or attribute.is_ref():
            continue
        if ir.to_proto(attribute).SerializeToString() == _like(default, attribute.name).SerializeToString():
            del node.attributes[name]
    if node.domain != "":
        return
    for name, usual in _WINDOWED.get(node.op_type, {}).items():
        found = node.attributes.get(name)
        if found is not None and not found.is_ref() and set(found.as_ints()) == {usual}:
            del node.attributes[name]
    told = _TOLD_BY_SECOND_INPUT.get(node.op_type)
    found = node.attributes.get(told) if told is not None else None
    second = node.inputs[1] if len(node.inputs) > 1 else None
    if found is None or found.is_ref() or second is None or second.const_value is None:
        return
    known = second.const_value
    if found.name == "allowzero":
        idle = bool((known.numpy() != 0).all())
    else:
        idle = tuple(found.as_ints()) == tuple(known.shape.numpy())[2:]
    if idle:
        del node.attributes[found.name]


def _like(attribute: onnx.AttributeProto, name: str) -> onnx.AttributeProto:
    """The attribute without documentation, as the writer writes it."""
    copy = onnx.AttributeProto()
    copy.CopyFrom(attribute)
    copy.name = name
    copy.ClearField("doc_string")
    return copy
