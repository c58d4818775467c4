"""Positions of symbols around one that dominates, read by an independent decoder."""

from __future__ import annotations

import numpy as np
import pytest

from sws_compress.codec import NumpyOps
from sws_compress.codec.encodings.classes import encode_classes
from sws_compress.codec.encodings.sparse import encode_sparse
from tests.codec import reference
from tests.codec.sequences import assert_decodes, by_encoding, codebook_of, drawn, entropy_bytes


@pytest.mark.parametrize(("zeros", "count"), [(0.97, 5000), (0.5, 999), (0.999, 20011), (0.9, 64)])
def test_sparse_numbers_read_bit_by_bit(zeros, count):
    symbols = drawn(count, [5, 15, 30, 100 * zeros / (1 - zeros), 30, 15, 5], seed=1)
    codebook = codebook_of(7)
    code = by_encoding(symbols, codebook)["sparse"]
    highs, lows, _, modulus = code.arrays
    values = reference.decode_sparse(highs, lows, modulus, code.codebook, count)
    assert np.array(values, np.float32).tobytes() == codebook[symbols].tobytes()


@pytest.mark.parametrize(("zeros", "count"), [(0.97, 5000), (0.5, 999), (0.999, 20011), (0.9, 64)])
@pytest.mark.parametrize("cuts", [(), (1,), (50, 60)])
def test_classes_read_bit_by_bit(zeros, count, cuts):
    symbols = drawn(count, [5, 15, 30, 100 * zeros / (1 - zeros), 30, 15, 5], seed=1)
    codebook = codebook_of(7)
    code = encode_classes(symbols, codebook, fill=3, cuts=cuts)
    assert code.decode(NumpyOps()).tobytes() == codebook[symbols].tobytes()
    values = reference.decode_classes(code.arrays, code.codebook, codebook[3], count)
    assert np.array(values, np.float32).tobytes() == codebook[symbols].tobytes()


@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.parametrize("cuts", [(), (1,), (500,)])
def test_classes_read_bit_by_bit_around_any_value(zero, cuts):
    symbols = drawn(999, [5, 60, 30, 5], seed=1)
    codebook = np.array([2, 0 if zero else -0.0, 1, 3], np.float32)
    code = encode_classes(symbols, codebook, fill=1, cuts=cuts)
    assert code.program.filled == (not zero)
    values = reference.decode_classes(code.arrays, code.codebook, codebook[1], symbols.size)
    assert np.array(values, np.float32).tobytes() == codebook[symbols].tobytes()
    assert code.decode(NumpyOps()).tobytes() == codebook[symbols].tobytes()


def test_positions_are_given_up_where_too_few_symbols_are_alike():
    """Below 30 % of the dominant symbol, and where there is no other."""
    for size, given_up in ((29, True), (30, False), (100, True)):
        symbols = np.where(np.arange(100) < size, 1, 2 * (np.arange(100) % 2)).astype(np.uint8)
        assert (encode_classes(symbols, codebook_of(3), fill=1) is None) == given_up
        assert (encode_sparse(symbols, codebook_of(3)) is None) == given_up
    assert encode_sparse(np.array([0, 1, 1, 1, 1, 1, 1, 1], np.uint8), codebook_of(2)) is None, "too few to pad"


def test_classes_of_every_rarity_are_near_the_entropy():
    """If frequencies differ a hundredfold, one modulus for all classes costs a quarter more."""
    symbols = drawn(100_000, [1, 20, 400, 9000, 400, 100, 3])
    codes = by_encoding(symbols, codebook_of(7))
    assert codes["classes"].payload_bytes < 1.05 * entropy_bytes(symbols) < 0.9 * codes["sparse"].payload_bytes


def test_neighbouring_tensors_share_a_class_only_where_that_is_smaller():
    random = np.random.default_rng(0)
    dense, thin = ((random.random(20_000) < share).astype(np.uint8) for share in (0.2, 0.002))
    apart = encode_classes(np.concatenate([thin, dense]), codebook_of(2, zero=False), fill=0, cuts=[20_000])
    alike = encode_classes(np.concatenate([dense, dense[:300]]), codebook_of(2, zero=False), fill=0, cuts=[20_000])
    assert [code.codebook.size for code in (apart, alike)] == [2, 1]


@pytest.mark.parametrize("where", [[0], [0, 1, 2], [4999], [4998, 4999], [17], list(range(0, 5000, 100)), [0, 4999]])
def test_sparse_edges(where):
    symbols = np.full(5000, 3, np.uint8)
    symbols[where] = np.resize([0, 6, 2], len(where))
    assert_decodes(symbols, codebook_of(7))


def test_sparse_needs_a_positive_zero_and_keeps_the_negative_one():
    symbols = drawn(500, [1, 20, 1, 2])
    without = np.array([-1, -0.0, 0.5, 2], np.float32)
    assert not any("sparse" in encoding for encoding in by_encoding(symbols, without))
    both = np.array([-0.0, 0.0, 0.5, 2], np.float32)
    assert {"sparse", "sparse+radix", "sparse+huffman"} <= by_encoding(symbols, both).keys()
    assert_decodes(symbols, both)
    assert_decodes(symbols, without)
