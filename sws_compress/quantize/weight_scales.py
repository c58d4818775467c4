"""Scales: factors that many weights share, one per slice along an axis or one per block of a row.

Codebooks have `ChannelScales`; grids of low-bit weights have `BlockScales`. A new kind of scales for codebooks is a
class here, a granularity in ``granularity.py``, a fit beside ``channel_scaled.py`` with a branch in ``cluster.py``, and
how a file applies and shows them: ``codec.transforms.scales`` and ``onnx_io.format.scaled``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from sws_compress.errors import ArgumentError
from sws_compress.quantize.granularity import PerBlock


@dataclass(frozen=True, eq=False)
class ChannelScales:
    """One factor for each slice of a tensor along an axis.

    Parameters
    ----------
    values : ndarray, shape (slices,), float32
        The factors, finite and positive.
    axis : int
        The axis of the tensor along which the slices lie.

    Raises
    ------
    ArgumentError
        If the values are of another type or shape, not finite, or not positive.

    Examples
    --------
    >>> import numpy as np
    >>> import sws_compress as sws
    >>> scales = sws.ChannelScales(np.float32([1.0, 10.0]), axis=0)
    >>> entries = np.float32([0.0, 0.5])
    >>> sws.Palette(entries, np.uint8([0, 1, 1, 1]), shape=(2, 2), scales=scales).expand()
    array([[0. , 0.5],
           [5. , 5. ]], dtype=float32)
    """

    values: npt.NDArray[np.float32]
    axis: int

    def __post_init__(self) -> None:
        if self.values.dtype != np.float32 or self.values.ndim != 1:
            found = f"{self.values.dtype} {self.values.shape}"
            raise ArgumentError(f"scales must be float32 of shape (slices,), got {found}: convert them")
        if not (np.isfinite(self.values).all() and (self.values > 0).all()):
            raise ArgumentError(f"scales must be finite and > 0, got {self.values.min()}: use 1 for slices of zeros")

    @property
    def count(self) -> int:
        """Numbers that a file stores for them."""
        return self.values.size

    def check_fit(self, shape: tuple[int, ...]) -> None:
        """Raise ArgumentError unless a tensor of this shape has one slice per factor."""
        if not 0 <= self.axis < len(shape) or self.count != shape[self.axis]:
            raise ArgumentError(
                f"scales must be one per slice along an axis of {shape}, got {self.count} along axis {self.axis}: "
                "name the axis they were made for"
            )

    def broadcast(self, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """The factors with as many axes as ``shape``, all of length 1 but their own: they broadcast to ``shape``."""
        return self.values.reshape([size if axis == self.axis else 1 for axis, size in enumerate(shape)])

    def part(self, shape: tuple[int, ...], start: int, stop: int) -> npt.NDArray[np.float32]:
        """Factors of the weights ``start`` .. ``stop - 1`` (C order) of a tensor of this shape, one per weight."""
        inner = prod(shape[self.axis + 1 :])
        first, last = start // inner, -(-stop // inner)  # runs of one factor; the first and last may be cut
        runs = self.values[np.arange(first, last) % self.count]
        return np.repeat(runs, inner)[start - first * inner :][: stop - start]


@dataclass(frozen=True, eq=False)
class BlockScales:
    """One factor for each block of consecutive weights in each row of a matrix.

    Parameters
    ----------
    values : ndarray, shape (rows, blocks), float32
        The factors, finite and not 0, of either sign.
    granularity : PerBlock
        The size of a block.

    Raises
    ------
    ArgumentError
        If the values are of another type or not finite, or one of them is 0.
    """

    values: npt.NDArray[np.float32]
    granularity: PerBlock

    def __post_init__(self) -> None:
        if self.values.dtype != np.float32 or self.values.ndim != 2:
            found = f"{self.values.dtype} {self.values.shape}"
            raise ArgumentError(f"scales must be float32 of shape (rows, blocks), got {found}: convert them")
        if not (np.isfinite(self.values).all() and self.values.all()):
            raise ArgumentError("scales must be finite and not 0, got others: a block of zeros may have any scale")

    @property
    def count(self) -> int:
        """Numbers that a file stores for them."""
        return self.values.size

    def check_fit(self, rows: int, columns: int) -> None:
        """Raise ArgumentError unless a matrix of this size has one block per factor."""
        wanted = (rows, self.granularity.blocks(columns))
        if self.values.shape != wanted:
            raise ArgumentError(
                f"scales must have shape {wanted}, got {self.values.shape}: blocks have {self.granularity.size} weights"
            )

    def slices(self, columns: int) -> tuple[slice, ...]:
        """The columns of each block of a matrix with so many columns, from left to right."""
        size = self.granularity.size
        return tuple(slice(start, min(start + size, columns)) for start in range(0, columns, size))
