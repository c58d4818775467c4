"""Constants that keep mean outputs: what is left of an error is what the covariance of the inputs says."""

from __future__ import annotations

import numpy as np

from sws_compress.calibrate.drift import Drift
from sws_compress.calibrate.moments import InputMoment, output_energy
from sws_compress.calibrate.repair import Means

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.standard_normal((2, 5, 4))
CODED = ROWS + 0.1 * RANDOM.standard_normal(ROWS.shape)
BEFORE = RANDOM.standard_normal((300, 2, 4)) + RANDOM.uniform(-3, 3, (2, 4))
NOW = BEFORE + 0.3 * RANDOM.standard_normal(BEFORE.shape) + 0.5


def outputs(rows: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    return np.einsum("god,ngd->ngo", rows, inputs)


def test_mean_outputs_stay() -> None:
    added = Means(BEFORE.mean(axis=0), NOW.mean(axis=0)).kept_by(ROWS, CODED)
    found, wanted = outputs(CODED, NOW) + added, outputs(ROWS, BEFORE)
    np.testing.assert_allclose(found.mean(axis=0), wanted.mean(axis=0), rtol=1e-9)
    for other in (0.9 * added, 1.1 * added):
        worse = outputs(CODED, NOW) + other
        assert np.square(found - wanted).sum() < np.square(worse - wanted).sum()


def test_the_moment_around_the_mean_is_the_energy_of_what_is_left() -> None:
    moment = InputMoment.of(BEFORE[:100]).include(BEFORE[100:])
    added = Means(moment.mean, moment.mean).kept_by(ROWS, CODED)
    left = np.square(outputs(CODED - ROWS, BEFORE) + added).mean(axis=0)
    centred = moment.centred()
    np.testing.assert_allclose(output_energy(CODED - ROWS, centred.sums / centred.samples), left, rtol=1e-9)
    np.testing.assert_allclose(centred.mean, 0)


def test_the_drift_around_the_means_is_that_of_centred_inputs() -> None:
    found = (Drift.of(BEFORE[:100], NOW[:100]).include(BEFORE[100:], NOW[100:])).centred()
    expected = Drift.of(BEFORE - BEFORE.mean(axis=0), NOW - NOW.mean(axis=0))
    np.testing.assert_allclose(found.sums, expected.sums, rtol=1e-9, atol=1e-9)
    assert found.samples == expected.samples == 300
