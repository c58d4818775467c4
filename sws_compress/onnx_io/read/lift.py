"""Weights wherever they live, made initialisers of the main graph.

There every other step finds them. Values of the main graph are visible in the bodies of If, Loop and Scan, so a weight
that is decoded in the main graph is folded once, at load, however often its body runs. A function sees only its inputs:
a weight inside one becomes an input, which every call passes on, so that it is stored once for any number of calls.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from graphlib import TopologicalSorter
from typing import Protocol

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from sws_compress.onnx_io.read.equal_tensors import merge_equal
from sws_compress.thresholds import SMALLEST_BODY_CONSTANT

_Tensor = ir.TensorProtocol


def lift_constants(model: ir.Model) -> None:
    """Turn tensors into initialisers of the main graph, in place; the model computes the same.

    Lifted are `Constant` nodes of the main graph, and large floating-point constants and initialisers of bodies and
    functions. Outputs of their graph, strings, sparse tensors, and constants that depend on attributes stay where they
    are. Names stay, but if bodies use a name several times, all but one get a number behind it. Readers of an
    `Identity` of an initialiser read the initialiser. Initialisers with the same bytes, type and shape become one.
    """
    needed = _lift_from_functions(model)
    bodies = [model.graph, *model.graph.subgraphs()]
    names, initializers = _Names(bodies), _Initializers(model.graph)
    for graph in bodies:
        inner = graph is not model.graph
        _lift(graph, names, initializers, smallest=SMALLEST_BODY_CONSTANT if inner else 0, inner=inner)
    _pass_on(bodies, needed, names, initializers)
    _remove_identities(bodies, set(model.graph.initializers.values()))
    merge_equal(model.graph)


def write_out_functions(model: ir.Model) -> None:
    """Put the bodies of all functions in the place of their calls, in place, and leave out what that makes needless."""
    InlinePass()(model)
    _remove_identities([model.graph, *model.graph.subgraphs()], set(model.graph.initializers.values()))


class _Home(Protocol):
    """A place that constants move to; ``values`` are those that moved, by the ``id`` of their tensor."""

    values: dict[int, ir.Value]

    def add(self, tensor: _Tensor, name: str) -> ir.Value:
        """A new value that holds a tensor."""


class _Initializers:
    """The initialisers of the main graph as a home."""

    def __init__(self, graph: ir.Graph) -> None:
        self.values: dict[int, ir.Value] = {}
        self._graph = graph

    def add(self, tensor: _Tensor, name: str) -> ir.Value:
        shape, dtype = ir.Shape(tensor.shape.numpy()), ir.TensorType(tensor.dtype)
        value = ir.Value(name=name, shape=shape, type=dtype, const_value=tensor)
        self._graph.register_initializer(value)
        return value


class _Inputs:
    """New inputs of a function as a home; ``entries`` has the tensor, the name and the number of each input."""

    def __init__(self, function: ir.Function) -> None:
        self.values: dict[int, ir.Value] = {}
        self.entries: list[tuple[_Tensor, str, int]] = []
        self._function = function

    def add(self, tensor: _Tensor, name: str) -> ir.Value:
        value = ir.Value(name=name)
        self.entries.append((tensor, name, len(self._function.inputs)))
        self._function.inputs.append(value)
        return value


class _Names:
    """The names of values in some graphs, which may use one several times."""

    def __init__(self, graphs: Iterable[ir.Graph]) -> None:
        self._counts = Counter(name for graph in graphs for name in _value_names(graph))

    def free(self, name: str) -> None:
        """Count one use of a name less."""
        self._counts[name] -= 1

    def take(self, name: str) -> str:
        """Use ``name`` if it is free, else the first free one of ``name_1``, ``name_2``, ..."""
        free = next(wanted for wanted in itertools.chain([name], _numbered(name)) if self._counts[wanted] <= 0)
        self._counts[free] = 1
        return free


def _numbered(name: str) -> Iterator[str]:
    return (f"{name}_{number}" for number in itertools.count(1))


def _value_names(graph: ir.Graph) -> Iterator[str]:
    values = (graph.inputs, graph.initializers.values(), *(node.outputs for node in graph))
    return (value.name for value in {id(value): value for value in itertools.chain(*values)}.values() if value.name)


def _lift(graph: ir.Graph, names: _Names, home: _Home, *, smallest: int, inner: bool) -> None:
    """Move the constants of ``graph``, and its initialisers if it is an ``inner`` one, to their new home."""
    for node in list(graph):
        tensor = _constant(node)
        if tensor is not None and _wanted(node.outputs[0], tensor, smallest):
            _replace(node.outputs[0], tensor, names, home)
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()) if inner else ():
        tensor = value.const_value
        if tensor is not None and not value.is_graph_input() and _wanted(value, tensor, smallest):
            graph.initializers.pop(name)
            _replace(value, tensor, names, home)


def _wanted(value: ir.Value, tensor: _Tensor, smallest: int) -> bool:
    """Whether a constant moves: any with ``smallest`` 0, else floating-point ones of so many elements."""
    if value.is_graph_output() or not value.name or tensor.dtype == ir.DataType.STRING:
        return False
    return smallest == 0 or (tensor.dtype.is_floating_point() and tensor.size >= smallest)


def _replace(value: ir.Value, tensor: _Tensor, names: _Names, home: _Home) -> None:
    names.free(str(value.name))
    value.replace_all_uses_with(_at_home(tensor, str(value.name), names, home))


def _at_home(tensor: _Tensor, name: str, names: _Names, home: _Home) -> ir.Value:
    """The value that holds a tensor in its new home; made under ``name`` if there is none yet."""
    if id(tensor) not in home.values:
        home.values[id(tensor)] = home.add(tensor, names.take(name))
    return home.values[id(tensor)]


def _constant(node: ir.Node) -> _Tensor | None:
    """The tensor that a `Constant` node holds; None for other nodes, strings, and attributes of a function."""
    if node.op_type != "Constant" or node.domain or len(node.attributes) != 1:
        return None
    attribute = next(iter(node.attributes.values()))
    if attribute.is_ref():
        return None
    if attribute.name == "value":
        return attribute.as_tensor()
    if attribute.name in ("value_float", "value_floats"):
        return ir.tensor(np.array(attribute.value, np.float32))
    if attribute.name in ("value_int", "value_ints"):
        return ir.tensor(np.array(attribute.value, np.int64))
    return None


def _lift_from_functions(model: ir.Model) -> dict[ir.OperatorIdentifier, _Inputs]:
    """Turn the weights of functions into inputs. Calls in functions already pass them on, calls in graphs not yet."""
    needed: dict[ir.OperatorIdentifier, _Inputs] = {}
    for function in _callees_first(model):
        bodies = [function.graph, *function.subgraphs()]
        names, inputs = _Names(bodies), _Inputs(function)
        for graph in bodies:
            _lift(graph, names, inputs, smallest=SMALLEST_BODY_CONSTANT, inner=True)
        _pass_on(bodies, needed, names, inputs)
        _remove_identities(bodies, set(inputs.values.values()))
        needed[function.identifier()] = inputs
    return needed


def _remove_identities(bodies: Iterable[ir.Graph], constants: Collection[ir.Value]) -> None:
    """Let readers of an Identity of one of ``constants`` read the constant itself; outputs of a graph stay.

    Exporters write such nodes for layers that share a weight.
    """
    for graph in bodies:
        for node in list(graph):
            if node.op_type != "Identity" or node.domain or node.outputs[0].is_graph_output():
                continue
            source = node.inputs[0]
            if source is not None and source in constants:
                node.outputs[0].replace_all_uses_with(source)
                graph.remove(node, safe=True)


def _callees_first(model: ir.Model) -> Iterator[ir.Function]:
    calls = {
        identifier: {node.op_identifier() for node in function.all_nodes()} & model.functions.keys()
        for identifier, function in model.functions.items()
    }
    return (model.functions[identifier] for identifier in TopologicalSorter(calls).static_order())


def _pass_on(
    bodies: Iterable[ir.Graph], needed: Mapping[ir.OperatorIdentifier, _Inputs], names: _Names, home: _Home
) -> None:
    """Give the calls in ``bodies`` the inputs that the functions they call ``needed``."""
    for node in itertools.chain.from_iterable(bodies):
        inputs = needed.get(node.op_identifier())
        for tensor, name, number in inputs.entries if inputs is not None else ():
            node.resize_inputs(max(len(node.inputs), number + 1))
            node.replace_input_with(number, _at_home(tensor, name, names, home))
