"""The last assignment: what was measured is what the run ends with."""

from __future__ import annotations

import math

import pytest

from sws_compress.metric_sense import Sense
from sws_compress.train.allowance import Allowance
from sws_compress.train.measures import Measures, with_norms_settled
from sws_compress.train.settling import ALLOWANCE_TRIES, settle_allowance
from sws_compress.train.targets import SteeringTarget


class Weights:
    """Weights of which 1 / price bits are left; a number of bits is met from above, as by bisection."""

    def __init__(self, bits: float) -> None:
        self.bit_price = 1 / bits

    @property
    def coded_bits(self) -> float:
        return 1 / self.bit_price

    def assign_bits(self, coded_bits: float) -> None:
        self.assign_at(1 / (1.0003 * coded_bits))

    def assign_at(self, bit_price: float) -> None:
        self.bit_price = bit_price


@pytest.mark.parametrize("bits", [500.0, 900.0, 1000.0, 1500.0])
@pytest.mark.parametrize("roughness", [0.0, 0.02, 0.1])
def test_the_end_is_one_that_was_measured_within_the_allowance(bits: float, roughness: float) -> None:
    """A metric of few rows jumps between assignments that hardly differ."""
    weights = Weights(bits)
    measured: dict[float, float] = {}

    def used_now() -> float:
        used = 1000 / weights.coded_bits + roughness * math.sin(1e5 * weights.coded_bits)
        measured[weights.bit_price] = used
        return used

    settle_allowance(weights, used_now, None)
    within = {price: used for price, used in measured.items() if used <= 1}
    assert len(measured) <= ALLOWANCE_TRIES
    if within:
        assert weights.bit_price == max(within)  # the fewest bits
    if bits >= 900 and roughness == 0:
        assert weights.coded_bits == pytest.approx(1000, rel=0.05)


def test_without_a_size_within_the_allowance_the_last_epoch_comes_back() -> None:
    weights = Weights(100.0)
    settle_allowance(weights, lambda: 2.0, 400.0)
    assert weights.coded_bits == pytest.approx(400, rel=1e-3)


def test_the_drop_counts_from_the_float_network_untouched() -> None:
    """Batch norms with statistics taken anew change the metric of the float network, too: the caller's counts."""
    target = SteeringTarget(metric_drop=2.0)
    measures = with_norms_settled(Measures(validate=lambda: 90.0, validate_file=lambda: 89.0), fail, fail)
    assert measures.validate_float is not None
    allowance = Allowance(target, measures.validate_float, measures.validate_file, lambda: 0.0, Sense.MAX)
    allowance.start()
    assert allowance.metric_before == 90.0
    assert allowance.used(89.0, 0.0) == 0.5


def fail() -> None:
    raise AssertionError("the float network must not be touched")
