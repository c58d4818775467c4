"""Scales of channels and blocks: how they broadcast, expand and are counted, and what they refuse."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from sws_compress.errors import ArgumentError
from sws_compress.quantize.granularity import PerBlock
from sws_compress.quantize.palette import Palette
from sws_compress.quantize.weight_scales import BlockScales, ChannelScales


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_part_is_a_part_of_all_factors(axis: int) -> None:
    shape = (3, 5, 4)
    scales = ChannelScales(np.arange(1, shape[axis] + 1, dtype=np.float32), axis)
    every = np.broadcast_to(scales.broadcast(shape), shape).reshape(-1)
    for start, stop in ((0, 60), (7, 8), (3, 41), (59, 60), (20, 40)):
        np.testing.assert_array_equal(scales.part(shape, start, stop), every[start:stop])


def test_scales_are_counted_beside_the_codebook() -> None:
    palette = Palette(np.zeros(5, np.float32), np.zeros(12, np.uint8), (3, 4))
    assert palette.table_numbers == 5
    scaled = Palette(palette.codebook, palette.indices, palette.shape, ChannelScales(np.ones(3, np.float32), 0))
    assert scaled.table_numbers == 8
    assert BlockScales(np.ones((7, 3), np.float32), PerBlock(16)).count == 21


def test_blocks_cover_a_row() -> None:
    scales = BlockScales(np.ones((2, 3), np.float32), PerBlock(16))
    assert scales.slices(40) == (slice(0, 16), slice(16, 32), slice(32, 40))
    scales.check_fit(2, 33)
    with pytest.raises(ArgumentError, match=r"scales must have shape \(2, 4\), got \(2, 3\): blocks have 16 weights"):
        scales.check_fit(2, 49)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((2, 3)), "must be float32 of shape"),
        (np.ones(3, np.float32), "must be float32 of shape"),
        (np.array([[1, 0]], np.float32), "finite and not 0"),
        (np.array([[1, np.nan]], np.float32), "finite and not 0"),
    ],
)
def test_block_scales_refuse(values: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        BlockScales(values, PerBlock())


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_palettes_hold_products_of_float32(dtype: Any) -> None:
    rng = np.random.default_rng(2)
    codebook = rng.standard_normal(5).astype(np.float16 if dtype == np.float64 else dtype).astype(dtype)
    scales = ChannelScales(rng.gamma(1, 1, 7).astype(np.float32), 1)
    palette = Palette(codebook, rng.integers(0, 5, 3 * 7 * 4).astype(np.uint8), (3, 7, 4), scales)
    units = codebook[palette.indices].reshape(3, 7, 4).astype(np.float32)
    wanted = (units * scales.values[:, None]).astype(dtype)
    assert palette.expand().tobytes() == wanted.tobytes()
    for start, stop in ((0, 84), (5, 6), (3, 61), (84, 84)):
        assert palette.part(start, stop).tobytes() == wanted.reshape(-1)[start:stop].tobytes()


@pytest.mark.parametrize(
    ("values", "axis", "message"),
    [
        (np.ones(3, np.float32), 0, "one per slice along an axis"),
        (np.ones(2, np.float32), 2, "one per slice along an axis"),
        (np.array([1, np.inf], np.float32), 0, "finite and > 0"),
        (np.array([1, 0], np.float32), 0, "finite and > 0"),
        (np.ones(2), 0, "must be float32"),
    ],
)
def test_scales_that_do_not_fit(values: Any, axis: int, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Palette(np.ones(1, np.float32), np.zeros(6, np.uint8), (2, 3), ChannelScales(values, axis))


def test_codebooks_that_float32_does_not_hold() -> None:
    scales = ChannelScales(np.ones(2, np.float32), 0)
    with pytest.raises(ArgumentError, match="exact in float32"):
        Palette(np.array([0.1]), np.zeros(6, np.uint8), (2, 3), scales)
