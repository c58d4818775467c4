"""One price for all layers: levels that are trusted halfway, and the price for a number of bits."""

from __future__ import annotations

import numpy as np
import pytest

from sws_compress.calibrate.bit_allocation import Sample, levels, price_for
from sws_compress.calibrate.layers import Layer


def sample(*, energy: float = 1.0, trial_error: float = 1.0, size: int = 4096, seed: int = 0) -> Sample:
    values = np.random.default_rng(seed).standard_normal(size)
    return Sample(values, size, 1.0, energy, trial_error)


def test_equal_gains_mean_equal_relative_errors() -> None:
    found = levels([sample(energy=4.0, trial_error=0.25), sample(energy=0.5, trial_error=2.0)])
    assert found == pytest.approx([0.25, 2.0])


def test_gains_are_trusted_halfway() -> None:
    found = levels([sample(trial_error=100.0), sample(trial_error=1.0)])
    assert found == pytest.approx([10 * 10**0.5, 10 / 10**0.5])


def test_layers_that_seem_not_to_matter_keep_some_bits() -> None:
    assert min(levels([sample(trial_error=1e-30), sample(trial_error=1.0)])) > 1e-5
    assert all(np.isfinite(levels([sample(trial_error=0.0), sample(trial_error=0.0)])))


def test_layers_that_the_inputs_do_not_use_count_like_the_mean() -> None:
    used = [sample(trial_error=4.0), sample(trial_error=1.0)]
    found = levels([*used, sample(trial_error=0.0, energy=3.0)])
    assert found == pytest.approx([*levels(used), 2.0 / 3.0])


@pytest.mark.parametrize("bits_per_weight", [0.5, 2.0, 5.0])
def test_the_price_meets_the_bits(bits_per_weight: float) -> None:
    samples = [sample(trial_error=3.0), sample(size=20_000, seed=1), sample(energy=1e-3, seed=2)]
    total = bits_per_weight * sum(each.count for each in samples)
    price = price_for(samples, total)
    own = levels(samples)
    found = sum(each.bits(level, price) for each, level in zip(samples, own, strict=True))
    assert found == pytest.approx(total, rel=1e-2)


def test_samples_stand_for_large_layers() -> None:
    rows = np.random.default_rng(0).standard_normal((1, 512, 512))
    layer = Layer(rows, np.eye(512)[None], scaled=False)
    drawn = Sample.of(layer, 1.0, seed=0)
    assert drawn.values.size < rows.size == drawn.count
    whole = Sample(layer.divided.reshape(-1), rows.size, layer.sensitivity, layer.energy, 1.0)
    assert drawn.bits(1.0, 1e-2) == pytest.approx(whole.bits(1.0, 1e-2), rel=5e-3)
