"""Huffman code of blocks: m symbols in a row are one symbol of a larger alphabet.

A prefix code spends whole bits; on blocks of m symbols what it wastes is shared by m. Blocks are radix words,
``word = sum_j symbol_j K^j``, and only words that occur get a code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sws_compress.codec.bits import FLAT, digits
from sws_compress.codec.encodings.huffman import encode_huffman
from sws_compress.codec.interpreter import A, Array, ArrayOps
from sws_compress.codec.prefix import code_lengths
from sws_compress.codec.program import Code, Program

_MOST_WORDS = 1 << 12
"""Size of the largest alphabet of words: each word that occurs takes a byte or two in the file."""


_TRIED = 2
"""Lengths of blocks that are encoded at most: one, unless its code takes more than an optimal one would."""


@dataclass(frozen=True)
class Blocks:
    """Rows of m codebook values for every word, then the code of the words.

    Arrays: the words that occur as uint8 or uint16 (k, 1), in the order of their codes; K^0 .. K^(m-1) as int32 (m,);
    K; those of the code of the words.
    """

    words: Program
    padded: bool
    shareable = False
    bit_stream = None

    @property
    def encoding(self) -> str:
        return self.words.encoding

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        words, powers, base, *stored = arrays
        table = ops.gather(codebook, digits(ops, ops.cast(words, np.int32), powers, base))
        rows = ops.reshape(self.words(ops, count, table, *stored), ops.constant(FLAT))
        return ops.first(rows, count) if self.padded else rows


Encode = Callable[[npt.NDArray[np.unsignedinteger], Array], Code | None]


def encode_blocks(symbols: npt.NDArray[np.uint8], codebook: Array, encode: Encode = encode_huffman) -> Code | None:
    """Encode n symbols, uint8 (n,), below K = len(codebook) >= 2, scalar; None where no block is worth its table."""
    found: list[tuple[float, int]] = []
    length = 2
    while len(codebook) ** length <= _MOST_WORDS and length <= symbols.size:
        counts = np.bincount(_words(symbols, length, len(codebook)))
        occurring = np.count_nonzero(counts)
        width = 1 if len(codebook) ** length <= 256 else 2
        if occurring > 1:
            found.append((float(counts @ code_lengths(counts)) / 8 + width * occurring, length))
        length += 1
    best: Code | None = None
    for estimate, length in sorted(found)[:_TRIED]:
        if best is not None and best.payload_bytes + best.table_bytes <= estimate:
            break
        code = _encode(symbols, codebook, length, encode)
        if code is not None and (best is None or code.payload_bytes < best.payload_bytes):
            best = code
    return best


def _encode(symbols: npt.NDArray[np.uint8], codebook: Array, length: int, encode: Encode) -> Code | None:
    words = _words(symbols, length, len(codebook))
    occurring, ranks = np.unique(words, return_inverse=True)
    inner = encode(ranks.reshape(-1).astype(np.uint16), occurring)
    if inner is None:
        return None
    dtype = np.uint8 if len(codebook) ** length <= 256 else np.uint16
    powers = (len(codebook) ** np.arange(length)).astype(np.int32)
    table = (inner.codebook.astype(dtype)[:, None], powers, np.array(len(codebook), np.int32))
    program = Blocks(inner.program, words.size * length > symbols.size)
    payload = tuple(len(table) + index for index in inner.payload)
    return Code(program, symbols.size, codebook, (*table, *inner.arrays), payload)


def _words(symbols: npt.NDArray[np.uint8], length: int, base: int) -> npt.NDArray[np.int64]:
    padded = np.pad(symbols, (0, -symbols.size % length)).reshape(-1, length)
    words = np.zeros(len(padded), np.int64)
    for digit in range(length):
        words += padded[:, digit].astype(np.int64) * base**digit
    return words
