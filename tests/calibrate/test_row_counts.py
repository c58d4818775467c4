"""How often rows are looked up: counts add up, and what the inputs do not use is rare, not impossible."""

from __future__ import annotations

import numpy as np
import pytest

from sws_compress.calibrate.layers import Layer
from sws_compress.calibrate.row_counts import LEAST_UNSEEN, RowCounts, expected_shares

RANDOM = np.random.default_rng(0)


def test_counts_are_those_of_the_positions() -> None:
    positions = RANDOM.integers(-7, 7, (5, 40))
    found = RowCounts.of(positions[:2], 7, 0) + RowCounts.of(positions[2:].astype(np.int32), 7, 1)
    np.testing.assert_array_equal(found.counts, [np.isin(positions, (row, row - 7)).sum() for row in range(7)])
    assert RowCounts.of(np.array([0, 3, 3]), 4, 0).not_used == 0.5


def test_shares_add_up_and_follow_the_counts() -> None:
    counts = np.array([0, 0, 1, 5, 100, 0, 20])
    shares = expected_shares(counts)
    assert shares.sum() == pytest.approx(1)
    assert (np.diff(shares[np.argsort(counts, kind="stable")]) >= 0).all()
    assert shares[0] == pytest.approx(LEAST_UNSEEN / 7)
    np.testing.assert_array_equal(expected_shares(np.zeros(4, np.int64)), 0.25)


def test_unseen_rows_get_what_further_look_ups_give_them() -> None:
    """Good and Turing's estimate, on further draws from the same distribution."""
    truth = 1 / np.arange(1, 20_001)
    truth /= truth.sum()
    first, second = (RANDOM.multinomial(5_000, truth) for _ in range(2))
    spread = expected_shares(first).min() * len(truth)
    assert spread == pytest.approx(second[first == 0].sum() / 5_000, rel=0.1)


def test_scales_pay_for_long_rows_whose_look_ups_come_again() -> None:
    truth = np.r_[np.full(50, 0.9 / 50), np.full(950, 0.1 / 950)]
    table = RANDOM.standard_normal((1000, 64))
    again = RowCounts(RANDOM.multinomial(2_000, truth, size=2))
    assert again.pays(table)
    assert not again.pays(table[:, :8])  # a scale takes two bits per weight
    other = RowCounts(np.stack([again.halves[0], again.halves[1, ::-1]]))
    assert not other.pays(table)
    once = RowCounts(np.stack([again.counts, 0 * again.counts]))
    assert not once.pays(table)


def test_steps_of_rows_follow_their_shares() -> None:
    rows = RANDOM.standard_normal((1, 3, 50))
    layer = Layer(rows, np.ones((1, 50)), scaled=True, shares=np.array([[0.01, 0.16, 0.81]]))
    ratios = layer.factors[0] / layer.factors[0, 0]
    np.testing.assert_allclose(ratios, [1, 0.01**0.25 / 0.16**0.25, 0.01**0.25 / 0.81**0.25], rtol=1e-3)
    coded = layer.coded(0.01)
    errors = np.square(coded.codebook[coded.indices] * coded.factors[..., None] - rows).sum(axis=2)[0]
    assert errors[0] > errors[1] > errors[2]
