"""The initialisers that are weights worth compressing, and the values they hold.

An initialiser is a weight if an operator reads it as one (`weight_inputs.is_weight_input`): directly, or behind
operators that only move values (`MOVES`); in the main graph, in a body, or in a function that the initialiser is handed
to. So is a kernel that the graph modulates before a convolution reads it (`ARITHMETIC`). Its values must not be those
of a computed table (`computed_tables.table_kind`).

A learned position embedding is a weight if Gather looks it up, which is how token embeddings are used. If it is only
added it is left alone, like everything that is only an operand of Add, Sub, Mul or Where: the graph does not tell it
from a bias, a mask, an anchor grid or a mean image, and an error in it reaches the activations undiminished. Tables,
where they are wanted, include it: a sentence encoder of 15 MB has positions of 0.8 MB.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sws_compress.errors import ModelError
from sws_compress.messages import shown
from sws_compress.onnx_io.analyse.computed_tables import MASK, table_kind
from sws_compress.onnx_io.analyse.weight_inputs import is_kernel_input, is_weight_input
from sws_compress.onnx_io.element_types import FLOAT_TYPES
from sws_compress.onnx_io.external_data import forget
from sws_compress.onnx_io.format.mark import refuse_compressed
from sws_compress.thresholds import SMALLEST_WEIGHT

MOVES = (
    "Cast", "Concat", "Expand", "Flatten", "Identity", "Pad", "Reshape", "Slice", "Split", "Squeeze", "Tile",
    "Transpose", "Unsqueeze",
)  # fmt: skip
"""Operators whose outputs hold the values of their input, as they are or rounded."""


ARITHMETIC = ("Add", "Div", "Mul", "Sub")
"""Operators that modulate a kernel by what depends on the input, as the convolutions of StyleGAN do."""


_SMALLEST_OPERAND = 4096
"""Elements from which what is added to activations is a table; smaller ones are biases and gains."""


_PRODUCTS = frozenset(("Conv", "ConvTranspose", "FusedConv", "FusedGemm", "FusedMatMul", "Gemm", "MatMul"))
"""Operators that multiply by a weight, so that an error in it is one in their outputs and nowhere else."""


_KERNEL_RANK = 3
"""Dimensions that a modulated kernel must have: everything smaller may be a gain or an offset."""


_BEHIND_CONSTANTS = "weight behind constants"
"""Key of the mark of `mark_as_weight` in a value's ``meta``."""


@dataclass(frozen=True, eq=False)
class Weight:
    """A floating-point initialiser of the main graph that is worth compressing.

    Parameters
    ----------
    name : str
        Name of the initialiser.
    shape : tuple of int
        Its shape.
    operators : tuple of str
        The kinds of operators that compute with it, sorted.
    values : ndarray, shape ``shape``
        Its elements, in its own type; mapped from the file where they are external.
    channel_axis : int
        Axis of the output channels, as far as the graph tells.
    table : bool
        Whether it is a computed table, or an operand of arithmetic, whose errors nothing diminishes.
    """

    name: str
    shape: tuple[int, ...]
    operators: tuple[str, ...]
    values: npt.NDArray[Any]
    channel_axis: int = 0
    table: bool = False

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Skipped:
    """A floating-point initialiser that stays as it is.

    Parameters
    ----------
    name : str
        Name of the initialiser.
    shape : tuple of int
        Its shape.
    reason : str
        Why it stays, to be read after its name.
    """

    name: str
    shape: tuple[int, ...]
    reason: str


def find_weights(
    model: ir.Model,
    *,
    smallest: int = SMALLEST_WEIGHT,
    types: Collection[ir.DataType] = FLOAT_TYPES,
    learned: Collection[str] = (),
    tables: bool = False,
) -> tuple[Weight, ...]:
    """The weights of a model, each once, in the order of the graph.

    Parameters
    ----------
    model : ir.Model
        The model, not compressed yet.
    smallest : int
        Elements that a weight must have.
    types : collection of ir.DataType
        Types that a weight may have.
    learned : collection of str
        Initialisers that are weights whatever reads them, unless they are tables: parameters of a torch module.
    tables : bool
        Whether computed tables that products alone read, such as spectral bases, are weights, and so are large operands
        of arithmetic, such as learned positions; masks never are.

    Returns
    -------
    tuple of Weight

    Raises
    ------
    ModelError
        If a weight holds NaN or infinity, or if the model is compressed already.
    """
    return tuple(each_weight(model, smallest=smallest, types=types, learned=learned, tables=tables))


def each_weight(
    model: ir.Model,
    *,
    smallest: int = SMALLEST_WEIGHT,
    types: Collection[ir.DataType] = FLOAT_TYPES,
    learned: Collection[str] = (),
    tables: bool = False,
) -> Iterator[Weight]:
    """The weights of `find_weights`, one after the other: an external weight is unmapped before the next is read."""
    refuse_compressed(model)
    for name, value in model.graph.initializers.items():
        if _reason_to_skip(value, model, smallest, types, learned, tables) is None:
            values, operators = finite_values(value), _operators(value, model)
            table = tables and (_is_operand(operators) or table_kind(values) is not None)
            yield Weight(name, _shape(value), operators, values, _channel_axis(value), table)
        forget(value)


def skipped_weights(
    model: ir.Model,
    *,
    smallest: int = SMALLEST_WEIGHT,
    types: Collection[ir.DataType] = FLOAT_TYPES,
    besides: Collection[str] = (),
) -> tuple[Skipped, ...]:
    """The floating-point initialisers that `find_weights` leaves out, and why; those named in ``besides`` are not read.

    An external tensor is unmapped before the next is read.
    """
    found = []
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if name in besides or tensor is None or not tensor.dtype.is_floating_point():
            continue
        if (reason := _reason_to_skip(value, model, smallest, types)) is not None:
            found.append(Skipped(name, _shape(value), reason))
        forget(value)
    return tuple(found)


def finite_values(value: ir.Value) -> npt.NDArray[Any]:
    """The elements of an initialiser.

    Raises
    ------
    ModelError
        If one of them is NaN or infinite.
    """
    assert value.const_value is not None
    values: npt.NDArray[Any] = value.const_value.numpy()
    wrong = values.size - int(np.count_nonzero(np.isfinite(values)))
    if wrong:
        raise ModelError(
            f"weights of {shown(value.name)} must be finite, got {wrong} NaN or infinite of {values.size}: "
            "export the network from before it diverged"
        )
    return values


def readers(value: ir.Value, model: ir.Model, *, through: Collection[str] = ()) -> Iterator[tuple[ir.Node, int]]:
    """The nodes that compute with a value.

    The value is followed through operators that only move it, into functions, and into the bodies of Loop and Scan.

    Parameters
    ----------
    value : ir.Value
        The value.
    model : ir.Model
        The model, for its functions.
    through : collection of str
        Further operators that it is followed through, whichever input of them it is.

    Yields
    ------
    node : ir.Node
        A node that computes with it.
    number : int
        Which input of the node has it.
    """
    pending, seen = [value], {value}
    while pending:
        for node, number in pending.pop().uses():
            onward = tuple(node.outputs if _is_plain(node, through) else _onward(node, number, model))
            if not onward:
                yield node, number
            pending += [inner for inner in onward if inner not in seen]
            seen.update(onward)


def is_read_as_weight(value: ir.Value, model: ir.Model) -> bool:
    """Whether a node that computes with a value takes it as a weight."""
    rank = None if value.shape is None else len(value.shape)
    found = any(is_weight_input(node, number, rank) for node, number in readers(value, model))
    return found or ((rank is None or rank >= _KERNEL_RANK) and _becomes_a_kernel(value, model))


def mark_as_weight(value: ir.Value) -> None:
    """Let `find_weights` find an initialiser that products read behind arithmetic of constants."""
    value.meta[_BEHIND_CONSTANTS] = True


def _becomes_a_kernel(value: ir.Value, model: ir.Model) -> bool:
    """Whether a convolution reads a value as its kernel behind operators that move or modulate it."""
    return any(is_kernel_input(node, number) for node, number in readers(value, model, through=ARITHMETIC))


def _is_plain(node: ir.Node, operators: Collection[str]) -> bool:
    return node.domain == "" and node.op_type in operators


def _onward(node: ir.Node, number: int, model: ir.Model) -> Iterator[ir.Value]:
    """The values that are the input ``number`` of a node again: moved, or inside of a function or body."""
    if (function := model.functions.get(node.op_identifier())) is not None:
        yield function.inputs[number]
    elif node.domain == "" and node.op_type in ("Loop", "Scan"):
        body = node.attributes.get("body")
        if body is not None and body.type == ir.AttributeType.GRAPH:
            yield from body.as_graph().inputs[number : number + 1]
    elif node.domain == "" and node.op_type in MOVES and (number == 0 or node.op_type == "Concat"):
        yield from node.outputs


def _reason_to_skip(
    value: ir.Value,
    model: ir.Model,
    smallest: int,
    types: Collection[ir.DataType],
    learned: Collection[str] = (),
    tables: bool = False,
) -> str | None:
    """Why an initialiser is no weight, to be read after its name; None if it is one."""
    tensor = value.const_value
    if tensor is None:
        return "has no data"
    if tensor.dtype not in types:
        return f"is {tensor.dtype.name.lower()}, not {', '.join(entry.name.lower() for entry in types)}"
    if value.is_graph_output():
        return "is an output of the model"
    operators = _operators(value, model)
    if not operators:
        return "is read by no operator"
    known = value.name in learned or value.meta.get(_BEHIND_CONSTANTS)
    operand = tables and tensor.size >= _SMALLEST_OPERAND and len(_shape(value)) > 1 and _is_operand(operators)
    if not known and not operand and not is_read_as_weight(value, model):
        return f"is not read as a weight by {', '.join(operators)}"
    if tensor.size < max(smallest, 1):
        return f"has {tensor.size} elements, fewer than {smallest}"
    kind = table_kind(tensor.numpy())
    if kind is not None and not (tables and kind != MASK and (operand or _PRODUCTS.issuperset(operators))):
        return f"is {kind}, not learned"
    return None


def _is_operand(operators: Collection[str]) -> bool:
    """Whether nothing but arithmetic computes with an initialiser."""
    return bool(operators) and set(ARITHMETIC).issuperset(operators)


def _channel_axis(value: ir.Value) -> int:
    """Output-channel axis, taken from the first node that reads this initialiser directly; 0 if that only moves it."""
    rank = len(_shape(value))
    node, number = next(iter(value.uses()), (None, 0))
    if node is None or rank < 2:
        return 0
    if node.op_type in ("ConvTranspose", "LSTM", "GRU", "RNN"):
        return 1
    if node.op_type in ("MatMul", "FusedMatMul"):
        return rank - 1 if number else rank - 2
    if node.op_type in ("Gemm", "FusedGemm"):
        flipped = node.attributes.get("transB" if number else "transA")
        transposed = flipped is not None and not flipped.is_ref() and bool(flipped.as_int())
        return int(transposed != bool(number))
    return 0


def _operators(value: ir.Value, model: ir.Model) -> tuple[str, ...]:
    """The kinds of operators that compute with a value, sorted."""
    return tuple(sorted({node.op_type for node, _ in readers(value, model)}))


def _shape(value: ir.Value) -> tuple[int, ...]:
    return () if value.const_value is None else tuple(value.const_value.shape.numpy())
