"""The search for the smallest file that keeps a metric: what was measured counts, and few files are measured."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sws_compress.metric_sense import Sense
from sws_compress.pipelines.drop_search import MOST_TRIES, Found, Try, drop_note, smallest_within

FINEST, START, COARSEST = -8.0, 0.0, 5.0


class Curve:
    """Files whose size falls by half a bit of eight per doubling of the price, with noise in the metric."""

    def __init__(self, scale: float, exponent: float = 1.0, noise: float = 0.0, seed: int = 0) -> None:
        self.scale, self.exponent, self.noise = scale, exponent, noise
        self.random = np.random.default_rng(seed)
        self.tries: list[Try[None]] = []

    def bytes_of(self, log_price: float) -> int:
        return round(100_000 - 6_250 * log_price / math.log(2))

    def __call__(self, log_price: float) -> Try[None]:
        drop = self.scale * math.exp(self.exponent * log_price) + self.noise * self.random.standard_normal()
        self.tries.append(Try(log_price, self.bytes_of(log_price), drop, None))
        return self.tries[-1]


def search(curve: Curve, max_drop: float) -> Found[None]:
    return smallest_within(max_drop, curve, START, FINEST, COARSEST)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("scale", [0.01, 0.3, 1.0, 5.0])
def test_the_size_is_that_of_the_bound_within_a_few_percent(scale: float, exponent: float) -> None:
    curve = Curve(scale, exponent)
    best = search(curve, 1.0).best
    bound = min(max(math.log(1 / scale) / exponent, FINEST), COARSEST)
    assert best.drop <= 1
    assert curve.bytes_of(bound) <= best.file_bytes <= 1.03 * curve.bytes_of(bound)
    assert len(curve.tries) <= 8


@pytest.mark.parametrize("seed", range(20))
def test_noise_does_not_let_in_a_file_that_lost_more(seed: int) -> None:
    curve = Curve(1.0, noise=0.4, seed=seed)
    found = search(curve, 1.0)
    kept = [tried for tried in curve.tries if tried.drop <= 1]
    assert len(curve.tries) <= MOST_TRIES
    assert found.tries == len(curve.tries)
    if kept:
        assert found.best.file_bytes == min(tried.file_bytes for tried in kept)
        assert found.best.drop <= 1
    else:
        assert found.best.drop == min(tried.drop for tried in curve.tries)


def test_what_no_price_keeps() -> None:
    found = search(Curve(1e6), 1.0)
    assert found.best.log_price == FINEST
    assert drop_note(found, 1.0, Sense.MAX) == (
        f"metric falls by {found.best.drop:.4g}, more than the 1 asked for: none of {found.tries} files "
        "evaluated keeps it, and this is the one with the least drop; allow more"
    )


def test_what_every_price_keeps() -> None:
    found = search(Curve(0.0), 0.0)
    assert found.best.log_price == COARSEST
    assert drop_note(found, 0.0, Sense.MAX) == (
        f"metric falls by 0, at most 0 asked for: smallest of {found.tries} files evaluated"
    )
