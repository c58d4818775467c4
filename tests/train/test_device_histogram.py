"""Moments per bin by torch operations, called on CPU tensors, against the kernel and float64 loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sws_compress.mixture.histogram import weight_histogram, weight_range
from sws_compress.train import device_histogram as histogram
from sws_compress.train.device_histogram import moment_table, moment_table_on_device, value_range

BINS = 64


def lopsided(count: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy((np.random.default_rng(seed).gamma(1.5, 0.1, count) - 0.07).astype(np.float32))


def assert_equal_tables(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert torch.equal(found[:, 0], wanted[:, 0])
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("count", [0, 1, 1000, 100_003])
def test_equals_the_kernel_to_rounding(count: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histogram, "PIECE_WEIGHTS", 4099)
    values = lopsided(count).to(dtype)
    found = moment_table_on_device(values, low=-0.06, high=0.3, bins=BINS)  # some lie outside
    assert found[:, 0].sum() == count
    assert_equal_tables(found, moment_table(values, low=-0.06, high=0.3, bins=BINS))


def test_equals_float64_loops() -> None:
    values, low, high = lopsided(500), -0.06, 0.3
    wanted = torch.zeros(BINS, 3, dtype=torch.float64)
    step = (high - low) / BINS
    for w in values.tolist():
        place = min(max(int((w - low) / step), 0), BINS - 1)
        offset = w - (low + (place + 0.5) * step)
        wanted[place] += torch.tensor([1.0, offset, offset**2], dtype=torch.float64)
    assert_equal_tables(moment_table_on_device(values, low=low, high=high, bins=BINS), wanted)


def test_any_layout_and_parts_add_up() -> None:
    values = lopsided(60 * 35).view(60, 35)
    whole = moment_table_on_device(values, low=-0.1, high=0.5, bins=BINS)
    assert_equal_tables(moment_table_on_device(values.t(), low=-0.1, high=0.5, bins=BINS), whole)
    parts = [moment_table_on_device(part, low=-0.1, high=0.5, bins=BINS) for part in values.split([7, 0, 53])]
    assert_equal_tables(sum(parts, torch.zeros_like(whole)), whole)


def test_spread_of_constant_weights_does_not_cancel() -> None:
    values = torch.full((10_000,), 1000.0) + torch.tensor([0.0, 2.0**-13]).repeat(5000)
    table = moment_table_on_device(values, low=999.0, high=1001.0, bins=7)
    mean = table[3, 1] / table[3, 0]
    assert float(table[3, 2] / table[3, 0] - mean**2) == pytest.approx(2.0**-28, rel=1e-6)


def test_standard_deviation_is_exact_however_coarse() -> None:
    values = lopsided(5001).numpy()
    low, high = weight_range(values)
    for bins in (1, 3, 4096):
        found = weight_histogram(values, low=low, high=high, bins=bins).standard_deviation
        assert found == pytest.approx(values.astype(np.float64).std(), rel=1e-9)


def test_range_of_parts_is_that_of_the_whole() -> None:
    values = lopsided(100)
    wanted = [-float(values.min()), float(values.max())]
    assert value_range(values).tolist() == wanted
    assert torch.stack([value_range(part) for part in values.split([60, 0, 40])]).amax(0).tolist() == wanted


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_range_is_infinite_where_a_weight_is_not_finite(bad: float) -> None:
    values = lopsided(100)
    values[17] = bad
    assert torch.inf in value_range(values).tolist()
    assert torch.inf in torch.maximum(value_range(values), value_range(lopsided(5))).tolist()
    assert value_range(torch.full((3,), bad)).amax() == torch.inf
