"""Weights that stay in few bits while the model runs: MatMul and Gemm become MatMulNBits, Gather looks up packed rows.

MatMulNBits (domain com.microsoft) is what ONNX Runtime executes natively: with 4 bits since 1.17, with 8 bits since
1.23. An embedding needs no operator of its own: its packed rows are looked up and then decoded with standard operators,
which no runtime can fold because they depend on an input. Convolutions and recurrent layers have no such kernel on the
CPU: behind a DequantizeLinear their weights would be expanded at every inference, so they are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from sws_compress.onnx_io.analyse.affine_weights import uses
from sws_compress.onnx_io.write.rewrite import write

DOMAIN = "com.microsoft"


BLOCK_SIZES = (16, 32, 64, 128, 256)
"""What the kernels are written for."""


INTEGER_ARITHMETIC = 4
"""MatMulNBits' accuracy_level with activations in 8 bits; leaving it out means float32."""


PRODUCT = "MatMulNBits"


Floats = npt.NDArray[np.float32]


Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class BlockedWeight:
    """A matrix as rows of blocks: ``scales[i, b] * (indices[i, j] - zeros[i, b])`` with b = j // block_size.

    ``indices`` (rows, columns), ``scales`` (rows, blocks), ``zeros`` (rows, blocks), None where all are 2^(bits - 1);
    columns are the inputs of a matrix product, or the width of an embedding.
    """

    indices: Bytes
    scales: Floats
    zeros: Bytes | None
    bits: int
    block_size: int

    @property
    def packed_indices(self) -> Bytes:
        """MatMulNBits' B: (rows, blocks, block_size * bits / 8), the lower half of a byte first, 0 after the end."""
        rows, columns = self.indices.shape
        blocks = self.scales.shape[1]
        padded = np.pad(self.indices, ((0, 0), (0, blocks * self.block_size - columns)))
        return _in_bytes(padded, self.bits).reshape(rows, blocks, -1)

    @property
    def packed_zeros(self) -> Bytes | None:
        """MatMulNBits' zero_points: (rows, ceil(blocks * bits / 8)), packed like the indices."""
        return None if self.zeros is None else _in_bytes(self.zeros, self.bits)


def _in_bytes(values: Bytes, bits: int) -> Bytes:
    if bits == 8:
        return values
    even = np.pad(values, ((0, 0), (0, values.shape[1] % 2)))
    packed: Bytes = even[:, 0::2] | np.left_shift(even[:, 1::2], np.uint8(4))
    return packed


def rewrite_affine(model: ir.Model, weights: Mapping[str, BlockedWeight], *, integer_arithmetic: bool) -> None:
    """Replace initialisers (of `affine_weights`) and the nodes that read them, in place.

    With ``integer_arithmetic`` products are computed on activations rounded to 8 bits per block, else in float32.
    """
    constants: dict[str, ir.Value] = {}
    for name, weight in weights.items():
        value = model.graph.initializers[name]
        zeros = weight.packed_zeros
        stored = _Stored(
            _register(model, f"{name}.indices", weight.packed_indices),
            _register(model, f"{name}.scales", weight.scales),
            None if zeros is None else _register(model, f"{name}.zeros", zeros),
            weight,
        )
        for node, _ in uses(value):
            if node.op_type == "Gather":
                assert node.inputs[1] is not None  # it has two inputs
                nodes = _LookUp(model, constants).write(stored, node.inputs[1])
            else:
                nodes = _product(stored, node, integer_arithmetic)
            assert node.graph is not None  # it is in the model
            ir.convenience.replace_nodes_and_values(
                node.graph, node, [node], nodes, [node.outputs[0]], [nodes[-1].outputs[0]]
            )
        if value in model.graph.inputs:
            model.graph.inputs.remove(value)
        del model.graph.initializers[name]
    model.graph.opset_imports[DOMAIN] = 1


def in_float_arithmetic(model: bytes) -> bytes:
    """The same file with all its products in float32 arithmetic."""
    changed = ir.from_proto(onnx.load_from_string(model))
    for graph in [changed.graph, *changed.graph.subgraphs()]:
        for node in graph:
            if node.op_type == PRODUCT:
                node.attributes.pop("accuracy_level", None)
    return write(changed)


@dataclass(frozen=True, eq=False)
class _Stored:
    """The initialisers of one weight."""

    indices: ir.Value
    scales: ir.Value
    zeros: ir.Value | None
    weight: BlockedWeight


def _register(model: ir.Model, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
    while name in model.graph.initializers:
        name += "_"
    value = ir.Value(name=name, const_value=ir.tensor(np.ascontiguousarray(array), name=name))
    model.graph.register_initializer(value)
    return value


def _product(stored: _Stored, node: ir.Node, integer_arithmetic: bool) -> list[ir.Node]:
    """MatMulNBits, and the addition of Gemm's third input; the last node makes the output."""
    rows, columns = stored.weight.indices.shape
    attributes = {"K": columns, "N": rows, "bits": stored.weight.bits, "block_size": stored.weight.block_size}
    if integer_arithmetic:
        attributes["accuracy_level"] = INTEGER_ARITHMETIC
    operands = [node.inputs[0], stored.indices, stored.scales, *([] if stored.zeros is None else [stored.zeros])]
    product = ir.node(PRODUCT, operands, attributes, domain=DOMAIN)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return [product] if bias is None else [product, ir.node("Add", [product.outputs[0], bias])]


class _LookUp:
    """Writes the nodes that look up rows of an embedding and decode them; constants are shared between embeddings."""

    def __init__(self, model: ir.Model, constants: dict[str, ir.Value]) -> None:
        self._model = model
        self._constants = constants
        self.nodes: list[ir.Node] = []

    def write(self, stored: _Stored, positions: ir.Value) -> list[ir.Node]:
        """Positions of any shape are looked up as one list: so no rank need be known."""
        weight = stored.weight
        columns, blocks = weight.indices.shape[1], weight.scales.shape[1]
        flat = self._node("Reshape", positions, self._shape(-1))
        steps = self._unpacked(self._node("Gather", stored.indices, flat), weight.bits)
        steps = self._node("Reshape", steps, self._shape(-1, blocks, weight.block_size))
        if stored.zeros is None:
            zeros = self._constant(f"middle_{weight.bits}", np.float32(1 << (weight.bits - 1)))
        else:
            zeros = self._unpacked(self._node("Gather", stored.zeros, flat), weight.bits)
            zeros = self._columns(zeros, blocks + (blocks % 2 if weight.bits == 4 else 0), blocks)
            zeros = self._node("Reshape", zeros, self._shape(-1, blocks, 1))
        scales = self._node("Reshape", self._node("Gather", stored.scales, flat), self._shape(-1, blocks, 1))
        values = self._node("Mul", self._node("Sub", steps, zeros), scales)
        padded = blocks * weight.block_size
        values = self._columns(self._node("Reshape", values, self._shape(-1, padded)), padded, columns)
        shape = self._node("Concat", self._node("Shape", positions), self._shape(columns), axis=0)
        self._node("Reshape", values, shape)
        return self.nodes

    def _unpacked(self, packed: ir.Value, bits: int) -> ir.Value:
        """Packed uint8 of shape (n, ...) as float32: (n, ...) for 8 bits, (n, ..., 2) for 4."""
        if bits == 8:
            return self._node("Cast", packed, to=int(ir.DataType.FLOAT))
        halves = np.arange(256, dtype=np.uint8)[:, None] >> np.array([0, 4], np.uint8) & 15
        table = self._constant("halves", halves.astype(np.float32))
        return self._node("Gather", table, self._node("Cast", packed, to=int(ir.DataType.INT32)))

    def _columns(self, values: ir.Value, there: int, wanted: int) -> ir.Value:
        """The first ``wanted`` of all values per row, reshaped to (n, wanted) where any are cut off."""
        if there == wanted:
            return values
        matrix = self._node("Reshape", values, self._shape(-1, there))
        return self._node("Slice", matrix, self._shape(0), self._shape(wanted), self._shape(1))

    def _shape(self, *sizes: int) -> ir.Value:
        return self._constant("shape_" + "_".join(map(str, sizes)), np.array(sizes, np.int64))

    def _constant(self, name: str, array: npt.NDArray[np.generic] | np.float32) -> ir.Value:
        if name not in self._constants:
            self._constants[name] = _register(self._model, f"affine.{name}", np.asarray(array))
        return self._constants[name]

    def _node(self, operator: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        node = ir.node(operator, inputs, attributes)
        self.nodes.append(node)
        return node.outputs[0]
