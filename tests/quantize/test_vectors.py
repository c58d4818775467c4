"""Clustering to vectors: better where neighbours agree, scalars where there are too few, sensitivities and prices."""

from __future__ import annotations

import numpy as np
import pytest

from sws_compress.mixture.sensitivity import Sensitivity
from sws_compress.quantize import vectors
from sws_compress.quantize.cluster import cluster
from sws_compress.quantize.granularity import Vectors
from sws_compress.quantize.rate_distortion import squared_error


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


def correlated(seed: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = np.repeat(rng.gamma(2.0, 0.5, (90, 40)) - 0.4, 2, axis=1)
    return (values + 0.1 * rng.standard_normal(values.shape)).astype(np.float32)


def test_sensitive_columns_get_the_smaller_errors() -> None:
    values = correlated()
    h = Sensitivity(np.where(np.arange(80) % 4 == 0, 25.0, 0.1)[None])
    plain, weighted = (cluster(values, 16, Vectors(2), sensitivity=s, seed=0).palette for s in (None, h))
    assert squared_error(weighted, values, h) < 0.8 * squared_error(plain, values, h)


def test_a_price_buys_entropy_with_error() -> None:
    values = correlated()
    palettes = [cluster(values, 16, Vectors(2), bit_price=price, seed=0).palette for price in (0.0, 0.05, 0.3)]
    entropies = [palette.entropy_bits for palette in palettes]
    errors = [squared_error(palette, values) for palette in palettes]
    assert entropies == sorted(entropies, reverse=True)
    assert entropies[0] > entropies[2] + 0.5
    assert errors == sorted(errors)


def test_one_sensitivity_for_all_is_none() -> None:
    values = correlated()
    plain = cluster(values, 16, Vectors(2), bit_price=0.05, seed=0).palette
    uniform = cluster(values, 16, Vectors(2), sensitivity=Sensitivity(np.array(4.0)), bit_price=0.2, seed=0).palette
    assert plain.codebook.tobytes() == uniform.codebook.tobytes()
    assert plain.indices.tobytes() == uniform.indices.tobytes()


def test_every_hard_step_lowers_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    values = correlated()
    errors = []
    for steps in (1, vectors.HARD_STEPS):
        monkeypatch.setattr(vectors, "HARD_STEPS", steps)
        errors.append(squared_error(cluster(values, 16, Vectors(2), seed=0).palette, values))
    assert errors[1] < errors[0]


@pytest.mark.parametrize(("count", "dimension"), [(64 * 8 * 2, 2), (64 * 8 * 2 - 2, 1)])
def test_a_component_needs_eight_vectors(count: int, dimension: int) -> None:
    values = np.random.default_rng(5).standard_normal(count).astype(np.float32)
    assert cluster(values, 64, Vectors(2), seed=0).palette.dimension == dimension


def test_insensitive_vectors_do_not_move_the_mixture() -> None:
    values = correlated()
    values[45:] += 100
    h = Sensitivity(np.where(np.arange(90) < 45, 1.0, 0.0)[:, None])
    found = cluster(values, 16, Vectors(2), sensitivity=h, seed=0)
    assert found.palette.dimension == 2
    assert found.mixture.means.max() < 50


def test_a_sample_of_many_vectors_is_drawn_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    values = correlated()
    whole = cluster(values, 16, Vectors(2), seed=0).palette
    monkeypatch.setattr(vectors, "SAMPLE_VECTORS", 700)
    first, again, other = (cluster(values, 16, Vectors(2), seed=seed).palette for seed in (0, 0, 1))
    assert first.codebook.tobytes() == again.codebook.tobytes()
    assert first.codebook.tobytes() != other.codebook.tobytes()
    assert squared_error(first, values) < 1.3 * squared_error(whole, values)
