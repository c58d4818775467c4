"""All codes that can hold a sequence of symbols, and those that may be used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sws_compress.codec.encodings import ENCODINGS
from sws_compress.codec.encodings.radix import encode_radix
from sws_compress.codec.interpreter import Array
from sws_compress.codec.load_cost import LoadCost
from sws_compress.codec.program import Code, SymbolSequence, every_code
from sws_compress.codec.transforms.dtypes import RowTable, in_bytes, in_half, in_single, with_type
from sws_compress.codec.transforms.even import in_multiples
from sws_compress.errors import ArgumentError
from sws_compress.thresholds import MAX_EVEN_CODEBOOK


def candidates(
    symbols: npt.NDArray[np.unsignedinteger], codebook: Array, cuts: Sequence[int] = (), limit: LoadCost | None = None
) -> tuple[Code, ...]:
    """Every code of a sequence, in all encodings that apply to it.

    Parameters
    ----------
    symbols : ndarray (n,), uint8 or uint16
        Numbers of codebook rows.
    codebook : ndarray (k,) or (k, d), floating point, k <= 65,536
        Value of each symbol. Rows that no symbol uses are dropped, unless an encoding computes the symbols.
    cuts : sequence of int
        Positions at which other tensors begin.
    limit : LoadCost, optional
        What decoding may cost. Codes that take long to make are left out if another one within the limit hardly ever
        has more bytes. Codes beyond the limit are not left out.

    Returns
    -------
    tuple of Code
        Each decodes to the type of the codebook, bit for bit; () if there are no symbols. A codebook that is exact in
        float16 comes in both widths.

    Raises
    ------
    ArgumentError
        If a symbol has no row, if there are more than 65,536 rows, or if rows of vectors are not exact in float32.
    """
    if symbols.size == 0:
        return ()
    if not symbols.max() < len(codebook) <= MAX_EVEN_CODEBOOK:
        raise ArgumentError(
            f"symbols must be below the {len(codebook)} codebook rows (at most {MAX_EVEN_CODEBOOK:,}), "
            f"got {symbols.max()}: pass the codebook these symbols were made with"
        )
    if (single := in_single(codebook)) is not None:
        found = _codes(symbols, single, cuts, limit)
        if codebook.dtype.itemsize == 1 and codebook.ndim == 1:
            found = [typed for code in found for typed in in_bytes(code, codebook.dtype)]
            return tuple(found)
        return tuple(with_type(code, codebook.dtype) for code in found)
    if codebook.ndim > 1:
        raise ArgumentError("codebook of vectors must be exact in float32, got other values: round it first")
    table = RowTable.of(symbols, codebook)
    return tuple(table.looked_up(code) for code in _codes(table.numbers, table.codebook, cuts, limit))


def _codes(
    symbols: npt.NDArray[np.unsignedinteger],
    codebook: npt.NDArray[np.float32],
    cuts: Sequence[int],
    limit: LoadCost | None,
) -> list[Code]:
    used, compact = np.unique(symbols, return_inverse=True)
    numbers = compact.astype(np.min_scalar_type(used.size - 1)).reshape(-1)
    sequence = SymbolSequence(numbers, codebook[used], tuple(cuts), limit, (symbols, codebook))
    found = every_code(ENCODINGS, sequence)
    return found + [other for code in found for other in (in_half(code), in_multiples(code)) if other is not None]


def radix_candidate(symbols: npt.NDArray[np.unsignedinteger], codebook: Array) -> Code | None:
    """The radix code alone, made in little time and memory.

    Parameters
    ----------
    symbols : ndarray (n,), uint8 or uint16
        At least one. Every codebook row should occur: none is dropped.
    codebook : ndarray (k,) or (k, d), floating point, k <= 65,536
        Value of each symbol.

    Returns
    -------
    Code or None
        None if there are fewer than two rows, or if they are not exact in float32.
    """
    single = in_single(codebook)
    if single is None or len(codebook) < 2:
        return None
    code = encode_radix(symbols, single)
    return with_type(in_multiples(code) or code, codebook.dtype)
