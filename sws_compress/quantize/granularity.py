"""Granularity: which weights of a tensor share a codebook entry, a scale or a grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from sws_compress.arguments import own_numbers
from sws_compress.errors import ArgumentError

VECTOR_LENGTHS = (2, 4, 8)
"""Weights that an index may stand for, beside 1."""


@dataclass(frozen=True)
class PerTensor:
    """One codebook for all weights of a tensor, and no scales.

    Examples
    --------
    >>> import sws_compress as sws
    >>> sws.PerTensor()
    PerTensor()
    """


@dataclass(frozen=True)
class PerChannel:
    """One codebook for a tensor, and one scale for each of its output channels.

    A weight is the codebook entry times the scale of its channel. A tensor that cannot have scales (fewer than two
    channels, or scales that float32 does not hold) is clustered as with `PerTensor`.

    Examples
    --------
    >>> import sws_compress as sws
    >>> sws.PerChannel() == sws.PerChannel()
    True
    """


@dataclass(frozen=True)
class Vectors:
    """One codebook whose entries are vectors: ``length`` consecutive weights (C order) share an index.

    A tensor whose number of weights is no multiple of ``length``, or that has too few vectors for the codebook, is
    clustered as with `PerTensor`.

    Parameters
    ----------
    length : {2, 4, 8}
        Weights in a vector.

    Raises
    ------
    ArgumentError
        If the length is another number.

    Examples
    --------
    >>> import sws_compress as sws
    >>> sws.Vectors(length=4)
    Vectors(length=4)
    """

    length: int = 2

    def __post_init__(self) -> None:
        own_numbers(self, "vectors.")
        if self.length not in VECTOR_LENGTHS:
            raise ArgumentError(
                f"length of vectors must be 2, 4 or 8, got {self.length}: for single weights take PerTensor"
            )


@dataclass(frozen=True)
class PerBlock:
    """One grid (a scale and a zero point) for each block of consecutive weights along one axis.

    Grids are for weights that stay in 4 or 8 bits while the model runs; codebooks have no blocks.

    Parameters
    ----------
    size : int, at least 1
        Weights in a block. The last block of a row is shorter if the size does not divide the row; a size of at least
        the length of a row gives one grid per output channel.

    Raises
    ------
    ArgumentError
        If the size is less than 1.

    Examples
    --------
    >>> import sws_compress as sws
    >>> sws.PerBlock(size=64)
    PerBlock(size=64)
    """

    size: int = 32

    def __post_init__(self) -> None:
        own_numbers(self, "blocks.")
        if self.size < 1:
            raise ArgumentError(f"size of blocks must be >= 1, got {self.size}: it counts weights")

    def blocks(self, columns: int) -> int:
        """Number of blocks in a row of ``columns`` weights."""
        return -(-columns // self.size)


@dataclass(frozen=True)
class Best:
    """The granularity with the least `merit_bits`, tensor by tensor: the smallest file at equal error.

    Parameters
    ----------
    candidates : tuple of PerTensor, PerChannel or Vectors, at least one
        What is tried. The first of equals wins.

    Raises
    ------
    ArgumentError
        If there is no candidate.

    Examples
    --------
    >>> import sws_compress as sws
    >>> sws.Best()
    Best(candidates=(PerTensor(), PerChannel()))
    """

    candidates: tuple[PerTensor | PerChannel | Vectors, ...] = (PerTensor(), PerChannel())

    def __post_init__(self) -> None:
        if not self.candidates:
            raise ArgumentError("candidates must be at least one granularity, got none: leave them out for the default")


def check_granularity(granularity: object) -> None:
    """Raise ArgumentError if codebooks have no such granularity."""
    if not isinstance(granularity, PerTensor | PerChannel | Vectors | Best):
        raise ArgumentError(
            f"granularity must be PerTensor(), PerChannel(), Vectors(length) or Best(), got {granularity!r}: "
            "make one of them"
        )


Granularity: TypeAlias = PerTensor | PerChannel | Vectors | Best
"""What a codebook can be asked for; `PerBlock` is for grids."""
