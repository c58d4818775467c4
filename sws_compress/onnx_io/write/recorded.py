"""Nodes as they are recorded, before any is written, and the changes that make them take fewer bytes.

Byte costs are estimates of what protobuf writes: of a name, 3 bytes (tag, length and one letter).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_CALLS_WITH_LIFTED_LITERALS = 6
"""Calls of a function up to which its literals become arguments.

A Constant node takes some 20 bytes more than an initialiser, once; an argument takes 3 bytes in every call and 3 in the
function.
"""


_NAME_BYTES = 3
"""Bytes of a short name with its frame."""


_ATTRIBUTE_BYTES = 10
"""Bytes of an attribute of a node, about."""


_NODE_BYTES = 4
"""Bytes of the frames of a node and of its operator."""


_DOMAIN_BYTES = 6
"""Bytes of the domain that a call of a function states."""


_FUNCTION_BYTES = 24
"""Bytes of a function's name, domain, opset imports and frame."""


_COMPARED_LITERAL_BYTES = 4096
"""Literals of up to so many bytes are merged if they are equal. Larger ones are payload: no two are."""


Array = npt.NDArray[Any]


@dataclass(eq=False)
class Handle:
    """A value to be.

    Parameters
    ----------
    vector : (int, type) or None
        Length and NumPy type of a vector whose length runtimes cannot infer; it is stated in the file.
    name : str or None
        The name it must have in the file; None lets the writer choose.
    """

    vector: tuple[int, type[np.generic]] | None = None
    name: str | None = None


@dataclass(eq=False)
class Step:
    """A node to be: an operator of the default domain, or the call of a ``body``."""

    operator: str
    inputs: list[Handle]
    outputs: list[Handle]
    attributes: dict[str, int | str] = field(default_factory=dict)
    body: Body | None = None


@dataclass(eq=False)
class Body:
    """The main graph or a function while it is recorded.

    Parameters
    ----------
    inputs, outputs : list of Handle
        Those of the function; the main graph has outputs only.
    steps : list of Step
        Nodes in the order in which they are computed.
    name : str or None
        Name of a function that must stay one, and be found by it in the file.
    literals : dict
        Constants by type, shape and content.
    """

    inputs: list[Handle] = field(default_factory=list)
    outputs: list[Handle] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    name: str | None = None
    literals: dict[tuple[str, tuple[int, ...], bytes | int], tuple[Handle, Array]] = field(default_factory=dict)

    def literal(self, array: Array) -> Handle:
        """The constant with this content; equal small ones are one."""
        key = (array.dtype.str, array.shape, array.tobytes() if array.nbytes <= _COMPARED_LITERAL_BYTES else id(array))
        return self.literals.setdefault(key, (Handle(), array))[0]


def tidy(body: Body) -> None:
    """Merge equal steps, and drop reshapes, steps and literals that nothing needs, in place."""
    _skip_reshapes(body)
    _merge_equal(body)
    _drop_unused(body)


def _skip_reshapes(body: Body) -> None:
    """Let a Reshape of a Reshape read what the first one reads: one copy less in memory, one node less if unused.

    This holds because no decoder's shape has a 0, which would stand for a size of the input.
    """
    reshaped: dict[Handle, Handle] = {}
    for step in body.steps:
        if step.operator == "Reshape":
            step.inputs[0] = reshaped.get(step.inputs[0], step.inputs[0])
            reshaped[step.outputs[0]] = step.inputs[0]


def _merge_equal(body: Body) -> None:
    """Compute once what several tensors compute alike, such as positions of equally many symbols; names are kept."""
    merged: dict[Handle, Handle] = {}
    known: dict[tuple[object, ...], Step] = {}
    kept: list[Step] = []
    for step in body.steps:
        step.inputs = [merged.get(handle, handle) for handle in step.inputs]
        vectors = tuple(handle.vector for handle in step.outputs)
        called = step.body or step.operator
        first = known.setdefault((called, tuple(step.inputs), tuple(step.attributes.items()), vectors), step)
        if first is step or any(handle.name for handle in step.outputs):
            kept.append(step)
        else:
            merged.update(zip(step.outputs, first.outputs, strict=True))
    body.steps = kept
    body.outputs = [merged.get(handle, handle) for handle in body.outputs]


def _drop_unused(body: Body) -> None:
    """Drop steps and literals that lead to no output; a value with a name counts as an output."""
    needed = set(body.outputs)
    for step in reversed(body.steps):
        if needed & set(step.outputs) or any(handle.name for handle in step.outputs):
            needed.update(step.inputs)
    body.steps = [step for step in body.steps if any(handle.name or handle in needed for handle in step.outputs)]
    body.literals = {key: literal for key, literal in body.literals.items() if literal[0] in needed}


def _calls(body: Body, bodies: Sequence[Body]) -> list[tuple[Body, Step]]:
    """The calls of ``body`` in ``bodies``, each with its caller."""
    return [(caller, step) for caller in bodies for step in caller.steps if step.body is body]


def inline_small(main: Body, bodies: list[Body]) -> list[Body]:
    """Write bodies into their callers where functions would take more bytes, in place.

    Parameters
    ----------
    main : Body
        The main graph.
    bodies : list of Body
        All functions, each after those it calls.

    Returns
    -------
    list of Body
        The functions that are left, in the same order: those with a name, and those that take fewer bytes than copies
        of their nodes.
    """
    for body in [body for body in bodies if body.name is None]:
        calls = _calls(body, [main, *bodies])
        if len(calls) != 1 and len(calls) * _nodes_bytes(body) > _function_bytes(body, len(calls)):
            continue
        bodies = [other for other in bodies if other is not body]
        for caller, step in calls:
            at = caller.steps.index(step)
            caller.steps[at : at + 1] = _copied_steps(body, step, caller)
    return bodies


def _copied_steps(body: Body, call: Step, caller: Body) -> list[Step]:
    """The steps of ``body`` on values of its ``caller``, to replace ``call``."""
    renamed = dict(zip(body.inputs, call.inputs, strict=True)) | dict(zip(body.outputs, call.outputs, strict=True))
    renamed |= {handle: caller.literal(array) for handle, array in body.literals.values()}
    for step in body.steps:
        renamed |= {handle: Handle() for handle in step.outputs if handle not in renamed}
    return [
        replace(step, inputs=[renamed[handle] for handle in step.inputs], outputs=[renamed[h] for h in step.outputs])
        for step in body.steps
    ]


def _nodes_bytes(body: Body) -> int:
    """Bytes of the nodes of a body, estimated."""
    return sum(
        _NODE_BYTES
        + len(step.operator)
        + _NAME_BYTES * len(step.inputs + step.outputs)
        + _ATTRIBUTE_BYTES * len(step.attributes)
        for step in body.steps
    )


def _function_bytes(body: Body, calls: int) -> int:
    """Bytes of a body as a function with so many calls, estimated; its literals are arguments."""
    names = _NAME_BYTES * (len(body.inputs) + len(body.outputs) + len(body.literals))
    return _FUNCTION_BYTES + _nodes_bytes(body) + names + calls * (_NODE_BYTES + _DOMAIN_BYTES + names)


def lift_literals(body: Body, bodies: Sequence[Body]) -> None:
    """Turn the literals of a function into arguments of its calls, in place, if there are few calls.

    Parameters
    ----------
    body : Body
        The function.
    bodies : sequence of Body
        The main graph and all functions: where calls may be.
    """
    calls = _calls(body, bodies)
    if len(calls) > MAX_CALLS_WITH_LIFTED_LITERALS:
        return
    for handle, array in body.literals.values():
        body.inputs.append(handle)
        for caller, step in calls:
            step.inputs.append(caller.literal(array))
    body.literals = {}
