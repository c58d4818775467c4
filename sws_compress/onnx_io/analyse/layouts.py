"""How weights lie in their initialisers, and where activations hold the inputs that they multiply.

Every layer here computes y = W x for many x. A layout gives a weight as the rows of W, (groups, outputs, d), and
gathers the x that an activation holds, (n, groups, d).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

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
        """The axis of a weight of this shape along which all outputs lie, in any order; None if along several."""
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
    stack : tuple of int
        Sizes of the axes before the last two of a weight that is a stack of matrices, all 1 or none.
    """

    by_output: bool
    inputs_first: bool = False
    stack: tuple[int, ...] = ()

    def rows(self, values: Array) -> Array:
        rows = values if self.by_output else np.swapaxes(values, -1, -2)
        return rows.reshape(-1, *rows.shape[-2:])

    def weight(self, rows: Array, shape: tuple[int, ...]) -> Array:
        weight: Array = rows if self.by_output else np.swapaxes(rows, -1, -2)
        return weight.reshape(shape)

    def inputs(self, activation: Array, most: int, random: np.random.Generator) -> Array:
        lying = np.swapaxes(activation, -1, -2) if self.inputs_first and activation.ndim > 1 else activation
        if math.prod(self.stack) == 1 or activation.ndim < 3:
            return _some(lying.reshape(-1, 1, lying.shape[-1]), most, random)
        spread = np.broadcast_to(lying, (*np.broadcast_shapes(lying.shape[:-2], self.stack), *lying.shape[-2:]))
        stacks = np.moveaxis(spread.reshape(-1, math.prod(self.stack), *lying.shape[-2:]), 1, 2)
        return _some(stacks.reshape(-1, *stacks.shape[2:]), most, random)

    def output_axis(self, shape: tuple[int, ...]) -> int | None:
        return len(shape) - (2 if self.by_output else 1) if math.prod(self.stack) == 1 else None


@dataclass(frozen=True)
class Recurrent:
    """The weights of an LSTM, GRU or RNN, (directions, gates, inputs).

    Parameters
    ----------
    of_states : bool
        Whether they multiply the states, which the activation holds as (length, directions, batch, states) or without
        the length, rather than the inputs, (length, batch, inputs).
    """

    of_states: bool

    def rows(self, values: Array) -> Array:
        return values

    def weight(self, rows: Array, shape: tuple[int, ...]) -> Array:
        return rows

    def inputs(self, activation: Array, most: int, random: np.random.Generator) -> Array:
        if self.of_states:
            states = np.moveaxis(activation.reshape(-1, *activation.shape[-3:]), 1, 2)
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
    """A transposed convolution, (inputs, outputs / groups, kernel): all weights of an input scatter it.

    Parameters
    ----------
    groups : int
        Groups of channels.
    """

    groups: int = 1

    def rows(self, values: Array) -> Array:
        return np.swapaxes(values.reshape(self.groups, len(values) // self.groups, -1), 1, 2)

    def weight(self, rows: Array, shape: tuple[int, ...]) -> Array:
        return np.swapaxes(rows, 1, 2).reshape(shape)

    def inputs(self, activation: Array, most: int, random: np.random.Generator) -> Array:
        channels = np.moveaxis(activation, 1, -1)
        return _some(channels.reshape(-1, self.groups, channels.shape[-1] // self.groups), most, random)

    def output_axis(self, shape: tuple[int, ...]) -> int | None:
        return None


@dataclass(frozen=True)
class Moved:
    """A layout of a weight that the graph moves before it is read.

    Parameters
    ----------
    inner : Layout
        How it lies where it is read.
    shape : tuple of int
        Its shape there.
    order : bytes
        For each element there, its number in the flat initialiser, int64.
    """

    inner: Layout
    shape: tuple[int, ...]
    order: bytes

    @property
    def _positions(self) -> npt.NDArray[np.int64]:
        return np.frombuffer(self.order, np.int64).reshape(self.shape)

    def rows(self, values: Array) -> Array:
        return self.inner.rows(values.reshape(-1)[self._positions])

    def weight(self, rows: Array, shape: tuple[int, ...]) -> Array:
        flat = np.empty(math.prod(shape), rows.dtype)
        flat[self._positions] = self.inner.weight(rows, self.shape)
        return flat.reshape(shape)

    def inputs(self, activation: Array, most: int, random: np.random.Generator) -> Array:
        return self.inner.inputs(activation, most, random)

    def output_axis(self, shape: tuple[int, ...]) -> int | None:
        inner = self.inner.output_axis(self.shape)
        if inner is None:
            return None
        numbers = np.arange(self.shape[inner]).reshape([-1 if axis == inner else 1 for axis in range(len(self.shape))])
        flat = np.empty(math.prod(shape), np.int64)
        flat[self._positions] = np.broadcast_to(numbers, self.shape)
        for axis, size in enumerate(shape):
            lines = np.moveaxis(flat.reshape(shape), axis, 0).reshape(size, -1)
            if size == self.shape[inner] and (lines == lines[:, :1]).all():
                return axis
        return None


def _some(samples: Array, most: int, random: np.random.Generator) -> Array:
    """Some of the samples along the first axis, at most ``most``."""
    return samples if len(samples) <= most else samples[random.choice(len(samples), most, replace=False)]
