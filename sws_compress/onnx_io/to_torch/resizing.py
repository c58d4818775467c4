"""Resize: axis by axis, each output a weighted sum of inputs around its place."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sws_compress.onnx_io.to_torch.node_attributes import Attributes, Operator, UncoveredError, bounded, whole_numbers


def _resized(
    attributes: Attributes, x: Tensor, region: Tensor | None = None, scales: Tensor | None = None,
    sizes: Tensor | None = None,
) -> Tensor:  # fmt: skip
    for name, usual in (("antialias", 0), ("keep_aspect_ratio_policy", "stretch")):
        attributes.only(name, usual)
    given = attributes.integers("axes")
    axes = list(range(x.dim())) if given is None else [axis % x.dim() for axis in given]
    wanted, factors = list(x.shape), [1.0] * x.dim()
    if scales is not None and scales.numel():
        for axis, factor in zip(axes, scales.tolist(), strict=True):
            wanted[axis], factors[axis] = math.floor(x.shape[axis] * factor), factor
    elif sizes is not None:
        for axis, size in zip(axes, whole_numbers(sizes), strict=True):
            wanted[axis], factors[axis] = size, size / x.shape[axis]
    bounded(wanted)
    for axis, (size, factor) in enumerate(zip(wanted, factors, strict=True)):
        if size != x.shape[axis] or factor != 1:
            x = _along(attributes, x, axis, size, factor)
    return x


def _along(attributes: Attributes, x: Tensor, axis: int, size: int, factor: float) -> Tensor:
    """A tensor with another size along an axis."""
    before = x.shape[axis]
    places = _places(attributes.text("coordinate_transformation_mode", "half_pixel"), before, size, factor)
    places = places.to(x.device)
    mode = attributes.text("mode", "nearest")
    if mode == "nearest":
        nearest = _nearest(attributes.text("nearest_mode", "round_prefer_floor"), places)
        return x.index_select(axis, nearest.clamp(0, before - 1).to(torch.int64))
    if mode == "linear":
        places = places.clamp(0, before - 1)
    first = places.floor()
    offsets, shares = (range(2), _linear(places - first)) if mode == "linear" else (
        range(-1, 3), _cubic(places - first, attributes.real("cubic_coeff_a", -0.75))
    )  # fmt: skip
    if mode not in ("linear", "cubic"):
        raise UncoveredError(f"Resize with mode {mode}")
    if mode == "cubic" and attributes.integer("exclude_outside", 0):
        shares = _without_outside(first, offsets, shares, before)
    found = torch.zeros((), dtype=x.dtype, device=x.device)
    for offset, share in zip(offsets, shares, strict=True):
        taken = x.index_select(axis, (first + offset).clamp(0, before - 1).to(torch.int64))
        found = found + taken * share.to(x.dtype).reshape(-1, *[1] * (x.dim() - 1 - axis))
    return found


def _places(mode: str, before: int, size: int, factor: float) -> Tensor:
    """Places in the input, by output; float32, as the runtime computes them."""
    outputs = torch.arange(size, dtype=torch.float32)
    scale = torch.tensor(factor, dtype=torch.float32)
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and size > 1):
        return (outputs + 0.5) / scale - 0.5
    if mode == "pytorch_half_pixel":
        return torch.zeros_like(outputs)
    if mode == "align_corners":
        return outputs * (before - 1) / (size - 1) if size > 1 else torch.zeros_like(outputs)
    if mode == "asymmetric":
        return outputs / scale
    if mode == "half_pixel_symmetric":
        share = size / (scale * before)
        return before / 2 * (1 - share) + (outputs + 0.5) / scale - 0.5
    raise UncoveredError(f"Resize with {mode}")


def _nearest(mode: str, places: Tensor) -> Tensor:
    if mode == "floor":
        return places.floor()
    if mode == "ceil":
        return places.ceil()
    return (places - 0.5).ceil() if mode == "round_prefer_floor" else (places + 0.5).floor()


def _linear(share: Tensor) -> list[Tensor]:
    return [1 - share, share]


def _cubic(share: Tensor, a: float) -> list[Tensor]:
    """Shares of the four neighbours of a place, by how far it is behind the second (Keys, 1981)."""

    def near(away: Tensor) -> Tensor:
        return ((a + 2) * away - (a + 3)) * away * away + 1

    def far(away: Tensor) -> Tensor:
        return ((a * away - 5 * a) * away + 8 * a) * away - 4 * a

    return [far(share + 1), near(share), near(1 - share), far(2 - share)]


def _without_outside(first: Tensor, offsets: Sequence[int], shares: list[Tensor], size: int) -> list[Tensor]:
    """Shares of inputs that there are, which add up to 1 again."""
    inside = [
        torch.where((first + offset >= 0) & (first + offset < size), share, 0.0)
        for offset, share in zip(offsets, shares, strict=True)
    ]
    total = torch.stack(inside).sum(dim=0)
    return [share / total for share in inside]


OPERATORS: dict[str, Operator] = {"Resize": _resized}
"""Functions by operator."""
