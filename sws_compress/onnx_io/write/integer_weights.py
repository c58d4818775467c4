"""Weights that stay in integers while the model runs, in the place of float initialisers.

- A matrix product becomes MatMulNBits (domain com.microsoft), whose words lie in blocks of a row for every output. In
  standard operators it stays a product behind a DequantizeLinear with a scale for every output, which ONNX Runtime
  fuses to the same.
- A convolution reads its weight through a DequantizeLinear.
- Look-ups take rows of integers, and scale them.

The initialiser keeps its name, and its integers are packed like those of any other one. Numbers that are all the same
are spread by an Expand, which runtimes fold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sws_compress.onnx_io.analyse.memory_routes import Route, Stays
from sws_compress.onnx_io.format.blocked_weight import (
    CONTRIB_DOMAIN,
    INTEGER_ACCURACY_LEVEL,
    PRODUCT_OPERATOR,
    in_bytes,
)

PRODUCT_BLOCKS = (128, 64, 32, 16)
"""Sizes of blocks. A runtime holds a scale for every block; kernels of ONNX Runtime 1.32 are slow for 256 words of 2
bits."""


@dataclass(frozen=True, eq=False)
class IntegerWeight:
    """The integers of one weight: ``scale * factor * integer``.

    Parameters
    ----------
    integers : ndarray, int8
        From -2^(bits - 1) up to 2^(bits - 1) - 1, of the shape of the weight.
    bits : {2, 4, 8}
        Width of a word in a matrix product; elsewhere words have 8.
    scales : ndarray, shape () or (slices,), float32
        What a step is worth.
    axis : int or None
        The axis along which slices lie.
    factors : ndarray, shape (rows, groups), float32, or None
        Powers of two; None if all are 1. Rows are outputs of a product, else slices along ``axis``, or the first one.
    block_size : int or None
        Words of a row of a product that share a factor; None elsewhere: all of them.
    """

    integers: npt.NDArray[np.int8]
    bits: int
    scales: npt.NDArray[np.float32]
    axis: int | None
    factors: npt.NDArray[np.float32] | None = None
    block_size: int | None = None


@dataclass(frozen=True)
class Written:
    """What was written.

    Parameters
    ----------
    held_bytes : mapping of str to int
        Bytes that a runtime holds of each weight, scales included.
    tables : tuple of str
        Names of further initialisers of few values.
    """

    held_bytes: Mapping[str, int]
    tables: tuple[str, ...]


def block_sizes(columns: int) -> tuple[int, ...]:
    """The sizes of blocks for rows of so many words, the largest first: those that pad them least."""
    padded = {size: -(-columns // size) * size for size in PRODUCT_BLOCKS}
    return tuple(size for size in PRODUCT_BLOCKS if padded[size] == min(padded.values()))


def keep_integers(
    model: ir.Model, weights: Mapping[str, tuple[Stays, IntegerWeight]], *, standard_operators: bool
) -> Written:
    """Replace float initialisers by integers, and what reads them, in place.

    Parameters
    ----------
    model : ir.Model
        Holds the float initialisers.
    weights : mapping of str to (Stays, IntegerWeight)
        Integers by the name of the initialiser, and how they are read.
    standard_operators : bool
        Whether to do without operators of ONNX Runtime's own.
    """
    if not weights:
        return Written({}, ())
    writer = _Writer(model)
    held = {}
    for name, (stays, weight) in weights.items():
        value = model.graph.initializers[name]
        if stays.route is Route.ROWS:
            held[name] = writer.rows(value, weight)
        elif stays.route is Route.PRODUCT and not standard_operators:
            held[name] = writer.product(value, stays, weight)
        else:
            held[name] = writer.dequantised(value, stays, weight)
        if value in model.graph.inputs:
            model.graph.inputs.remove(value)
    return Written(held, writer.done())


class _Writer:
    """Writes what reads integers; weights share constants."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._constants: dict[tuple[str, bytes, tuple[int, ...]], ir.Value] = {}
        self._tables: list[str] = []
        self._front = ir.node("Identity", [])  # stands in front of all others meanwhile
        model.graph.insert_before(next(iter(model.graph)), self._front)

    def done(self) -> tuple[str, ...]:
        """Leave the model as it is to be; names of the tables."""
        self._model.graph.remove(self._front)
        return tuple(self._tables)

    def product(self, value: ir.Value, stays: Stays, weight: IntegerWeight) -> int:
        """Matrix products become MatMulNBits; a bias is added behind it."""
        rows = weight.integers.T if stays.output_axis == 1 else weight.integers
        outputs, columns = rows.shape
        size = weight.block_size or block_sizes(columns)[0]
        blocks = -(-columns // size)
        words = np.pad(rows, ((0, 0), (0, blocks * size - columns))).astype(np.int16) + (1 << (weight.bits - 1))
        stored = np.ascontiguousarray(in_bytes(words.astype(np.uint8), weight.bits).reshape(outputs, blocks, -1))
        scales = weight.scales if weight.axis is None else weight.scales.reshape(-1, 1)
        if weight.factors is None:
            scale = self._spread(scales, (outputs, blocks))
        else:
            factors = self._table(f"{value.name}.factors", weight.factors)
            scale = self._first(ir.node("Mul", [factors, self._constant(scales)]))
        attributes = {"K": columns, "N": outputs, "bits": weight.bits, "block_size": size}
        attributes["accuracy_level"] = INTEGER_ACCURACY_LEVEL
        for node, _ in tuple(value.uses()):
            operands = [node.inputs[0], value, scale]
            product = ir.node(PRODUCT_OPERATOR, operands, attributes, domain=CONTRIB_DOMAIN)
            bias = node.inputs[2] if len(node.inputs) > 2 else None
            _replace(node, [product, *([] if bias is None else [ir.node("Add", [product.outputs[0], bias])])])
        self._model.graph.opset_imports[CONTRIB_DOMAIN] = 1
        _store(value, stored)
        return int(stored.nbytes + 4 * outputs * blocks)

    def dequantised(self, value: ir.Value, stays: Stays, weight: IntegerWeight) -> int:
        """All readers get the output of one DequantizeLinear; a product needs a scale for every output."""
        axis = stays.output_axis if stays.route is Route.PRODUCT else weight.axis
        scales = weight.scales
        if weight.factors is not None:
            axis, scales = axis or 0, scales * weight.factors[:, 0]
        shape = () if axis is None else (weight.integers.shape[axis],)
        uses = tuple(value.uses())
        attributes = {} if axis is None else {"axis": axis}
        floats = self._first(ir.node("DequantizeLinear", [value, self._spread(scales, shape)], attributes))
        for node, number in uses:
            node.replace_input_with(number, floats)
        _store(value, weight.integers)
        return int(weight.integers.nbytes + scales.nbytes)

    def rows(self, value: ir.Value, weight: IntegerWeight) -> int:
        """Rows are looked up as integers, and scaled."""
        scales, axis = weight.scales, weight.axis
        if weight.factors is not None and axis in (None, 0):
            axis, scales = 0, scales * weight.factors[:, 0]
        elif weight.factors is not None:  # rows of groups are slices along the axis
            scales = scales * weight.factors[:, 0]
        shape = [-1 if each == axis else 1 for each in range(weight.integers.ndim)]
        table = None if axis is None else scales.reshape(shape if axis == 0 else shape[1:])
        stored = None if table is None else self._table(f"{value.name}.scales", table)
        for node, _ in tuple(value.uses()):
            positions = node.inputs[1]
            words = ir.node("Gather", [value, positions])
            if stored is None:
                operands = [words.outputs[0], self._constant(scales)]
                _replace(node, [words, ir.node("DequantizeLinear", operands)])
                continue
            floats = ir.node("Cast", words.outputs, {"to": int(ir.DataType.FLOAT)})
            looked_up = [ir.node("Gather", [stored, positions])] if axis == 0 else []
            factors = looked_up[0].outputs[0] if looked_up else stored
            _replace(node, [words, floats, *looked_up, ir.node("Mul", [floats.outputs[0], factors])])
        _store(value, weight.integers)
        return int(weight.integers.nbytes + scales.nbytes)

    def _table(self, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
        """A new initialiser of an array that may hold few values."""
        while name in self._model.graph.initializers:
            name += "_"
        value = ir.Value(name=name, const_value=ir.tensor(np.ascontiguousarray(array), name=name))
        self._model.graph.register_initializer(value)
        self._tables.append(name)
        return value

    def _spread(self, array: npt.NDArray[np.generic] | np.generic, shape: tuple[int, ...]) -> ir.Value:
        """An array in a larger shape."""
        stored = self._constant(np.asarray(array))
        if np.shape(array) == shape:
            return stored
        return self._first(ir.node("Expand", [stored, self._constant(np.array(shape, np.int64))]))

    def _first(self, node: ir.Node) -> ir.Value:
        """The output of a node of constants: it stands in front of all that may read it, bodies included."""
        self._model.graph.insert_before(self._front, node)
        return node.outputs[0]

    def _constant(self, array: npt.NDArray[np.generic]) -> ir.Value:
        key = (array.dtype.str, array.tobytes(), array.shape)
        if key not in self._constants:
            name = f"integers.{len(self._constants)}"
            while name in self._model.graph.initializers:
                name += "_"
            value = ir.Value(
                name=name, const_value=ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=name)
            )
            self._model.graph.register_initializer(value)
            self._constants[key] = value
        return self._constants[key]


def _replace(node: ir.Node, nodes: list[ir.Node]) -> None:
    """Put ``nodes`` in the place of a node; the last one makes its output."""
    assert node.graph is not None  # it is in the model
    ir.convenience.replace_nodes_and_values(node.graph, node, [node], nodes, [node.outputs[0]], [nodes[-1].outputs[0]])


def _store(value: ir.Value, array: npt.NDArray[np.generic]) -> None:
    """Give an initialiser other elements."""
    value.const_value = ir.tensor(array, name=value.name)
    value.dtype, value.shape = ir.DataType.from_numpy(array.dtype), ir.Shape(array.shape)
