"""What bits buy: curves that tell what assignment makes, and prices that meet a goal."""

from __future__ import annotations

import numpy as np
import pytest

from sws_compress.calibrate.fixed_length import coded_in_words
from sws_compress.calibrate.layers import Coded, Layer
from sws_compress.calibrate.rate_curves import Curve, Rate, Rates, curve_by_entropy, curve_in_words
from sws_compress.entropy import entropy_bits

BITS = {4: 2.0, 16: 4.0, 64: 6.0}


def layer(seed: int) -> Layer:
    random = np.random.default_rng(seed)
    rows = random.standard_t(5, (1, 300, 40)) * random.uniform(0.1, 2, (300, 1))
    mixing = random.standard_normal((40, 40))
    return Layer(rows, (mixing @ mixing.T / 40 + 0.3 * np.eye(40))[None], scaled=True)


def error(one: Layer, coded: Coded) -> float:
    """Weighted energy of the error relative to that of the outputs."""
    return one.error(coded.codebook[coded.indices] * coded.factors[..., None] - one.rows) / one.energy


def test_curves_tell_the_error_of_codebooks() -> None:
    one = layer(0)
    for rate in curve_in_words(one, BITS).rates:
        assert rate.entries is not None
        assert error(one, coded_in_words(one, rate.entries)) == pytest.approx(rate.error, rel=0.5)


@pytest.mark.parametrize("price", [1e-8, 1e-7, 1e-6])
def test_curves_tell_the_bits_of_even_grids(price: float) -> None:
    one = layer(1)
    rate = curve_by_entropy(one).at(1.0, price)
    coded = one.at_level(1 / one.energy).coded(price)
    bits = entropy_bits(np.bincount(coded.indices.reshape(-1))) / coded.indices.size
    assert bits == pytest.approx(rate.bits, abs=0.35)
    assert 10 * np.log10(error(one, coded)) == pytest.approx(10 * np.log10(rate.error), abs=1.5)


def test_dead_layers_take_the_fewest_bits() -> None:
    dead = Layer(np.zeros((1, 30, 20)), np.eye(20)[None], scaled=True)
    assert curve_in_words(dead, BITS).at(1.0, 1e-9).entries == 4
    assert curve_by_entropy(dead).at(1.0, 1e-9).bits == 0


def rates(tried: list[tuple[float, float]]) -> Rates:
    """Two layers that halve their error with each half bit; the second matters ten times as much."""
    steps = [Rate(bits / 8, 4 ** (-bits / 8)) for bits in range(100)]
    curves = {name: Curve(1000, tuple(steps)) for name in ("first", "second")}
    return Rates(curves, {"first": 0.1, "second": 1.0}, {"first": 0.1, "second": 1.0}, tried)


def test_layers_that_matter_more_get_more_bits() -> None:
    chosen = rates([(1e-6, 1e-3)]).chosen(1e-6)
    assert chosen["second"].bits - chosen["first"].bits == pytest.approx(np.log2(10) / 2, abs=0.13)


def test_prices_meet_bits() -> None:
    known = rates([(1e-6, 1e-3)])
    for bits in (3000.0, 9000.0):
        assert known.bits(known.price_for_bits(bits)) == pytest.approx(bits, rel=0.05)


def test_errors_together_are_what_was_found_where_it_was_tried() -> None:
    one = rates([(1e-6, 2e-3)])
    assert one.error(1e-6) == pytest.approx(2e-3)
    assert one.error(1e-7) / one.error(1e-6) == pytest.approx(0.1, rel=0.2)
    two = rates([(1e-6, 2e-3), (1e-8, 1e-6)])
    assert two.error(1e-8) == pytest.approx(1e-6)
    assert two.error(two.price_for_error(1e-4)) == pytest.approx(1e-4, rel=0.2)
