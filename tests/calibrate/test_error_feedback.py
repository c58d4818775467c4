"""Assignment with error feedback: the algebra, exactness of each choice, and less error of the outputs."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from sws_compress.calibrate import error_feedback
from sws_compress.calibrate.column_order import CHOSEN_TOGETHER, ordered_factor
from sws_compress.calibrate.error_feedback import BLOCK_COLUMNS, PIECE_ROWS, SURVIVOR_COLUMNS, Feedback
from sws_compress.calibrate.grids import even_codebook, nearest, price_of, shares_of
from sws_compress.calibrate.moments import WIDE_INPUTS, InputMoment, output_energy

EVEN = np.arange(-8, 9) / 2.0


def moment_of(size: int, seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    inputs = random.standard_normal((200, size)) @ random.standard_normal((size, size))
    return InputMoment.of(inputs[:, None]).shrunk()[0]


def test_feedback_is_the_cholesky_factor_of_the_inverse_in_its_order() -> None:
    feedback = Feedback.of(moment := moment_of(7))
    upper = np.linalg.cholesky(np.linalg.inv(moment[np.ix_(feedback.order, feedback.order)])).T
    np.testing.assert_allclose(feedback.curvatures, 1 / np.diag(upper) ** 2, rtol=1e-9)
    np.testing.assert_allclose(feedback.spread, np.triu(-upper / np.diag(upper)[:, None], 1), atol=1e-12)
    assert np.prod(feedback.curvatures) == pytest.approx(np.linalg.det(moment))


def test_later_columns_make_up_for_an_error_as_well_as_they_can() -> None:
    """Moving the later columns by ``spread`` leaves curvature * error^2, the minimum over all their moves."""
    moment = moment_of(6)
    feedback = Feedback.of(moment)
    assert feedback.spread is not None
    for j, column in enumerate(feedback.order):
        change = np.zeros(6)
        change[column] = 1.0
        later = feedback.order[j + 1 :]
        best = -np.linalg.solve(moment[np.ix_(later, later)], moment[later, column])
        change[later] = best
        assert change @ moment @ change == pytest.approx(feedback.curvatures[j])
        np.testing.assert_allclose(-feedback.spread[j, j + 1 :], best, atol=1e-9)


@pytest.mark.parametrize("size", [1, CHOSEN_TOGETHER, 3 * CHOSEN_TOGETHER + 5, WIDE_INPUTS])
def test_the_order_has_a_factor_of_its_own_and_makes_costs_alike(size: int) -> None:
    moment = moment_of(size)
    order, upper = ordered_factor(moment)
    reversed_order = order[::-1]
    np.testing.assert_array_equal(np.sort(order), np.arange(size))
    wanted = moment[np.ix_(reversed_order, reversed_order)]
    np.testing.assert_allclose(upper.T @ upper, wanted, rtol=1e-9 if size < WIDE_INPUTS else 1e-3, atol=1e-5 * size)
    assert not np.tril(upper, -1).any()
    assert order[-1] == np.diag(moment).argmin()
    as_given = np.square(np.diag(np.linalg.cholesky(moment[::-1, ::-1])))
    assert np.square(np.diag(upper)).sum() <= as_given.sum() * (1 + 1e-6)


def slow_assignment(rows: Any, feedback: Feedback, codebook: Any, shares: Any, bit_price: float) -> Any:
    """Each choice by trying all entries."""
    chosen = np.zeros(rows.shape, int)
    for r, row in enumerate(rows):
        w = row[feedback.order]
        for j in range(len(w)):
            costs = feedback.curvatures[j] * (w[j] - codebook) ** 2 - bit_price * np.log2(shares)
            best = chosen[r, feedback.order[j]] = int(costs.argmin())
            w += (w[j] - codebook[best]) * feedback.spread[j]
    return chosen


def slow_survivors(row: Any, feedback: Feedback, codebook: Any, costs: Any, survivors: int) -> Any:
    """The entries of a row in the order of the columns, every survivor extended by all of them."""
    alive: list[tuple[float, list[int], Any]] = [(0.0, [], row[feedback.order])]
    for j in range(len(row)):
        extended = [
            (total + feedback.curvatures[j] * (w[j] - codebook[k]) ** 2 + costs[k], [*entries, k], w)
            for total, entries, w in alive
            for k in range(len(codebook))
        ]
        alive = [
            (total, entries, w + (w[j] - codebook[entries[-1]]) * feedback.spread[j])
            for total, entries, w in sorted(extended, key=lambda each: each[0])[:survivors]
        ]
    return alive[0][1]


@pytest.mark.parametrize("survivors", [2, 5])
@pytest.mark.parametrize(("outputs", "inputs"), [(PIECE_ROWS + 2, 3), (5, 2 * SURVIVOR_COLUMNS + 3)])
def test_the_cheapest_survivors_are_followed(survivors: int, outputs: int, inputs: int) -> None:
    random = np.random.default_rng(6)
    rows, feedback, codebook = random.standard_normal((outputs, inputs)), Feedback.of(moment_of(inputs)), EVEN
    shares = shares_of(nearest(rows, codebook), len(codebook))
    found = feedback.assign(rows, codebook, shares, 0.05, survivors)
    for row, own in zip(rows, found[:, feedback.order], strict=True):
        assert own.tolist() == slow_survivors(row, feedback, codebook, -0.05 * np.log2(shares), survivors)


def test_more_survivors_cost_less() -> None:
    random = np.random.default_rng(7)
    rows, moment = random.standard_normal((100, 40)), moment_of(40)
    feedback, shares = Feedback.of(moment), shares_of(nearest(rows, EVEN), len(EVEN))
    price = price_of(0.5, float(np.exp(np.log(feedback.curvatures).mean())))

    def cost(survivors: int) -> float:
        found = feedback.assign(rows, EVEN, shares, price, survivors)
        return float(
            output_energy((rows - EVEN[found])[None], moment[None]).sum() - price * np.log2(shares[found]).sum()
        )

    one, two, eight = map(cost, (1, 2, 8))
    assert one > two > eight


@pytest.mark.parametrize("bit_price", [0.0, 0.05, 5.0])
@pytest.mark.parametrize(("outputs", "inputs"), [(37, 9), (PIECE_ROWS + 2, 2 * BLOCK_COLUMNS + 5)])
def test_every_choice_is_the_cheapest(
    bit_price: float, outputs: int, inputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(error_feedback, "WIDE_COLUMNS", 2 * BLOCK_COLUMNS)
    random = np.random.default_rng(1)
    rows = random.standard_t(3, (outputs, inputs))
    feedback = Feedback.of(moment_of(inputs))
    codebook = np.sort(random.standard_t(2, 40))
    shares = random.dirichlet(np.full(40, 0.3)) + 1e-9
    found = feedback.assign(rows, codebook, shares, bit_price)
    np.testing.assert_array_equal(found, slow_assignment(rows, feedback, codebook, shares, bit_price))


def test_rows_are_not_changed_and_do_not_depend_on_each_other() -> None:
    rows = np.random.default_rng(2).standard_normal((40, 8))
    before = rows.copy()
    feedback, codebook = Feedback.of(moment_of(8)), np.linspace(-2, 2, 9)
    together = feedback.assign(rows, codebook, np.full(9, 1 / 9), 0.1)
    np.testing.assert_array_equal(rows, before)
    alone = [feedback.assign(row[None], codebook, np.full(9, 1 / 9), 0.1)[0] for row in rows]
    np.testing.assert_array_equal(together, alone)


def test_feedback_is_near_the_best_of_all_assignments() -> None:
    random = np.random.default_rng(3)
    moment, codebook = moment_of(4, seed=4), np.linspace(-2, 2, 9)
    rows = random.uniform(-1, 1, (60, 4))
    every = codebook[np.array(list(product(range(9), repeat=4)))]
    best = np.array([output_energy((row - every)[None], moment[None]).min() for row in rows])
    found = Feedback.of(moment).assign(rows, codebook, np.full(9, 1 / 9), 0.0)
    own = output_energy((rows - codebook[found])[None], moment[None])[0]
    rounded = output_energy((rows - codebook[nearest(rows, codebook)])[None], moment[None])[0]
    assert (own >= best - 1e-12).all()
    assert own.mean() - best.mean() < 0.5 * (rounded.mean() - best.mean())


def test_a_price_buys_bits_with_error() -> None:
    random = np.random.default_rng(5)
    moment, rows = moment_of(16), random.standard_normal((400, 16))
    feedback = Feedback.of(moment)
    curvature = float(np.exp(np.log(feedback.curvatures).mean()))
    codebook = even_codebook(rows, 0.5)
    shares = shares_of(nearest(rows, codebook), len(codebook))
    bits, errors = [], []
    for factor in (0.0, 1.0, 10.0):
        chosen = feedback.assign(rows, codebook, shares, factor * price_of(0.5, curvature))
        found = np.bincount(chosen.reshape(-1), minlength=len(codebook)) / chosen.size
        bits.append(-(found[found > 0] * np.log2(found[found > 0])).sum())
        errors.append(float(output_energy((rows - codebook[chosen])[None], moment[None]).mean()))
    assert bits[0] > bits[1] > bits[2]
    assert errors[0] < errors[1] < errors[2]


def test_rows_over_the_moment_solve_it() -> None:
    moment, rows = moment_of(8), np.random.default_rng(1).standard_normal((5, 8))
    np.testing.assert_allclose(Feedback.of(moment).over_moment(rows) @ moment, rows, rtol=1e-6, atol=1e-9)
    diagonal = np.diag(moment)
    np.testing.assert_allclose(Feedback.of(diagonal).over_moment(rows) * diagonal, rows, rtol=1e-12)
