"""Recorded bodies written as ONNX nodes, initialisers and functions."""

from __future__ import annotations

import itertools
import string
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from sws_compress.onnx_io.format.mark import DOMAIN
from sws_compress.onnx_io.write.recorded import Body, Handle, Step


@dataclass(frozen=True)
class LookUp:
    """How rows of a table that stays packed are looked up.

    Parameters
    ----------
    function : str
        Name of the function that looks them up.
    arguments : tuple of ir.Value
        Its inputs behind the positions, the table first.
    """

    function: str
    arguments: tuple[ir.Value, ...]


@dataclass(frozen=True)
class Emission:
    """What decoders are in a file; `insert` puts it into a model.

    Parameters
    ----------
    nodes : tuple of ir.Node
        Nodes of the main graph, in order.
    initializers : tuple of ir.Value
        Initialisers of the main graph.
    functions : tuple of ir.Function
        Model-local functions.
    look_ups : mapping of str to LookUp
        Look-ups by the name of the table.
    """

    nodes: tuple[ir.Node, ...]
    initializers: tuple[ir.Value, ...]
    functions: tuple[ir.Function, ...]
    look_ups: Mapping[str, LookUp] = field(default_factory=dict)


def emission_of(
    main: Body,
    functions: Sequence[Body],
    look_ups: Mapping[str, Step],
    names: Mapping[int, str],
    *,
    opset: int,
    taken: Collection[str],
) -> Emission:
    """Write recorded bodies.

    Parameters
    ----------
    main : Body
        The main graph.
    functions : sequence of Body
        The functions to write.
    look_ups : mapping of str to Step
        The steps of ``main`` that look up rows, by table: they are described, not written.
    names : mapping of int to str
        Function names by the ``id`` of their body; those of functions that are called but not written too.
    opset : int
        Version of the default domain in functions.
    taken : collection of str
        Names that values of the main graph must not get.
    """
    writer = _Writer(names, taken)
    writer.initializers(main)
    described = {
        name: LookUp(names[id(step.body)], tuple(map(writer.value, step.inputs[1:]))) for name, step in look_ups.items()
    }
    nodes = tuple(writer.node(step) for step in main.steps if step not in look_ups.values())
    written = tuple(_function(body, names, opset) for body in functions)
    return Emission(nodes, writer.registered, written, described)


class _Writer:
    """Writes the steps of one body as nodes."""

    def __init__(self, functions: Mapping[int, str], taken: Collection[str]) -> None:
        self._functions = functions
        self._names = short_names(taken)
        self._values: dict[Handle, ir.Value] = {}
        self.registered: tuple[ir.Value, ...] = ()

    def value(self, handle: Handle) -> ir.Value:
        """The value of a handle: under its own name, or the next short one."""
        if handle not in self._values:
            value = ir.Value(name=handle.name or next(self._names))
            if handle.vector is not None:
                length, dtype = handle.vector
                value.shape, value.dtype = ir.Shape([length]), ir.DataType.from_numpy(np.dtype(dtype))
            self._values[handle] = value
        return self._values[handle]

    def initializers(self, body: Body) -> None:
        """Make the literals of a body initialisers, which ``registered`` holds from then on."""
        for handle, array in body.literals.values():
            value = self.value(handle)
            value.const_value = ir.Tensor(array, name=value.name)
        self.registered = tuple(self.value(handle) for handle, _ in body.literals.values())

    def constants(self, body: Body) -> list[ir.Node]:
        """The literals of a body as Constant nodes: a function has no initialisers."""
        return [
            ir.Node("", "Constant", (), [ir.AttrTensor("value", ir.Tensor(array))], outputs=[self.value(handle)])
            for handle, array in body.literals.values()
        ]

    def node(self, step: Step) -> ir.Node:
        domain, operator = ("", step.operator) if step.body is None else (DOMAIN, self._functions[id(step.body)])
        attributes = [
            ir.AttrInt64(name, value) if isinstance(value, int) else ir.AttrString(name, value)
            for name, value in step.attributes.items()
        ]
        inputs, outputs = map(self.value, step.inputs), [self.value(handle) for handle in step.outputs]
        return ir.Node(domain, operator, list(inputs), attributes, outputs=outputs)


def _function(body: Body, names: Mapping[int, str], opset: int) -> ir.Function:
    writer = _Writer(names, ())
    inputs = [writer.value(handle) for handle in body.inputs]
    nodes = [*writer.constants(body), *(writer.node(step) for step in body.steps)]
    outputs = [writer.value(handle) for handle in body.outputs]
    imports = {"": opset} | ({DOMAIN: 1} if any(step.body for step in body.steps) else {})
    graph = ir.Graph(inputs, outputs, nodes=nodes, opset_imports=imports)
    for node in nodes:
        node.name = None  # onnx-ir names nodes that enter a graph
    return ir.Function(DOMAIN, names[id(body)], graph=graph, attributes=())


def short_names(taken: Collection[str]) -> Iterator[str]:
    """The names a, b, .., Z, aa, ab, .. that are not ``taken``."""
    for length in itertools.count(1):
        for letters in itertools.product(string.ascii_letters, repeat=length):
            name = "".join(letters)
            if name not in taken:
                yield name
