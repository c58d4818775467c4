from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from sws_compress.errors import ArgumentError
from sws_compress.mixture.bins import BINS_PER_GRID, fine_bins
from sws_compress.mixture.sensitivity import Sensitivity
from sws_compress.quantize.channel_scaled import cluster_by_channel
from sws_compress.quantize.cluster import cluster
from sws_compress.quantize.granularity import Best, PerChannel, PerTensor, Vectors
from sws_compress.quantize.palette import Palette
from sws_compress.quantize.rate_distortion import merit_bits
from sws_compress.quantize.scales import ChannelScales


def lopsided(shape: tuple[int, ...] = (11, 7, 30), axis: int = 0, seed: int = 0) -> np.ndarray:
    """Channels along ``axis`` whose scales differ by a factor of a hundred, the last one zero."""
    rng = np.random.default_rng(seed)
    factors = np.geomspace(0.01, 1.0, shape[axis])
    factors[-1] = 0
    weights = (rng.gamma(2.0, 0.3, shape) - 0.5) * factors.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return weights.astype(np.float32)


def squared_error(palette: Palette, values: np.ndarray) -> float:
    return float(np.square(palette.expand().astype(np.float64) - values.astype(np.float64)).sum())


@pytest.mark.parametrize("count", [900, BINS_PER_GRID + 3000])
def test_weighted_bins_keep_the_sums(count: int) -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_t(2, count).astype(np.float32)
    sensitivities = rng.gamma(1.0, 3.0, count).astype(np.float32)
    bins = fine_bins(values, Sensitivity(sensitivities))
    scaled = sensitivities.astype(np.float64) / sensitivities.mean(dtype=np.float64)
    w = values.astype(np.float64)
    assert bins.counts.sum() == count
    np.testing.assert_allclose(bins.sensitivity.sum(), count, rtol=1e-6)
    np.testing.assert_allclose(bins.sensitivity @ bins.points, scaled @ w, rtol=1e-6, atol=1e-6 * count)
    second = (bins.sensitivity @ bins.points**2) + bins.scatter.sum()
    np.testing.assert_allclose(second, scaled @ w**2, rtol=1e-6)
    assert np.all(np.diff(bins.points) >= 0)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("components", [4, 16])
def test_scales_lower_the_error_of_channels_of_different_scale(axis: int, components: int) -> None:
    values = lopsided(axis=axis)
    found = cluster_by_channel(values, components, axis)
    assert found is not None
    assert found.palette.scales is not None
    assert found.palette.scales.axis == axis
    assert len(found.palette.codebook) <= components
    assert squared_error(found.palette, values) < squared_error(cluster(values, components, seed=0).palette, values)


def test_permuted_channels_give_the_permuted_tensor() -> None:
    values = lopsided()
    order = np.random.default_rng(3).permutation(len(values))
    first, second = cluster_by_channel(values, 16, 0), cluster_by_channel(values[order], 16, 0)
    assert first is not None
    assert second is not None
    np.testing.assert_allclose(second.palette.expand(), first.palette.expand()[order], rtol=1e-5)


@pytest.mark.parametrize("factor", [1e-30, 1.0, 1e30])
def test_the_unit_of_the_weights_does_not_matter(factor: float) -> None:
    values = lopsided()
    plain = cluster_by_channel(values, 16, 0)
    scaled = cluster_by_channel(values * np.float32(factor), 16, 0)
    assert plain is not None
    assert scaled is not None
    ratio = (
        squared_error(scaled.palette, values * np.float32(factor)) / factor**2 / squared_error(plain.palette, values)
    )
    assert ratio == pytest.approx(1, rel=0.01)


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


def test_no_scales_where_they_cannot_be() -> None:
    assert cluster_by_channel(np.arange(500, dtype=np.float32), 16, 0) is None
    assert cluster_by_channel(np.arange(500, dtype=np.float32)[None], 16, 0) is None
    assert cluster_by_channel(np.zeros((20, 30), np.float32), 16, 0) is None
    assert cluster_by_channel(lopsided().astype(np.float64) * 1e-200, 16, 0) is None


def test_auto_is_never_worse_than_one_codebook() -> None:
    alike = np.random.default_rng(0).standard_normal((30, 40)).astype(np.float32)
    for values in (lopsided(), alike):
        merits = {
            granularity: merit_bits(cluster(values, 16, granularity, seed=0).palette, values)
            for granularity in (PerTensor(), PerChannel(), Best())
        }
        assert merits[Best()] == min(merits[PerTensor()], merits[PerChannel()])
    few = np.repeat(np.arange(10, dtype=np.float32), 12).reshape(12, 10)
    for granularity in (Best(), PerChannel(), Vectors(2)):
        assert cluster(few, 16, granularity, seed=0).palette.expand().tobytes() == few.tobytes()


# Vectors


@pytest.mark.parametrize("dimension", [2, 4, 8])
def test_vectors_beat_scalars_of_as_many_bits_where_neighbours_agree(dimension: int) -> None:
    rng = np.random.default_rng(4)
    values = np.repeat(rng.standard_normal((60, 80)), dimension, axis=1).astype(np.float32)
    values += 0.01 * rng.standard_normal(values.shape).astype(np.float32)
    palette = cluster(values, 64, Vectors(dimension), seed=0).palette
    assert palette.dimension == dimension
    assert len(palette.codebook) <= 64
    assert squared_error(palette, values) < squared_error(cluster(values, 8, seed=0).palette, values)


def test_vectors_fall_back_to_scalars() -> None:
    rng = np.random.default_rng(5)
    for size in (601, 512):  # 2 does not divide; too few rows for 64 components
        palette = cluster(rng.standard_normal(size).astype(np.float32), 64, Vectors(2), seed=0).palette
        assert palette.dimension == 1
