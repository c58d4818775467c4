"""How weights multiply the values that flow through a network: which inputs they meet, and what makes an output.

Every layer here computes y = W x for many x. A `Product` lays a weight out as the rows of W, (groups, outputs, d), and
gathers the x that an activation holds, (n, groups, d).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

Array = npt.NDArray[Any]


class Arrangement(Protocol):
    """How a weight lies in its initialiser."""

    def rows(self, values: Array) -> Array:
        """The weight as (groups, outputs, d)."""
        ...

    def weight(self, rows: Array, shape: tuple[int, ...]) -> Array:
        """The inverse of `rows`, for a weight of this shape."""
        ...

    def output_axis(self, shape: tuple[int, ...]) -> int | None:
        """The axis of a weight of this shape along which all its outputs lie; None if they lie along several."""
        ...


class Layout(Arrangement, Protocol):
    """How a weight lies, and its inputs in an activation."""

    def inputs(self, activation: Array, most: int, random: np.random.Generator) -> Array:
        """Some of the x in an activation, at most ``most``: (n, groups, d), or one group where all have the same x."""
        ...


@dataclass(frozen=True)
class Matrix:
    """A matrix product.

    Parameters
    ----------
    by_output : bool
        Whether the weight lies as (outputs, inputs) rather than (inputs, outputs).
    inputs_first : bool
        Whether an activation lies as (inputs, n) rather than (n, inputs).
    """

    by_output: bool
    inputs_first: bool = False

    def rows(self, values: Array) -> Array:
        rows: Array = (values if self.by_output else values.T)[None]
        return rows

    def weight(self, rows: Array, shape: tuple[int, ...]) -> Array:
        weight: Array = rows[0] if self.by_output else rows[0].T
        return weight

    def inputs(self, activation: Array, most: int, random: np.random.Generator) -> Array:
        lying = np.swapaxes(activation, -1, -2) if self.inputs_first else activation
        return _some(lying.reshape(-1, 1, lying.shape[-1]), most, random)

    def output_axis(self, shape: tuple[int, ...]) -> int | None:
        return 0 if self.by_output else 1


@dataclass(frozen=True)
class Recurrent:
    """The weights of an LSTM, GRU or RNN, (directions, gates, inputs).

    Parameters
    ----------
    of_states : bool
        Whether they multiply the states, which the activation holds as (length, directions, batch, states), rather than
        the inputs, (length, batch, inputs).
    """

    of_states: bool

    def rows(self, values: Array) -> Array:
        return values

    def weight(self, rows: Array, shape: tuple[int, ...]) -> Array:
        return rows

    def inputs(self, activation: Array, most: int, random: np.random.Generator) -> Array:
        if self.of_states:
            states = np.moveaxis(activation, 1, 2)
            return _some(states.reshape(-1, *states.shape[2:]), most, random)
        return _some(activation.reshape(-1, 1, activation.shape[-1]), most, random)

    def output_axis(self, shape: tuple[int, ...]) -> int | None:
        return 1 if shape[0] == 1 else None


@dataclass(frozen=True)
class Window:
    """A convolution in one or more dimensions.

    Parameters
    ----------
    kernel, strides, dilations : tuple of int
        One number per dimension.
    pads : tuple of int or None
        Zeros before the first dimension, the second and so on, then after them. None for as many as make the output
        as large as the input, divided by the strides.
    groups : int
        Groups of channels.
    odd_zero_first : bool
        Where ``pads`` is None and their number is odd: whether one more comes before than after.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...] | None
    groups: int
    odd_zero_first: bool = False

    def rows(self, values: Array) -> Array:
        return values.reshape(self.groups, len(values) // self.groups, -1)

    def weight(self, rows: Array, shape: tuple[int, ...]) -> Array:
        return rows.reshape(shape)

    def inputs(self, activation: Array, most: int, random: np.random.Generator) -> Array:
        rank = len(self.kernel)
        reach = [(size - 1) * apart + 1 for size, apart in zip(self.kernel, self.dilations, strict=True)]
        padded = np.pad(activation, [(0, 0), (0, 0), *self._padding(activation.shape[2:], reach)])
        counts = [
            (size - own) // stride + 1 for size, own, stride in zip(padded.shape[2:], reach, self.strides, strict=True)
        ]
        places = math.prod((len(padded), *counts))
        chosen = np.arange(places) if places <= most else random.choice(places, most, replace=False)
        image, *corner = np.unravel_index(chosen, (len(padded), *counts))
        offsets = np.indices(self.kernel).reshape(rank, -1)
        index: list[Any] = [
            first[:, None] * stride + offset * apart
            for first, stride, offset, apart in zip(corner, self.strides, offsets, self.dilations, strict=True)
        ]
        patches = padded[(image[:, None], slice(None), *index)]  # (n, kernel, channels)
        return np.swapaxes(patches, 1, 2).reshape(len(chosen), self.groups, -1)

    def _padding(self, sizes: tuple[int, ...], reach: list[int]) -> list[tuple[int, int]]:
        """Zeros before and after each dimension of an image."""
        if self.pads is not None:
            return list(zip(self.pads[: len(sizes)], self.pads[len(sizes) :], strict=True))
        found = []
        for size, own, stride in zip(sizes, reach, self.strides, strict=True):
            total = max((-(-size // stride) - 1) * stride + own - size, 0)
            less, more = total // 2, total - total // 2
            found.append((more, less) if self.odd_zero_first else (less, more))
        return found

    def output_axis(self, shape: tuple[int, ...]) -> int | None:
        return 0


@dataclass(frozen=True)
class Upsampling:
    """A transposed convolution without groups, (inputs, outputs, kernel): all weights of an input scatter it."""

    def rows(self, values: Array) -> Array:
        rows: Array = values.reshape(len(values), -1).T[None]
        return rows

    def weight(self, rows: Array, shape: tuple[int, ...]) -> Array:
        weight: Array = rows[0].T.reshape(shape)
        return weight

    def inputs(self, activation: Array, most: int, random: np.random.Generator) -> Array:
        channels = np.moveaxis(activation, 1, -1)
        return _some(channels.reshape(-1, 1, channels.shape[-1]), most, random)

    def output_axis(self, shape: tuple[int, ...]) -> int | None:
        return None


@dataclass(frozen=True, eq=False)
class Product:
    """A weight and one value that it multiplies.

    Parameters
    ----------
    weight : str
        Name of the initialiser.
    value : str
        Name of the activation, or of an input of the model.
    layout : Layout
        How both lie.
    """

    weight: str
    value: str
    layout: Layout


def products_of(model: ir.Model, weight: str) -> tuple[Product, ...]:
    """All products of an initialiser of the main graph, one per node that reads it.

    Parameters
    ----------
    model : ir.Model
        The model.
    weight : str
        Name of the initialiser.

    Returns
    -------
    tuple of Product
        Empty if a node reads it in a way that is not known here, in a body for example, or if nodes lay it out
        differently.
    """
    found = []
    for node, number in model.graph.initializers[weight].uses():
        product = _product(node, number) if node.graph is model.graph else None
        if product is None:
            return ()
        found.append(product)
    return tuple(found) if len({product.layout for product in found}) == 1 else ()


def _product(node: ir.Node, number: int) -> Product | None:
    """The product of one node, whose input ``number`` is the weight."""
    if node.domain not in ("", "com.microsoft"):
        return None
    weight = node.inputs[number]
    assert weight is not None
    assert weight.name is not None
    layout, value = _layout(node, number, len(weight.shape or ())), node.inputs[0]
    if node.op_type in ("MatMul", "Gemm", "FusedMatMul", "FusedGemm") and number == 0:
        value = node.inputs[1]
    if isinstance(layout, Recurrent) and layout.of_states:
        value = node.outputs[0]
    if layout is None or value is None or not value.name or value.const_value is not None:
        return None
    return Product(weight.name, value.name, layout)


def _layout(node: ir.Node, number: int, rank: int) -> Layout | None:
    if node.op_type in ("MatMul", "Gemm") and rank == 2 and number in (0, 1):
        flipped = [bool(_number(node, name, 0)) for name in ("transA", "transB")]
        return Matrix(
            by_output=flipped[number] == bool(number), inputs_first=bool(flipped[0]) if number else not flipped[1]
        )
    if node.op_type in ("Conv", "FusedConv") and number == 1 and rank > 2:
        return _window(node, rank - 2)
    if node.op_type == "ConvTranspose" and number == 1 and rank > 2 and _number(node, "group", 1) == 1:
        return Upsampling()
    if node.op_type in ("LSTM", "GRU", "RNN") and number in (1, 2) and not _number(node, "layout", 0):
        return Recurrent(of_states=number == 2)
    return None


def _window(node: ir.Node, rank: int) -> Window | None:
    """The window of a convolution; None if its kernel is not known."""
    weight, automatic = node.inputs[1], node.attributes.get("auto_pad")
    if weight is None or weight.shape is None or not weight.shape.is_static():
        return None
    padding = "NOTSET" if automatic is None else automatic.as_string()
    return Window(
        kernel=tuple(int(size) for size in weight.shape.numpy()[2:]),
        strides=_numbers(node, "strides", (1,) * rank),
        dilations=_numbers(node, "dilations", (1,) * rank),
        pads=None if padding.startswith("SAME") else _numbers(node, "pads", (0,) * 2 * rank),
        groups=_number(node, "group", 1),
        odd_zero_first=padding == "SAME_LOWER",
    )


def _number(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None or attribute.is_ref() else attribute.as_int()


def _numbers(node: ir.Node, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    attribute = node.attributes.get(name)
    return default if attribute is None or attribute.is_ref() else tuple(attribute.as_ints())


def _some(samples: Array, most: int, random: np.random.Generator) -> Array:
    """Some of the samples along the first axis, at most ``most``."""
    return samples if len(samples) <= most else samples[random.choice(len(samples), most, replace=False)]
