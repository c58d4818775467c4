"""Palettes on the grid of integers that runtimes keep in memory."""

from __future__ import annotations

import numpy as np
import pytest

from sws_compress.quantize.cluster import cluster
from sws_compress.quantize.granularity import PerTensor, Vectors
from sws_compress.quantize.integer_palette import MOST_LOSS, WORD_BITS, Groups, integer_palette
from sws_compress.quantize.palette import Palette
from sws_compress.quantize.weight_scales import ChannelScales


def on_steps(numbers, step, scales=None):
    """A palette of multiples of a step."""
    used, indices = np.unique(numbers, return_inverse=True)
    codebook = (used * step).astype(np.float32)
    return Palette(codebook, indices.reshape(-1).astype(np.uint8), numbers.shape, scales)


def added(palette, found):
    """Squared error that integers add."""
    return float(np.square(palette.expand().astype(np.float64) - found.expand()).sum())


@pytest.mark.parametrize(
    ("low", "high", "bits"), [(-2, 1, 2), (0, 1, 2), (-8, 7, 4), (-3, 2, 4), (-9, 3, 8), (-128, 127, 8), (0, 100, 8)]
)
def test_even_codebooks_are_exact_in_the_narrowest_words(low, high, bits):
    random = np.random.default_rng(low + 3 * high)
    numbers = random.integers(low, high + 1, (12, 50))
    numbers[0, :2] = low, high
    palette = on_steps(numbers, 0.0371)
    found = integer_palette(palette, Groups(0))
    assert (found.bits, found.factors, found.loss) == (bits, None, 0)
    assert np.array_equal(found.integers, numbers)
    assert np.allclose(found.expand(), palette.expand(), rtol=3e-7, atol=0)


def test_every_other_multiple_may_be_missing():
    found = integer_palette(on_steps(np.array([[-6, -2, 0, 3]]), 0.5), Groups(0))
    assert found.integers.tolist() == [[-6, -2, 0, 3]]
    assert float(found.scales) == 0.5


def test_scales_of_slices_multiply_the_step():
    numbers = np.random.default_rng(1).integers(-100, 100, (6, 5, 4))
    factors = np.float32([0.5, 1, 2, 3, 4])
    palette = on_steps(numbers, 0.01, ChannelScales(factors, axis=1))
    found = integer_palette(palette, Groups(1))
    assert found.axis == 1
    assert np.allclose(found.scales, 0.01 * factors, rtol=1e-6)
    assert np.allclose(found.expand(), palette.expand(), rtol=1e-6)


@pytest.mark.parametrize("groups", [Groups(0), Groups(1), Groups(0, 16), Groups(1, 32)])
def test_groups_that_reach_too_far_are_rounded_to_multiples_of_a_power_of_two(groups):
    random = np.random.default_rng(2)
    numbers = np.rint(random.normal(0, 10, (400, 384)))
    numbers[3, 5], numbers[3, 60] = 300, -129
    palette = on_steps(numbers, 0.25)
    found = integer_palette(palette, groups)
    assert set(np.unique(found.factors)) <= {1, 2, 4}
    rows = groups.rows(numbers.astype(np.int16))
    assert found.factors.shape == rows.shape[:2]
    for row, group in np.ndindex(found.factors.shape):
        reach = np.abs(rows[row, group]).max()
        assert found.factors[row, group] == {0: 1, 1: 2, 2: 4}[int(reach > 128) + int(reach > 256)]
    assert np.abs(found.expand() / 0.25 - numbers).max() <= 2
    same = np.array_equal(groups.tensor(rows, numbers.shape), numbers)
    assert same
    per_weight = 12 * added(palette, found) / 0.25**2 / numbers.size
    assert found.loss == pytest.approx(per_weight, rel=0.3)


def test_smaller_groups_lose_less():
    random = np.random.default_rng(3)
    numbers = np.rint(random.normal(0, 10, (100, 256)))
    numbers[3, 5], numbers[17, 60] = 200, -200
    palette = on_steps(numbers, 1)
    losses = [integer_palette(palette, Groups(0, size)).loss for size in (16, 64, 256)]
    assert losses == sorted(losses)
    assert 0 < losses[0] < losses[-1] < MOST_LOSS


@pytest.mark.parametrize(("components", "decibels"), [(4, 0.05), (16, 0.05), (32, 0.1), (64, 0.5)])
def test_learned_codebooks_lose_little(components, decibels):
    weights = np.random.default_rng(4).normal(size=(100, 300)).astype(np.float32)
    palette = cluster(weights, components, PerTensor(), seed=0).palette
    found = integer_palette(palette, Groups(0))
    before, after = (np.square(weights - each.expand().astype(np.float64)).sum() for each in (palette, found))
    assert 10 * np.log10(after / before) < decibels
    assert 10 * np.log10(1 + found.loss) < decibels
    assert np.abs(found.integers.astype(int)).max() <= 1 << (found.bits - 1)


def test_a_codebook_of_close_entries_stays_one_of_floats():
    weights = np.random.default_rng(5).normal(size=(200, 200)).astype(np.float32)
    assert integer_palette(cluster(weights, 256, PerTensor(), seed=0).palette, Groups(0)) is None


def test_other_values_than_float32_scalars_are_left_alone():
    weights = np.random.default_rng(6).normal(size=(64, 64)).astype(np.float32)
    assert integer_palette(cluster(weights, 16, Vectors(length=2), seed=0).palette, Groups(0)) is None
    half = Palette(np.float16([0, 1]), np.uint8([0, 1]), (1, 2))
    assert integer_palette(half, Groups(0)) is None


def test_zeros_alone_are_zeros():
    found = integer_palette(Palette(np.float32([0]), np.zeros(6, np.uint8), (2, 3)), Groups(0))
    assert found.bits == WORD_BITS[0]
    assert not found.expand().any()
