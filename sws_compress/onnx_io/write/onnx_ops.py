"""The ONNX interpreter of decoders: running a decoder's program on it records the nodes that decode.

`OnnxOps.finish` decides what takes the fewest bytes. A sub-program that is called once, or is small, is written in
place; one that is called more often becomes a model-local function. Literals of functions with few calls are handed in
as arguments, those of others become Constant nodes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sws_compress.onnx_io.format.mark import ROWS
from sws_compress.onnx_io.write.emission import Emission, emission_of, short_names
from sws_compress.onnx_io.write.recorded import Array, Body, Handle, Step, inline_small, lift_literals, tidy

_END = (1 << 31) - 1
"""End of a slice that takes everything: no vector is longer."""


class OnnxOps:
    """Records operators on values to be (`Handle`); it has the methods of ``codec.interpreter.ArrayOps``.

    Parameters
    ----------
    opset : int
        Version of the default domain, at least 13.
    taken : collection of str
        Names of values in the model that decoders must not use again.
    """

    def __init__(self, opset: int, taken: Collection[str] = ()) -> None:
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

    def power(self, base: Handle, exponents: Handle) -> Handle:
        return self._emit("Pow", base, exponents)

    def cumulative_sum(self, values: Handle, *, exclusive: bool = False) -> Handle:
        axis = self.constant(np.array(0, np.int64))
        return self._emit("CumSum", values, axis, **({"exclusive": 1} if exclusive else {}))

    def less(self, left: Handle, right: Handle) -> Handle:
        return self._emit("Less", left, right)

    def logical_not(self, mask: Handle) -> Handle:
        return self._emit("Not", mask)

    def where(self, mask: Handle, chosen: Handle, others: Handle) -> Handle:
        return self._emit("Where", mask, chosen, others)

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
        """Positions of the ones, ascending: ones are the largest, and equal elements stay in order."""
        return self.positions_of_largest(bits, count)

    def positions_of_largest(self, values: Handle, count: Handle) -> Handle:
        """Positions by size. TopK keeps equal elements in order, and runtimes infer its length."""
        largest, positions = Handle(), Handle()
        self._open[-1].steps.append(Step("TopK", [values, count], [largest, positions]))
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

    def after(self, values: Handle, count: Handle) -> Handle:
        return self._emit("Slice", values, count, self.constant(np.array([_END], np.int64)))

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
        """Record how rows of a table are looked up.

        Parameters
        ----------
        name : str
            Name of the table, which becomes an initialiser.
        function : callable
            Called as ``function(ops, positions, table, *arrays)``. It stays a function, named ``ROWS`` or ``ROWS`` and
            a number: by that name look-ups are recognised in a file.
        table : ndarray
            The packed rows.
        *arrays : ndarray
            What decoding a row takes beside the table.
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
        """Keys of the functions recorded so far, in the order in which `finish` writes them with ``settle=False``."""
        return tuple(self._bodies)

    def finish(
        self, outputs: Mapping[str, Handle], *, settle: bool = True, unwritten: Collection[Hashable] = ()
    ) -> Emission:
        """Write everything recorded.

        Parameters
        ----------
        outputs : mapping of str to Handle
            The decoded tensors. Their values get these names, all others the shortest that are free.
        settle : bool
            False keeps every call a call, and literals in their functions: what then stands in the main graph is what
            the calling tensors cost by themselves.
        unwritten : collection of hashable
            Keys (`function_keys`) of functions to leave out; with ``settle=False`` only.

        Returns
        -------
        Emission
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
        taken = self._taken | outputs.keys()
        return emission_of(self._main, functions, self._look_ups, names, opset=self._opset, taken=taken)


def _row_names() -> Iterator[str]:
    """Names of functions that look up rows: `ROWS`, then with numbers from 2."""
    yield ROWS
    yield from (f"{ROWS}{number}" for number in itertools.count(2))
