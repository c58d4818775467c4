"""Estimates of what loading costs: against measurements and against all that is computed; what is left out for them."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest

from sws_compress.codec import NumpyOps, candidates
from sws_compress.codec.encodings.blocks import Blocks
from sws_compress.codec.encodings.buckets import Buckets
from sws_compress.codec.encodings.huffman import encode_huffman
from sws_compress.codec.encodings.rows import encode_rows
from sws_compress.codec.encodings.sparse import SparseValues
from sws_compress.codec.load_cost import FREE, LoadCost, default_limit, load_budget
from sws_compress.codec.program import Wrapped
from sws_compress.codec.transforms.dtypes import HalfCodebook, LookUp
from sws_compress.codec.transforms.unpack import tensor_candidates, unpack
from sws_compress.errors import ArgumentError
from tests.codec.sequences import BELL, BELL_OF_256, drawn

NINETY_ZEROS = np.append(0.1 * BELL[1:] / BELL[1:].sum(), 0.9)
SHARES = {
    "one value": [1],
    "a coin": [1, 1],
    "three alike": [1, 1, 1],
    "four, skewed": [70, 20, 7, 3],
    "half zeros": [1, 2, 9, 3, 3],
    "a bell of 16": BELL,
    "64, sloped": np.linspace(1, 9, 64),
    "a bell of 256": BELL_OF_256,
    "a bell of 600": np.exp(-(np.linspace(-3.5, 3.5, 600) ** 2) / 2),
    "16 with 90 % zeros": NINETY_ZEROS,
    "7 with 97 % zeros": [0.05, 0.15, 0.3, 97 / 3, 0.3, 0.15, 0.05],
}


class CountingOps(NumpyOps):
    """Adds up the bytes of everything that is computed: a runtime that folds keeps all of it."""

    def __init__(self):
        self.computed_bytes = 0


def _counted(name):
    def operation(self, *arguments, **options):
        result = getattr(NumpyOps, name)(self, *arguments, **options)
        self.computed_bytes += sum(part.nbytes for part in (result if isinstance(result, tuple) else (result,)))
        return result

    return operation


for operator in {name for name in vars(NumpyOps) if not name.startswith("_")} - {"constant", "call"}:
    setattr(CountingOps, operator, _counted(operator))


SINUSOIDS = "sinusoids"


def sequence(name, count, dtype=np.float32):
    """Symbols, and a codebook in which the most frequent one is zero; or lines of 200 samples of the cosine."""
    if name == SINUSOIDS:
        places = np.arange(count // 200)[:, None] * np.arange(200) % 100
        return places.reshape(-1).astype(np.uint8), np.cos(np.arange(100) * np.pi / 50).astype(dtype)
    shares = np.asarray(SHARES[name], float)
    codebook = np.linspace(-1.1, 1.3, len(shares)).astype(dtype)
    codebook[np.argmax(shares)] = 0
    return drawn(count, shares), codebook


@functools.cache
def codes_of(name):
    """The candidates of 200,000 symbols."""
    return candidates(*sequence(name, 200_000))


def parts_of(program):
    """The program and those that it wraps, from the outside in."""
    while program is not None:
        yield program
        program = next((vars(program)[part] for part in ("program", "values", "words") if part in vars(program)), None)


def kind_of(code):
    """What the measurements tell apart: the encoding, blocks, few depths, and symbols of a word."""
    kinds = [type(part) for part in parts_of(code.program)]
    levels = next((part.levels for part in parts_of(code.program) if hasattr(part, "levels")), ())
    few = ", few depths" if code.encoding == "strides" and len(levels) <= 5 else ""
    words = next((f" of {part.symbols}" for part in parts_of(code.program) if isinstance(part, Buckets)), "")
    return code.encoding + (" of blocks" if Blocks in kinds else "") + few + words


@pytest.mark.parametrize(
    ("shares", "kind", "million_weights_per_second", "memory", "slower"),
    [
        (SINUSOIDS, "progressions", 35, 7.3, 1.4),
        ("a bell of 16", "radix", 78, 4.0, 1.95),
        ("a bell of 16", "huffman", 4.1, 36, 0.9),
        ("a bell of 16", "huffman of blocks", 6.1, 36, 1.3),
        ("a bell of 16", "tunstall", 41, 6.7, 1.3),
        ("a bell of 16", "buckets of 2", 18.9, 19.3, 1.2),
        ("a bell of 16", "buckets of 3", 24.5, 14.4, 1.25),
        ("a bell of 16", "strides of blocks", 17, 14.7, 1.95),
        ("a bell of 16", "strides of blocks, few depths", 29, 8.8, 3.1),
        ("a bell of 256", "radix", 59, 4.8, 1.5),
        ("a bell of 256", "strides", 9.4, 24.4, 1.9),
        ("a bell of 256", "strides, few depths", 23, 10.2, 2.9),
        ("a bell of 256", "buckets of 1", 10, 21.2, 1.05),
        ("a bell of 600", "strides", 17.5, 12.3, 2.6),
        ("a bell of 600", "strides, few depths", 22, 10.7, 2.9),
        ("a bell of 600", "buckets of 1", 8.7, 22.0, 0.9),
        ("three alike", "tunstall", 49, 5.6, 1.5),
        ("four, skewed", "tunstall", 39, 6.7, 1.35),
        ("16 with 90 % zeros", "sparse+huffman of blocks", 12, 14, 1.0),
        ("7 with 97 % zeros", "classes", 20, 10.7, 1.2),
    ],
)
def test_estimates_are_near_the_measurements(shares, kind, million_weights_per_second, memory, slower):
    """The table in docs/format.md has 9 million weights, and memory relative to four bytes a weight.

    Estimates of time are ``slower`` times the measured time: they err on the slow side.
    """
    codes = [code for code in codes_of(shares) if kind_of(code) == kind]
    assert codes
    for code in codes:
        cost = code.load_cost
        assert cost.seconds * 1e6 * million_weights_per_second / code.count == pytest.approx(slower, rel=0.15)
        assert 0.7 < cost.peak_bytes / (4 * code.count) / memory < 1.55


FACTORS = {
    "constant": (1.8, 1.9),
    "progressions": (1.1, 1.7),
    "radix": (0.7, 1.6),
    "huffman": (0.85, 1.45),
    "strides": (0.85, 1.65),
    "buckets": (0.9, 1.6),
    "tunstall": (0.9, 1.5),
    "classes": (0.8, 1.1),
    "sparse": (1.25, 1.4),
    "sparse+radix": (1.25, 1.4),
    "sparse+huffman": (1.2, 1.4),
    "sparse+strides": (1.25, 1.35),
}
"""Estimated bytes over the bytes of all results: a runtime holds more than these, and computes some in fewer steps."""


@pytest.mark.parametrize("shares", [*SHARES, SINUSOIDS])
@pytest.mark.parametrize("long", [False, True])
def test_memory_is_that_of_all_results_within_a_factor(shares, long):
    for code in codes_of(shares) if long else candidates(*sequence(shares, 20_000)):
        ops = CountingOps()
        unpack(ops, code, ((200, code.count // 200),))
        low, high = FACTORS[code.encoding]
        assert low < code.load_cost.peak_bytes / ops.computed_bytes < high, code.encoding


def test_the_cases_above_cover_every_encoding_with_factors():
    assert {code.encoding for shares in (*SHARES, SINUSOIDS) for code in codes_of(shares)} == set(FACTORS)


@pytest.mark.parametrize("shares", ["one value", "a coin", "half zeros", "64, sloped", "16 with 90 % zeros"])
def test_wrapped_programs_cost_what_the_inner_ones_do(shares):
    """Every wrapper passes on the arrays of the inner program, and no others."""
    for code in codes_of(shares):
        if isinstance(code.program, HalfCodebook):
            assert code.load_cost == replace(code, program=code.program.program).load_cost
        if isinstance(code.program, Blocks):
            assert code.program.load_cost(code.arrays) == code.program.words.load_cost(code.arrays[3:])
        if isinstance(code.program, SparseValues):
            values, positions = code.program.values.load_cost(code.arrays[5:]), replace(code.program, values=_Free())
            assert code.program.load_cost(code.arrays) == positions.load_cost(code.arrays) + values


def test_wide_integers_cost_what_they_take_more():
    """Positions times symbols beyond 2^31 need int64; here they are given it without need."""
    symbols, codebook = sequence("a bell of 16", 20_000)
    code = encode_huffman(symbols, codebook)
    wide = replace(code, program=replace(code.program, wide=True))
    computed = []
    for one in (code, wide):
        one.decode(ops := CountingOps())
        computed.append(ops.computed_bytes)
    costs = [one.program.load_cost(one.arrays) for one in (code, wide)]
    assert costs[1].peak_bytes / costs[0].peak_bytes == pytest.approx(computed[1] / computed[0], rel=0.2)
    assert costs[1].seconds / costs[0].seconds == pytest.approx(computed[1] / computed[0], rel=0.2)


class _Free:
    def load_cost(self, arrays):
        return FREE


@pytest.mark.parametrize("shares", ["a coin", "half zeros", "64, sloped", "16 with 90 % zeros"])
def test_tensors_that_float32_does_not_hold_cost_what_the_numbers_of_their_rows_do(shares):
    """The table of their values is no array of the encoding: Tunstall codes took it for the powers of K."""
    symbols, codebook = sequence(shares, 150_000, np.float64)
    order = np.argsort(-np.bincount(symbols), kind="stable")
    numbers, rows = np.argsort(order)[symbols].astype(np.uint8), np.arange(len(codebook), dtype=np.float32)
    codes = candidates(symbols, codebook / 3)
    assert all(isinstance(code.program, LookUp) for code in codes)
    costs = [code.load_cost for code in candidates(numbers, rows)]
    assert [code.load_cost for code in codes] == costs
    assert any(code.encoding == "tunstall" for code in codes)


def test_scales_cost_a_product_and_its_cast():
    symbols, codebook = sequence("a bell of 16", 70_000)
    plain = [code.load_cost for code in tensor_candidates([symbols], codebook)]
    half = tensor_candidates([symbols], codebook.astype(np.float16))
    assert all(isinstance(code.program, Wrapped) for code in half)
    factors = np.linspace(1, 2, 70_000).astype(np.float32)
    for dtype, each in ((np.float32, 4), (np.float16, 6), (np.float64, 12)):
        scaled = tensor_candidates([symbols], codebook.astype(np.float16).astype(dtype), factors=factors)
        assert {code.encoding for code in scaled} == {code.encoding for code in half}
        unscaled = [replace(code, scales=None).load_cost for code in scaled]
        assert [code.load_cost for code in scaled] == [cost + LoadCost(0.0, each * 70_000.0) for cost in unscaled]
    assert len(plain) == len(tensor_candidates([symbols], codebook, factors=factors))


@pytest.mark.parametrize(("values", "shape"), [(16, (2000, 60)), (5, (20_000, 35)), (100, (3000, 7))])
def test_rows_that_stay_packed_cost_their_bytes_and_a_table(values, shape):
    symbols = (np.arange(shape[0] * shape[1]) % values).astype(np.uint8)
    code = encode_rows(symbols, np.arange(values, dtype=np.float32), shape)
    ops = CountingOps()
    code.look_up(ops, np.empty(0, np.int64))
    assert 0.9 < (code.load_cost.peak_bytes - code.words.nbytes) / ops.computed_bytes < 1.1
    assert 0 < code.load_cost.seconds < 0.005
    assert code.load_cost.peak_bytes < 0.5 * 4 * symbols.size


def test_by_default_a_model_may_cost_what_the_least_entropy_code_takes_at_any_size():
    codes = candidates(*sequence("a bell of 16", 100_000))
    for count in (100_000, 1_000_000):
        costs = [code.load_cost.scaled(count / 100_000) for code in codes]
        assert any(cost.within(default_limit(count)) for cost in costs)
        assert default_limit(count).peak_bytes < 6 * 2.3 * 4 * count + 65e6


def test_budgets_as_people_write_them():
    assert load_budget("2s") == LoadCost(2.0, np.inf)
    assert load_budget("300MB") == LoadCost(np.inf, 3e8)
    assert load_budget("0.5s, 1.5 MB") == LoadCost(0.5, 1.5e6)
    assert load_budget("none") == LoadCost(np.inf, np.inf)
    for text in ("", "2", "fast", "-1s", "2s 300MB", "1e9s", "2s,none"):
        with pytest.raises(ArgumentError, match="like 2s, 300MB, or 2s,300MB"):
            load_budget(text)


def test_tunstall_codes_are_made_where_no_prefix_code_is_affordable():
    symbols, codebook = sequence("a bell of 16", 70_000)
    every = candidates(symbols, codebook)
    assert any(code.encoding == "tunstall" for code in every)
    fewer = candidates(symbols, codebook, limit=LoadCost(1.0, 1e9))
    assert [code.encoding for code in fewer] == [code.encoding for code in every if code.encoding != "tunstall"]
    prefix = min(code.load_cost.peak_bytes for code in every if code.encoding in ("huffman", "strides"))
    scarce = candidates(symbols, codebook, limit=LoadCost(1.0, 0.5 * prefix))
    assert {code.encoding for code in scarce} == {code.encoding for code in every}


def test_integers_may_cost_half_as_much_as_floats():
    alone = default_limit(0)
    floats, integers = default_limit(1000), default_limit(0, 1000)
    assert integers.seconds == floats.seconds
    assert 2 * (integers.peak_bytes - alone.peak_bytes) == pytest.approx(floats.peak_bytes - alone.peak_bytes, rel=0.05)
