"""Sequences of symbols for the tests of this room."""

from __future__ import annotations

import numpy as np

from sws_compress.codec import NumpyOps, candidates

BELL = np.exp(-(np.linspace(-3.5, 3.5, 16) ** 2) / 2)
BELL_OF_256 = np.exp(-(np.linspace(-3.5, 3.5, 256) ** 2) / 2)


def codebook_of(size, *, zero=True, seed=0):
    values = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    if zero:
        values[size // 2] = 0.0
    return values


def drawn(size, shares, seed=0):
    shares = np.asarray(shares, float)
    return (
        np.random.default_rng(seed)
        .choice(len(shares), size, p=shares / shares.sum())
        .astype(np.min_scalar_type(len(shares) - 1))
    )


def entropy_bytes(symbols):
    counts = np.bincount(symbols)
    shares = counts[counts > 0] / symbols.size
    return -(shares * np.log2(shares)).sum() * symbols.size / 8


def by_encoding(symbols, codebook):
    """The last code of each encoding among those with a float32 codebook."""
    codes = candidates(symbols, codebook)
    return {code.encoding: code for code in codes if code.codebook.dtype == np.float32}


def assert_decodes(symbols, codebook):
    codes = candidates(symbols, codebook)
    for code in codes:
        rows = code.decode(NumpyOps())
        assert rows.shape == (symbols.size, *codebook.shape[1:])
        assert rows.dtype == codebook.dtype
        assert rows.tobytes() == codebook[symbols].tobytes(), code.encoding
    return codes
