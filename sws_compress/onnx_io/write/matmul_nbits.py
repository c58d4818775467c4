"""Weights that stay in few bits while the model runs: MatMul and Gemm become MatMulNBits, Gather looks up packed rows.

MatMulNBits (domain com.microsoft) is what ONNX Runtime executes natively. An embedding needs no operator of its own:
its packed rows are looked up and then decoded by standard operators, which no runtime can fold because they depend on
an input. Convolutions and recurrent layers are left alone: they have no such kernel on the CPU, and behind a
DequantizeLinear their weights would be expanded at every inference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from sws_compress.onnx_io.format.blocked_weight import (
    CONTRIB_DOMAIN,
    INTEGER_ACCURACY_LEVEL,
    PRODUCT_OPERATOR,
    BlockedWeight,
)
from sws_compress.onnx_io.map_types import model_from_proto
from sws_compress.onnx_io.write.serialise import to_bytes


def rewrite_affine(model: ir.Model, weights: Mapping[str, BlockedWeight], *, integer_arithmetic: bool) -> None:
    """Replace initialisers by weights in few bits, and the nodes that read them, in place.

    Parameters
    ----------
    model : ir.Model
        Holds the dense initialisers.
    weights : mapping of str to BlockedWeight
        Weights by the name of the initialiser, which must be one of `analyse.affine_weights.affine_weights`.
    integer_arithmetic : bool
        True computes products on activations rounded to 8 bits per block, False in float32.
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
        for node, _ in tuple(value.uses()):
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
    model.graph.opset_imports[CONTRIB_DOMAIN] = 1


def in_float_arithmetic(model: bytes) -> bytes:
    """The bytes of a low-bit model, with all its products in float32 arithmetic."""
    changed = model_from_proto(onnx.load_from_string(model))
    for graph in changed.graphs():
        for node in graph:
            if node.op_type == PRODUCT_OPERATOR:
                node.attributes.pop("accuracy_level", None)
    return to_bytes(changed)


@dataclass(frozen=True, eq=False)
class _Stored:
    """A weight and the initialisers that hold it."""

    indices: ir.Value
    scales: ir.Value
    zeros: ir.Value | None
    weight: BlockedWeight


def _register(model: ir.Model, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
    """A new initialiser; its name gets underscores until it is free."""
    while name in model.graph.initializers:
        name += "_"
    value = ir.Value(name=name, const_value=ir.tensor(np.ascontiguousarray(array), name=name))
    model.graph.register_initializer(value)
    return value


def _product(stored: _Stored, node: ir.Node, integer_arithmetic: bool) -> list[ir.Node]:
    """MatMulNBits, and the addition of a Gemm's bias; the last node makes the output."""
    rows, columns = stored.weight.indices.shape
    attributes = {"K": columns, "N": rows, "bits": stored.weight.bits, "block_size": stored.weight.block_size}
    if integer_arithmetic:
        attributes["accuracy_level"] = INTEGER_ACCURACY_LEVEL
    operands = [node.inputs[0], stored.indices, stored.scales, *([] if stored.zeros is None else [stored.zeros])]
    product = ir.node(PRODUCT_OPERATOR, operands, attributes, domain=CONTRIB_DOMAIN)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return [product] if bias is None else [product, ir.node("Add", [product.outputs[0], bias])]


class _LookUp:
    """Writes nodes that look up rows of an embedding and decode them; embeddings share their constants."""

    def __init__(self, model: ir.Model, constants: dict[str, ir.Value]) -> None:
        self._model = model
        self._constants = constants
        self.nodes: list[ir.Node] = []

    def write(self, stored: _Stored, positions: ir.Value) -> list[ir.Node]:
        """The nodes; the last one makes the rows. Positions are flattened first, so their rank need not be known."""
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
        """Packed uint8 of shape (n, ...) as float32 of shape (n, ...) for 8 bits, (n, ..., 2) for 4 bits."""
        if bits == 8:
            return self._node("Cast", packed, to=int(ir.DataType.FLOAT))
        halves = np.arange(256, dtype=np.uint8)[:, None] >> np.array([0, 4], np.uint8) & 15
        table = self._constant("halves", halves.astype(np.float32))
        return self._node("Gather", table, self._node("Cast", packed, to=int(ir.DataType.INT32)))

    def _columns(self, values: ir.Value, there: int, wanted: int) -> ir.Value:
        """The first ``wanted`` of the ``there`` values in every row; reshaped to (n, wanted) if some are cut off."""
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
