"""Even codebooks: the step a price is worth, how they cover values, and what to do with heavy tails."""

from __future__ import annotations

import numpy as np
import pytest

from sws_compress.calibrate.grids import even_codebook, nearest, price_of, shares_of, step_of
from sws_compress.thresholds import MAX_EVEN_CODEBOOK


def test_step_and_price_are_inverse() -> None:
    for step in (1e-4, 0.3, 7.0):
        assert float(step_of(price_of(step, 2.5), 2.5)) == pytest.approx(step)


def test_a_bit_is_worth_its_price() -> None:
    """Halving the step costs one bit per weight; around a step, the error saved per bit is the price."""
    values = np.random.default_rng(0).standard_normal(400_000)
    step, sensitivity = 0.3, 2.0

    def rate_and_cost(own: float) -> tuple[float, float]:
        codebook = even_codebook(values, own)
        indices = nearest(values, codebook)
        shares = np.bincount(indices) / values.size
        rate = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum()
        return float(rate), float(sensitivity * np.square(values - codebook[indices]).mean())

    (fine_rate, fine_cost), (coarse_rate, coarse_cost) = rate_and_cost(step / 1.1), rate_and_cost(step * 1.1)
    slope = (coarse_cost - fine_cost) / (fine_rate - coarse_rate)
    assert slope == pytest.approx(price_of(step, sensitivity), rel=0.05)


@pytest.mark.parametrize("shift", [0.0, 3.0, -50.0])
def test_codebooks_are_near_all_values_and_hold_zero(shift: float) -> None:
    values = np.random.default_rng(1).standard_normal(1000) + shift
    codebook = even_codebook(values, 0.25)
    assert 0.0 in codebook
    assert (np.diff(codebook) > 0).all()
    assert abs(values - codebook[nearest(values, codebook)]).max() <= 0.125 + 1e-12


@pytest.mark.parametrize("shift", [0.0, 0.5, -3.0])
@pytest.mark.parametrize("step", [1e-5, 1e-6])
def test_steps_grow_until_the_codebook_is_small_enough(shift: float, step: float) -> None:
    values = np.random.default_rng(2).uniform(-1, 1, 200_000) + shift
    codebook = even_codebook(values, step)
    assert MAX_EVEN_CODEBOOK / 2 < len(codebook) <= MAX_EVEN_CODEBOOK
    assert 0.0 in codebook
    finest = np.diff(codebook).min()
    multiples = codebook / finest
    np.testing.assert_allclose(multiples, np.round(multiples), atol=1e-6 * abs(multiples).max())
    assert abs(values - codebook[nearest(values, codebook)]).max() <= finest * (0.5 + 0.5 * 0.06) + step


def test_finer_steps_always_make_smaller_errors() -> None:
    values = np.random.default_rng(4).standard_t(2, 50_000)
    errors = []
    for step in (2.0, 0.5, 0.15, 1e-9):
        codebook = even_codebook(values, step)
        errors.append(float(np.square(values - codebook[nearest(values, codebook)]).mean()))
    assert errors[0] > errors[1] > errors[2] > errors[3]


def test_constant_weights_need_two_entries_at_most() -> None:
    assert even_codebook(np.zeros(4), 1.0).tolist() == [0.0]
    assert even_codebook(np.full(4, 2.0), 1.0).tolist() == [0.0, 2.0]


def test_shares_are_never_zero() -> None:
    shares = shares_of(np.uint8([[0, 0], [2, 0]]), 4)
    assert shares.sum() == pytest.approx(1)
    assert (shares > 0).all()
    assert shares[0] > shares[2] > shares[1] == shares[3]
