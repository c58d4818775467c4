"""Every encoding: round trip, independent decoder, size, edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sws_compress.codec import NumpyOps, candidates
from sws_compress.codec.encodings.blocks import Blocks, encode_blocks
from sws_compress.codec.encodings.classes import encode_classes
from sws_compress.codec.encodings.huffman import encode_huffman
from sws_compress.codec.encodings.radix import Radix, RadixTable, digits_that_fit, encode_radix
from sws_compress.codec.encodings.strides import encode_strides
from sws_compress.codec.encodings.tunstall import WORD_BITS, encode_tunstall
from sws_compress.codec.numbers import decode_head, encode_head
from sws_compress.codec.prefix import code_lengths, few_lengths, restricted_lengths
from sws_compress.codec.transforms.unpack import unpack
from sws_compress.errors import ArgumentError
from tests.codec import reference

BELL = np.exp(-(np.linspace(-3.5, 3.5, 16) ** 2) / 2)


def codebook_of(size, *, zero=True, seed=0):
    values = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    if zero:
        values[size // 2] = 0.0
    return values


def drawn(size, shares, seed=0):
    shares = np.asarray(shares, float)
    return np.random.default_rng(seed).choice(len(shares), size, p=shares / shares.sum()).astype(np.uint8)


def entropy_bytes(symbols):
    counts = np.bincount(symbols)
    shares = counts[counts > 0] / symbols.size
    return -(shares * np.log2(shares)).sum() * symbols.size / 8


def by_encoding(symbols, codebook):
    codes = candidates(symbols, codebook)
    return {code.encoding: code for code in codes if code.codebook.dtype == np.float32}


def assert_decodes(symbols, codebook):
    codes = candidates(symbols, codebook)
    for code in codes:
        rows = code.decode(NumpyOps())
        assert rows.shape == (symbols.size, *codebook.shape[1:])
        assert rows.dtype == np.float32
        assert rows.tobytes() == codebook[symbols].tobytes(), code.encoding
    return codes


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


@pytest.mark.parametrize("size", [2, 3, 5, 6, 7, 15, 16, 17, 255, 256])
def test_radix_words_read_by_division(size):
    symbols = drawn(1003, np.ones(size))
    symbols[:size] = np.arange(size)
    code = by_encoding(symbols, codebook_of(size))["radix"]
    per_word = code.program.digits_per_word
    assert reference.decode_radix(code.arrays[0], size, per_word, symbols.size) == symbols.tolist()
    assert size**per_word <= (256 if code.arrays[0].dtype == np.uint8 else 2**31)
    assert code.payload_bytes <= -(-symbols.size // digits_that_fit(size, 256))


def test_radix_uses_a_table_for_long_sequences_and_the_same_bytes():
    symbols = drawn(1 << 16, np.ones(16))
    long, short = (by_encoding(part, codebook_of(16))["radix"] for part in (symbols, symbols[:-1]))
    assert isinstance(long.program, RadixTable)
    assert isinstance(short.program, Radix)
    assert long.arrays[0].tobytes()[:-1] == short.arrays[0].tobytes()[:-1]
    assert_decodes(symbols, codebook_of(16))
    assert_decodes(symbols, np.random.default_rng(1).standard_normal((16, 2)).astype(np.float32))


@pytest.mark.parametrize("lean", [True, False])
@pytest.mark.parametrize("size", [2, 3, 5, 7, 8, 10, 20, 32, 64, 100, 128, 200, 256])
def test_radix_words_of_several_bytes(size, lean):
    """Also what bit planes would take: b bits where K = 2^b."""
    symbols = drawn((1 << 16) + 3, np.ones(size))
    code = encode_radix(symbols, codebook_of(size), **({} if lean else {"most_bytes_per_symbol": np.inf}))
    words = code.arrays[0].reshape(code.arrays[0].shape[0], -1).tolist()
    numbers = [sum(byte << 8 * place for place, byte in enumerate(word)) for word in words]
    per_word = -(-symbols.size // len(numbers))
    assert reference.decode_radix(np.array(numbers), size, per_word, symbols.size) == symbols.tolist()
    assert code.decode(NumpyOps()).tobytes() == codebook_of(size)[symbols].tobytes()
    if not lean and size in (2, 8, 32, 64, 128):
        assert code.payload_bytes <= -(-symbols.size // per_word) * per_word * np.log2(size) / 8


@pytest.mark.parametrize("near", [None, 1.011, 1.015])
@pytest.mark.parametrize(
    "shares", [[1, 2, 4, 8, 16, 32, 64], [5, 1, 1], BELL, np.linspace(1, 9, 256), np.arange(1, 40), [900, 50, 3, 1]]
)
def test_strides_read_number_by_number(shares, near):
    symbols = np.concatenate([drawn(1500, shares), np.arange(len(shares), dtype=np.uint8)])
    codebook, counts = codebook_of(len(shares)), np.bincount(symbols)
    code = encode_strides(symbols, codebook, entropy_ratio=near)
    if code is None:
        assert near is not None
        return
    head, rest, sizes = code.arrays
    levels = code.program.levels
    lengths = sorted((code_lengths(counts) if near is None else few_lengths(counts, 8, near)).tolist())
    ranks = reference.decode_strides(head, rest, sizes, [level.bits for level in levels], lengths, symbols.size)
    assert code.codebook[ranks].tobytes() == codebook[symbols].tobytes()
    assert code.decode(NumpyOps()).tobytes() == codebook[symbols].tobytes()
    bits = np.sort(counts)[::-1] @ lengths
    assert 8 * code.payload_bytes < bits + 64 + 8
    if near is not None:
        assert len(levels) <= 5
        assert bits <= 8 * near * entropy_bytes(symbols)


def test_strides_keep_few_symbols_in_hand():
    """The point of it: after the first plane most are finished, where level planes ask each as often as it has bits."""
    symbols = drawn(200_000, np.exp(-(np.linspace(-3.5, 3.5, 256) ** 2) / 2))
    code = encode_strides(symbols, codebook_of(256), entropy_ratio=1.011)
    assert sum(level.unfinished for level in code.program.levels) < 0.2 * symbols.size
    assert code.payload_bytes < 1.012 * entropy_bytes(symbols)


def test_strides_of_codes_of_one_length_are_left_to_radix():
    assert encode_strides(np.tile(np.arange(16, dtype=np.uint8), 9), codebook_of(16), entropy_ratio=None) is None


RUNS = {
    "a coin": [7, 3],
    "a rare one": [97, 3],
    "three": [1, 1, 1],
    "four, skewed": [70, 20, 7, 3],
    "a bell of 16": BELL,
    "mostly one": [1, 2, 90, 4, 2, 1],
    "64": np.linspace(1, 9, 64),
}


@pytest.mark.parametrize("bits", WORD_BITS)
@pytest.mark.parametrize("count", [2, 300, 20_011])
@pytest.mark.parametrize("shares", RUNS.values(), ids=[name.replace(" ", "-") for name in RUNS])
def test_tunstall_reads_word_by_word(shares, count, bits):
    symbols, codebook = drawn(count, shares, seed=count), codebook_of(len(shares))
    code = encode_tunstall(symbols, codebook, bits)
    if code is None:
        assert len(shares) ** 2 > 1 << bits or count == 2
        return
    stored, dictionary = code.arrays[:-5], code.arrays[-5:]
    words = stored[0].tolist() if bits == 8 else reference.read_twelve_bits(*stored)
    runs = reference.runs_of_tunstall(*dictionary)
    assert [symbol for word in words for symbol in runs[word]] == symbols.tolist()
    assert code.decode(NumpyOps()).tobytes() == codebook[symbols].tobytes()
    assert len(words) * dictionary[-1].size <= 2.2 * count + 64, "little padding"


@pytest.mark.parametrize(("shares", "bits", "excess"), [(BELL, 8, 0.1), (BELL, 12, 0.08), ([7, 3], 12, 0.04)])
def test_tunstall_takes_fewer_bytes_than_words_of_one_length(shares, bits, excess):
    symbols = drawn(300_000, shares)
    code = encode_tunstall(symbols, codebook_of(len(shares)), bits)
    assert entropy_bytes(symbols) < code.payload_bytes < (1 + excess) * entropy_bytes(symbols)


def test_tunstall_cuts_the_stream_alike_however_it_is_read():
    """Pieces of the stream that are cut at once must not show: runs cross them."""
    symbols = drawn(70_000, [9, 1])
    code = encode_tunstall(symbols, codebook_of(2), 8)
    longest = code.arrays[-1].size
    by_run = {tuple(run): word for word, run in enumerate(reference.runs_of_tunstall(*code.arrays[-5:]))}
    words, begin = [], 0
    while begin < symbols.size:
        lengths = range(longest, 0, -1)
        run = next(
            run for run in (tuple(symbols[begin : begin + length].tolist()) for length in lengths) if run in by_run
        )
        words.append(by_run[run])
        begin += len(run)
    assert words == code.arrays[0].tolist()


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
    if lengths is None:
        assert np.count_nonzero(counts) > 2 ** allowed[-1]
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
    for fill in (3, 4):
        code = encode_classes(symbols, codebook, fill=fill, cuts=cuts)
        if code is None:
            assert fill == 4
            continue
        assert code.decode(NumpyOps()).tobytes() == codebook[symbols].tobytes()
        values = reference.decode_classes(code.arrays, code.codebook, codebook[fill], count)
        assert np.array(values, np.float32).tobytes() == codebook[symbols].tobytes()


def test_classes_of_every_rarity_are_near_the_entropy():
    """Where frequencies differ a hundredfold one modulus for all costs a quarter more."""
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
    "a bell of 256": np.exp(-(np.linspace(-3.5, 3.5, 256) ** 2) / 2),
}


@pytest.mark.parametrize("shares", SHARES.values(), ids=[name.replace(" ", "-") for name in SHARES])
def test_payload_is_within_1_5_percent_of_the_entropy_and_within_6_below_one_bit(shares):
    """The tables of words count as payload here."""
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
    with pytest.raises(ArgumentError, match="at most 256"):
        candidates(np.array([0], np.uint8), codebook_of(257))


def test_half_codebooks_only_where_exact():
    symbols = drawn(300, np.ones(4))
    widths = {code.codebook.dtype.name for code in candidates(symbols, np.array([0, 0.5, -2, 3], np.float32))}
    assert widths == {"float32", "float16"}
    for value in (0.1, 1e9, 1e-9):
        values = np.array([0, 0.5, -2, value], np.float32)
        whole = [code for code in candidates(symbols, values) if np.isin(values[3], code.codebook)]
        assert {code.codebook.dtype.name for code in whole} == {"float32"}


def test_several_tensors_in_one_stream():
    symbols, codebook = drawn(7 * 5 + 4 + 3, [1, 8, 2]), np.array([-1, 0, 2], np.float32)
    for code in candidates(symbols, codebook):
        parts = unpack(NumpyOps(), code, ((7, 5), (4,), (3, 1)))
        assert [part.shape for part in parts] == [(7, 5), (4,), (3, 1)]
        assert np.concatenate([part.reshape(-1) for part in parts]).tobytes() == codebook[symbols].tobytes()


def test_vectors_become_tensors():
    symbols = drawn(30, [1, 8, 2])
    codebook = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    for code in candidates(symbols, codebook):
        (tensor,) = unpack(NumpyOps(), code, ((10, 12),))
        assert tensor.tobytes() == codebook[symbols].reshape(10, 12).tobytes()
