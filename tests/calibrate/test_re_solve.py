"""Scales and codebooks for fixed assignments: the least-squares solutions, and nothing that comes out worse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sws_compress.calibrate import re_solve
from sws_compress.calibrate.layers import Coded, Layer
from sws_compress.calibrate.moments import InputMoment
from sws_compress.calibrate.re_solve import best_codebook, best_factors, re_solved

RANDOM = np.random.default_rng(0)
GROUPS, OUTPUTS, INPUTS = 2, 5, 7
ROWS = RANDOM.standard_normal((GROUPS, OUTPUTS, INPUTS)) * RANDOM.uniform(0.2, 2, (GROUPS, OUTPUTS, 1))
MIXED = RANDOM.standard_normal((400, GROUPS, INPUTS)) @ RANDOM.standard_normal((INPUTS, INPUTS))
FULL = InputMoment.of(MIXED).shrunk()
DIAGONAL = np.ascontiguousarray(np.diagonal(FULL, axis1=1, axis2=2))


def error(layer: Layer, coded: Coded) -> float:
    return layer.error(coded.codebook[coded.indices] * coded.factors[..., None] - layer.rows)


@pytest.mark.parametrize("moment", [FULL, DIAGONAL], ids=["full", "diagonal"])
def test_the_codebook_solves_the_normal_equations(moment: np.ndarray) -> None:
    codebook = np.array([-1.0, -0.4, 0.0, 0.6, 1.5])
    indices = RANDOM.integers(0, len(codebook), ROWS.shape).astype(np.uint8)
    factors, costs = RANDOM.uniform(0.5, 2, (2, GROUPS, OUTPUTS))
    matrix, right = np.zeros((5, 5)), np.zeros(5)
    for group in range(GROUPS):
        own = moment[group] if moment.ndim == 3 else np.diag(moment[group])
        for output in range(OUTPUTS):
            chosen = factors[group, output] * np.eye(5)[indices[group, output]]  # (inputs, entries)
            matrix += costs[group, output] * chosen.T @ own @ chosen
            right += costs[group, output] * chosen.T @ own @ ROWS[group, output]
    free = codebook != 0
    expected = np.zeros(5)
    expected[free] = np.linalg.solve(matrix[np.ix_(free, free)], right[free])
    found = best_codebook(ROWS, indices, codebook, moment, factors, costs)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("moment", [FULL, DIAGONAL], ids=["full", "diagonal"])
def test_no_other_factor_comes_closer(moment: np.ndarray) -> None:
    entries = np.round(2 * ROWS) / 2
    entries[0, 0] = 0
    factors = best_factors(ROWS, entries, moment, np.full((GROUPS, OUTPUTS), 3.0))
    assert factors[0, 0] == 3
    layer = Layer(ROWS, moment, scaled=True)
    least = layer.error(factors[..., None] * entries - ROWS)
    for other in (0.99 * factors, 1.01 * factors):
        assert layer.error(other[..., None] * entries - ROWS) > least


@pytest.mark.parametrize("scaled", [False, True])
def test_the_assignment_stays_and_the_error_falls(scaled: bool) -> None:
    layer = Layer(np.random.default_rng(1).standard_normal((1, 20, INPUTS)), FULL[:1], scaled)
    coded = layer.coded(0.5)
    found = re_solved(layer, coded)
    np.testing.assert_array_equal(found.indices, coded.indices)
    assert error(layer, found) < 0.98 * error(layer, coded)
    assert not found.codebook[coded.codebook == 0].any()
    assert scaled or (found.factors == 1).all()
    np.testing.assert_array_equal(found.factors, found.factors.astype(np.float16))


def test_large_layers_and_codebooks_that_are_computed_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Layer(ROWS, FULL, scaled=True)
    coded = layer.coded(0.5)
    assert re_solved(layer, coded) is not coded
    computed = replace(coded, codebook=np.arange(300.0))
    assert re_solved(layer, computed) is computed
    monkeypatch.setattr(re_solve, "MOST_WEIGHTS", ROWS.size - 1)
    assert re_solved(layer, coded) is coded
