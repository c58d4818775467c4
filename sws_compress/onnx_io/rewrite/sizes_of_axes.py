"""Lengths of axes that may depend on free sizes, and what graphs compute from shapes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

_MOST_ELEMENTS = 64
"""Elements of a constant that may be a shape."""


@dataclass(frozen=True)
class Length:
    """Length of an axis: a number times free sizes.

    Examples
    --------
    >>> Length.parsed("4*batch").over(Length(2))
    Length(number=2, free=('batch',))
    """

    number: int
    free: tuple[str, ...] = ()

    @classmethod
    def parsed(cls, dimension: int | ir.SymbolicDim | str | None) -> Length | None:
        """The length that a shape states; None if it states none. Sums are names of their own."""
        if isinstance(dimension, ir.SymbolicDim):
            dimension = dimension.value
        if dimension is None or isinstance(dimension, int):
            return None if dimension is None else cls(dimension)
        factors = [factor.strip() for factor in str(dimension).split("*")]
        if not all(factor.isdigit() or factor.isidentifier() for factor in factors):
            return cls(1, (str(dimension),))
        return cls(
            math.prod(int(factor) for factor in factors if factor.isdigit()),
            tuple(sorted(factor for factor in factors if not factor.isdigit())),
        )

    def times(self, other: Length) -> Length:
        return Length(self.number * other.number, tuple(sorted((*self.free, *other.free))))

    def over(self, other: Length) -> Length | None:
        """The quotient; None if it is no length."""
        if other.number == 0 or self.number % other.number:
            return None
        left = list(self.free)
        for name in other.free:
            if name not in left:
                return None
            left.remove(name)
        return Length(self.number // other.number, tuple(left))


ONE = Length(1)

Lengths = tuple[Length, ...]


def product(lengths: Iterable[Length]) -> Length:
    """The product of lengths."""
    found = ONE
    for length in lengths:
        found = found.times(length)
    return found


class Shapes:
    """Shapes of the values of a graph, and the integers that it computes from shapes.

    Parameters
    ----------
    graph : ir.Graph
        The graph; its nodes are in order.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._shapes: dict[ir.Value, Lengths] = {}
        self._integers: dict[ir.Value, Lengths] = {}
        for node in graph:
            integers = self._computed(node)
            if integers is not None:
                self._integers[node.outputs[0]] = integers
            if node.outputs and node.outputs[0].shape is None:
                shape = self._inferred(node)
                if shape is not None:
                    self._shapes[node.outputs[0]] = shape

    def of(self, value: ir.Value | None) -> Lengths | None:
        """The shape of a value, as it is stated or follows from its node; None if it is not known."""
        if value is None or value.shape is None:
            return None if value is None else self._shapes.get(value)
        lengths = tuple(Length.parsed(dimension) for dimension in value.shape.dims)
        return None if None in lengths else tuple(length for length in lengths if length is not None)

    def integers(self, value: ir.Value | None) -> Lengths | None:
        """The elements of a vector of integers, or of a single one."""
        tensor = None if value is None else ir.convenience.get_const_tensor(value)
        if value is None or tensor is None:
            return None if value is None else self._integers.get(value)
        if tensor.dtype not in (ir.DataType.INT64, ir.DataType.INT32) or len(tensor.shape) > 1:
            return None
        return (
            tuple(Length(int(each)) for each in tensor.numpy().reshape(-1)) if tensor.size <= _MOST_ELEMENTS else None
        )

    def numbers(self, value: ir.Value | None) -> tuple[int, ...] | None:
        """The elements of a constant vector of integers, or of a single one."""
        tensor = None if value is None else ir.convenience.get_const_tensor(value)
        known = self.integers(value) if tensor is not None else None
        return None if known is None else tuple(each.number for each in known)

    def _computed(self, node: ir.Node) -> Lengths | None:
        """The integers that a node makes of shapes."""
        if node.domain or not node.inputs or len(node.outputs) != 1:
            return None
        if node.op_type == "Shape":
            shape, first = self.of(node.inputs[0]), node.attributes.get_int("start", 0)
            return None if shape is None else shape[first : node.attributes.get_int("end", len(shape))]
        held = [self.integers(value) for value in node.inputs]
        if any(each is None for each in held):
            return None
        data, *others = [each for each in held if each is not None]
        if node.op_type in ("Squeeze", "Unsqueeze", "Identity"):
            return data
        if node.op_type == "Reshape":
            return data if len(data) == 1 or others == [(Length(-1),)] else None
        if node.op_type == "Concat":
            return tuple(itertools.chain(data, *others))
        if node.op_type == "Mul" and len(data) == len(others[0]) == 1:
            return (data[0].times(others[0][0]),)
        if node.op_type == "Slice" and not any(each.free for each in itertools.chain(*others)):
            return _sliced(data, others)
        if node.op_type == "Gather" and len(others[0]) == 1 and not others[0][0].free:
            index = others[0][0].number
            return (data[index],) if -len(data) <= index < len(data) else None
        return None

    def _inferred(self, node: ir.Node) -> Lengths | None:
        """The shape of the first output of a node that states none."""
        if node.domain or not node.inputs:
            return None
        shape = self.of(node.inputs[0])
        if shape is None:
            return None
        if node.op_type in ("GRU", "LSTM", "RNN") and len(shape) == 3 and not node.attributes.get_int("layout", 0):
            directions = 2 if node.attributes.get_string("direction", "forward") == "bidirectional" else 1
            hidden = node.attributes.get_int("hidden_size", 0)
            return (shape[0], Length(directions), shape[1], Length(hidden)) if hidden else None
        return self.moved(node, shape)

    def moved(self, node: ir.Node, shape: Lengths) -> Lengths | None:
        """The shape behind a node that moves a tensor of ``shape``; None if it is not known, or for other nodes."""
        if node.op_type == "Transpose":
            axes = node.attributes.get_ints("perm", tuple(reversed(range(len(shape)))))
            return tuple(shape[axis] for axis in axes)
        if node.op_type == "Reshape":
            return self._reshaped(node, shape)
        if node.op_type not in ("Squeeze", "Unsqueeze") or len(node.inputs) < 2:
            return None
        given = self.numbers(node.inputs[1])
        if given is None:
            return None
        if node.op_type == "Squeeze":
            dropped = {axis % len(shape) for axis in given}
            return tuple(length for axis, length in enumerate(shape) if axis not in dropped)
        rank = len(shape) + len(given)
        added, rest = {axis % rank for axis in given}, iter(shape)
        return tuple(ONE if axis in added else next(rest) for axis in range(rank))

    def _reshaped(self, node: ir.Node, shape: Lengths) -> Lengths | None:
        wanted = self.integers(node.inputs[1])
        if wanted is None:
            return None
        if not node.attributes.get_int("allowzero", 0):
            if any(each.number == 0 and axis >= len(shape) for axis, each in enumerate(wanted)):
                return None
            wanted = tuple(shape[axis] if each.number == 0 else each for axis, each in enumerate(wanted))
        if Length(-1) not in wanted:
            return wanted
        rest = product(shape).over(product(each for each in wanted if each != Length(-1)))
        return None if rest is None else tuple(rest if each == Length(-1) else each for each in wanted)


def _sliced(data: Lengths, others: Sequence[Lengths]) -> Lengths | None:
    """Part of a vector; None unless its step is 1."""
    first, last, *rest = ([each.number for each in numbers] for numbers in others)
    if len(first) != 1 or len(last) != 1 or (rest and rest[0] not in ([0], [-1])) or (rest[1:] and rest[1] != [1]):
        return None
    return data[first[0] : last[0]]


def constant_shape(shape: Lengths, wanted: Lengths) -> list[int] | None:
    """The second input of a Reshape that makes ``wanted`` of ``shape``; None if no constant does."""
    same = [axis < len(shape) and shape[axis] == length for axis, length in enumerate(wanted)]
    if any(length.number == 0 for length in (*shape, *wanted)):
        return None
    free = [axis for axis, length in enumerate(wanted) if length.free]
    open_axes = free if len(free) == 1 else [axis for axis in free if not same[axis]]
    if len(open_axes) > 1:
        return None
    return [-1 if axis in open_axes else 0 if length.free else length.number for axis, length in enumerate(wanted)]


def constant(graph: ir.Graph, numbers: Sequence[int] | int) -> ir.Value:
    """A new initialiser of integers, shape (n,) or ()."""
    return registered(graph, "axes", np.array(numbers, np.int64))


def registered(graph: ir.Graph, kind: str, array: npt.NDArray[Any]) -> ir.Value:
    """A new initialiser, named after its kind."""
    name = next(name for number in itertools.count() if (name := f"{kind}_{number}") not in graph.initializers)
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value
