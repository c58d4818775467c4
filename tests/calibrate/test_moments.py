"""Second moments of inputs: sums over samples, shrinkage, and the energy of outputs."""

from __future__ import annotations

import numpy as np
import pytest

from sws_compress.calibrate.moments import LEAST_SHRINKAGE, InputMoment, correlated, output_energy
from sws_compress.errors import ArgumentError

RANDOM = np.random.default_rng(0)


def test_moments_of_parts_add_up() -> None:
    inputs = RANDOM.standard_normal((50, 3, 4)).astype(np.float32)
    whole = InputMoment.of(inputs)
    parts = InputMoment.of(inputs[:20]).include(inputs[20:])
    assert parts.samples == whole.samples == 50
    np.testing.assert_allclose(parts.sums, whole.sums, rtol=1e-12)
    np.testing.assert_allclose(whole.sums[1], sum(np.outer(x, x) for x in inputs[:, 1].astype(np.float64)), rtol=1e-12)


def test_many_samples_are_trusted() -> None:
    mixing = RANDOM.standard_normal((6, 6))
    moment = InputMoment.of((RANDOM.standard_normal((200_000, 6)) @ mixing)[:, None])
    mean = moment.sums[0] / moment.samples
    expected = (1 - LEAST_SHRINKAGE) * mean + LEAST_SHRINKAGE * np.trace(mean) / 6 * np.eye(6)
    np.testing.assert_allclose(moment.shrunk()[0], expected, rtol=1e-6)


def test_few_samples_of_many_inputs_are_not() -> None:
    inputs = RANDOM.standard_normal((20, 1, 100))
    shrunk = InputMoment.of(inputs).shrunk()[0]
    mean = inputs[:, 0].T @ inputs[:, 0] / 20
    truth = np.eye(100)
    assert np.linalg.norm(shrunk - truth) < np.linalg.norm(mean - truth) / 3
    assert np.linalg.eigvalsh(shrunk).min() > 0.3


def test_the_trace_stays() -> None:
    moment = InputMoment.of(RANDOM.standard_normal((10, 2, 30)))
    for shrunk, sums in zip(moment.shrunk(), moment.sums, strict=True):
        assert np.trace(shrunk) == pytest.approx(np.trace(sums) / 10)


def test_inputs_that_are_always_zero_treat_all_weights_alike() -> None:
    np.testing.assert_array_equal(InputMoment.of(np.zeros((5, 1, 3))).shrunk()[0], np.eye(3))


def test_inputs_need_three_axes() -> None:
    with pytest.raises(ArgumentError, match=r"inputs must have shape \(n, groups, d\), got \(5, 3\)"):
        InputMoment.of(np.zeros((5, 3)))


def test_the_energy_is_that_of_the_outputs() -> None:
    inputs = RANDOM.standard_normal((40, 2, 5))
    rows = RANDOM.standard_normal((2, 3, 5))
    outputs = np.einsum("god,ngd->ngo", rows, inputs)
    moment = InputMoment.of(inputs)
    np.testing.assert_allclose(output_energy(rows, moment.sums / 40), np.square(outputs).mean(axis=0), rtol=1e-12)


def test_correlations_are_believed_in_part() -> None:
    inputs = RANDOM.standard_normal((500, 2, 6)) @ RANDOM.standard_normal((6, 6)) * np.geomspace(0.1, 10, 6)
    moment = InputMoment.of(inputs)
    np.testing.assert_array_equal(correlated(moment, 0.0), np.broadcast_to(np.eye(6), (2, 6, 6)))
    whole, part = correlated(moment, 1.0), correlated(moment, 0.3)
    np.testing.assert_allclose(part - np.eye(6), 0.3 * (whole - np.eye(6)), atol=1e-12)
    assert (np.linalg.eigvalsh(part) >= 0.7 - 1e-12).all()
    np.testing.assert_allclose(correlated(InputMoment.of(30 * inputs), 0.3), part, rtol=1e-9)
