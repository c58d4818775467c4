"""All codes that can hold a sequence of symbols."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from sws_compress.codec.encodings.blocks import Encode, encode_blocks
from sws_compress.codec.encodings.classes import encode_classes
from sws_compress.codec.encodings.constant import encode_constant
from sws_compress.codec.encodings.huffman import encode_huffman
from sws_compress.codec.encodings.radix import encode_radix
from sws_compress.codec.encodings.sparse import LEAST_ZEROS, encode_sparse, with_values, zero_symbol
from sws_compress.codec.encodings.strides import encode_strides
from sws_compress.codec.encodings.tunstall import WORD_BITS, encode_tunstall
from sws_compress.codec.interpreter import A, Array, ArrayOps
from sws_compress.codec.load_cost import LoadCost, load_cost
from sws_compress.codec.program import Code, Wrapped
from sws_compress.errors import ArgumentError

_STRIDES_FROM = 1 << 16
"""Symbols from which a decoder of more nodes that takes less memory is worth it."""


_NEAR = (None, 1.011, 1.015)
"""Times the entropy that strides may take: the least they can, and more for less memory."""


_PLANES_UP_TO = 1 << 20
"""Symbols up to which the memory that level planes take may be had."""


@dataclass(frozen=True)
class HalfCodebook(Wrapped):
    """A program whose codebook is stored as float16 and widened first."""

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        return self.program(ops, count, ops.cast(codebook, np.float32), *arrays)


def candidates(
    symbols: npt.NDArray[np.uint8],
    codebook: npt.NDArray[np.float32],
    cuts: Sequence[int] = (),
    limit: LoadCost | None = None,
) -> tuple[Code, ...]:
    """Every applicable code of symbols uint8 (n,) into a codebook float32 (k,) or (k, d); () if n = 0.

    Codebook rows that no symbol uses are dropped. A codebook that is exact in float16 comes in both widths. ``cuts``
    are the positions at which other tensors begin. With a ``limit`` codes that take time to make are left out where
    another one within it has hardly ever more bytes; those beyond it are not.
    Raises ArgumentError where a symbol has no row or there are more than 256.
    """
    if symbols.size == 0:
        return ()
    if not symbols.max() < len(codebook) <= 256:
        raise ArgumentError(
            f"symbols must be below the {len(codebook)} codebook rows (at most 256), got {symbols.max()}: "
            "pass the codebook these symbols were made with"
        )
    used, compact = np.unique(symbols, return_inverse=True)
    symbols, codebook = compact.astype(np.uint8).reshape(-1), codebook[used]
    if used.size == 1:
        codes: tuple[Code | None, ...] = (encode_constant(symbols.size, codebook),)
    else:
        sparse = (encode_sparse(symbols, codebook), *_by_class(symbols, codebook, cuts))
        dense = _dense(symbols, codebook)
        tunstall = () if _prefix_within(dense, limit) else _tunstall(symbols, codebook)
        codes = (*dense, *tunstall, *sparse, *_nested(symbols, codebook))
    found = tuple(code for code in codes if code is not None)
    return found + tuple(half(code) for code in found if _exact_in_half(code.codebook))


def _dense(symbols: npt.NDArray[np.uint8], codebook: Array) -> tuple[Code, ...]:
    """Radix words and prefix codes; of the latter, those that pay for sequences of this length."""
    radix = encode_radix(symbols, codebook)
    codes: list[Code | None] = [radix]
    encoders = list[Encode]()
    if symbols.size <= _PLANES_UP_TO:
        encoders.append(encode_huffman)
    if symbols.size >= _STRIDES_FROM:
        wide = encode_radix(symbols, codebook, lean=False)
        codes += [wide] if wide.payload_bytes < radix.payload_bytes else []
        encoders += [partial(encode_strides, near=near) for near in _NEAR]
    for encode in encoders:
        codes += [encode_blocks(symbols, codebook, encode)] if codebook.ndim == 1 else []
        codes.append(encode(symbols, codebook))
    return tuple(code for code in codes if code is not None)


def _prefix_within(codes: Sequence[Code], limit: LoadCost | None) -> bool:
    """Whether a prefix code costs at most ``limit``; not if there is none."""
    prefix = (code for code in codes if code.encoding in ("huffman", "strides"))
    return limit is not None and any(load_cost(code).within(limit) for code in prefix)


def _tunstall(symbols: npt.NDArray[np.uint8], codebook: Array) -> Iterator[Code | None]:
    """Between radix words and prefix codes, in bytes and in what loading takes; where that is little, neither pays."""
    if codebook.ndim == 1 and symbols.size >= _STRIDES_FROM:
        yield from (encode_tunstall(symbols, codebook, bits) for bits in WORD_BITS)


def _by_class(symbols: npt.NDArray[np.uint8], codebook: Array, cuts: Sequence[int]) -> Iterator[Code | None]:
    """Around zero, which needs no value of its own in the file, and around the most frequent symbol."""
    if codebook.ndim == 1:
        fills = {int(np.bincount(symbols).argmax()), zero_symbol(codebook)} - {None}
        yield from (encode_classes(symbols, codebook, fill=fill, cuts=cuts) for fill in fills if fill is not None)


def _nested(symbols: npt.NDArray[np.uint8], codebook: Array) -> tuple[Code, ...]:
    """Positions of the non-zeros, and dense codes of their values; three or more symbols, used ones only."""
    zero = zero_symbol(codebook)
    if zero is None or len(codebook) < 3:
        return ()
    values = symbols[symbols != zero]
    if values.size > (1 - LEAST_ZEROS) * symbols.size:
        return ()
    values -= values > zero
    return tuple(with_values(symbols, zero, code) for code in _dense(values, np.delete(codebook, zero)))


def half(code: Code) -> Code:
    """The same code with its codebook in float16; only for codebooks that stay exact."""
    return replace(code, program=HalfCodebook(code.program), codebook=code.codebook.astype(np.float16))


def _exact_in_half(codebook: Array) -> bool:
    with np.errstate(over="ignore"):
        return codebook.astype(np.float16).astype(np.float32).tobytes() == codebook.tobytes()
