"""Nodes as they are recorded, and what makes them take fewer bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

_LIFT_UP_TO = 6
"""Calls up to which a literal costs less as an argument than as a Constant node."""


_NODE_BYTES, _DOMAIN_BYTES, _FUNCTION_BYTES = 4, 6, 24
"""Frames in the file: of a node with its operator, of the domain of a call, of a function."""


_NUMBERS_BYTES = 4096
"""Larger literals are payload: no two are equal, so they are told apart without being read."""


Array = npt.NDArray[Any]


@dataclass(eq=False)
class Handle:
    """A value to be: named when written. ``vector`` is (length, dtype) where the length does not follow from shapes."""

    vector: tuple[int, type[np.generic]] | None = None
    name: str | None = None


@dataclass(eq=False)
class Step:
    operator: str
    inputs: list[Handle]
    outputs: list[Handle]
    attributes: dict[str, int | str] = field(default_factory=dict)
    body: Body | None = None


@dataclass(eq=False)
class Body:
    """The main graph or one function while it is being written; one with a ``name`` stays a function, and has it."""

    inputs: list[Handle] = field(default_factory=list)
    outputs: list[Handle] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    name: str | None = None
    literals: dict[tuple[str, tuple[int, ...], bytes | int], tuple[Handle, Array]] = field(default_factory=dict)

    def literal(self, array: Array) -> Handle:
        key = (array.dtype.str, array.shape, array.tobytes() if array.nbytes <= _NUMBERS_BYTES else id(array))
        return self.literals.setdefault(key, (Handle(), array))[0]


def tidy(body: Body) -> None:
    """Leave out what is not needed."""
    _skip_reshapes(body)
    _merge_equal(body)
    _drop_unused(body)


def _skip_reshapes(body: Body) -> None:
    """Let a Reshape of a Reshape read what the other one reads: a copy less in memory at load, a node less if unused.

    No decoder's shapes hold a 0, which would stand for a size of what is reshaped.
    """
    reshaped: dict[Handle, Handle] = {}
    for step in body.steps:
        if step.operator == "Reshape":
            step.inputs[0] = reshaped.get(step.inputs[0], step.inputs[0])
            reshaped[step.outputs[0]] = step.inputs[0]


def _merge_equal(body: Body) -> None:
    """Compute once what several tensors compute alike, such as the positions of as many symbols; names are kept."""
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
    """Drop steps and literals that lead to no output; in the main graph, a value with a name is one."""
    needed = set(body.outputs)
    for step in reversed(body.steps):
        if needed & set(step.outputs) or any(handle.name for handle in step.outputs):
            needed.update(step.inputs)
    body.steps = [step for step in body.steps if any(handle.name or handle in needed for handle in step.outputs)]
    body.literals = {key: literal for key, literal in body.literals.items() if literal[0] in needed}


def _calls(body: Body, bodies: Sequence[Body]) -> list[tuple[Body, Step]]:
    return [(caller, step) for caller in bodies for step in caller.steps if step.body is body]


def inline_small(main: Body, bodies: list[Body]) -> list[Body]:
    """Write bodies into their callers where a function would take more bytes; returns those left, callees first."""
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
    """The steps of ``body`` on values of its ``caller``, in place of ``call``."""
    renamed = dict(zip(body.inputs, call.inputs, strict=True)) | dict(zip(body.outputs, call.outputs, strict=True))
    renamed |= {handle: caller.literal(array) for handle, array in body.literals.values()}
    for step in body.steps:
        renamed |= {handle: Handle() for handle in step.outputs if handle not in renamed}
    return [
        replace(step, inputs=[renamed[handle] for handle in step.inputs], outputs=[renamed[h] for h in step.outputs])
        for step in body.steps
    ]


def _nodes_bytes(body: Body) -> int:
    """About the bytes of the nodes of a body: names take 3, and so do the frame of a node and of an operator."""
    return sum(
        _NODE_BYTES + len(step.operator) + 3 * len(step.inputs + step.outputs) + 10 * len(step.attributes)
        for step in body.steps
    )


def _function_bytes(body: Body, calls: int) -> int:
    """About the bytes of a body as a function with its calls; literals are arguments."""
    names = 3 * (len(body.inputs) + len(body.outputs) + len(body.literals))
    return _FUNCTION_BYTES + _nodes_bytes(body) + names + calls * (_NODE_BYTES + _DOMAIN_BYTES + names)


def lift_literals(body: Body, bodies: Sequence[Body]) -> None:
    """Turn the literals of a function with few calls into arguments."""
    calls = _calls(body, bodies)
    if len(calls) > _LIFT_UP_TO:
        return
    for handle, array in body.literals.values():
        body.inputs.append(handle)
        for caller, step in calls:
            step.inputs.append(caller.literal(array))
    body.literals = {}
