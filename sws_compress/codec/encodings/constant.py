"""One value, repeated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sws_compress.codec.interpreter import A, Array, ArrayOps
from sws_compress.codec.program import Code, Operators


@dataclass(frozen=True)
class Constant:
    """Broadcasts the only codebook row."""

    vector: bool
    encoding = "constant"
    shareable = True
    bit_stream = None

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        return ops.expand(codebook, arrays[0] if self.vector else count)


def encode_constant(count: int, codebook: Array) -> Code:
    """``codebook``: float32 (1,) or (1, d). Stores nothing but the codebook (and the shape of vectors)."""
    vector = codebook.ndim > 1
    arrays = (np.array([count, *codebook.shape[1:]], np.int64),) if vector else ()
    return Code(Constant(vector), count, codebook, arrays, ())


class ConstantEncoding:
    """Sequences of a single value."""

    def recognise(self, operators: Operators) -> str | None:
        """``Expand`` repeats the value. Only `classes` expands as well, and it looks for ones with ``TopK``."""
        return Constant.encoding if operators["Expand"] and not operators["TopK"] else None
