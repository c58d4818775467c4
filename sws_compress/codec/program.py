"""What every encoding hands on: arrays to store, and the program that turns them back into codebook rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sws_compress.codec.bits import flat_bits
from sws_compress.codec.interpreter import A, Array, ArrayOps
from sws_compress.codec.transforms.dead_slices import Masks
from sws_compress.codec.transforms.scales import Scales


class Program(Protocol):
    """A decoder: hashable, so that tensors with equal programs share one function in the file.

    ``shareable`` is False where the program holds sizes of one tensor, which a shared function cannot.
    """

    @property
    def encoding(self) -> str:
        """Name of the encoding, for people."""

    @property
    def shareable(self) -> bool:
        """Whether the whole program may become one function."""

    @property
    def bit_stream(self) -> int | None:
        """Which of the arrays the program wants as bits, int64 (8 b,), instead of as bytes (b, 1)."""

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        """Codebook rows, shape (n,) or (n, d); ``count`` is n as int64 (1,)."""


@dataclass(frozen=True)
class Wrapped:
    """What a program is that does more before or after another one."""

    program: Program

    @property
    def encoding(self) -> str:
        return self.program.encoding

    @property
    def shareable(self) -> bool:
        return self.program.shareable

    @property
    def bit_stream(self) -> int | None:
        return self.program.bit_stream


@dataclass(frozen=True, eq=False)
class Code:
    """One sequence of symbols, encoded.

    ``codebook`` is float32 (or float16, if exact) (k,) or (k, d) in the order the program wants it; ``arrays`` is
    whatever else the program reads, of which the uint8 and int32 words named by ``payload`` carry the symbols.
    ``masks`` are those of the tensors that the symbols make up, end to end; () if none has any. ``scales`` are those of
    a lone tensor.
    """

    program: Program
    count: int
    codebook: Array
    arrays: tuple[Array, ...]
    payload: tuple[int, ...]
    masks: tuple[Masks | None, ...] = ()
    scales: Scales | None = None

    @property
    def encoding(self) -> str:
        return self.program.encoding

    @property
    def payload_bytes(self) -> int:
        live = {one.tobytes() for mask in self.masks if mask for _, one in mask.live}
        return -(-sum(map(len, live)) // 8) + sum(self.arrays[index].nbytes for index in self.payload)

    @property
    def table_bytes(self) -> int:
        """The codebook, scales, and what else a decoder looks values up in: words of blocks, values of other types."""
        tables = (array for index, array in enumerate(self.arrays) if index not in self.payload)
        scales = 0 if self.scales is None else self.scales.factors.nbytes
        return self.codebook.nbytes + scales + sum(table.nbytes for table in tables if table.dtype.kind not in "i")

    def decode(self, ops: ArrayOps[A]) -> A:
        """Codebook rows, shape (n,) or (n, d)."""
        count = ops.constant(np.array([self.count], np.int64))
        arrays = [ops.constant(array) for array in self.arrays]
        if (stream := self.program.bit_stream) is not None:
            arrays[stream] = flat_bits(ops, arrays[stream])
        return self.program(ops, count, ops.constant(self.codebook), *arrays)


Operators = Counter[str]
"""How often each ONNX operator occurs among the nodes and functions that decode one tensor."""


class Encoding(Protocol):
    """One way to code symbols: the only type that a list of all encodings needs."""

    def recognise(self, operators: Operators) -> str | None:
        """Name of the encoding if a decoder made of ``operators`` is one of its own, else None.

        Parameters
        ----------
        operators : Counter of str
            Operators of the decoder. Beside those of the program there may be what unpacks its tensors: ``Cast``,
            ``Reshape``, ``Split``, ``Gather``, ``Mul``, ``CumSum``, ``Div``, ``Mod``, and calls of functions.
        """
