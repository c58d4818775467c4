"""Operators that change shapes, and those that put tensors together or take them apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sws_compress.onnx_io.to_torch.node_attributes import (
    Attributes,
    Operator,
    UncoveredError,
    axes_of,
    bounded,
    whole_numbers,
)
from sws_compress.onnx_io.to_torch.windows import padded

_PAD_MODES = {"edge": "replicate", "reflect": "reflect"}
"""Names of modes in torch."""


def _shape(attributes: Attributes, x: Tensor) -> Tensor:
    start, end = attributes.integer("start", 0), attributes.integer("end", x.dim())
    return torch.tensor(list(x.shape)[start:end], dtype=torch.int64, device=x.device)


def _size(attributes: Attributes, x: Tensor) -> Tensor:
    return torch.tensor(x.numel(), device=x.device)


def _reshaped(attributes: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    sizes = whole_numbers(shape)
    if not attributes.integer("allowzero", 0):
        sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


def _flattened(attributes: Attributes, x: Tensor) -> Tensor:
    axis = attributes.integer("axis", 1)
    axis = axis + x.dim() if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _squeezed(attributes: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    found = axes_of(attributes, axes, x.dim())
    return x.squeeze() if found is None else x.squeeze(tuple(found))


def _unsqueezed(attributes: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    given = (attributes.integers("axes") or []) if axes is None else whole_numbers(axes)
    rank = x.dim() + len(given)
    for axis in sorted(each % rank for each in given):
        x = x.unsqueeze(axis)
    return x


def _transposed(attributes: Attributes, x: Tensor) -> Tensor:
    order = attributes.integers("perm")
    return x.permute(list(range(x.dim()))[::-1] if order is None else order)


def _joined(attributes: Attributes, *inputs: Tensor) -> Tensor:
    return torch.cat(inputs, dim=attributes.integer("axis", 0))


def _split(attributes: Attributes, x: Tensor, sizes: Tensor | None = None) -> Sequence[Tensor]:
    axis = attributes.integer("axis", 0)
    if sizes is not None:
        return torch.split(x, whole_numbers(sizes), dim=axis)
    count = attributes.integer("num_outputs", attributes.outputs)
    each = -(-x.shape[axis] // max(count, 1))
    return torch.split(x, [min(each, x.shape[axis] - number * each) for number in range(count)], dim=axis)


def _sliced(
    attributes: Attributes, x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:  # fmt: skip
    begin, stop = whole_numbers(starts), whole_numbers(ends)
    along = list(range(len(begin))) if axes is None else whole_numbers(axes)
    apart = [1] * len(begin) if steps is None else whole_numbers(steps)
    for axis, first, last, step in zip(along, begin, stop, apart, strict=True):
        size = x.shape[axis]
        if step > 0:
            x = x[(slice(None),) * (axis % x.dim()) + (slice(first, last, step),)]
        else:
            lowest = None if last < -size else last
            places = list(range(size))[first:lowest:step]
            x = x.index_select(axis, torch.tensor(places, dtype=torch.int64, device=x.device))
    return x


def _wrapped(places: Tensor, size: int) -> Tensor:
    """Places from 0, those from the end made so."""
    return torch.where(places < 0, places + size, places).to(torch.int64)


def _gathered(attributes: Attributes, x: Tensor, places: Tensor) -> Tensor:
    axis = attributes.integer("axis", 0) % max(x.dim(), 1)
    shape = (*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])
    bounded(shape)
    if not axis and x.dim() == 2:  # a table: its gradient is made faster
        return functional.embedding(_wrapped(places, x.shape[0]), x)
    return x.index_select(axis, _wrapped(places, x.shape[axis]).reshape(-1)).reshape(shape)


def _gathered_elements(attributes: Attributes, x: Tensor, places: Tensor) -> Tensor:
    axis = attributes.integer("axis", 0)
    return torch.gather(x, axis, _wrapped(places, x.shape[axis]))


def _gathered_points(attributes: Attributes, x: Tensor, places: Tensor) -> Tensor:
    batch = attributes.integer("batch_dims", 0)
    groups, depth = math.prod(x.shape[:batch]), places.shape[-1]
    values, rest = x.reshape(groups, -1, *x.shape[batch + depth :]), x.shape[batch + depth :]
    flat = _flat_places(places, x.shape[batch : batch + depth]).reshape(groups, -1)
    bounded((*places.shape[:-1], *rest))
    rows = torch.arange(groups, device=x.device)[:, None]
    return values[rows, flat].reshape(*places.shape[:-1], *rest)


def _flat_places(places: Tensor, sizes: Sequence[int]) -> Tensor:
    """Numbers of elements by their places along several axes, which are checked."""
    flat = torch.zeros(places.shape[:-1], dtype=torch.int64, device=places.device)
    for axis, size in enumerate(sizes):
        found = _wrapped(places[..., axis], size)
        if bool(((found < 0) | (found >= size)).any()):
            raise IndexError(f"places must be below {size}")
        flat = flat * size + found
    return flat


def _scattered_points(attributes: Attributes, x: Tensor, places: Tensor, updates: Tensor) -> Tensor:
    attributes.only("reduction", "none", "add")
    depth = places.shape[-1]
    values = x.reshape(math.prod(x.shape[:depth]), -1)
    flat = _flat_places(places, x.shape[:depth]).reshape(-1)
    added = attributes.text("reduction", "none") == "add"
    return values.index_put((flat,), updates.reshape(len(flat), -1), accumulate=added).reshape(x.shape)


def _scattered(attributes: Attributes, x: Tensor, places: Tensor, updates: Tensor) -> Tensor:
    attributes.only("reduction", "none", "add")
    axis = attributes.integer("axis", 0)
    where = _wrapped(places, x.shape[axis])
    added = attributes.text("reduction", "none") == "add"
    return x.scatter_add(axis, where, updates) if added else x.scatter(axis, where, updates)


def _expanded(attributes: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    sizes = np.broadcast_shapes(x.shape, tuple(whole_numbers(shape)))
    return x.expand(bounded(sizes))


def _tiled(attributes: Attributes, x: Tensor, repeats: Tensor) -> Tensor:
    counts = whole_numbers(repeats)
    bounded([size * count for size, count in zip(x.shape, counts, strict=True)])
    return x.repeat(counts)


def _constant_of_shape(attributes: Attributes, shape: Tensor) -> Tensor:
    value: Tensor = attributes.values.get("value", torch.zeros(1))
    return value.to(shape.device).reshape(()).expand(bounded(whole_numbers(shape)))


def _range(attributes: Attributes, start: Tensor, limit: Tensor, step: Tensor) -> Tensor:
    first, last, apart = (each.item() for each in (start, limit, step))
    count = max(math.ceil((last - first) / apart), 0)
    return first + torch.arange(*bounded([count]), dtype=start.dtype, device=start.device) * apart


def _one_hot(attributes: Attributes, places: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    axis, (count,) = attributes.integer("axis", -1), whole_numbers(depth)
    bounded([*places.shape, count])
    axis = axis + places.dim() + 1 if axis < 0 else axis
    hits = _wrapped(places, count).unsqueeze(axis) == torch.arange(count, device=places.device).reshape(
        -1, *[1] * (places.dim() - axis)
    )
    return torch.where(hits, values[1], values[0])


def _padded(
    attributes: Attributes, x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    sizes = whole_numbers(pads)
    along = list(range(x.dim())) if axes is None else [axis % x.dim() for axis in whole_numbers(axes)]
    before, after = [0] * x.dim(), [0] * x.dim()
    for number, axis in enumerate(along):
        before[axis], after[axis] = sizes[number], sizes[number + len(along)]
    mode = attributes.text("mode", "constant")
    if mode == "constant":
        return padded(x, before, after, 0.0 if value is None else value.item())
    bounded([sum(each) for each in zip(x.shape, before, after, strict=True)])
    for axis in range(x.dim()):
        if before[axis] or after[axis]:
            x = _padded_along(x, axis, before[axis], after[axis], mode)
    return x


def _padded_along(x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    """A tensor with copies of its own numbers before and after; torch's own way has the faster gradient."""
    size = x.shape[axis]
    if (
        mode in _PAD_MODES
        and x.is_floating_point()
        and x.numel()
        and 0 <= min(before, after) <= max(before, after) < size
    ):
        moved = x.movedim(axis, -1)
        found = functional.pad(moved.reshape(-1, size), (before, after), mode=_PAD_MODES[mode])
        return found.reshape(*moved.shape[:-1], -1).movedim(-1, axis)
    if mode == "wrap" and min(before, after) < 0:  # the runtime takes away first
        raise UncoveredError("Pad with mode wrap and negative pads")
    places = torch.arange(-before, size + after, device=x.device)
    return x.index_select(axis, _inside(places, size, mode))


def _inside(places: Tensor, size: int, mode: str) -> Tensor:
    """Places inside of an axis for those outside of it."""
    if mode == "edge":
        return places.clamp(0, size - 1)
    if mode == "wrap":
        return places % size
    if mode != "reflect":
        raise UncoveredError(f"Pad with mode {mode}")
    turned = places % max(2 * (size - 1), 1)
    return torch.where(turned >= size, 2 * (size - 1) - turned, turned)


def _depth_to_space(attributes: Attributes, x: Tensor) -> Tensor:
    block = attributes.integer("blocksize", 1)
    rows, channels, height, width = x.shape
    rest = channels // (block * block)
    if attributes.text("mode", "DCR") == "DCR":
        parts = x.reshape(rows, block, block, rest, height, width).permute(0, 3, 4, 1, 5, 2)
    else:
        parts = x.reshape(rows, rest, block, block, height, width).permute(0, 1, 4, 2, 5, 3)
    return parts.reshape(rows, rest, height * block, width * block)


def _space_to_depth(attributes: Attributes, x: Tensor) -> Tensor:
    block = attributes.integer("blocksize", 1)
    rows, channels, height, width = x.shape
    parts = x.reshape(rows, channels, height // block, block, width // block, block).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(rows, channels * block * block, height // block, width // block)


def _triangle(attributes: Attributes, x: Tensor, diagonal: Tensor | None = None) -> Tensor:
    number = 0 if diagonal is None else whole_numbers(diagonal)[0]
    return torch.triu(x, number) if attributes.integer("upper", 1) else torch.tril(x, number)


OPERATORS: dict[str, Operator] = {
    "Concat": _joined,
    "ConstantOfShape": _constant_of_shape,
    "DepthToSpace": _depth_to_space,
    "Expand": _expanded,
    "Flatten": _flattened,
    "Gather": _gathered,
    "GatherElements": _gathered_elements,
    "GatherND": _gathered_points,
    "NonZero": lambda attributes, x: torch.nonzero(x).mT,
    "OneHot": _one_hot,
    "Pad": _padded,
    "Range": _range,
    "Reshape": _reshaped,
    "ScatterElements": _scattered,
    "ScatterND": _scattered_points,
    "Shape": _shape,
    "Size": _size,
    "Slice": _sliced,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeezed,
    "Tile": _tiled,
    "Transpose": _transposed,
    "Trilu": _triangle,
    "Unsqueeze": _unsqueezed,
}
"""Functions by operator."""
