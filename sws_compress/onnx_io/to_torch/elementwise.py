"""Operators that work element by element."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from sws_compress.onnx_io.to_torch.node_attributes import Attributes, Operator, UncoveredError

DTYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    4: torch.uint16,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    12: torch.uint32,
    13: torch.uint64,
    16: torch.bfloat16,
}
"""Types of torch by the numbers of ONNX."""


def _of_one(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda attributes, x: function(x)


def _of_two(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda attributes, x, y: function(x, y)


def _folded(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda attributes, *inputs: functools.reduce(function, inputs)


def _mean(attributes: Attributes, *inputs: Tensor) -> Tensor:
    return functools.reduce(torch.add, inputs) / len(inputs)


def _divided(x: Tensor, y: Tensor) -> Tensor:
    return torch.div(x, y) if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def _power(x: Tensor, y: Tensor) -> Tensor:
    return torch.pow(x, y.to(x.dtype)) if x.is_floating_point() else torch.pow(x, y).to(x.dtype)


def _modulo(attributes: Attributes, x: Tensor, y: Tensor) -> Tensor:
    return torch.fmod(x, y) if attributes.integer("fmod", 0) else torch.remainder(x, y)


def _clipped(attributes: Attributes, x: Tensor, least: Tensor | None = None, most: Tensor | None = None) -> Tensor:
    found = x if least is None else torch.maximum(x, least.to(x.dtype).reshape(()))
    return found if most is None else torch.minimum(found, most.to(x.dtype).reshape(()))


def _leaky(attributes: Attributes, x: Tensor) -> Tensor:
    return functional.leaky_relu(x, attributes.real("alpha", 0.01))


def _elu(attributes: Attributes, x: Tensor) -> Tensor:
    return functional.elu(x, attributes.real("alpha", 1.0))


def _celu(attributes: Attributes, x: Tensor) -> Tensor:
    return functional.celu(x, attributes.real("alpha", 1.0))


def _selu(attributes: Attributes, x: Tensor) -> Tensor:
    alpha, gamma = attributes.real("alpha", 1.6732632), attributes.real("gamma", 1.050701)
    return gamma * functional.elu(x, alpha)


def _hard_sigmoid(attributes: Attributes, x: Tensor) -> Tensor:
    return (attributes.real("alpha", 0.2) * x + attributes.real("beta", 0.5)).clamp(0, 1)


def _prelu(attributes: Attributes, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, slope * x, x)


def _thresholded(attributes: Attributes, x: Tensor) -> Tensor:
    return torch.where(x > attributes.real("alpha", 1.0), x, 0.0)


def _gelu(attributes: Attributes, x: Tensor) -> Tensor:
    return functional.gelu(x, approximate=attributes.text("approximate", "none"))


def _swish(attributes: Attributes, x: Tensor) -> Tensor:
    return x * torch.sigmoid(attributes.real("alpha", 1.0) * x)


def _infinite(attributes: Attributes, x: Tensor) -> Tensor:
    found = torch.zeros_like(x, dtype=torch.bool)
    if attributes.integer("detect_positive", 1):
        found = found | torch.isposinf(x)
    return found | torch.isneginf(x) if attributes.integer("detect_negative", 1) else found


def dtype_of(number: int) -> torch.dtype:
    """The type of torch for a number of ONNX. Raises UncoveredError if there is none."""
    if number not in DTYPES:
        raise UncoveredError(f"tensors of type {number}")
    return DTYPES[number]


def _cast(attributes: Attributes, x: Tensor) -> Tensor:
    return x.to(dtype_of(attributes.integer("to", 1)))


def _cast_like(attributes: Attributes, x: Tensor, other: Tensor) -> Tensor:
    return x.to(other.dtype)


def _where(attributes: Attributes, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return torch.where(condition, x, y)


def _dropout(attributes: Attributes, x: Tensor, ratio: Tensor | None = None, training: Tensor | None = None) -> Tensor:
    if training is not None and bool(training):
        raise UncoveredError("Dropout in training mode")
    return x


_OF_ONE: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "BitwiseNot": torch.bitwise_not,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "HardSwish": functional.hardswish,
    "Identity": lambda x: x,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Mish": functional.mish,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softplus": functional.softplus,
    "Softsign": functional.softsign,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}

_OF_TWO: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "And": torch.logical_and,
    "Div": _divided,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Mul": torch.mul,
    "Or": torch.logical_or,
    "Pow": _power,
    "Sub": torch.sub,
    "Xor": torch.logical_xor,
}

OPERATORS: dict[str, Operator] = {
    **{name: _of_one(function) for name, function in _OF_ONE.items()},
    **{name: _of_two(function) for name, function in _OF_TWO.items()},
    "Cast": _cast,
    "CastLike": _cast_like,
    "Celu": _celu,
    "Clip": _clipped,
    "Dropout": _dropout,
    "Elu": _elu,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "IsInf": _infinite,
    "LeakyRelu": _leaky,
    "Max": _folded(torch.maximum),
    "Mean": _mean,
    "Min": _folded(torch.minimum),
    "Mod": _modulo,
    "PRelu": _prelu,
    "Selu": _selu,
    "Sum": _folded(torch.add),
    "Swish": _swish,
    "ThresholdedRelu": _thresholded,
    "Where": _where,
}
"""Functions by operator."""
