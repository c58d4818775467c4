"""Estimates of what loading costs: in proportion, in order, and what is left out for them."""

from __future__ import annotations

import numpy as np
import pytest

from sws_compress.codec import candidates
from sws_compress.codec.candidates import affordable
from sws_compress.codec.load_cost import LoadCost, default_limit, load_budget
from sws_compress.errors import ArgumentError

BELL = np.exp(-(np.linspace(-3.5, 3.5, 16) ** 2) / 2)


def bell(count, dtype=np.float32, limit=None):
    symbols = np.random.default_rng(0).choice(16, count, p=BELL / BELL.sum()).astype(np.uint8)
    return candidates(symbols, np.linspace(-1.7, 1, 16).astype(dtype), limit=limit)


def test_estimates_are_those_measured_for_nine_million_weights():
    """`benchmarks/encodings/load.py`: 0.36 s and 144 MB for radix, 2.2 s and 1.3 GB for Huffman planes, 0.7 s and
    330 MB for strides of few depths."""
    codes = [code for code in bell(100_000) if code.codebook.dtype == np.float32]
    costs = {code.encoding: code.load_cost.scaled(9e6 / 1e5) for code in codes}
    assert 0.15 < costs["radix"].seconds < 0.5
    assert costs["radix"].peak_bytes == pytest.approx(144e6, rel=0.1)
    assert 1.4 < costs["huffman"].seconds < 2.8
    assert costs["huffman"].peak_bytes == pytest.approx(1.3e9, rel=0.1)
    assert 0.4 < costs["strides"].seconds < 1.2
    assert costs["strides"].peak_bytes < 6 * 2.3 * 4 * 9e6


def test_by_default_a_model_may_cost_what_the_least_entropy_code_takes_at_any_size():
    for count in (100_000, 1_000_000):
        costs = [code.load_cost.scaled(count / 100_000) for code in bell(100_000)]
        assert any(cost.within(default_limit(count)) for cost in costs)
        assert default_limit(count).peak_bytes < 6 * 2.3 * 4 * count + 65e6


def test_costs_grow_with_the_weights_whatever_the_program_is_wrapped_in():
    symbols = np.where(np.random.default_rng(0).random(70_000) < 0.1, np.arange(70_000) % 5, 2).astype(np.uint8)
    for codebook in (np.array([-2, -1, 0, 1, 2]), np.array([-2, -1, 0, 1, 0.1])):
        for dtype in (np.float32, np.float16, np.float64):
            small, large = (candidates(np.tile(symbols, times), codebook.astype(dtype)) for times in (1, 4))
            for one, four in zip(small, large, strict=True):
                assert four.load_cost.seconds == pytest.approx(4 * one.load_cost.seconds, rel=0.05)
                assert four.load_cost.peak_bytes == pytest.approx(4 * one.load_cost.peak_bytes, rel=0.3)


def test_budgets_as_people_write_them():
    assert load_budget("2s") == LoadCost(2.0, np.inf)
    assert load_budget("300MB") == LoadCost(np.inf, 3e8)
    assert load_budget("0.5s, 1.5 MB") == LoadCost(0.5, 1.5e6)
    assert load_budget("none") == LoadCost(np.inf, np.inf)
    for text in ("", "2", "fast", "-1s", "2s 300MB", "1e9s", "2s,none"):
        with pytest.raises(ArgumentError, match="like 2s, 300MB, or 2s,300MB"):
            load_budget(text)


def test_only_codes_within_the_limit_are_affordable():
    codes = bell(50_000)
    fast = min(code.load_cost.seconds for code in codes)
    assert affordable(codes, LoadCost(1.0, 1e9)) == codes
    assert {code.encoding for code in affordable(codes, LoadCost(fast, 1e9))} == {"radix"}
    assert {code.encoding for code in affordable(codes, LoadCost(1.0, 1.1e6))} == {"radix"}
    assert [code.encoding for code in affordable(codes, LoadCost(0.0, 0.0))] == ["radix"]
    assert affordable(candidates(np.empty(0, np.uint8), BELL.astype(np.float32)), LoadCost(0.0, 0.0)) == ()


def test_tunstall_codes_are_made_where_no_prefix_code_is_affordable():
    every = bell(70_000)
    assert any(code.encoding == "tunstall" for code in every)
    assert not any(code.encoding == "tunstall" for code in bell(70_000, limit=LoadCost(1.0, 1e9)))
    prefix = min(code.load_cost.peak_bytes for code in every if code.encoding in ("huffman", "strides"))
    scarce = bell(70_000, limit=LoadCost(1.0, 0.99 * prefix))
    assert [code.encoding for code in scarce] == [code.encoding for code in every]
