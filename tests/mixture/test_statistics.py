"""Variances that weights of one type can have."""

from __future__ import annotations

import numpy as np
import pytest

from sws_compress.mixture.statistics import variance_resolution


@pytest.mark.parametrize("magnitude", [1e-3, 1.0, 512.0])
def test_resolution_is_the_square_of_half_a_float32_step(magnitude: float) -> None:
    step = np.finfo(np.float32).eps * magnitude
    assert variance_resolution(magnitude) == pytest.approx((step / 2) ** 2)


def test_resolution_is_never_zero() -> None:
    assert variance_resolution(0.0) == 1e-200
