"""What a compressed file holds unchanged, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from sws_compress.messages import first_few, shown
from sws_compress.onnx_io.analyse.tensor_kinds import quantised_readers
from sws_compress.onnx_io.analyse.weights import readers, skipped_weights
from sws_compress.onnx_io.element_types import FLOAT_TYPES, INTEGER_TYPES
from sws_compress.thresholds import SMALLEST_EXACT_TENSOR, SMALLEST_WEIGHT

NOTED_SHARE = 0.05
"""Share of the file from which unchanged tensors are worth a note."""

NOTED_BYTES = 1024
"""Bytes from which they are: the biases of a file of few kilobytes would be noted for nothing."""

MANY_VALUES = "holds more than 256 distinct values, and was not chosen to be clustered"
"""Why a weight without a palette is dense."""

MANY_INTEGERS = "holds more than 256 distinct values"
"""Why integers without a palette are as they were."""

NO_SMALLER = "gets no smaller by packing"
"""Why a weight with a palette is dense."""

KEPT = "is kept as asked"
"""Why a weight that the caller named is dense."""


@dataclass(frozen=True)
class Unchanged:
    """A tensor that is in the file as it was.

    Parameters
    ----------
    name : str
        Name of the initialiser.
    stored_bytes : int
        Bytes of its elements.
    reason : str
        Why it is unchanged, to be read after its name.
    """

    name: str
    stored_bytes: int
    reason: str


def dense_notes(
    model: ir.Model,
    packed: Collection[str],
    file_bytes: int,
    *,
    reasons: Mapping[str, str],
    smallest: int = SMALLEST_WEIGHT,
    types: Collection[ir.DataType] = FLOAT_TYPES,
) -> tuple[str, ...]:
    """Notes on the tensors that take `NOTED_SHARE` of a compressed file or more, because they are unchanged.

    Parameters
    ----------
    model : ir.Model
        The dense model.
    packed : collection of str
        Names of the initialisers that are packed in the file.
    file_bytes : int
        Size of the file.
    reasons : mapping of str to str
        Why weights are not packed, by their names; `MANY_VALUES` for all others.
    smallest : int
        Elements from which a tensor counts as a weight.
    types : collection of ir.DataType
        Types that a weight may have.

    Returns
    -------
    tuple of str
        At most two lines: one for floating-point tensors, and one for integers.
    """
    dense = dense_tensors(model, packed, reasons=reasons, smallest=smallest, types=types)
    lines = (
        ("floating-point tensors left dense", dense),
        ("integers left as they are", integers_left(model, packed, reasons=reasons)),
    )
    return tuple(
        f"{100 * total / file_bytes:.1f} % of the file are {kind}: {named(tensors)}"
        for kind, tensors in lines
        if (total := _total(tensors)) > NOTED_SHARE * file_bytes and total >= NOTED_BYTES
    )


def dense_tensors(
    model: ir.Model,
    packed: Collection[str] = (),
    *,
    reasons: Mapping[str, str] | None = None,
    smallest: int = SMALLEST_WEIGHT,
    types: Collection[ir.DataType] = FLOAT_TYPES,
) -> tuple[Unchanged, ...]:
    """The floating-point initialisers that are not ``packed``, the largest first, as in `dense_notes`."""
    skipped = skipped_weights(model, smallest=smallest, types=types, besides=packed)
    known = {**(reasons or {}), **{each.name: each.reason for each in skipped}}
    return _unchanged(
        model,
        lambda value, tensor: (
            known.get(str(value.name), MANY_VALUES)
            if tensor.dtype.is_floating_point() and value.name not in packed
            else None
        ),
    )


def quantised(model: ir.Model) -> tuple[Unchanged, ...]:
    """The initialisers that hold quantised weights, the largest first."""

    def reason(value: ir.Value, tensor: ir.TensorProtocol) -> str | None:
        found = () if tensor.dtype in FLOAT_TYPES else quantised_readers(value, model)
        return f"is {tensor.dtype.name.lower()}, read by {', '.join(found)}" if found else None

    return _unchanged(model, reason)


def integers_left(
    model: ir.Model, packed: Collection[str] = (), *, reasons: Mapping[str, str]
) -> tuple[Unchanged, ...]:
    """The initialisers of integers that are not ``packed``, the largest first; ``reasons`` as in `dense_notes`."""

    def reason(value: ir.Value, tensor: ir.TensorProtocol) -> str | None:
        if tensor.dtype not in INTEGER_TYPES or value.name in packed:
            return None
        kinds = sorted({node.op_type for node, _ in readers(value, model)})
        small = f"has {tensor.size} elements, fewer than {SMALLEST_EXACT_TENSOR}"
        why = small if tensor.size < SMALLEST_EXACT_TENSOR else reasons.get(str(value.name), MANY_INTEGERS)
        return f"is {tensor.dtype.name.lower()}, read by {', '.join(kinds) or 'no operator'}, and {why}"

    return _unchanged(model, reason)


def named(tensors: Iterable[Unchanged]) -> str:
    """The first few tensors by name, each with its size and the reason."""
    entries = [f"{shown(each.name)} ({each.stored_bytes:,} bytes) {each.reason}" for each in tensors]
    return first_few(entries, "; ")


def _unchanged(
    model: ir.Model, reason_for: Callable[[ir.Value, ir.TensorProtocol], str | None]
) -> tuple[Unchanged, ...]:
    found = []
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        reason = None if tensor is None else reason_for(value, tensor)
        if tensor is not None and reason is not None:
            found.append(Unchanged(name, tensor.nbytes, reason))
    return tuple(sorted(found, key=lambda each: -each.stored_bytes))


def _total(tensors: Iterable[Unchanged]) -> int:
    return sum(each.stored_bytes for each in tensors)
