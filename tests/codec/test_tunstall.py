"""Words that stand for runs of symbols, read by an independent decoder."""

from __future__ import annotations

import numpy as np
import pytest

from sws_compress.codec import NumpyOps
from sws_compress.codec.encodings.tunstall import WORD_BITS, encode_tunstall
from tests.codec import reference
from tests.codec.sequences import BELL, codebook_of, drawn, entropy_bytes

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
@pytest.mark.parametrize("shares", RUNS.values(), ids=RUNS)
def test_tunstall_reads_word_by_word(shares, count, bits):
    symbols, codebook = drawn(count, shares, seed=count), codebook_of(len(shares))
    code = encode_tunstall(symbols, codebook, bits)
    if len(shares) ** 2 > 1 << bits:
        assert code is None, "too few words for pairs of symbols"
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


def test_tunstall_cuts_the_stream_into_the_longest_runs():
    """The encoder cuts the stream in pieces. They must not show: runs cross their ends."""
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


def test_tunstall_gives_up_where_an_odd_word_cannot_be_cut_in_two():
    """Two words of 12 bits share a byte, and a word of one symbol is not cut."""
    symbols, codebook = np.array([1], np.uint8), codebook_of(2)
    assert encode_tunstall(symbols, codebook, 12) is None
    assert encode_tunstall(symbols, codebook, 8).decode(NumpyOps()).tolist() == [codebook[1]]
