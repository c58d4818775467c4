"""The ONNX interpreter of decoders: running one writes the nodes that decode.

Nodes are first recorded in plain lists. `OnnxOps.finish` then decides what is cheapest in bytes: a sub-program called
once, or a small one, is written in place, one called more often becomes a model-local function; literals inside
functions that are called a few times are handed in as arguments (3 bytes a call), else they become Constant nodes
(some 30 bytes, once).
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sws_compress.onnx_io.format.mark import DOMAIN, ROWS
from sws_compress.onnx_io.write.recorded import Array, Body, Handle, Step, inline_small, lift_literals, tidy


@dataclass(frozen=True)
class LookUp:
    """A function that decodes rows of a table, and what it is called with behind the positions: first the table."""

    function: str
    arguments: tuple[ir.Value, ...]


@dataclass(frozen=True)
class Emission:
    """What `OnnxOps.finish` wrote: nodes in order, initialisers and functions to register; look-ups by their table."""

    nodes: tuple[ir.Node, ...]
    initializers: tuple[ir.Value, ...]
    functions: tuple[ir.Function, ...]
    look_ups: Mapping[str, LookUp] = field(default_factory=dict)


class OnnxOps:
    """Structurally the ArrayOps of the codec room, on `Handle`."""

    def __init__(self, opset: int, taken: Collection[str] = ()) -> None:
        """``opset``: version of the default domain, >= 13; ``taken``: value names of the model, not to be reused."""
        self._opset = opset
        self._taken = frozenset(taken)
        self._main = Body()
        self._open = [self._main]
        self._bodies: dict[tuple[Callable[..., Any], int], Body] = {}
        self._look_ups: dict[str, Step] = {}

    def _emit(self, operator: str, *inputs: Handle, **attributes: int | str) -> Handle:
        output = Handle()
        self._open[-1].steps.append(Step(operator, list(inputs), [output], attributes))
        return output

    def constant(self, array: Array) -> Handle:
        return self._open[-1].literal(array)

    def cast(self, values: Handle, dtype: npt.DTypeLike) -> Handle:
        return self._emit("Cast", values, to=int(ir.DataType.from_numpy(np.dtype(dtype))))

    def reshape(self, values: Handle, shape: Handle) -> Handle:
        return self._emit("Reshape", values, shape)

    def gather(self, table: Handle, indices: Handle, axis: int = 0) -> Handle:
        return self._emit("Gather", table, indices, **({"axis": axis} if axis else {}))

    def add(self, left: Handle, right: Handle) -> Handle:
        return self._emit("Add", left, right)

    def subtract(self, left: Handle, right: Handle) -> Handle:
        return self._emit("Sub", left, right)

    def multiply(self, left: Handle, right: Handle) -> Handle:
        return self._emit("Mul", left, right)

    def divide(self, left: Handle, right: Handle) -> Handle:
        return self._emit("Div", left, right)

    def modulo(self, left: Handle, right: Handle) -> Handle:
        return self._emit("Mod", left, right)

    def shift_right(self, left: Handle, right: Handle) -> Handle:
        return self._emit("BitShift", left, right, direction="RIGHT")

    def matmul(self, left: Handle, right: Handle) -> Handle:
        return self._emit("MatMul", left, right)

    def matmul_bytes(self, left: Handle, right: Handle) -> Handle:
        return self._emit("MatMulInteger", left, right)

    def cumulative_sum(self, values: Handle) -> Handle:
        return self._emit("CumSum", values, self.constant(np.array(0, np.int64)))

    def less(self, left: Handle, right: Handle) -> Handle:
        return self._emit("Less", left, right)

    def logical_not(self, mask: Handle) -> Handle:
        return self._emit("Not", mask)

    def arange(self, start: Handle, stop: Handle, step: Handle) -> Handle:
        return self._emit("Range", start, stop, step)

    def shape_of(self, values: Handle) -> Handle:
        return self._emit("Shape", values)

    def zeros(self, shape: Handle) -> Handle:
        return self._emit("ConstantOfShape", shape)

    def expand(self, values: Handle, shape: Handle) -> Handle:
        return self._emit("Expand", values, shape)

    def scatter(self, values: Handle, positions: Handle, updates: Handle) -> Handle:
        return self._emit("ScatterElements", values, positions, updates)

    def positions_of_ones(self, bits: Handle, count: Handle) -> Handle:
        """TopK: equal elements come in order of their index, and its length is known beforehand (Compress's is not)."""
        values, positions = Handle(), Handle()
        self._open[-1].steps.append(Step("TopK", [bits, count], [values, positions]))
        return positions

    def compress(self, values: Handle, mask: Handle) -> Handle:
        return self._emit("Compress", values, mask)

    def concat(self, parts: list[Handle]) -> Handle:
        return self._emit("Concat", *parts, axis=0)

    def split(self, values: Handle, sizes: Handle, parts: int) -> tuple[Handle, ...]:
        outputs = [Handle() for _ in range(parts)]
        self._open[-1].steps.append(Step("Split", [values, sizes], outputs))
        return tuple(outputs)

    def first(self, values: Handle, count: Handle, *, axis: int = 0) -> Handle:
        axes = [self.constant(np.array([axis], np.int64))] if axis else []
        return self._emit("Slice", values, self.constant(np.array([0], np.int64)), count, *axes)

    def call(
        self,
        function: Callable[..., Any],
        *arguments: Handle,
        vectors: Sequence[tuple[int, type[np.generic]] | None] = (),
    ) -> tuple[Handle, ...]:
        key = (function, len(arguments))
        if key not in self._bodies:
            self._bodies[key] = self._record(function, len(arguments))
        body = self._bodies[key]
        lengths = itertools.chain(vectors, itertools.repeat(None))
        outputs = [Handle(vector) for _, vector in zip(body.outputs, lengths, strict=False)]
        self._open[-1].steps.append(Step("", list(arguments), outputs, body=body))
        return tuple(outputs)

    def look_up(self, name: str, function: Callable[..., Any], table: Array, *arrays: Array) -> None:
        """Record ``function(ops, positions, table, *arrays)``, to be called wherever rows of a table are read.

        It stays a function, by which look-ups are recognised in a file, called ``ROWS`` or that with a number behind
        it; ``table`` becomes an initialiser called ``name``.
        """
        rows = self._main.literals[name, (), 0] = Handle(name=name), table
        handles = [Handle(), rows[0], *map(self.constant, arrays)]
        self._main.outputs += self.call(function, *handles)
        self._look_ups[name] = step = self._main.steps[-1]
        assert step.body is not None  # it is a call
        others = {body.name for body in self._bodies.values()} - {step.body.name}
        step.body.name = step.body.name or next(name for name in _row_names() if name not in others)

    def _record(self, function: Callable[..., Any], arity: int) -> Body:
        body = Body([Handle() for _ in range(arity)])
        self._open.append(body)
        result = function(self, *body.inputs)
        self._open.pop()
        body.outputs = list(result) if isinstance(result, tuple) else [result]
        return body

    @property
    def function_keys(self) -> tuple[Hashable, ...]:
        """What each function recorded so far is known by, in the order in which an unsettled `finish` writes them."""
        return tuple(self._bodies)

    def finish(
        self, outputs: Mapping[str, Handle], *, settle: bool = True, unwritten: Collection[Hashable] = ()
    ) -> Emission:
        """Write everything recorded; the ``outputs`` get their names, all else the shortest free ones.

        Without ``settle`` every call stays a call and every function keeps its literals, so that what stands in the
        main graph is what the calling tensors cost by themselves; functions with a key in ``unwritten`` are left out.
        """
        for name, handle in outputs.items():
            handle.name = name
        functions = [body for key, body in self._bodies.items() if settle or key not in unwritten]
        for body in [*functions, self._main]:
            tidy(body)
        if settle:
            functions = inline_small(self._main, functions)
            for body in [*functions, self._main]:
                tidy(body)  # bodies written in place brought in more, and arguments that they never read
            for body in functions:
                lift_literals(body, [self._main, *functions])
        named = functions if settle else list(self._bodies.values())
        names = {id(body): body.name or name for body, name in zip(named, short_names(()), strict=False)}
        main = _Writer(names, self._taken | outputs.keys())
        main.initializers(self._main)
        look_ups = {
            name: LookUp(names[id(step.body)], tuple(map(main.value, step.inputs[1:])))
            for name, step in self._look_ups.items()
        }
        nodes = tuple(main.node(step) for step in self._main.steps if step not in self._look_ups.values())
        written = tuple(_function(body, names, self._opset) for body in functions)
        return Emission(nodes, main.registered, written, look_ups)


class _Writer:
    """Writes the steps of one body as nodes."""

    def __init__(self, functions: Mapping[int, str], taken: Collection[str]) -> None:
        self._functions = functions
        self._names = short_names(taken)
        self._values: dict[Handle, ir.Value] = {}
        self.registered: tuple[ir.Value, ...] = ()

    def value(self, handle: Handle) -> ir.Value:
        if handle not in self._values:
            value = ir.Value(name=handle.name or next(self._names))
            if handle.vector is not None:
                length, dtype = handle.vector
                value.shape, value.dtype = ir.Shape([length]), ir.DataType.from_numpy(np.dtype(dtype))
            self._values[handle] = value
        return self._values[handle]

    def initializers(self, body: Body) -> None:
        for handle, array in body.literals.values():
            value = self.value(handle)
            value.const_value = ir.Tensor(array, name=value.name)
        self.registered = tuple(self.value(handle) for handle, _ in body.literals.values())

    def constants(self, body: Body) -> list[ir.Node]:
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
        node.name = None  # entering the graph gave it one
    return ir.Function(DOMAIN, names[id(body)], graph=graph, attributes=())


def _row_names() -> Iterator[str]:
    yield ROWS
    yield from (f"{ROWS}{number}" for number in itertools.count(2))


def short_names(taken: Collection[str]) -> Iterator[str]:
    """a, b, .., Z, aa, ab, .. without those taken."""
    for length in itertools.count(1):
        for letters in itertools.product(string.ascii_letters, repeat=length):
            name = "".join(letters)
            if name not in taken:
                yield name
