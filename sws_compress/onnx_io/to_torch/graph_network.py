"""A graph as a torch module: its nodes are run one after the other, each by its function of the table."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import nn
from torch.nn.modules.module import _IncompatibleKeys

from sws_compress.messages import first_line
from sws_compress.onnx_io.to_torch.elementwise import dtype_of
from sws_compress.onnx_io.to_torch.node_attributes import Attributes, UncoveredError
from sws_compress.onnx_io.to_torch.operator_table import TABLE

_CONSTANTS = ("value", "value_float", "value_int", "value_floats", "value_ints")
"""What a `Constant` holds."""


@dataclass(frozen=True)
class Step:
    """A node.

    Parameters
    ----------
    attributes : Attributes
        Its operator, and what it takes besides tensors.
    inputs, outputs : tuple of str
        Names of the values that it reads and makes; empty for those that are left out.
    bodies : mapping of str to Body
        Graphs inside, by attribute.
    """

    attributes: Attributes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    bodies: Mapping[str, Body]


@dataclass(frozen=True)
class Body:
    """A graph: what is known before it runs, its nodes in order, each with the names that nothing reads after it."""

    constants: Mapping[str, torch.Tensor]
    steps: tuple[tuple[Step, tuple[str, ...]], ...]
    outputs: tuple[str, ...]


def uncovered(model: ir.Model, outputs: Collection[str] | None = None) -> list[str]:
    """Operators that some values, by default the outputs, depend on and the table lacks; each once, in order."""
    found: list[str] = []
    for node in _nodes(_needed(model.graph, outputs)):
        known = node.op_type in TABLE or node.op_type in ("If", "Constant")
        name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        if (node.domain or not known) and name not in found:
            found.append(name)
    return found


class GraphNetwork(nn.Module):
    """A model in torch: takes the inputs in order, and returns a tuple of values of the graph.

    Parameters and buffers have the names of the initialisers, whatever characters these are made of.

    Parameters
    ----------
    model : ir.Model
        A sorted model whose initialisers are in memory; it is not kept.
    learned : collection of str
        Initialisers of floating-point type that are parameters; the others are buffers.
    outputs : sequence of str, optional
        Values of the main graph that are returned, by default its outputs. Nodes behind them are left out.

    Raises
    ------
    UncoveredError
        If a node is not covered.
    """

    def __init__(self, model: ir.Model, learned: Collection[str], outputs: Sequence[str] | None = None) -> None:
        super().__init__()
        missing = uncovered(model, outputs)
        if missing:
            raise UncoveredError(", ".join(missing))
        graph = model.graph
        for name, value in graph.initializers.items():
            assert value.const_value is not None
            tensor = _tensor(value.const_value)
            # names hold dots, which the public ways of registering refuse
            if name in learned and tensor.is_floating_point():
                self._parameters[name] = nn.Parameter(tensor)
            else:
                self._buffers[name] = tensor
        self._inputs = tuple(str(value.name) for value in graph.inputs)
        shown = [str(value.name) for value in graph.outputs] if outputs is None else outputs
        self._body = _body({}, _needed(graph, outputs), shown)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute the values.

        Parameters
        ----------
        *inputs : torch.Tensor
            The inputs in order.

        Returns
        -------
        tuple of torch.Tensor
            The values in order.
        """
        values: dict[str, Any] = {**self._buffers, **self._parameters, **dict(zip(self._inputs, inputs, strict=True))}
        return tuple(_run(self._body, values))

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> _IncompatibleKeys:
        """Set all parameters and buffers; torch's own way takes dots in their names for those of modules.

        Parameters
        ----------
        state_dict : mapping of str to tensor
            All of them, by name.
        strict, assign : bool
            As in torch; only the defaults are known.
        """
        if not strict or assign:
            raise NotImplementedError("parts of a state, and assigned ones, are not loaded")
        own = self.state_dict(keep_vars=True)
        if own.keys() != state_dict.keys():
            raise RuntimeError(f"state must hold {sorted(own)}, got {sorted(state_dict)}")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(state_dict[name])
        return _IncompatibleKeys([], [])


def _needed(graph: ir.Graph, outputs: Collection[str] | None) -> list[ir.Node]:
    """The nodes that lead to some values, by default all nodes, in order."""
    if outputs is None:
        return list(graph)
    names, found = set(outputs), []
    for node in reversed(graph):
        if names & {str(value.name) for value in node.outputs}:
            names.update(str(value.name) for inner in _nodes([node]) for value in inner.inputs if value is not None)
            names.update(str(value.name) for body in _bodies_of(node) for value in body.outputs)
            found.append(node)
    return found[::-1]


def _bodies_of(node: ir.Node) -> list[ir.Graph]:
    return [each.as_graph() for each in node.attributes.values() if each.type == ir.AttributeType.GRAPH]


def _nodes(nodes: Iterable[ir.Node]) -> Iterator[ir.Node]:
    """Nodes, and those of the graphs inside."""
    waiting = [nodes]
    while waiting:
        for node in waiting.pop():
            yield node
            waiting.extend(_bodies_of(node))


def _tensor(tensor: ir.TensorProtocol) -> torch.Tensor:
    dtype = dtype_of(int(tensor.dtype))
    if dtype == torch.bfloat16:
        return torch.from_numpy(tensor.numpy().astype(np.float32)).to(dtype)
    return torch.from_numpy(np.array(tensor.numpy()))


def _body(constants: Mapping[str, torch.Tensor], nodes: Iterable[ir.Node], outputs: Sequence[str]) -> Body:
    own, steps = dict(constants), []
    for node in nodes:
        if node.op_type == "Constant":
            own[str(node.outputs[0].name)] = _constant(node)
        else:
            steps.append(_step(node))
    return Body(own, tuple(_with_last_reads(steps, outputs)), tuple(outputs))


def _inner(graph: ir.Graph) -> Body:
    """A graph inside of a node, with its own initialisers."""
    initializers = {str(name): value.const_value for name, value in graph.initializers.items()}
    constants = {name: _tensor(value) for name, value in initializers.items() if value is not None}
    return _body(constants, graph, [str(value.name) for value in graph.outputs])


def _constant(node: ir.Node) -> torch.Tensor:
    for name in _CONSTANTS:
        if name in node.attributes:
            value = node.attributes[name].value
            if name == "value":
                return _tensor(value)
            return torch.tensor(value, dtype=torch.float32 if "float" in name else torch.int64)
    raise UncoveredError("Constant of another type")


def _step(node: ir.Node) -> Step:
    values: dict[str, Any] = {}
    bodies: dict[str, Body] = {}
    for name, attribute in node.attributes.items():
        if attribute.type == ir.AttributeType.GRAPH:
            bodies[name] = _inner(attribute.as_graph())
        elif attribute.type == ir.AttributeType.TENSOR:
            values[name] = _tensor(attribute.value)
        else:
            values[name] = attribute.value
    inputs = tuple("" if value is None else str(value.name) for value in node.inputs)
    outputs = tuple(str(value.name or "") for value in node.outputs)
    return Step(Attributes(node.op_type, values, len(outputs)), inputs, outputs, bodies)


def _with_last_reads(steps: Sequence[Step], outputs: Sequence[str]) -> Iterator[tuple[Step, tuple[str, ...]]]:
    """Steps with the values that are made among them and not read after them."""
    made = {name for step in steps for name in step.outputs}
    seen, found = set(outputs), []
    for step in reversed(steps):
        last = tuple({name for name in (*step.outputs, *_reads(step)) if name in made} - seen)
        seen.update(last)
        found.append((step, last))
    return reversed(found)


def _reads(step: Step) -> Iterator[str]:
    """Names that a step reads, those in its bodies included."""
    yield from step.inputs
    for body in step.bodies.values():
        yield from body.outputs
        for inner, _ in body.steps:
            yield from _reads(inner)


def _run(body: Body, values: dict[str, Any]) -> list[torch.Tensor]:
    values.update(body.constants)
    for step, last in body.steps:
        try:
            _take(step, values)
        except UncoveredError:
            raise
        except Exception as error:  # torch says what it does not compute in many ways
            raise UncoveredError(f"{step.attributes.operator} ({first_line(error)})") from error
        for name in last:
            values.pop(name, None)
    return [values[name] for name in body.outputs]


def _take(step: Step, values: dict[str, Any]) -> None:
    given = [values[name] if name else None for name in step.inputs]
    if step.attributes.operator == "If":
        chosen = step.bodies["then_branch" if bool(given[0]) else "else_branch"]
        found: Sequence[torch.Tensor] = _run(chosen, dict(values))
    else:
        made = TABLE[step.attributes.operator](step.attributes, *given)
        found = (made,) if isinstance(made, torch.Tensor) else made
    for name, value in zip(step.outputs, found, strict=False):
        if name:
            values[name] = value
