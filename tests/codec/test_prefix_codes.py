"""Prefix codes: lengths near the optimum, and planes and blocks read by an independent decoder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sws_compress.codec import NumpyOps
from sws_compress.codec.encodings.blocks import encode_blocks
from sws_compress.codec.encodings.huffman import encode_huffman
from sws_compress.codec.encodings.strides import ENTROPY_RATIOS, StridesEncoding, encode_strides
from sws_compress.codec.load_cost import LoadCost
from sws_compress.codec.numbers import decode_head, encode_head
from sws_compress.codec.prefix import code_lengths, few_lengths, restricted_lengths
from sws_compress.codec.program import SymbolSequence
from tests.codec import reference
from tests.codec.sequences import BELL, BELL_OF_256, assert_decodes, by_encoding, codebook_of, drawn, entropy_bytes


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("count", [1, 7, 8, 56, 1001])
def test_numbers_in_bytes(bits, count):
    numbers = np.random.default_rng(bits).integers(0, 1 << bits, count).astype(np.uint8)
    stored = encode_head(numbers, bits)
    assert stored.size <= bits * -(-count // 8)
    assert reference.read_numbers(stored, bits, count) == numbers.tolist()
    found = decode_head(NumpyOps(), stored, bits, count)
    assert (found.dtype, found.tolist()) == (np.int32, numbers.tolist())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3000), min_size=2, max_size=60).filter(lambda c: sum(map(bool, c)) > 1), st.data())
def test_restricted_lengths_are_prefix_codes_and_near_the_optimum(counts, data):
    counts = np.array(counts)
    optimal = code_lengths(counts)
    near = (counts * restricted_lengths(counts, range(1, 1 + optimal.max()))).sum()
    assert near <= 1.05 * (counts * optimal).sum() + counts.max()  # of few symbols, one may have a bit too many
    allowed = sorted(data.draw(st.sets(st.integers(1, 9), min_size=1)))
    lengths = restricted_lengths(counts, allowed)
    too_many = np.count_nonzero(counts) > 2 ** allowed[-1]
    assert (lengths is None) == too_many
    if too_many:
        return
    assert set(lengths[counts > 0].tolist()) <= set(allowed)
    assert not lengths[counts == 0].any()
    assert np.sum(0.5 ** lengths[counts > 0]) <= 1
    falling = np.lexsort((lengths, -counts))[: np.count_nonzero(counts)]
    assert (np.diff(lengths[falling]) >= 0).all()  # the rarer, the longer


@pytest.mark.parametrize("shares", [[1, 1], [1, 2, 4, 8, 16, 32, 64], [5, 1, 1, 1, 1], np.ones(256), [900, 50, 3, 1]])
def test_huffman_is_optimal_and_its_planes_read_bit_by_bit(shares):
    symbols = np.concatenate([drawn(1500, shares), np.arange(len(shares), dtype=np.uint8)])
    counts = np.bincount(symbols)
    codebook = codebook_of(len(shares))
    code = by_encoding(symbols, codebook)["huffman"]
    planes, sizes = code.arrays
    lengths = code_lengths(counts)
    assert (lengths * counts).sum() == reference.shortest_prefix_code_bits(counts.tolist())
    assert code.payload_bytes == -(-(lengths * counts).sum() // 8)
    ranks = reference.decode_huffman(planes, sizes, sorted(lengths.tolist()), symbols.size)
    assert code.codebook[ranks].tobytes() == codebook[symbols].tobytes()


def test_huffman_survives_the_deepest_tree():
    fibonacci = [1, 1]
    while sum(fibonacci) < 200_000:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    symbols = np.random.default_rng(3).permutation(np.repeat(np.arange(len(fibonacci)), fibonacci)).astype(np.uint8)
    codes = {code.encoding for code in assert_decodes(symbols, codebook_of(len(fibonacci)))}
    assert "huffman" in codes
    assert code_lengths(np.array(fibonacci)).max() == len(fibonacci) - 1


def test_huffman_counts_in_64_bits_where_positions_times_symbols_need_them():
    symbols = np.zeros((1 << 23) + 5, np.uint8)
    symbols[:256] = np.arange(256)
    code = encode_huffman(symbols, codebook_of(256))
    assert code.program.wide
    assert not encode_huffman(np.minimum(symbols, 1), codebook_of(2)).program.wide
    assert code.decode(NumpyOps()).tobytes() == codebook_of(256)[symbols].tobytes()


@pytest.mark.parametrize("size", [2, 3, 7, 16, 31, 64])
def test_blocks_read_word_by_word(size):
    symbols = drawn(3001, np.linspace(1, 9, size))
    symbols[:size] = np.arange(size)
    codebook = codebook_of(size, zero=False)
    code = encode_blocks(symbols, codebook, encode_huffman)
    words, powers, base, planes, sizes = code.arrays
    length = powers.size
    assert (base, powers.tolist()) == (size, [size**j for j in range(length)])
    blocks = np.pad(symbols, (0, -symbols.size % length)).reshape(-1, length)
    counts = np.unique(blocks, axis=0, return_counts=True)[1]
    ranks = reference.decode_huffman(planes, sizes, sorted(code_lengths(counts).tolist()), len(blocks))
    found = reference.decode_radix(words.reshape(-1)[ranks], size, length, symbols.size)
    assert found == symbols.tolist()
    assert code.decode(NumpyOps()).tobytes() == codebook[symbols].tobytes()
    assert encode_blocks(drawn(50, np.ones(65)), codebook_of(65), encode_huffman) is None


STEEP = [1, 2, 4, 8, 16, 32, 64]
FLAT_OF_256 = np.linspace(1, 9, 256)


def strides_sequence(shares):
    """Symbols drawn with these shares, each at least once."""
    return np.concatenate([drawn(1500, shares), np.arange(len(shares), dtype=np.uint8)])


@pytest.mark.parametrize(
    ("shares", "ratio"),
    [
        *((shares, None) for shares in (STEEP, [5, 1, 1], BELL, FLAT_OF_256, np.arange(1, 40), [900, 50, 3, 1])),
        *((FLAT_OF_256, ratio) for ratio in (1.011, 1.015)),
        (np.arange(1, 40), 1.015),
        (STEEP, 1.1),
        (BELL, 1.1),
    ],
)
def test_strides_read_number_by_number(shares, ratio):
    symbols = strides_sequence(shares)
    codebook, counts = codebook_of(len(shares)), np.bincount(symbols)
    code = encode_strides(symbols, codebook, entropy_ratio=ratio)
    head, rest, sizes = code.arrays
    levels = code.program.levels
    lengths = sorted((code_lengths(counts) if ratio is None else few_lengths(counts, 8, ratio)).tolist())
    ranks = reference.decode_strides(head, rest, sizes, [level.bits for level in levels], lengths, symbols.size)
    assert code.codebook[ranks].tobytes() == codebook[symbols].tobytes()
    assert code.decode(NumpyOps()).tobytes() == codebook[symbols].tobytes()
    bits = np.sort(counts)[::-1] @ lengths
    assert 8 * code.payload_bytes < bits + 64 + 8
    if ratio is not None:
        assert len(levels) <= 5
        assert bits <= 8 * ratio * entropy_bytes(symbols)


@pytest.mark.parametrize(
    ("shares", "ratio"),
    [
        *((shares, ratio) for shares in (STEEP, [5, 1, 1], BELL, [900, 50, 3, 1]) for ratio in ENTROPY_RATIOS[1:]),
        (np.arange(1, 40), 1.011),
    ],
)
def test_strides_give_up_where_no_code_of_few_lengths_is_near_enough(shares, ratio):
    symbols = strides_sequence(shares)
    assert encode_strides(symbols, codebook_of(len(shares)), entropy_ratio=ratio) is None
    counts = np.bincount(symbols)
    assert few_lengths(counts, 8, ratio) is None
    found = few_lengths(counts, 8, np.inf)
    assert counts @ found > 8 * ratio * entropy_bytes(symbols)


def test_strides_keep_few_symbols_in_hand():
    """This is what strides are for: after the first plane most symbols are finished."""
    symbols = drawn(200_000, BELL_OF_256)
    code = encode_strides(symbols, codebook_of(256), entropy_ratio=1.011)
    assert sum(level.unfinished for level in code.program.levels) < 0.2 * symbols.size
    assert code.payload_bytes < 1.012 * entropy_bytes(symbols)


def test_long_tails_get_few_depths_where_loading_would_cost_too_much():
    """An embedding has a peak of forty values and a tail of as many; radix words would take 6.7 bits for 4."""
    shares = np.maximum(np.exp(-(np.arange(-40, 41) ** 2) / 32), 1e-6)
    sequence = SymbolSequence(drawn(200_000, shares), codebook_of(81))
    entropy = entropy_bytes(sequence.symbols)

    def least_memory(limit):
        codes = StridesEncoding().codes(replace(sequence, limit=limit), ())
        return min(codes, key=lambda code: code.load_cost.peak_bytes)

    limit = LoadCost(1.0, 50.0 * 200_000)
    unlimited, limited = least_memory(None), least_memory(limit)
    assert not unlimited.load_cost.within(limit)
    assert limited.load_cost.within(limit)
    assert 1.015 * entropy < limited.payload_bytes < 1.07 * entropy
    assert limited.decode(NumpyOps()).tobytes() == sequence.codebook[sequence.symbols].tobytes()


@pytest.mark.parametrize("ratio", ENTROPY_RATIOS)
def test_strides_give_up_where_all_codes_have_one_length(ratio):
    """Radix words do the same."""
    assert encode_strides(np.tile(np.arange(16, dtype=np.uint8), 9), codebook_of(16), entropy_ratio=ratio) is None
