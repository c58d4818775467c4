"""Weights coded to a quality of their own: it is met, more of it costs bits, and units do not matter."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from sws_compress.calibrate.layers import Layer
from sws_compress.calibrate.own_quality import coded_to, error_decibels
from sws_compress.entropy import entropy_bits

Array = npt.NDArray[np.float64]


def channels(outputs: int = 40, inputs: int = 300, seed: int = 0) -> Array:
    """Rows of one layer whose sizes lie within five orders of magnitude, as folded norms leave them."""
    random = np.random.default_rng(seed)
    return random.standard_normal((1, outputs, inputs)) * np.geomspace(1e-3, 1e2, outputs)[:, None]


def alone(rows: Array, *, relative: float = 1.0) -> Layer:
    return Layer(rows, np.ones((len(rows), rows.shape[2])), scaled=True, relative=relative)


def bits(layer: Layer, quality: float) -> float:
    return entropy_bits(np.bincount(coded_to(layer, quality).indices.reshape(-1)))


@pytest.mark.parametrize("quality", [8.0, 20.0, 32.0, 60.0])
def test_the_quality_is_met_in_every_channel(quality: float) -> None:
    layer = alone(channels())
    coded = coded_to(layer, quality)
    assert error_decibels(layer, coded) == pytest.approx(quality, abs=0.1)
    errors = np.square(coded.codebook[coded.indices] * coded.factors[..., None] - layer.rows).sum(axis=2)
    each = 10 * np.log10(np.square(layer.rows).sum(axis=2) / errors)
    np.testing.assert_allclose(each, quality, atol=1.5)


def test_six_decibels_cost_a_bit() -> None:
    layer = alone(channels())
    assert bits(layer, 32) - bits(layer, 26) == pytest.approx(layer.rows.size, rel=0.02)


@pytest.mark.parametrize("unit", [1e-9, 1e7])
def test_units_do_not_matter(unit: float) -> None:
    rows = channels()
    np.testing.assert_array_equal(coded_to(alone(rows), 25).indices, coded_to(alone(unit * rows), 25).indices)


def test_absolute_errors_are_met_together() -> None:
    layer = alone(channels(), relative=0.0)
    coded = coded_to(layer, 12)
    changes = coded.codebook[coded.indices] * coded.factors[..., None] - layer.rows
    assert 10 * np.log10(np.square(layer.rows).sum() / np.square(changes).sum()) == pytest.approx(12, abs=0.1)


def test_a_diagonal_moment_is_that_matrix() -> None:
    rows = channels(8, 30)
    diagonal = np.random.default_rng(1).uniform(0.1, 3, (1, 30))
    short, full = Layer(rows, diagonal, scaled=True), Layer(rows, np.diag(diagonal[0])[None], scaled=True)
    np.testing.assert_allclose(short.factors, full.factors, rtol=1e-6)
    assert short.energy == pytest.approx(full.energy)
    np.testing.assert_array_equal(coded_to(short, 20).indices, coded_to(full, 20).indices)


def test_zeros_cost_nothing() -> None:
    assert not bits(alone(np.zeros((1, 4, 100))), 30)
