"""Which initialisers are weights worth compressing, and which values they hold."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sws_compress.errors import ModelError

FORMAT_KEY = "sws_compress"
"""Key of the model's metadata that marks a compressed model; the value is the format version."""

CONSUMERS = ("Conv", "ConvTranspose", "Einsum", "GRU", "Gather", "Gemm", "LSTM", "MatMul", "RNN")
"""Operators whose float inputs are called weights."""

FLOAT_TYPES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE)
"""Types of tensors that are compressed."""


@dataclass(frozen=True, eq=False)
class Weight:
    """A float32 initialiser of the main graph, and the operators that read it."""

    name: str
    shape: tuple[int, ...]
    operators: tuple[str, ...]
    values: npt.NDArray[np.float32]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Skipped:
    """A float initialiser that stays as it is, and why."""

    name: str
    shape: tuple[int, ...]
    reason: str


def find_weights(model: ir.Model, *, smallest: int = 1024) -> tuple[Weight, ...]:
    """Float32 initialisers with at least ``smallest`` elements that an operator of `CONSUMERS` reads directly.

    Each once, however many nodes share it, in the order of the graph. Raises ModelError where a weight holds NaN or
    infinity, or where the model is compressed already.
    """
    refuse_compressed(model)
    return tuple(
        Weight(name, _shape(value), _operators(value), finite_values(value))
        for name, value in model.graph.initializers.items()
        if _reason_to_skip(value, smallest) is None
    )


def skipped_weights(model: ir.Model, *, smallest: int = 1024) -> tuple[Skipped, ...]:
    """The floating-point initialisers that `find_weights` leaves out."""
    reasons = ((value, _reason_to_skip(value, smallest)) for value in model.graph.initializers.values())
    return tuple(
        Skipped(str(value.name), _shape(value), reason)
        for value, reason in reasons
        if reason is not None and value.const_value is not None and value.const_value.dtype.is_floating_point()
    )


def refuse_compressed(model: ir.Model) -> None:
    """Raise ModelError if ``model`` was written by this package."""
    if version := model.metadata_props.get(FORMAT_KEY):
        raise ModelError(
            f"model must not be compressed already, got one of format version {version}: start from the original model"
        )


def finite_values(value: ir.Value) -> npt.NDArray[np.float32]:
    """The elements of an initialiser; ModelError names it if one is NaN or infinite."""
    assert value.const_value is not None
    values: npt.NDArray[np.float32] = value.const_value.numpy()
    wrong = values.size - int(np.count_nonzero(np.isfinite(values)))
    if wrong:
        raise ModelError(
            f"weights of {value.name} must be finite, got {wrong} NaN or infinite of {values.size}: "
            "export the network from before it diverged"
        )
    return values


def _reason_to_skip(value: ir.Value, smallest: int) -> str | None:
    if value.const_value is None:
        return "has no data"
    if value.const_value.dtype != ir.DataType.FLOAT:
        return f"is {value.const_value.dtype.name.lower()}, not float32"
    if value.is_graph_output():
        return "is an output of the model"
    if not set(_operators(value)) & set(CONSUMERS):
        return "is not read directly by " + ", ".join(CONSUMERS)
    if (size := math.prod(_shape(value))) < smallest:
        return f"has {size} elements, fewer than {smallest}"
    return None


def _operators(value: ir.Value) -> tuple[str, ...]:
    return tuple(sorted({node.op_type for node, _ in value.uses()}))


def _shape(value: ir.Value) -> tuple[int, ...]:
    return () if value.const_value is None else tuple(value.const_value.shape.numpy())
