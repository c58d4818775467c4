"""Operators that normalise: norms, and probabilities."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from sws_compress.onnx_io.to_torch.node_attributes import Attributes, Operator


def _batch(attributes: Attributes, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    attributes.only("training_mode", 0)
    factor = scale * torch.rsqrt(variance + attributes.real("epsilon", 1e-5))
    channels = (-1, *[1] * (x.dim() - 2))
    return x * factor.reshape(channels) + (bias - mean * factor).reshape(channels)


def _instance(attributes: Attributes, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return functional.instance_norm(x, weight=scale, bias=bias, eps=attributes.real("epsilon", 1e-5))


def _group(attributes: Attributes, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Scales are per group up to opset 20, then per channel."""
    groups, channels = attributes.integer("num_groups", 1), x.shape[1]
    if scale.numel() != channels:
        scale, bias = (each.repeat_interleave(channels // groups) for each in (scale, bias))
    return functional.group_norm(x, groups, scale, bias, eps=attributes.real("epsilon", 1e-5))


def _layer(attributes: Attributes, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> list[Tensor]:
    axis = attributes.integer("axis", -1) % max(x.dim(), 1)
    axes = list(range(axis, x.dim()))
    mean = x.mean(dim=axes, keepdim=True)
    centred = x - mean
    inverse = torch.rsqrt(centred.square().mean(dim=axes, keepdim=True) + attributes.real("epsilon", 1e-5))
    found = centred * inverse * scale
    return [found if bias is None else found + bias, mean, inverse][: attributes.outputs]


def _root_mean_square(attributes: Attributes, x: Tensor, scale: Tensor) -> Tensor:
    axes = list(range(attributes.integer("axis", -1) % max(x.dim(), 1), x.dim()))
    return x * torch.rsqrt(x.square().mean(dim=axes, keepdim=True) + attributes.real("epsilon", 1e-5)) * scale


def _length(attributes: Attributes, x: Tensor) -> Tensor:
    """Numbers over their norm; 0 where that is 0."""
    attributes.only("p", 2, 1)
    axis = attributes.integer("axis", -1)
    norm = x.abs().sum(axis, keepdim=True) if attributes.integer("p", 2) == 1 else x.square().sum(axis, True).sqrt()
    return torch.where(norm == 0, 0.0, x / norm)


def _local_response(attributes: Attributes, x: Tensor) -> Tensor:
    size = min(attributes.integer("size", 1), 2 * x.shape[1] + 1)
    squares = x.square().reshape(x.shape[0], 1, x.shape[1], -1)
    padded = functional.pad(squares, (0, 0, (size - 1) // 2, size // 2))
    sums = functional.avg_pool2d(padded, (size, 1), stride=1) * size
    share = attributes.real("alpha", 1e-4) / attributes.integer("size", 1)
    return x / (attributes.real("bias", 1.0) + share * sums.reshape(x.shape)) ** attributes.real("beta", 0.75)


def _softmax(attributes: Attributes, x: Tensor) -> Tensor:
    return torch.softmax(x, attributes.integer("axis", -1))


def _log_softmax(attributes: Attributes, x: Tensor) -> Tensor:
    return torch.log_softmax(x, attributes.integer("axis", -1))


OPERATORS: dict[str, Operator] = {
    "BatchNormalization": _batch,
    "GroupNormalization": _group,
    "InstanceNormalization": _instance,
    "LRN": _local_response,
    "LayerNormalization": _layer,
    "LogSoftmax": _log_softmax,
    "LpNormalization": _length,
    "RMSNormalization": _root_mean_square,
    "Softmax": _softmax,
}
"""Functions by operator."""
