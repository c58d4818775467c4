"""Operators that slide a window: convolutions and pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sws_compress.onnx_io.to_torch.node_attributes import Attributes, Operator, UncoveredError, bounded

_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}
_LARGEST = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_MEAN = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


@dataclass(frozen=True)
class _Window:
    """Sizes along the axes of space: a kernel, its steps, the spread of its taps, and pads before and after."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def spans(self) -> tuple[int, ...]:
        """What a kernel covers."""
        return tuple((size - 1) * apart + 1 for size, apart in zip(self.kernel, self.dilations, strict=True))


def _window(attributes: Attributes, x: Tensor, kernel: Sequence[int]) -> _Window:
    """The window of a convolution or pooling; pads of ``auto_pad`` are computed."""
    axes = len(kernel)
    if axes not in _CONVOLUTIONS or x.dim() != axes + 2:
        raise UncoveredError(f"{attributes.operator} along {axes} axes")
    ones = [1] * axes
    strides, dilations = (attributes.integers(name) or ones for name in ("strides", "dilations"))
    pads = attributes.integers("pads") or [0] * (2 * axes)
    found = _Window(tuple(kernel), tuple(strides), tuple(dilations), tuple(pads[:axes]), tuple(pads[axes:]))
    mode = attributes.text("auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID"):
        return found
    missing = [
        max((-(-size // stride) - 1) * stride + span - size, 0)
        for size, stride, span in zip(x.shape[2:], strides, found.spans, strict=True)
    ]
    less, more = tuple(each // 2 for each in missing), tuple(each - each // 2 for each in missing)
    before, after = (less, more) if mode == "SAME_UPPER" else (more, less)
    return _Window(found.kernel, found.strides, found.dilations, before, after)


def padded(x: Tensor, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Tensor:
    """A tensor with more numbers before and after along its last axes, fewer where the pads are negative."""
    if not any(before) and not any(after):
        return x
    last = x.dim() - len(before)
    bounded([*x.shape[:last], *(sum(sizes) for sizes in zip(x.shape[last:], before, after, strict=True))])
    pairs = [each for pair in zip(before, after, strict=True) for each in pair[::-1]]
    return functional.pad(x, pairs[::-1], value=value)


def _convolution(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    window = _window(attributes, x, weight.shape[2:])
    pads: Sequence[int] | int = 0
    if window.before == window.after and min(window.before) >= 0:
        pads = window.before
    else:
        x = padded(x, window.before, window.after)
    convolve = _CONVOLUTIONS[len(window.kernel)]
    return convolve(x, weight, bias, window.strides, pads, window.dilations, attributes.integer("group", 1))


def _transposed(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """All that a transposed convolution reaches, of which pads are then taken away."""
    axes = weight.dim() - 2
    if axes not in _TRANSPOSED or x.dim() != axes + 2:
        raise UncoveredError(f"{attributes.operator} along {axes} axes")
    strides, dilations = (attributes.integers(name) or [1] * axes for name in ("strides", "dilations"))
    more = attributes.integers("output_padding") or [0] * axes
    whole = [
        (size - 1) * stride + (kernel - 1) * apart + 1
        for size, stride, kernel, apart in zip(x.shape[2:], strides, weight.shape[2:], dilations, strict=True)
    ]
    bounded([*x.shape[:1], weight.shape[1] * attributes.integer("group", 1), *whole])
    before, after = _cut(attributes, list(x.shape[2:]), strides, whole, more)
    found = _TRANSPOSED[axes](
        x, weight, None, strides, groups=attributes.integer("group", 1), dilation=dilations
    )  # fmt: skip
    found = padded(found, [-each for each in before], [-each for each in after])
    return found if bias is None else found + bias.reshape(-1, *[1] * axes)


def _cut(
    attributes: Attributes, sizes: list[int], strides: list[int], whole: list[int], more: list[int]
) -> tuple[list[int], list[int]]:
    """What is taken away before and after."""
    axes, mode = len(whole), attributes.text("auto_pad", "NOTSET")
    wanted = attributes.integers("output_shape")
    if wanted is None and mode in ("NOTSET", "VALID"):
        pads = attributes.integers("pads") or [0] * (2 * axes)
        return pads[:axes], [pad - extra for pad, extra in zip(pads[axes:], more, strict=True)]
    if wanted is None:
        wanted = [size * stride for size, stride in zip(sizes, strides, strict=True)]
    total = [
        max(reach + extra - size, 0) for reach, extra, size in zip(whole, more, wanted[-axes:], strict=True)
    ]  # fmt: skip
    less, larger = [each // 2 for each in total], [each - each // 2 for each in total]
    before, after = (less, larger) if mode == "SAME_UPPER" else (larger, less)
    return before, [each - extra for each, extra in zip(after, more, strict=True)]


def _pooling(attributes: Attributes, x: Tensor) -> tuple[_Window, list[int]]:
    """The window of a pooling, and how much its last place reaches beyond the input."""
    window = _window(attributes, x, attributes.integers("kernel_shape") or [])
    beyond = []
    for axis, size in enumerate(x.shape[2:]):
        before, after, stride = window.before[axis], window.after[axis], window.strides[axis]
        room = size + before + after - window.spans[axis]
        places = (-(-room // stride) if attributes.integer("ceil_mode", 0) else room // stride) + 1
        if (places - 1) * stride >= size + before:  # it would begin in the pad
            places -= 1
        beyond.append((places - 1) * stride + window.spans[axis] - size - before)
    return window, beyond


def _largest(attributes: Attributes, x: Tensor) -> Tensor:
    if attributes.outputs > 1:
        raise UncoveredError("MaxPool with indices")
    window, beyond = _pooling(attributes, x)
    value = -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
    pool = _LARGEST[len(window.kernel)]
    return pool(padded(x, window.before, beyond, value), window.kernel, window.strides, 0, window.dilations)


def _mean(attributes: Attributes, x: Tensor) -> Tensor:
    window, beyond = _pooling(attributes, x)
    if any(each > 1 for each in window.dilations):
        raise UncoveredError("AveragePool with dilations")
    pool = _MEAN[len(window.kernel)]
    found = pool(padded(x, window.before, beyond), window.kernel, window.strides)
    counted = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
    before, after = window.before, beyond
    if attributes.integer("count_include_pad", 0):
        counted = padded(counted, before, window.after, 1.0)
        before, after = (0,) * len(before), [more - pad for more, pad in zip(beyond, window.after, strict=True)]
    return found / pool(padded(counted, before, after), window.kernel, window.strides)


def _global_mean(attributes: Attributes, x: Tensor) -> Tensor:
    return x.mean(dim=list(range(2, x.dim())), keepdim=True)


def _global_largest(attributes: Attributes, x: Tensor) -> Tensor:
    return x.amax(dim=list(range(2, x.dim())), keepdim=True)


OPERATORS: dict[str, Operator] = {
    "AveragePool": _mean,
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "GlobalAveragePool": _global_mean,
    "GlobalMaxPool": _global_largest,
    "MaxPool": _largest,
}
"""Functions by operator."""
