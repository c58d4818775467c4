"""Weights in few bits, laid out as ONNX Runtime's MatMulNBits reads them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CONTRIB_DOMAIN = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""


PRODUCT_OPERATOR = "MatMulNBits"
"""The operator that multiplies by weights in few bits: 4 bits since ONNX Runtime 1.17, 8 bits since 1.23."""


BLOCK_SIZES = (16, 32, 64, 128, 256)
"""Weights per block that the kernels are written for."""


INTEGER_ACCURACY_LEVEL = 4
"""MatMulNBits' ``accuracy_level`` for activations in 8 bits; without the attribute products are in float32."""


Floats = npt.NDArray[np.float32]


Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class BlockedWeight:
    """A matrix in rows of blocks: ``scales[i, b] * (indices[i, j] - zeros[i, b])`` with ``b = j // block_size``.

    Rows are the outputs of a matrix product and columns its inputs, or rows are those of an embedding.

    Parameters
    ----------
    indices : ndarray, shape (rows, columns), uint8
        Steps of the grid, below ``2 ** bits``.
    scales : ndarray, shape (rows, blocks), float32
        The width of a step.
    zeros : ndarray, shape (rows, blocks), uint8, or None
        The step that stands for 0; None if all are ``2 ** (bits - 1)``.
    bits : int
        Bits per weight, 4 or 8.
    block_size : int
        Weights per block, one of `BLOCK_SIZES`.
    """

    indices: Bytes
    scales: Floats
    zeros: Bytes | None
    bits: int
    block_size: int

    @classmethod
    def of_packed(
        cls, indices: Bytes, scales: Floats, zeros: Bytes | None, *, columns: int, bits: int
    ) -> BlockedWeight:
        """The weight that MatMulNBits' inputs hold.

        Parameters
        ----------
        indices, zeros : ndarray, uint8
            As `packed_indices` and `packed_zeros` lay them out.
        scales : ndarray, shape (rows, blocks), float32
            The width of a step.
        columns : int
            Weights in a row.
        bits : int
            Bits per weight, 4 or 8.
        """
        rows, blocks, block_bytes = indices.shape
        steps = of_bytes(indices.reshape(rows, -1), bits)[:, :columns]
        middles = None if zeros is None else of_bytes(zeros, bits)[:, :blocks]
        return cls(steps, scales, middles, bits, block_bytes * 8 // bits)

    def expand(self) -> Floats:
        """The weight in float32, shape (rows, columns), as the runtime multiplies by it."""
        blocks = np.arange(self.indices.shape[1]) // self.block_size
        zeros = np.float32(1 << (self.bits - 1)) if self.zeros is None else self.zeros.astype(np.float32)[:, blocks]
        with np.errstate(invalid="ignore", over="ignore"):  # scales of a damaged file
            values: Floats = (self.indices.astype(np.float32) - zeros) * self.scales[:, blocks]
        return values

    @property
    def packed_indices(self) -> Bytes:
        """MatMulNBits' input B, shape (rows, blocks, block_size * bits / 8): low half of a byte first, zero-padded."""
        rows, columns = self.indices.shape
        blocks = self.scales.shape[1]
        padded = np.pad(self.indices, ((0, 0), (0, blocks * self.block_size - columns)))
        return in_bytes(padded, self.bits).reshape(rows, blocks, -1)

    @property
    def packed_zeros(self) -> Bytes | None:
        """MatMulNBits' input zero_points, shape (rows, ceil(blocks * bits / 8)), packed like the indices."""
        return None if self.zeros is None else in_bytes(self.zeros, self.bits)


def of_bytes(packed: Bytes, bits: int) -> Bytes:
    """Rows of values that `in_bytes` packed; some more at the end where they do not fill the last byte."""
    if bits == 8:
        return packed
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    values: Bytes = (packed[:, :, None] >> shifts & np.uint8((1 << bits) - 1)).reshape(len(packed), -1)
    return values


def in_bytes(values: Bytes, bits: int) -> Bytes:
    """Rows of ``values`` with two 4-bit or four 2-bit values to a byte, the first lowest; of 8 bits as they are."""
    if bits == 8:
        return values
    per_byte = 8 // bits
    whole = np.pad(values, ((0, 0), (0, -values.shape[1] % per_byte)))
    packed = whole[:, 0::per_byte].copy()
    for place in range(1, per_byte):
        packed |= np.left_shift(whole[:, place::per_byte], np.uint8(place * bits))
    return packed
