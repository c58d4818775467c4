"""Clustering with scales of channels: lower errors, and what it shares with ordinary clustering."""

from __future__ import annotations

import numpy as np
import pytest

from sws_compress.mixture.sensitivity import Sensitivity
from sws_compress.quantize import channel_scaled, rate_distortion
from sws_compress.quantize.channel_scaled import cluster_by_channel
from sws_compress.quantize.cluster import cluster
from sws_compress.quantize.granularity import PerChannel
from sws_compress.quantize.palette import Palette
from sws_compress.quantize.scalar import cluster_scalars


def lopsided(shape: tuple[int, ...] = (11, 7, 30), axis: int = 0, seed: int = 0) -> np.ndarray:
    """Channels along ``axis`` whose scales differ by a factor of a hundred, the last one zero."""
    rng = np.random.default_rng(seed)
    factors = np.geomspace(0.01, 1.0, shape[axis])
    factors[-1] = 0
    weights = (rng.gamma(2.0, 0.3, shape) - 0.5) * factors.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return weights.astype(np.float32)


def squared_error(palette: Palette, values: np.ndarray) -> float:
    return float(np.square(palette.expand().astype(np.float64) - values.astype(np.float64)).sum())


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


def test_no_scales_where_they_cannot_be() -> None:
    assert cluster_by_channel(np.arange(500, dtype=np.float32), 16, 0) is None
    assert cluster_by_channel(np.arange(500, dtype=np.float32)[None], 16, 0) is None
    assert cluster_by_channel(np.arange(500, dtype=np.float32).reshape(2, 250), 16, 0) is not None
    assert cluster_by_channel(np.zeros((20, 30), np.float32), 16, 0) is None
    assert cluster_by_channel(lopsided().astype(np.float64) * 1e-200, 16, 0) is None


def test_channels_are_ordinary_clustering_with_squared_scales_as_sensitivities() -> None:
    values = lopsided()
    found = cluster_by_channel(values, 16, 0)
    assert found is not None
    assert found.palette.scales is not None
    factors = found.palette.scales.broadcast(values.shape)
    ordinary = cluster_scalars(values / factors, 16, sensitivity=Sensitivity(np.square(factors, dtype=np.float64)))
    np.testing.assert_array_equal(found.palette.codebook, ordinary.palette.codebook)
    np.testing.assert_array_equal(found.palette.indices, ordinary.palette.indices)


@pytest.mark.parametrize("count", [11, 2000])
def test_no_other_codebook_has_less_error_at_these_scales_and_indices(count: int) -> None:
    """Entries are the sensitivity-weighted means of their members, for bins of one value and of many."""
    values = lopsided((count, 7, 30))
    found = cluster_by_channel(values, 16, 0)
    assert found is not None
    palette, scales = found.palette, found.palette.scales
    assert scales is not None
    factors = np.broadcast_to(scales.broadcast(values.shape), values.shape).astype(np.float64).reshape(-1)
    moments = np.bincount(palette.indices, weights=factors * values.reshape(-1))
    best = moments / np.bincount(palette.indices, weights=factors**2)
    held = palette.codebook == 0  # where a channel is all zero, a component stays there
    np.testing.assert_allclose(palette.codebook[~held], best[~held], rtol=1e-3)  # halves


def test_sensitive_channels_get_the_smaller_errors() -> None:
    values = lopsided()
    rows = np.random.default_rng(7).permutation(np.geomspace(0.01, 100, len(values)))
    h = Sensitivity.along(rows, axis=0, ndim=3)
    plain, weighted = (cluster(values, 8, PerChannel(), sensitivity=s, seed=0).palette for s in (None, h))
    assert weighted.scales is not None
    assert rate_distortion.squared_error(weighted, values, h) < 0.95 * rate_distortion.squared_error(plain, values, h)


def test_every_fit_of_codebook_and_scales_lowers_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last fit is worth its time: it still gains 1 % on channels that a mean square does not describe."""
    rng = np.random.default_rng(8)
    values = (rng.standard_t(1.5, (40, 7, 30)) * np.geomspace(0.01, 1, 40)[:, None, None]).astype(np.float32)
    errors = []
    for fits in (1, 2, channel_scaled.CODEBOOK_FITS):
        monkeypatch.setattr(channel_scaled, "CODEBOOK_FITS", fits)
        found = cluster_by_channel(values, 8, 0)
        assert found is not None
        errors.append(squared_error(found.palette, values))
    assert errors[2] < 0.99 * errors[1] < 0.99 * errors[0]
