"""One value, repeated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sws_compress.codec.interpreter import A, Array, ArrayOps
from sws_compress.codec.load_cost import FREE, LoadCost
from sws_compress.codec.program import Code, Operators, SymbolSequence


@dataclass(frozen=True)
class Constant:
    """Broadcasts the only codebook row. Arrays: the shape of the rows, if they are vectors.

    Parameters
    ----------
    vector : bool
        Whether the row is a vector.
    """

    vector: bool
    encoding = "constant"
    shareable = True
    bit_stream = None

    def load_cost(self, arrays: Sequence[Array]) -> LoadCost:
        return FREE

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        return ops.expand(codebook, arrays[0] if self.vector else count)


class ConstantEncoding:
    """Sequences of a single value."""

    def codes(self, sequence: SymbolSequence, earlier: Sequence[Code]) -> Iterator[Code]:
        if sequence.is_constant:
            yield encode_constant(sequence.symbols.size, sequence.codebook)

    def recognise(self, operators: Operators) -> str | None:
        """``Expand`` repeats the value. Only `classes` expands as well, and it looks for ones with ``TopK``."""
        return Constant.encoding if operators["Expand"] and not operators["TopK"] else None


def encode_constant(count: int, codebook: Array) -> Code:
    """Encode ``count`` symbols of a codebook float32 (1,) or (1, d): nothing is stored but that (and a shape)."""
    vector = codebook.ndim > 1
    arrays = (np.array([count, *codebook.shape[1:]], np.int64),) if vector else ()
    return Code(Constant(vector), count, codebook, arrays, ())
