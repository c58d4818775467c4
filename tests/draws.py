"""Distributions that weights are drawn from in tests: lopsided, off centre, with outliers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

DRAWS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda random, n: random.normal(0.3, 1, n),
    "laplace": lambda random, n: random.laplace(-0.1, 0.2, n),
    "two humps": lambda random, n: np.r_[random.normal(-5, 1, n // 3), random.normal(9, 0.1, n - n // 3)],
    "far from zero": lambda random, n: random.normal(100, 0.01, n),
    "heavy tail": lambda random, n: random.standard_t(1.5, n),
    "outliers": lambda random, n: np.r_[random.normal(0, 0.01, n - 3), 7.1, -4.0, 7.3],
}
