"""Copies of a model that show what is inside: activations as outputs, and weights that may be replaced at every run."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

READOUTS = frozenset({
    "ArgMax", "Cast", "Flatten", "Hardmax", "Identity", "LogSoftmax", "Reshape", "Sigmoid", "Softmax", "Squeeze",
    "Transpose", "Unsqueeze",
})  # fmt: skip
"""Operators at the end of a network that hide how far its answer is from changing, or move it."""


def score_names(model: ir.Model) -> tuple[str, ...]:
    """The values behind the outputs that tell most of an error: those before a last softmax, sigmoid or argmax.

    Returns
    -------
    tuple of str
        One name per floating-point output, without repetitions.
    """
    found: dict[str, None] = {}
    for output in model.graph.outputs:
        value: ir.Value | None = output
        while value is not None and (node := value.producer()) is not None:
            inner = node.inputs[0] if node.inputs else None
            if node.domain or node.op_type not in READOUTS or inner is None or inner.const_value is not None:
                break
            value = inner
        for candidate in (value, output):
            if candidate is not None and candidate.name and (candidate.dtype is None or _is_float(candidate)):
                found[candidate.name] = None
                break
    return tuple(found)


def _is_float(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()


def showing(model: ir.Model, values: Iterable[str], *, replaceable: Iterable[str] = ()) -> ir.Model:
    """A copy of a model with other outputs.

    Parameters
    ----------
    model : ir.Model
        It is not changed.
    values : iterable of str
        Values of the main graph to give out, in this order.
    replaceable : iterable of str
        Initialisers that become inputs as well: a run may give other values for them.
    """
    changed = model.clone()
    graph = changed.graph
    known = {value.name: value for value in (*graph.inputs, *(each for node in graph for each in node.outputs))}
    graph.outputs[:] = [known[name] for name in values]
    graph.inputs.extend(graph.initializers[name] for name in replaceable if name not in known)
    return changed
