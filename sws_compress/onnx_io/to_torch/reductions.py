"""Operators that make fewer numbers of many, or put them in order."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sws_compress.onnx_io.to_torch.node_attributes import Attributes, Operator, axes_of, whole_numbers

_Reduction = Callable[[Tensor, list[int], bool], Tensor]


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = torch.prod(x, dim=axis, keepdim=keep)
    return x


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.sum(x, dim=axes, keepdim=keep, dtype=x.dtype)


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if x.is_floating_point():
        return torch.mean(x, dim=axes, keepdim=keep)
    count = max(x.numel() // max(_sum(x, axes, keep).numel(), 1), 1)
    return torch.div(_sum(x, axes, keep), count, rounding_mode="trunc")


def _largest(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.amax(x, dim=axes, keepdim=keep)


def _least(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.amin(x, dim=axes, keepdim=keep)


def _length(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(x, dim=axes, keepdim=keep)
    return found


_REDUCTIONS: dict[str, _Reduction] = {
    "ReduceL1": lambda x, axes, keep: _sum(x.abs(), axes, keep),
    "ReduceL2": lambda x, axes, keep: _length(x, axes, keep),
    "ReduceLogSum": lambda x, axes, keep: _sum(x, axes, keep).log(),
    "ReduceLogSumExp": lambda x, axes, keep: torch.logsumexp(x, dim=axes, keepdim=keep),
    "ReduceMax": _largest,
    "ReduceMean": _mean,
    "ReduceMin": _least,
    "ReduceProd": _product,
    "ReduceSum": _sum,
    "ReduceSumSquare": lambda x, axes, keep: _sum(x.square(), axes, keep),
}
_OF_NOTHING = {
    "ReduceL1": torch.abs,
    "ReduceL2": torch.abs,
    "ReduceLogSum": torch.log,
    "ReduceSumSquare": torch.square,
}
"""What is left of reductions along no axis."""


def _reducing(name: str) -> Operator:
    reduction = _REDUCTIONS[name]

    def reduced(attributes: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
        found = axes_of(attributes, axes, x.dim())
        if not found:
            if attributes.integer("noop_with_empty_axes", 0):
                return _OF_NOTHING.get(name, lambda same: same)(x)
            found = list(range(x.dim()))
        if not found:  # a scalar
            return reduction(x.reshape(1), [0], False)
        return reduction(x, found, bool(attributes.integer("keepdims", 1)))

    return reduced


def _place(attributes: Attributes, x: Tensor, *, largest: bool) -> Tensor:
    axis, keep = attributes.integer("axis", 0), bool(attributes.integer("keepdims", 1))
    last = bool(attributes.integer("select_last_index", 0))
    values = x.flip(axis) if last else x
    found = (torch.argmax if largest else torch.argmin)(values, dim=axis, keepdim=keep)
    return x.shape[axis] - 1 - found if last else found


def _top(attributes: Attributes, x: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """The first of equal numbers comes first, as in ONNX Runtime."""
    axis, (number,) = attributes.integer("axis", -1), whole_numbers(count)
    values, places = torch.sort(x, dim=axis, descending=bool(attributes.integer("largest", 1)), stable=True)
    return values.narrow(axis, 0, number), places.narrow(axis, 0, number)


def _running_sum(attributes: Attributes, x: Tensor, axis: Tensor) -> Tensor:
    (along,) = whole_numbers(axis)
    backwards = bool(attributes.integer("reverse", 0))
    values = x.flip(along) if backwards else x
    found = values.cumsum(along, dtype=x.dtype)
    found = found - values if attributes.integer("exclusive", 0) else found
    return found.flip(along) if backwards else found


OPERATORS: dict[str, Operator] = {
    **{name: _reducing(name) for name in _REDUCTIONS},
    "ArgMax": lambda attributes, x: _place(attributes, x, largest=True),
    "ArgMin": lambda attributes, x: _place(attributes, x, largest=False),
    "CumSum": _running_sum,
    "TopK": _top,
}
"""Functions by operator."""
