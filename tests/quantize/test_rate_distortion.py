"""The merit of palettes: what it is on paper, and that it does not change where theory says so."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sws_compress.mixture.sensitivity import Sensitivity
from sws_compress.quantize.palette import Palette
from sws_compress.quantize.rate_distortion import coded_bits, merit_bits, squared_error
from sws_compress.quantize.weight_scales import ChannelScales

UNIFORM = (np.arange(1 << 18) + 0.5) / (1 << 18)


def on_even_cells(values: np.ndarray, bits: int) -> Palette:
    """The best palette of 2^bits entries for weights spread evenly over 0 .. 1."""
    entries = (np.arange(1 << bits) + 0.5) / (1 << bits)
    return Palette(entries.astype(np.float32), (values * (1 << bits)).astype(np.uint8), values.shape)


def test_a_bit_more_halves_the_errors_root_so_the_merit_stays() -> None:
    """Even weights on 2^R even cells take R bits at a mean square of 4^-R / 12: the merit is log2(1 / 12) / 2."""
    for bits in range(1, 9):
        palette = on_even_cells(UNIFORM, bits)
        assert palette.entropy_bits == pytest.approx(bits)
        codebook = 16 * 2**bits / UNIFORM.size
        assert merit_bits(palette, UNIFORM) - codebook == pytest.approx(math.log2(1 / 12) / 2, abs=1e-3)


def test_scaling_weights_by_c_adds_log2_c() -> None:
    palette = on_even_cells(UNIFORM, 4)
    scaled = Palette(palette.codebook * np.float32(8), palette.indices, palette.shape)
    assert merit_bits(scaled, 8 * UNIFORM) == pytest.approx(merit_bits(palette, UNIFORM) + 3)


def test_every_number_of_codebook_and_scales_takes_two_bytes() -> None:
    values = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])
    palette = Palette(np.array([0, 1], np.float32), np.array([0, 1, 1, 0, 0, 1], np.uint8), (3, 2))
    assert coded_bits(palette) == pytest.approx(6 + 2 * 16)
    scaled = Palette(palette.codebook, palette.indices, palette.shape, ChannelScales(np.ones(3, np.float32), 0))
    assert coded_bits(scaled) == pytest.approx(6 + 5 * 16)
    assert squared_error(palette, values) == pytest.approx(0.5)
    assert merit_bits(palette, values) == pytest.approx((6 + 32) / 6 + math.log2(0.5 / 6) / 2)


def test_errors_are_weighted_relative_to_the_mean_sensitivity() -> None:
    values = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])
    palette = Palette(np.array([0, 1], np.float32), np.array([0, 1, 1, 0, 0, 1], np.uint8), (3, 2))
    h = Sensitivity(np.array([[2.0], [2.0], [5.0]]))  # mean 3; only the last row has errors
    assert squared_error(palette, values, h) == pytest.approx(0.5 * 5 / 3)
    assert merit_bits(palette, values, h) == pytest.approx(38 / 6 + math.log2(0.5 * 5 / 3 / 6) / 2)


def test_exact_palettes_have_a_finite_merit() -> None:
    values = np.array([0.0, 1.0])
    palette = Palette(np.array([0, 1], np.float32), np.array([0, 1], np.uint8), (2,))
    assert math.isfinite(merit_bits(palette, values))
