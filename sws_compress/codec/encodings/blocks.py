"""Prefix codes of blocks: m symbols in a row are one symbol of a larger alphabet.

A prefix code spends whole bits on each symbol. In a code of blocks, m symbols share what it wastes. Blocks are radix
words, ``word = sum_j symbol_j K^j``, and only words that occur get a code.

Blocks have no name of their own: they are a form of the encoding that codes the words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sws_compress.codec.bits import FLAT, digits
from sws_compress.codec.interpreter import A, Array, ArrayOps
from sws_compress.codec.load_cost import LoadCost
from sws_compress.codec.prefix import code_lengths
from sws_compress.codec.program import Code, Program

_LARGEST_ALPHABET_WORDS = 1 << 12
"""Each word that occurs takes a byte or two in the file."""

_ENCODED_LENGTHS = 2
"""Block lengths that are encoded at most, those of the shortest estimates. The second one is encoded only if the first
takes more bytes than estimated, which is for an optimal code."""


@dataclass(frozen=True)
class Blocks:
    """Looks up the m codebook values of every word, then decodes the words with those as rows.

    Arrays: the words that occur as uint8 or uint16 (k, 1), in the order of their codes; K^0 .. K^(m-1) as int32 (m,);
    K as int32 (); the arrays of the code of the words.

    Parameters
    ----------
    words : Program
        Decodes the words.
    padded : bool
        Whether the last block is filled up with zeros.
    """

    words: Program
    padded: bool
    shareable = False
    bit_stream = None

    @property
    def encoding(self) -> str:
        return self.words.encoding

    def load_cost(self, arrays: Sequence[Array]) -> LoadCost:
        _, _, _, *stored = arrays
        return self.words.load_cost(stored)

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        words, powers, base, *stored = arrays
        table = ops.gather(codebook, digits(ops, ops.cast(words, np.int32), powers, base))
        rows = ops.reshape(self.words(ops, count, table, *stored), ops.constant(FLAT))
        return ops.first(rows, count) if self.padded else rows


Encode = Callable[[npt.NDArray[np.unsignedinteger], Array], Code | None]
"""Encodes the words, uint16, of an alphabet of words; None if it gives up."""


def encode_blocks(symbols: npt.NDArray[np.unsignedinteger], codebook: Array, encode: Encode) -> Code | None:
    """Encode blocks of symbols, of the length that takes fewest bytes.

    Parameters
    ----------
    symbols : ndarray (n,), uint8 or uint16
        Each below K.
    codebook : ndarray (K,), float32, K >= 2
        Value of each symbol.
    encode : callable
        Encodes the words.

    Returns
    -------
    Code or None
        None if there are too many words of two symbols, or if ``encode`` gives up.
    """
    found: list[tuple[float, int]] = []
    length = 2
    while len(codebook) ** length <= _LARGEST_ALPHABET_WORDS and length <= symbols.size:
        counts = np.bincount(_words(symbols, length, len(codebook)))
        occurring = np.count_nonzero(counts)
        width = 1 if len(codebook) ** length <= 256 else 2
        if occurring > 1:
            found.append((float(counts @ code_lengths(counts)) / 8 + width * occurring, length))
        length += 1
    best: Code | None = None
    for estimated_bytes, length in sorted(found)[:_ENCODED_LENGTHS]:
        if best is not None and best.payload_bytes + best.table_bytes <= estimated_bytes:
            break
        code = _encode(symbols, codebook, length, encode)
        if code is not None and (best is None or code.payload_bytes < best.payload_bytes):
            best = code
    return best


def _encode(symbols: npt.NDArray[np.unsignedinteger], codebook: Array, length: int, encode: Encode) -> Code | None:
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


def _words(symbols: npt.NDArray[np.unsignedinteger], length: int, base: int) -> npt.NDArray[np.int64]:
    """Words of ``length`` symbols each, shape (ceil(n / length),); the last block is filled up with zeros."""
    padded = np.pad(symbols, (0, -symbols.size % length)).reshape(-1, length)
    words = np.zeros(len(padded), np.int64)
    for digit in range(length):
        words += padded[:, digit].astype(np.int64) * base**digit
    return words
