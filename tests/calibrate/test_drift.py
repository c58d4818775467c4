"""Weights that follow inputs which the layers before them have changed."""

from __future__ import annotations

import numpy as np
import pytest

from sws_compress.calibrate import drift
from sws_compress.calibrate.drift import Drift
from sws_compress.calibrate.error_feedback import Feedback
from sws_compress.errors import ArgumentError

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.standard_normal((2, 5, 4))
BEFORE = RANDOM.standard_normal((300, 2, 4))
NOW = BEFORE + 0.3 * RANDOM.standard_normal((300, 2, 4)) - 0.2 * BEFORE[..., ::-1]


def outputs(rows: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    return np.einsum("god,ngd->ngo", rows, inputs)


def feedback_of(inputs: np.ndarray) -> list[Feedback]:
    return [Feedback.of(moment) for moment in np.einsum("ngi,ngj->gij", inputs, inputs) / len(inputs)]


def test_all_of_the_correction_is_the_least_squares_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "FOLLOWED", 1.0)
    found = Drift.of(BEFORE, NOW).followed(ROWS, feedback_of(NOW))
    for group in range(2):
        wanted = outputs(ROWS, BEFORE)[:, group]
        expected = np.linalg.lstsq(NOW[:, group], wanted, rcond=None)[0].T
        np.testing.assert_allclose(found[group], expected, rtol=1e-9)


def test_half_of_it_is_closer_than_none() -> None:
    found = Drift.of(BEFORE, NOW).followed(ROWS, feedback_of(NOW))
    errors = [float(np.square(outputs(rows, NOW) - outputs(ROWS, BEFORE)).sum()) for rows in (ROWS, found)]
    assert errors[1] < 0.8 * errors[0]


def test_weights_stay_where_inputs_did() -> None:
    np.testing.assert_array_equal(Drift.of(NOW, NOW).followed(ROWS, feedback_of(NOW)), ROWS)


def test_parts_add_up() -> None:
    whole = Drift.of(BEFORE, NOW)
    parts = Drift.of(BEFORE[:100], NOW[:100]).include(BEFORE[100:], NOW[100:])
    assert parts.samples == whole.samples == 300
    np.testing.assert_allclose(parts.sums, whole.sums, rtol=1e-9)


def test_pairs_have_the_same_shape() -> None:
    with pytest.raises(ArgumentError, match="must have the same shape"):
        Drift.of(BEFORE, NOW[:7])
