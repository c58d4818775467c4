"""Two small problems, yearly sunspots and handwritten digits: training samples and fixed test sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

LAGS = 12
FIRST_YEAR, LAST_TRAINING_YEAR = 1700, 1920
TEST_PERIODS = {"1921-1955": (1921, 1955), "1956-1979": (1956, 1979), "1980-2008": (1980, 2008)}
VARIANCE_YEARS = (1700, 1979)
DIGITS_POOL = 1000


@dataclass(frozen=True)
class Sample:
    """Inputs (n, d) float32, targets (n,), and the ``fold`` (n,) of each case.

    Targets are float32 for regression and int64 for classification.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    fold: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A training sample for every seed, and test sets (inputs, targets) that all seeds share.

    ``hidden`` and ``outputs`` are units of the network; regression has 1 output. ``score_unit`` converts mean scores to
    the reported unit: squared errors of scaled targets to average relative variance, or shares of errors to percent.
    """

    name: str
    samples: tuple[Sample, ...]
    tests: dict[str, tuple[torch.Tensor, torch.Tensor]]
    hidden: int
    outputs: int
    score_unit: float

    @property
    def cases(self) -> int:
        """Cases of every training sample."""
        return len(self.samples[0].targets)

    def stacked(self, seeds: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs (nets, n, d) and targets (nets, n) of the samples of ``seeds``."""
        chosen = [self.samples[seed] for seed in seeds]
        return torch.stack([sample.inputs for sample in chosen]), torch.stack([sample.targets for sample in chosen])


def sunspots(seeds: int, folds: int) -> Problem:
    """Predict a year's sunspot number from the twelve years before it, trained on the years up to 1920.

    Weigend, Huberman & Rumelhart 1990; Nowlan & Hinton 1992. All seeds have the same sample and differ in the initial
    weights. Folds are runs of consecutive years. Numbers are scaled by mean and standard deviation of the training
    years. The score is the mean squared error over the variance of the series 1700-1979.
    """
    from statsmodels.datasets import sunspots as series

    data = series.load_pandas().data
    years, numbers = data["YEAR"].to_numpy(int), data["SUNACTIVITY"].to_numpy(float)
    training = numbers[years <= LAST_TRAINING_YEAR]
    scaled = ((numbers - training.mean()) / training.std()).astype(np.float32)
    windows = torch.from_numpy(np.lib.stride_tricks.sliding_window_view(scaled, LAGS)[:-1].copy())
    targets, target_years = torch.from_numpy(scaled[LAGS:]), years[LAGS:]

    def between(first: int, last: int) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = torch.from_numpy((target_years >= first) & (target_years <= last))
        return windows[chosen], targets[chosen]

    inputs, wanted = between(FIRST_YEAR, LAST_TRAINING_YEAR)
    sample = Sample(inputs, wanted, torch.arange(len(inputs)) * folds // len(inputs))
    whole = numbers[(years >= VARIANCE_YEARS[0]) & (years <= VARIANCE_YEARS[1])]
    return Problem(
        name="sunspots",
        samples=(sample,) * seeds,
        tests={name: between(*period) for name, period in TEST_PERIODS.items()},
        hidden=8,
        outputs=1,
        score_unit=float(training.var() / whole.var()),
    )


def digits(seeds: int, folds: int, count: int) -> Problem:
    """scikit-learn's 8 x 8 digits: each seed draws ``count`` of the first 1,000 images; the other 797 are the test.

    Images are in the order of their writing, so the test has other writers.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    inputs, targets = torch.from_numpy(images.astype(np.float32) / 16), torch.from_numpy(labels.astype(np.int64))
    samples = []
    for seed in range(seeds):
        chosen = torch.from_numpy(np.random.default_rng(seed).permutation(DIGITS_POOL)[:count])
        samples.append(Sample(inputs[chosen], targets[chosen], torch.arange(count) % folds))
    return Problem(
        name=f"digits, {count}",
        samples=tuple(samples),
        tests={"test": (inputs[DIGITS_POOL:], targets[DIGITS_POOL:])},
        hidden=32,
        outputs=10,
        score_unit=100.0,
    )
