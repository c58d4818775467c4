"""Affine palettes: tensors on grids ``scale * (index - zero)``, with one scale and one zero point per block."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from sws_compress.errors import ArgumentError
from sws_compress.quantize.weight_scales import BlockScales

INDEX_BITS = (4, 8)
"""Widths of an index that runtimes execute."""


@dataclass(frozen=True, eq=False)
class AffinePalette:
    """A tensor on one grid per block: ``scale * (index - zero)`` with the block's scale and zero point.

    The tensor is seen as a matrix: its dimension ``axis`` runs along the rows, all others together are the rows.

    Parameters
    ----------
    indices : ndarray, shape (rows, columns), uint8
        Grid point of each weight, below 2^bits.
    scales : BlockScales, shape (rows, blocks)
        Step of the grid of each block, in units of the weights.
    zeros : ndarray, shape (rows, blocks), uint8
        Zero point of each block, below 2^bits.
    bits : {4, 8}
        Width of an index.
    axis : int
        Axis of the tensor along which blocks run.
    shape : tuple of int
        Shape of the tensor.

    Raises
    ------
    ArgumentError
        If one of these rules is broken.
    """

    indices: npt.NDArray[np.uint8]
    scales: BlockScales
    zeros: npt.NDArray[np.uint8]
    bits: int
    axis: int
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        check_bits(self.bits)
        columns = self.shape[checked_axis(self.axis, self.shape)]
        rows = prod(self.shape) // max(columns, 1)
        self.scales.check_fit(rows, columns)
        wanted = {"indices": (rows, columns), "zeros": self.scales.values.shape}
        for name, shape in wanted.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != np.uint8:
                raise ArgumentError(
                    f"{name} must be uint8 of shape {shape}, got {array.dtype} {array.shape}: convert them"
                )
            if array.size and int(array.max()) >> self.bits:
                raise ArgumentError(f"{name} must be < {1 << self.bits}, got {array.max()}: they have {self.bits} bits")

    @property
    def symmetric(self) -> bool:
        """Whether all zero points lie in the middle, 2^(bits - 1), so that they need not be stored."""
        return bool((self.zeros == 1 << (self.bits - 1)).all())

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """How many weights have each index, shape (2^bits,)."""
        return np.bincount(self.indices.reshape(-1), minlength=1 << self.bits)

    def expand(self) -> npt.NDArray[np.float32]:
        """The tensor, float32 of ``shape``: one float32 product per weight, as runtimes compute it."""
        rows, columns = self.indices.shape
        values = np.empty((rows, columns), np.float32)
        for block, part in enumerate(self.scales.slices(columns)):
            steps = self.indices[:, part].astype(np.float32) - self.zeros[:, block, None].astype(np.float32)
            values[:, part] = steps * self.scales.values[:, block, None]
        axis = checked_axis(self.axis, self.shape)
        others = [size for i, size in enumerate(self.shape) if i != axis]
        return np.ascontiguousarray(np.moveaxis(values.reshape(*others, columns), -1, axis))


def check_bits(bits: int) -> None:
    """Raise ArgumentError if a grid cannot have indices of this width."""
    if bits not in INDEX_BITS:
        raise ArgumentError(f"bits must be 4 or 8, got {bits}: runtimes execute no other widths")


def checked_axis(axis: int, shape: tuple[int, ...]) -> int:
    """Axis counted from the front; ArgumentError if the shape has no such axis."""
    if not -len(shape) <= axis < len(shape):
        raise ArgumentError(f"axis must be an axis of shape {shape}, got {axis}: blocks run along it")
    return axis % len(shape)
