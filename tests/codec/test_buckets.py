"""Words in buckets, read by an independent decoder; and the sizes of the buckets against all others there are."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from sws_compress.codec import NumpyOps, candidates
from sws_compress.codec.bucket_plans import LARGEST_EXPONENT, bucket_plan
from sws_compress.codec.encodings.buckets import encode_buckets
from tests.codec import reference
from tests.codec.sequences import BELL, BELL_OF_256, codebook_of, drawn, entropy_bytes

LAPLACE = {size: np.exp(-np.abs(np.arange(size) - size // 2) / (size / 12)) for size in (16, 40, 64, 110, 256)}
SHARES = {
    "a coin": [7, 3],
    "a rare one": [97, 3],
    "three": [1, 1, 1],
    "four, skewed": [70, 20, 7, 3],
    "a bell of 16": BELL,
    "a bell of 256": BELL_OF_256,
    "mostly one": [1, 2, 90, 4, 2, 1],
    "tails": LAPLACE[110],
    "one far tail": [10_000, *([1] * 200)],
}


@pytest.mark.parametrize("per_word", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [2, 3, 61, 5_003])
@pytest.mark.parametrize("shares", SHARES.values(), ids=SHARES)
def test_buckets_are_read_word_by_word(shares, count, per_word):
    symbols, codebook = drawn(count, shares, seed=count), codebook_of(len(shares))
    if len(shares) ** per_word > 1 << 13 or len(set(symbols.tolist())) < 2:
        return
    code = encode_buckets(symbols, codebook, per_word)
    program = code.program
    found = reference.decode_buckets(
        code.arrays, program.first_bits, program.second_bits, per_word, len(codebook), count
    )
    assert code.codebook[found].tobytes() == codebook[symbols].tobytes()
    assert code.decode(NumpyOps()).tobytes() == codebook[symbols].tobytes()
    assert program.padded == (len(NumpyOpsWithoutCut.decode(code)) > count)


class NumpyOpsWithoutCut(NumpyOps):
    """Leaves vectors of floats at their length: they are cut last."""

    def first(self, values, count, *, axis=0):
        return values if values.dtype == np.float32 else super().first(values, count, axis=axis)

    @classmethod
    def decode(cls, code):
        return code.decode(cls())


@pytest.mark.parametrize("size", LAPLACE)
@pytest.mark.parametrize("bell", [False, True])
def test_even_grids_take_few_bytes_beyond_the_entropy(size, bell):
    """Of 50,000 symbols the numbers and rests take at most two percent more; sizes and popularities little besides."""
    places = (np.arange(size) - size // 2) / (size / 9)
    symbols = drawn(50_000, np.exp(-(places**2)) if bell else LAPLACE[size])
    used, symbols = np.unique(symbols, return_inverse=True)
    found = candidates(symbols.astype(np.uint8), codebook_of(size)[used])
    code = min((code for code in found if code.encoding == "buckets"), key=lambda code: code.payload_bytes)
    assert entropy_bytes(symbols) < code.payload_bytes < 1.02 * entropy_bytes(symbols)
    assert code.table_bytes - code.codebook.nbytes <= 128 + size
    assert code.load_cost.peak_bytes < 120 * symbols.size


def test_vectors_are_words_of_one_symbol():
    symbols = drawn(3_000, BELL)
    vectors = codebook_of(48).reshape(16, 3)
    codes = [code for code in candidates(symbols, vectors) if code.encoding == "buckets"]
    assert codes
    for code in codes:
        assert code.program.program.symbols == 1 if hasattr(code.program, "program") else code.program.symbols == 1
        assert code.decode(NumpyOps()).tobytes() == vectors[symbols].tobytes()


def every_plan(words):
    """All ways to cut words into buckets of 1, 2, 4 .. words; the last one may reach beyond them."""
    if words <= 0:
        return [()]
    return [(r, *rest) for r in range((words - 1).bit_length() + 1) for rest in every_plan(words - 2**r)]


def least_bits(counts):
    """Fewest bits of all plans, bucket by bucket."""
    best = math.inf
    for exponents, first in itertools.product(every_plan(len(counts)), (1, 2, 3, 4)):
        for second in range(5):
            firsts, others = 2**first - (second > 0), 2**second if second else 0
            if len(exponents) > firsts + others:
                continue
            bits, place = 8.0 * (firsts + others), 0
            for bucket, exponent in enumerate(exponents):
                each = first + exponent + (second if bucket >= firsts else 0)
                bits += each * int(sum(counts[place : place + 2**exponent]))
                place += 2**exponent
            best = min(best, bits)
    return best


@pytest.mark.parametrize("seed", range(6))
def test_no_plan_takes_fewer_bits(seed):
    random = np.random.default_rng(seed)
    counts = np.sort(random.geometric(0.7 ** np.arange(2, 2 + random.integers(2, 10))) * 9)[::-1]
    plan = bucket_plan(counts.astype(np.int64))
    assert plan.bits == least_bits(counts)
    assert sum(2**exponent for exponent in plan.exponents) >= counts.size


@pytest.mark.parametrize("words", [2, 3, 513, 8192])
def test_plans_hold_all_words_and_name_all_buckets(words):
    plan = bucket_plan(np.arange(words, 0, -1) ** 2)
    assert sum(2**exponent for exponent in plan.exponents) >= words
    assert max(plan.exponents) <= LARGEST_EXPONENT
    assert len(plan.exponents) <= plan.firsts + (2**plan.second_bits if plan.second_bits else 0)
