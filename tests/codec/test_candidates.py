"""All codes of a sequence: they decode to the same rows, come near the entropy, and drop what is not used."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sws_compress.codec import NumpyOps, candidates
from sws_compress.codec.candidates import radix_candidate
from sws_compress.codec.encodings.blocks import Blocks
from sws_compress.codec.transforms.dtypes import OF_ANY_TYPE
from sws_compress.errors import ArgumentError
from tests.codec.sequences import BELL, BELL_OF_256, assert_decodes, by_encoding, codebook_of, drawn, entropy_bytes


@st.composite
def sequences(draw):
    size = draw(st.integers(1, 256))
    count = draw(st.integers(1, 700))
    dimension = draw(st.sampled_from([None, None, None, 2, 4]))
    seed = draw(st.integers(0, 2**32 - 1))
    peak = draw(st.floats(0, 1))
    random = np.random.default_rng(seed)
    symbols = np.where(random.random(count) < peak, size // 2, random.integers(0, size, count)).astype(np.uint8)
    shape = (size,) if dimension is None else (size, dimension)
    values = random.standard_normal(shape).astype(np.float32)
    if draw(st.booleans()):
        values = values.astype(np.float16).astype(np.float32)
    if draw(st.booleans()):
        values[size // 2] = 0.0
    if draw(st.booleans()):
        values[0] = -0.0
    return symbols, values


@settings(max_examples=150, deadline=None)
@given(sequences())
def test_every_code_gives_back_the_codebook_rows_bit_for_bit(sequence):
    assert assert_decodes(*sequence)


SHARES = {
    "a coin": [7, 3],
    "a rare one": [9, 1],
    "a very rare one": [997, 3],
    "three": [1, 1, 1],
    "three, one dominates": [6, 2, 2],
    "three, mostly one": [8, 1, 1],
    "four, skewed": [70, 20, 7, 3],
    "four": [50, 30, 15, 5],
    "five": [1, 1, 1, 1, 1],
    "seven around zero": [5, 15, 30, 50, 30, 15, 5],
    "seven, 97 % zeros": [0.05, 0.15, 0.3, 97 / 3, 0.3, 0.15, 0.05],
    "a bell of 16": BELL,
    "a bell of 16 with 90 % zeros": np.append(0.1 * BELL / BELL.sum(), 0.9),
    "sixteen": np.ones(16),
    "a bell of 32": np.exp(-(np.linspace(-3.5, 3.5, 32) ** 2) / 2),
    "a bell of 256": BELL_OF_256,
}


@pytest.mark.parametrize("shares", SHARES.values(), ids=SHARES)
def test_payload_is_within_1_5_percent_of_the_entropy_and_within_6_below_one_bit(shares):
    """Tables of words count as payload here."""
    symbols = drawn(200_000, shares)
    codebook = np.linspace(-1, 1.1, len(shares)).astype(np.float32)
    codebook[np.argmax(shares)] = 0
    entropy = entropy_bytes(symbols)
    best = min(
        code.payload_bytes + (code.arrays[0].nbytes if isinstance(code.program, Blocks) else 0)
        for code in candidates(symbols, codebook)
        if code.codebook.dtype == np.float32
    )
    assert entropy * 0.999 < best <= entropy * (1.015 if 8 * entropy >= symbols.size else 1.06)


@pytest.mark.parametrize(
    ("shares", "encoding", "excess"),
    [
        ([0.05, 0.15, 0.3, 97 / 3, 0.3, 0.15, 0.05], "sparse", 0.05),
        ([1, 1, 1, 6 * 97 / 3, 1, 1, 1], "sparse", 0.02),
        (np.ones(3), "radix", 0.011),
    ],
)
def test_payloads_of_single_encodings(shares, encoding, excess):
    symbols = drawn(200_000, shares)
    code = by_encoding(symbols, codebook_of(len(shares)))[encoding]
    assert entropy_bytes(symbols) * 0.98 < code.payload_bytes < entropy_bytes(symbols) * (1 + excess)


def test_degenerate_sequences():
    assert candidates(np.empty(0, np.uint8), codebook_of(3)) == ()
    (lone,) = assert_decodes(np.zeros(1, np.uint8), codebook_of(1, zero=False))
    assert (lone.encoding, lone.payload_bytes) == ("constant", 0)
    assert {code.encoding for code in assert_decodes(np.full(50, 7, np.uint8), codebook_of(9))} == {"constant"}
    assert_decodes(np.zeros(10, np.uint8), np.zeros(1, np.float32))
    assert_decodes(np.array([1, 0], np.uint8), codebook_of(2))
    assert_decodes(np.zeros(4, np.uint8), np.ones((1, 2), np.float32))


def test_unused_rows_are_dropped():
    symbols = np.array([200, 3, 200, 9], np.uint8)
    for code in candidates(symbols, codebook_of(256)):
        assert len(code.codebook) <= 4


def test_symbols_without_a_row_are_refused():
    with pytest.raises(ArgumentError, match="below the 3 codebook rows"):
        candidates(np.array([0, 3], np.uint8), codebook_of(3))
    with pytest.raises(ArgumentError, match="at most 65,536"):
        candidates(np.array([0], np.uint8), codebook_of(65_537))


def test_half_codebooks_only_where_exact():
    symbols = drawn(300, np.ones(4))
    widths = {code.codebook.dtype.name for code in candidates(symbols, np.array([0, 0.5, -2, 3], np.float32))}
    assert widths == {"float32", "float16"}
    for value in (0.1, 1e9, 1e-9):
        values = np.array([0, 0.5, -2, value], np.float32)
        whole = [code for code in candidates(symbols, values) if np.isin(values[3], code.codebook)]
        assert {code.codebook.dtype.name for code in whole} == {"float32"}


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
@pytest.mark.parametrize("exact", [True, False])
def test_codes_of_other_types_decode_to_that_type(dtype, exact):
    symbols = drawn(900, [1, 20, 4, 3])
    values = np.array([0.5, 0, -2, 3]) if exact else np.array([0.1, -0.0, np.nextafter(0.1, 1), 3e4])
    codebook = values.astype(dtype)
    codes = candidates(symbols, codebook)
    assert {code.encoding for code in codes} > {"radix", "huffman"}
    for code in codes:
        rows = code.decode(NumpyOps())
        assert (rows.dtype, rows.tobytes()) == (codebook.dtype, codebook[symbols].tobytes())


def test_vectors_that_float32_does_not_hold_are_refused():
    with pytest.raises(ArgumentError, match="exact in float32"):
        candidates(np.array([0, 1], np.uint8), np.array([[0.1, 0.2], [0.3, 0.4]]))


def test_the_radix_candidate_is_the_radix_code():
    symbols = drawn(900, [1, 20, 4, 3])
    for dtype in (np.float32, np.float16):
        codebook = np.array([0.5, 0, -2, 3], dtype)
        code, wanted = radix_candidate(symbols, codebook), candidates(symbols, codebook)[0]
        assert (code.program, code.encoding) == (wanted.program, "radix")
        assert [array.tobytes() for array in code.arrays] == [array.tobytes() for array in wanted.arrays]
    assert radix_candidate(symbols, np.array([0.1, 0, -2, 3])) is None
    assert radix_candidate(np.zeros(9, np.uint8), np.ones(1, np.float32)) is None


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("name", SHARES)
def test_codebooks_of_bytes_are_bytes_from_the_look_up_on(name, dtype):
    """Encodings that only look entries up compute nothing in floats, and one copy of a codebook is enough."""
    shares = SHARES[name]
    symbols = drawn(70_000, shares, seed=3)
    codebook = (np.arange(len(shares)) - len(shares) // 2).astype(dtype)
    codes = assert_decodes(symbols, codebook)
    for code in codes:
        if code.encoding in OF_ANY_TYPE and code.codebook.dtype != dtype:
            assert len(code.codebook) < len(shares)  # it is computed
    stored = [code.codebook for code in codes if code.encoding in ("radix", "strides", "constant")]
    assert any(each.dtype == dtype for each in stored)
