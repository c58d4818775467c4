"""Alphabets of more than 256 values: every code decodes them, and even codebooks are computed, not stored."""

from __future__ import annotations

import numpy as np
import pytest

from sws_compress.codec import NumpyOps
from sws_compress.codec.candidates import radix_candidate
from sws_compress.codec.encodings.buckets import Buckets
from sws_compress.codec.encodings.radix import encode_radix
from sws_compress.codec.encodings.rows import encode_rows
from sws_compress.codec.transforms.dtypes import Cast, HalfCodebook
from sws_compress.codec.transforms.even import EvenCodebook, EvenGrid
from tests.codec.reference import decode_radix
from tests.codec.sequences import assert_decodes, codebook_of, entropy_bytes

SIZES = [257, 600, 1291, 5000]


def drawn(size, count, seed=0):
    """Symbols that are all used, as a bell over the alphabet."""
    bell = np.exp(-(np.linspace(-3.5, 3.5, size) ** 2) / 2)
    random = np.random.default_rng(seed)
    symbols = random.choice(size, count - size, p=bell / bell.sum())
    return random.permutation(np.concatenate([symbols, np.arange(size)])).astype(np.uint16)


def even_codebook(size, step=0.0123):
    """Multiples of a step as float32 has them, 0 in their middle."""
    return np.float32(step) * (np.arange(size) - size // 2).astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [9_000, 70_000])
def test_codes_decode_to_the_same_bits(size, count):
    symbols = drawn(size, count)
    codes = assert_decodes(symbols, codebook_of(size, zero=False))
    assert {"radix", "huffman", "buckets"} <= {code.encoding for code in codes}


@pytest.mark.parametrize("size", [257, 5000])
@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_codebooks_of_other_types_are_cast_or_looked_up(size, dtype):
    symbols, codebook = drawn(size, 9_000), (codebook_of(size) / 3).astype(dtype)
    for code in (code for code in every_code(symbols, codebook) if code.encoding != "sparse"):
        found = code.decode(NumpyOps())
        assert (found.dtype, found.tobytes()) == (dtype, codebook[symbols].tobytes())


def every_code(symbols, codebook):
    from sws_compress.codec import candidates

    return candidates(symbols, codebook)


def test_the_largest_alphabet():
    symbols = np.random.default_rng(0).permutation(np.arange(1 << 16)).astype(np.uint16)
    codebook = np.arange(1 << 16, dtype=np.float32) / 7
    code = radix_candidate(symbols, codebook)
    assert code is not None
    assert code.payload_bytes == 2 * symbols.size
    assert code.decode(NumpyOps()).tobytes() == codebook[symbols].tobytes()


def test_codes_of_one_zero_among_many_values():
    symbols = drawn(300, 60_000)
    symbols[np.random.default_rng(1).random(symbols.size) < 0.9] = 150
    codes = assert_decodes(symbols, codebook_of(300))
    assert {"sparse", "classes", "sparse+huffman"} <= {code.encoding for code in codes}


@pytest.mark.parametrize(("size", "bits"), [(257, 32 / 3), (1290, 32 / 3), (1291, 16), (60_000, 16)])
@pytest.mark.parametrize("count", [300, 70_001])
def test_radix_words_are_two_bytes_or_share_four(size, bits, count):
    symbols = (np.arange(count) * 31 % size).astype(np.uint16)
    code = encode_radix(symbols, np.arange(size, dtype=np.float32))
    assert 8 * code.payload_bytes == pytest.approx(bits * count, abs=32)
    per_word = 3 if size <= 1290 else 1
    assert decode_radix(code.arrays[0], size, per_word, count) == symbols.tolist()


@pytest.mark.parametrize(("size", "bits"), [(257, 56 / 6), (545, 56 / 6), (1000, 10), (5000, 40 / 3), (40_000, 16)])
def test_the_shortest_words_come_near_the_bits_that_symbols_need(size, bits):
    symbols = (np.arange(70_001) * 31 % size).astype(np.uint16)
    code = encode_radix(symbols, np.arange(size, dtype=np.float32), most_bytes_per_symbol=np.inf)
    assert 8 * code.payload_bytes == pytest.approx(bits * symbols.size, rel=1e-3)
    if code.arrays[0].dtype == np.uint8:  # 21 million a second (docs/format.md)
        assert code.load_cost.seconds == pytest.approx(1e-6 * symbols.size / 21, rel=0.15)
    assert code.decode(NumpyOps()).astype(np.int64).tolist() == symbols.tolist()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", [(300, 37), (300, 5, 8)])
def test_rows_stay_packed(size, shape):
    symbols, codebook = drawn(size, int(np.prod(shape))), codebook_of(size)
    dense, positions = codebook[symbols].reshape(shape), np.array([[5, -1], [0, 299]])
    code = encode_rows(symbols, codebook, shape)
    assert code is not None
    assert code.words.nbytes <= 2 * symbols.size
    assert code.look_up(NumpyOps(), positions).tobytes() == dense[positions].tobytes()


# -- even codebooks ---------------------------------------------------------------------------------------------------


def even_codes(symbols, codebook):
    """The codes that compute their codebook, in float32."""
    codes = [code for code in every_code(symbols, codebook) if code.encoding == "buckets"]
    return [code for code in codes if isinstance(code.program, EvenCodebook)]


@pytest.mark.parametrize("size", SIZES)
def test_an_even_codebook_takes_four_bytes(size):
    symbols, codebook = drawn(size, 60_000), even_codebook(size)
    (code,) = even_codes(symbols, codebook)
    assert code.codebook.tolist() == [np.float32(0.0123)]
    assert code.table_bytes <= 4 + 192  # sizes of buckets
    assert entropy_bytes(symbols) < code.payload_bytes < 1.02 * entropy_bytes(symbols)
    found = code.decode(NumpyOps())
    assert (found.dtype, found.tobytes()) == (np.float32, codebook[symbols].tobytes())


@pytest.mark.parametrize(("share", "bits"), [(0.5, 1.0), (0.9, 0.25)])
def test_entries_that_do_not_occur_cost_little(share, bits):
    symbols, codebook = drawn(2_000, 90_000), even_codebook(2_000)
    kept = np.random.default_rng(0).random(2_000) < share
    kept[1000:1002] = True  # the step itself
    symbols = symbols[kept[symbols]]
    (code,) = even_codes(symbols, codebook)
    assert code.decode(NumpyOps()).tobytes() == codebook[symbols].tobytes()
    assert 8 * code.payload_bytes < 8 * entropy_bytes(symbols) + bits * symbols.size


def test_smaller_codebooks_are_stored():
    symbols = drawn(256, 20_000)
    assert not even_codes(symbols, even_codebook(256))
    codes = every_code(symbols, even_codebook(256))
    assert all(code.codebook.dtype.kind == "f" and len(code.codebook) > 1 for code in codes)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_other_codes_store_the_multiples(size, dtype):
    symbols, codebook = drawn(size, 60_000), even_codebook(size)
    codes = [code for code in every_code(symbols, codebook.astype(dtype)) if code.codebook.dtype == np.int16]
    assert {code.encoding for code in codes} == {"radix", "huffman", "strides", "buckets"}
    for code in codes:
        assert code.codebook.nbytes == 2 * size
        assert code.decode(NumpyOps()).tobytes() == codebook[symbols].astype(dtype).tobytes()
    radix = radix_candidate(symbols, codebook)
    assert radix is not None
    assert radix.codebook.nbytes == 2 * size
    assert radix.decode(NumpyOps()).tobytes() == codebook[symbols].tobytes()


def test_half_steps_and_half_tensors():
    symbols, codebook = drawn(300, 9_000), even_codebook(300, 0.25)
    halves = [code for code in every_code(symbols, codebook) if isinstance(code.program, HalfCodebook)]
    assert any(isinstance(code.program.program, EvenCodebook) for code in halves)
    narrow = [code for code in every_code(symbols, codebook.astype(np.float16)) if isinstance(code.program, Cast)]
    assert any(isinstance(code.program.program, EvenCodebook) for code in narrow)
    for code in [*halves, *narrow]:
        assert code.decode(NumpyOps()).astype(np.float32).tobytes() == codebook[symbols].tobytes()


def test_a_grid_is_told_bit_for_bit():
    codebook = even_codebook(301)
    grid = EvenGrid.of(codebook)
    assert grid is not None
    assert sorted(grid.places.tolist()) == list(range(301))
    assert grid.places[149:153].tolist() == [2, 0, 1, 3]
    assert grid.codebook[grid.places].tobytes() == codebook.tobytes()
    for place in (0, 150, 300):
        other = codebook.copy()
        other[place] = np.nextafter(other[place], np.float32(9))
        assert EvenGrid.of(other) is None
    negative = codebook.copy()
    negative[150] = -0.0
    assert EvenGrid.of(negative) is None


def test_other_codebooks_are_no_grid():
    assert EvenGrid.of(np.zeros(1, np.float32)) is None
    assert EvenGrid.of(codebook_of(300)) is None
    assert EvenGrid.of(np.append(even_codebook(300), np.float32(0.0123 * 1e6))) is None
    assert EvenGrid.of(even_codebook(300).reshape(-1, 2)) is None
    assert EvenGrid.of(np.float32([1e-45, 3e38, 0])) is None


def test_programs_with_computed_codebooks_are_shared():
    one, other = (even_codes(drawn(600, 60_000, seed), even_codebook(600, 0.01 + seed))[0] for seed in (0, 1))
    assert one.program == other.program
    assert isinstance(one.program.program, Buckets)
    assert one.load_cost.peak_bytes == pytest.approx(other.load_cost.peak_bytes, rel=0.05)
