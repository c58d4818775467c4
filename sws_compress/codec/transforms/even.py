"""Even codebooks that a decoder computes: a step times 0, 1, -1, 2, -2, .., so that the file holds only the step.

Weights are popular about in this order, which is all that prefix codes ask of one. Entries that no weight has lie
mostly far out, where codes are long anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sws_compress.codec.interpreter import A, Array, ArrayOps
from sws_compress.codec.load_cost import LoadCost
from sws_compress.codec.program import Code, Wrapped

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
    places : ndarray (k,), int64
        Place of every codebook row in the order 0, 1, -1, 2, -2, ..
    """

    step: npt.NDArray[np.float32]
    places: npt.NDArray[np.int64]

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
        return cls(step, np.where(numbers > 0, 2 * numbers - 1, -2 * numbers).astype(np.int64))

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
