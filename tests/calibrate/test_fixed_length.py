"""Codebooks for indices of a fixed length: near the best there is, and as large as the price allows."""

from __future__ import annotations

import ckwrap
import numpy as np
import pytest

from sws_compress.calibrate.fixed_length import coded_in_words, lloyd
from sws_compress.calibrate.layers import Layer
from sws_compress.codec.encodings.radix import encode_radix, fixed_lengths


@pytest.mark.parametrize("size", [3, 8, 16, 40])
def test_codebooks_are_near_the_best(size: int) -> None:
    values = np.sort(np.random.default_rng(0).standard_t(4, 3000))
    codebook, error = lloyd(values, size)
    best = ckwrap.ckmeans(values, size)
    least = np.square(values - np.asarray(best.centers)[best.labels]).mean()
    nearest = np.abs(values[:, None] - codebook).min(axis=1)
    assert 0.0 in codebook
    assert len(codebook) <= size
    assert np.square(nearest).mean() == pytest.approx(error, rel=0.01)
    assert error < 1.3 * least


@pytest.mark.parametrize("values", [np.zeros(50), np.array([2.0]), np.array([-1.0, 0.0, 0.0, 3.0])])
def test_few_values_are_exact_or_zero(values: np.ndarray) -> None:
    codebook, error = lloyd(values, 8)
    assert np.isfinite(codebook).all()
    assert error <= np.square(values).mean()


def layer(seed: int) -> Layer:
    random = np.random.default_rng(seed)
    rows = random.standard_t(5, (1, 90, 70)) * random.uniform(0.1, 2, (90, 1))
    mixing = random.standard_normal((70, 70))
    return Layer(rows, (mixing @ mixing.T / 70 + 0.05 * np.eye(70))[None], scaled=True)


def test_more_entries_make_less_error() -> None:
    one = layer(1)
    errors = []
    for entries in (4, 16, 64, 256):
        coded = coded_in_words(one, entries)
        changes = coded.codebook[coded.indices] * coded.factors[..., None] - one.rows
        assert len(coded.codebook) <= entries
        errors.append(one.error(changes))
    assert errors == sorted(errors, reverse=True)


def test_lengths_are_those_of_the_words() -> None:
    random = np.random.default_rng(0)
    for size, bits in fixed_lengths().items():
        symbols = random.integers(0, size, 1 << 16).astype(np.uint8)
        code = encode_radix(symbols, np.arange(size, dtype=np.float32))
        assert 8 * code.payload_bytes / symbols.size == pytest.approx(bits, abs=0.01)
