"""The elements of an initialiser in a value that operators made of it by moving them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.convenience import get_const_tensor

Positions = npt.NDArray[np.int64]


MOVES = ("Cast", "Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
"""Operators that move the elements of their first input, and Concat those of all."""

MOST_MOVES = 32
"""Operators between an initialiser and its reader that are followed."""


@dataclass(frozen=True, eq=False)
class MovedWeight:
    """A value that holds elements of one initialiser, each at most once.

    Parameters
    ----------
    name : str
        Name of the initialiser.
    size : int
        Number of its elements.
    positions : ndarray, int64
        For each element of the value, its number in the flat initialiser.
    """

    name: str
    size: int
    positions: Positions

    def at(self, positions: Positions | None) -> MovedWeight | None:
        """The same initialiser elsewhere; None if that is not known."""
        return None if positions is None else replace(self, positions=positions)


def moved_weight(value: ir.Value | None) -> MovedWeight | None:
    """The initialiser whose elements a value holds, all of them once; None if it is not made of one by moves alone."""
    found = _moved(value, {}, MOST_MOVES)
    if found is None or found.positions.size != found.size:
        return None
    return found if (np.bincount(found.positions.reshape(-1), minlength=found.size) == 1).all() else None


_Known = dict[ir.Value, MovedWeight | None]


def _moved(value: ir.Value | None, known: _Known, moves: int) -> MovedWeight | None:
    if value is None:
        return None
    if value not in known:
        known[value] = _found(value, known, moves)
    return known[value]


def _found(value: ir.Value, known: _Known, moves: int) -> MovedWeight | None:
    if value.is_initializer() and value.const_value is not None and value.name:
        shape = value.const_value.shape.numpy()
        return MovedWeight(value.name, math.prod(shape), np.arange(math.prod(shape)).reshape(shape))
    node = value.producer()
    if node is None or node.domain or not node.inputs or not moves:
        return None
    try:
        if node.op_type == "Concat":
            return _joined(node, [_moved(each, known, moves - 1) for each in node.inputs])
        source = _moved(node.inputs[0], known, moves - 1) if node.op_type in MOVES else None
        return None if source is None else source.at(_after(node, source.positions))
    except (ValueError, IndexError):  # shapes that do not fit: the runtime will say so
        return None


def _joined(node: ir.Node, parts: Sequence[MovedWeight | None]) -> MovedWeight | None:
    """The output of a Concat of parts of one initialiser."""
    whole = [part for part in parts if part is not None]
    if len(whole) < len(parts) or len({part.name for part in whole}) != 1:
        return None
    if sum(part.positions.size for part in whole) > whole[0].size:
        return None
    return whole[0].at(np.concatenate([part.positions for part in whole], node.attributes.get_int("axis", 0)))


def _after(node: ir.Node, positions: Positions) -> Positions | None:
    """Positions after a node has moved the elements; None if it does something else."""
    if node.op_type in ("Identity", "Cast"):
        return positions
    if node.op_type == "Transpose":
        order = node.attributes.get("perm")
        return np.transpose(positions, None if order is None else order.as_ints())
    if node.op_type == "Flatten":
        axis = node.attributes.get_int("axis", 1)
        axis = axis + positions.ndim if axis < 0 else axis
        return positions.reshape(math.prod(positions.shape[:axis]), -1)
    if node.op_type == "Reshape":
        return _reshaped(node, positions)
    if node.op_type in ("Squeeze", "Unsqueeze"):
        return _squeezed(node, positions)
    return _sliced(node, positions) if node.op_type == "Slice" else None


def _reshaped(node: ir.Node, positions: Positions) -> Positions | None:
    target = _integers(node, 1, "shape")
    if target is None:
        return None
    if not node.attributes.get_int("allowzero", 0):
        target = [positions.shape[i] if size == 0 and i < positions.ndim else size for i, size in enumerate(target)]
    return positions.reshape(target)


def _squeezed(node: ir.Node, positions: Positions) -> Positions | None:
    axes = _integers(node, 1, "axes")
    if node.op_type == "Unsqueeze":
        return None if axes is None else np.expand_dims(positions, tuple(axes))
    if axes is None and len(node.inputs) > 1 and node.inputs[1] is not None:
        return None
    return np.squeeze(positions, None if axes is None else tuple(axes))


def _sliced(node: ir.Node, positions: Positions) -> Positions | None:
    starts, ends = (_integers(node, i, name) for i, name in ((1, "starts"), (2, "ends")))
    if starts is None or ends is None:
        return None
    axes, steps = (_integers(node, i, name) for i, name in ((3, "axes"), (4, "steps")))
    if any(
        found is None and len(node.inputs) > i and node.inputs[i] is not None for i, found in ((3, axes), (4, steps))
    ):
        return None
    parts = [slice(None)] * positions.ndim
    for axis, start, end, step in zip(
        axes or range(len(starts)), starts, ends, steps or [1] * len(starts), strict=True
    ):
        size = positions.shape[axis]
        parts[axis] = slice(start, None if step < 0 and end < -size else end, step)
    return positions[tuple(parts)]


def _integers(node: ir.Node, number: int, name: str) -> list[int] | None:
    """A list of integers that a node reads as an input, or has as an attribute; None if it is not known."""
    if (attribute := node.attributes.get(name)) is not None:
        return None if attribute.is_ref() else list(attribute.as_ints())
    value = node.inputs[number] if number < len(node.inputs) else None
    tensor = None if value is None else get_const_tensor(value)
    return None if tensor is None else [int(each) for each in tensor.numpy().reshape(-1)]
