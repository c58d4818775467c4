"""Palettes: exact ones of few distinct values, their counts, and what they refuse."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sws_compress.errors import ArgumentError, ModelError
from sws_compress.mixture.mixture import Mixture
from sws_compress.quantize.assign import snap
from sws_compress.quantize.palette import Palette, palette_of
from tests import reference


def lopsided(count: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).gamma(2.0, 0.3, count) - 0.4).astype(np.float32)


@given(
    arrays.arrays(
        np.float32,
        arrays.array_shapes(max_dims=3, max_side=12),
        elements=st.one_of(
            st.sampled_from([0.0, -0.0, 1.0, 1e-45, -1e-45]), st.floats(width=32, allow_nan=False, allow_infinity=False)
        ),
    )
)
@settings(deadline=None)
def test_palette_of_is_exact(values: np.ndarray) -> None:
    palette = palette_of(values)
    distinct = len(set(values.view(np.uint32).reshape(-1).tolist()))
    if distinct > 256:
        assert palette is None
        return
    assert palette is not None
    assert len(palette.codebook) == distinct
    np.testing.assert_array_equal(palette.expand().view(np.uint32), values.view(np.uint32))
    keys = [(float(v), not np.signbit(v)) for v in palette.codebook]
    assert keys == sorted(keys)


def test_256_values_of_a_large_tensor_are_a_palette() -> None:
    values = np.arange(1 << 14, dtype=np.float32) % 256
    palette = palette_of(values)
    assert palette is not None
    assert palette.expand().tobytes() == values.tobytes()


@pytest.mark.parametrize(("distinct", "found"), [(255, True), (256, True), (257, False)])
def test_palette_of_at_the_limit_with_rare_values(distinct: int, found: bool) -> None:
    """The last values occur once each, where a sample does not see them."""
    values = np.resize(np.arange(200, dtype=np.float32), 600_001)
    values[1 :: 600_000 // (distinct - 200)][: distinct - 200] = np.arange(200, distinct)
    assert len(np.unique(values)) == distinct
    palette = palette_of(values.reshape(1, -1))
    assert (palette is not None) == found
    if palette is not None:
        np.testing.assert_array_equal(palette.expand(), values.reshape(1, -1))


def test_palette_of_ordinary_weights_is_none() -> None:
    assert palette_of(lopsided(300_000)) is None


def test_palette_of_strided_weights() -> None:
    values = np.round(lopsided(1200) * 8).reshape(30, 40)[::3, ::-1].T
    palette = palette_of(values)
    assert palette is not None
    np.testing.assert_array_equal(palette.expand(), values)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_palette_of_refuses_what_is_not_finite(bad: float) -> None:
    values = lopsided(500_000)
    values[-2:] = bad
    for some in (values, values[-5:]):  # many distinct values or few
        with pytest.raises(ModelError, match="got 2 NaN or infinite"):
            palette_of(some)


def test_entropy_and_zeros() -> None:
    symbols = np.array([0, 0, 1, 2, 0, 1, 0], np.uint8)
    palette = Palette(np.array([0.0, 1.5, -1.0], np.float32), symbols, (7,))
    assert palette.entropy_bits == pytest.approx(reference.entropy_bits(symbols.tolist()))
    assert palette.zeros == pytest.approx(4 / 7)
    pairs = Palette(np.array([[0.0, 0.0], [0.0, 3.0]], np.float32), np.array([0, 1, 1], np.uint8), (2, 3))
    assert pairs.zeros == pytest.approx(4 / 6)
    assert pairs.dimension == 2
    np.testing.assert_array_equal(pairs.expand(), [[0, 0, 0], [3, 0, 3]])
    constant = Palette(np.array([2.0], np.float32), np.zeros(5, np.uint8), (5,))
    assert constant.entropy_bits == 0


@pytest.mark.parametrize(
    ("codebook", "indices", "shape", "message"),
    [
        (np.zeros(2, np.complex64), np.zeros(3, np.uint8), (3,), "codebook must hold numbers"),
        (np.zeros(0, np.float32), np.zeros(3, np.uint8), (3,), "1 to 65,536 entries, got 0"),
        (np.zeros(65_537, np.float32), np.zeros(3, np.uint16), (3,), "1 to 65,536 entries, got 65,537"),
        (np.zeros(257, np.float32), np.zeros(3, np.uint8), (3,), "indices must be uint16"),
        (np.zeros(256, np.float32), np.zeros(3, np.uint16), (3,), "indices must be uint8"),
        (np.zeros(2, np.float32), np.zeros(3, np.int64), (3,), "indices must be uint8"),
        (np.zeros(2, np.float32), np.full(3, 2, np.uint8), (3,), "indices must be < 2, got 2"),
        (np.zeros(2, np.float32), np.zeros(3, np.uint8), (4,), r"shape must hold 3 values, got \(4,\)"),
    ],
)
def test_palette_refuses(codebook: np.ndarray, indices: np.ndarray, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Palette(codebook, indices, shape)


def test_palette_of_refuses_other_dtypes() -> None:
    with pytest.raises(ArgumentError, match="must be numbers and not empty, got complex64"):
        palette_of(np.zeros(3, np.complex64))


@pytest.mark.parametrize(
    "dtype", [bool, ml_dtypes.int4, ml_dtypes.uint4, np.int8, np.uint8, np.int32, np.int64, np.uint64]
)
def test_palettes_of_integers_hold_every_bit(dtype: type) -> None:
    values = np.random.default_rng(0).choice(np.arange(8).astype(dtype), (40, 50), p=[0.3, *[0.1] * 7])
    if np.dtype(dtype).itemsize == 8:
        values[values == 7] = np.iinfo(dtype).max  # apart from its neighbours in no float
        values[values == 6] = np.iinfo(dtype).max - 1
    palette = palette_of(values)
    assert palette is not None
    assert (palette.expand().dtype, palette.expand().tobytes()) == (values.dtype, values.tobytes())


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_palettes_have_the_type_of_the_tensor(dtype: type) -> None:
    values = lopsided(900).astype(dtype).reshape(30, 30)
    mixture = Mixture(np.full(3, 1 / 3), np.array([0.0, 0.21, 1.3]), np.full(3, 0.1))
    snapped = snap(values, mixture)
    assert snapped.codebook.dtype == values.dtype
    assert np.array_equal(snapped.codebook, snapped.codebook.astype(np.float32).astype(dtype))
    errors = [(values.astype(np.float64) - mean) ** 2 for mean in mixture.means]
    mean_of_last = values[np.argmin(errors, axis=0) == 2].astype(np.float64).mean()
    assert float(snapped.codebook[2]) == pytest.approx(mean_of_last, rel=1e-2)
    values = snapped.expand()
    values[3, 4] = -0.0
    exact = palette_of(values)
    assert exact is not None
    assert exact.expand().dtype == values.dtype
    assert exact.expand().tobytes() == values.tobytes()
    assert len(exact.codebook) == 4


def test_palettes_of_float64_keep_every_bit() -> None:
    values = np.array([0.1, 1e-310, -1e300, np.nextafter(0.1, 1)])[np.arange(40) % 4]
    exact = palette_of(values)
    assert exact is not None
    assert exact.expand().tobytes() == values.tobytes()
