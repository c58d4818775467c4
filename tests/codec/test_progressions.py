"""Lines that go on by equal steps modulo a period, symbol by symbol."""

from __future__ import annotations

import numpy as np
import pytest

from sws_compress.codec import NumpyOps, candidates
from sws_compress.codec.encodings.progressions import encode_progressions


def progressions(lines, length, period, periods=1, seed=0):
    """Random lines, and a codebook of as many periods."""
    random = np.random.default_rng(seed)
    starts, steps, begins = (random.integers(0, high, lines) for high in (period, period, periods))
    rows = [
        [(b + a * m) % period + period * s for m in range(length)]
        for b, a, s in zip(starts, steps, begins, strict=True)
    ]
    kind = np.min_scalar_type(period * periods - 1)
    return np.array(rows, kind), random.standard_normal(period * periods).astype(np.float32)


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize(
    ("lines", "length", "period", "periods"), [(7, 40, 40, 1), (33, 16, 300, 2), (64, 50, 50, 8), (5, 1000, 4000, 3)]
)
def test_lines_decode(lines, length, period, periods, across):
    symbols, codebook = progressions(lines, length, period, periods)
    symbols = symbols.T if across else symbols
    code = encode_progressions(symbols.reshape(-1), codebook)
    assert code.program.across == across
    assert code.decode(NumpyOps()).tobytes() == codebook[symbols].tobytes()
    assert code.payload_bytes == 2 * lines * (2 if periods == 1 else 3)


def test_rows_of_the_codebook_that_no_symbol_uses_keep_their_places():
    symbols, codebook = np.tile(np.uint8(2 * (np.arange(16) * 3 % 32)), (9, 1)), np.arange(64, dtype=np.float32)
    codes = [code for code in candidates(symbols.reshape(-1), codebook) if code.encoding == "progressions"]
    assert len(codes) == 2, "codebooks of float32 and float16"
    assert all(code.decode(NumpyOps()).tobytes() == codebook[symbols].tobytes() for code in codes)


def test_one_symbol_out_of_step_is_seen():
    symbols, codebook = progressions(12, 48, 48)
    for place in (0, 20, 47, 48, 300, 575):
        broken = symbols.reshape(-1).copy()
        broken[place] = (broken[place] + 1) % 48
        assert encode_progressions(broken, codebook) is None


def test_short_lines_are_left_to_other_encodings():
    assert encode_progressions(*(part.reshape(-1) for part in progressions(40, 15, 15))) is None
    assert encode_progressions(*(part.reshape(-1) for part in progressions(40, 16, 16))) is not None


def test_places_beyond_32_bits_are_not_computed():
    lines = np.zeros((2, 40_000), np.uint16)
    lines[1] = np.arange(40_000, dtype=np.int64) * 60_001 % 65_536
    code = encode_progressions(lines.reshape(-1), np.arange(65_536, dtype=np.float32))
    assert code is None or np.array_equal(code.decode(NumpyOps()), lines.reshape(-1).astype(np.float32))
