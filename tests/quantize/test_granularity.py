"""Granularities are values, and what does not exist is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sws_compress.errors import ArgumentError
from sws_compress.quantize.granularity import Best, PerBlock, PerChannel, PerTensor, Vectors, check_granularity


def test_equal_granularities_are_one_key() -> None:
    assert len({PerTensor(), PerTensor(), PerChannel(), Vectors(2), Vectors(length=2), Vectors(4), Best(), Best()}) == 5


@pytest.mark.parametrize(("columns", "blocks"), [(1, 1), (31, 1), (32, 1), (33, 2), (100, 4)])
def test_blocks_cover_a_row(columns: int, blocks: int) -> None:
    assert PerBlock(32).blocks(columns) == blocks
    assert PerBlock(1).blocks(columns) == columns


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Vectors(1), "length of vectors must be 2, 4 or 8, got 1: for single weights take PerTensor"),
        (lambda: Vectors(3), "got 3"),
        (lambda: PerBlock(0), "size of blocks must be >= 1, got 0"),
        (lambda: Best(()), "at least one granularity, got none"),
        (
            lambda: check_granularity("channel"),
            r"must be PerTensor\(\), PerChannel\(\), Vectors\(length\) or Best\(\), got 'channel'",
        ),
        (lambda: check_granularity(PerBlock()), r"got PerBlock\(size=32\)"),
    ],
)
def test_refuses(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()
