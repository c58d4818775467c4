"""Even codebooks that a decoder computes from their step, and from the numbers that it is multiplied by.

Those are 0, 1, -1, 2, -2, .., or stored. Weights are popular about in this order, which is all that `buckets` ask of
one. Entries that no weight has lie mostly far out, where codes are long anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sws_compress.codec.interpreter import A, Array, ArrayOps
from sws_compress.codec.load_cost import LoadCost
from sws_compress.codec.program import Code, Wrapped

LARGEST_STORED_CODEBOOK = 256
"""Smaller codebooks are stored even if they are even: they are rounded to float16, and hardly a percent of a file. At
50 dB, that of 600 entries is six percent of ResNet-20."""

_MOST_ENTRIES_PER_USED = 4
"""Entries of a grid for each that occurs, at most: a grid of others is not used, and takes long to encode."""


@dataclass(frozen=True)
class EvenCodebook(Wrapped):
    """A program whose codebook is a step (1,) times 0, 1, -1, ..; one more array says how many, and one more, ()."""

    def load_cost(self, arrays: Sequence[Array]) -> LoadCost:
        return self.program.load_cost(arrays[:-1])

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        *stored, end = arrays
        return self.program(ops, count, ops.call(_multiples, codebook, end)[0], *stored)


@dataclass(frozen=True)
class Multiples(Wrapped):
    """A program whose codebook is stored as numbers (k,), int16; one more array is the step (1,) that they count."""

    def load_cost(self, arrays: Sequence[Array]) -> LoadCost:
        return self.program.load_cost(arrays[:-1])

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        *stored, step = arrays
        return self.program(ops, count, ops.multiply(ops.cast(codebook, np.float32), step), *stored)


def in_multiples(code: Code) -> Code | None:
    """The same code with its large float32 codebook stored as numbers of a step; None if it is small, or not even."""
    grid = EvenGrid.of(code.codebook) if len(code.codebook) > LARGEST_STORED_CODEBOOK else None
    if grid is None or np.abs(grid.numbers).max() > np.iinfo(np.int16).max:
        return None
    arrays = (*code.arrays, grid.step)
    return replace(code, program=Multiples(code.program), codebook=grid.numbers.astype(np.int16), arrays=arrays)


def _multiples(ops: ArrayOps[A], step: A, end: A) -> A:
    """A step times j // 2 (-1)^j for j = 1, 2, .. below ``end``."""
    one, two, minus = (ops.constant(np.array(number, np.int32)) for number in (1, 2, -1))
    places = ops.arange(one, end, one)
    numbers = ops.multiply(ops.divide(places, two), ops.power(minus, places))
    return ops.multiply(ops.cast(numbers, np.float32), step)


@dataclass(frozen=True, eq=False)
class EvenGrid:
    """The multiples of a step.

    Parameters
    ----------
    step : ndarray (1,), float32
        Distance of neighbours.
    numbers : ndarray (k,), int64
        What it is multiplied by in every codebook row.
    """

    step: npt.NDArray[np.float32]
    numbers: npt.NDArray[np.int64]

    @classmethod
    def of(cls, codebook: Array) -> EvenGrid | None:
        """The grid on which scalars lie, bit for bit; None if there is none, or they are few of it.

        Parameters
        ----------
        codebook : ndarray (k,) or (k, d), float32
            The scalars; the least that is not zero has to be the step.
        """
        if codebook.ndim > 1 or not codebook.any():
            return None
        step = np.abs(codebook[codebook != 0]).min(keepdims=True)
        numbers = np.round(codebook.astype(np.float64) / step)
        if 2 * np.abs(numbers).max() >= _MOST_ENTRIES_PER_USED * len(codebook):
            return None
        if (numbers.astype(np.float32) * step + np.float32(0)).tobytes() != codebook.tobytes():
            return None
        return cls(step, numbers.astype(np.int64))

    @property
    def places(self) -> npt.NDArray[np.int64]:
        """Place of every codebook row in the order 0, 1, -1, 2, -2, ..; int64 (k,)."""
        return np.where(self.numbers > 0, 2 * self.numbers - 1, -2 * self.numbers)

    @property
    def entries(self) -> int:
        """Number of entries up to the last one that is used."""
        return int(self.places.max()) + 1

    def symbols(self, symbols: npt.NDArray[np.unsignedinteger]) -> npt.NDArray[np.unsignedinteger]:
        """Symbols of the codebook as places of the grid."""
        found: npt.NDArray[np.unsignedinteger] = self.places.astype(np.min_scalar_type(self.entries - 1))[symbols]
        return found

    @property
    def codebook(self) -> npt.NDArray[np.float32]:
        """All entries, float32 (entries,)."""
        numbers = np.arange(1, self.entries + 1)
        return (numbers // 2 * (1 - 2 * (numbers % 2))).astype(np.float32) * self.step

    def computed(self, code: Code) -> Code:
        """A code of `symbols`, for the entries in their order, whose decoder computes them."""
        end = np.array(self.entries + 1, np.int32)
        return replace(code, program=EvenCodebook(code.program), codebook=self.step, arrays=(*code.arrays, end))
