"""The request for fine-tuning is checked when it is made, and needs no torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from sws_compress.errors import ArgumentError, DataError
from sws_compress.train.request import FineTuned
from sws_compress.train.targets import FixedSize
from tests.train.runs import SHORT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"components": 1}, "components must be >= 2, got 1"),
        ({"bias_components": 1}, r"bias_components must be in 2..256, got 1: None keeps"),
        ({"bias_components": 257}, r"bias_components must be in 2..256, got 257"),
        ({"epochs": 0}, "epochs must be >= 1, got 0"),
        ({"learning_rate": float("inf")}, "learning_rate must be > 0, got inf"),
        ({"bit_price": 0.0}, "bit_price must be > 0, got 0.0"),
    ],
)
def test_values_out_of_range_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        replace(SHORT, **change)


def test_steps_are_counted_from_the_loader() -> None:
    assert FineTuned(train=[0, 1, 2], epochs=4, bias_components=None).total_steps == 12
    with pytest.raises(DataError, match="train must have a length, got generator"):
        FineTuned(train=(batch for batch in [1]))
    with pytest.raises(DataError, match="at least one batch per epoch"):
        FineTuned(train=[])


@pytest.mark.parametrize(
    ("batches", "epochs"), [(1, 100), (30, 100), (50, 60), (160, 19), (250, 12), (251, 12), (9000, 12)]
)
def test_without_a_number_a_run_takes_3000_steps_in_12_to_100_epochs(batches: int, epochs: int) -> None:
    request = FineTuned(train=range(batches))
    assert request.run_epochs == epochs
    assert request.total_steps == epochs * batches
    assert replace(request, train=range(60)).run_epochs == 50, "counted from the batches of the run"
    assert replace(request, epochs=7).run_epochs == 7


def test_requests_and_targets_are_made_without_torch() -> None:
    code = (
        "import sys; from sws_compress.train.request import FineTuned; from sws_compress.train.targets import *; "
        "FineTuned(train=[1]); SteeringTarget(file_bytes=9); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_fixed_size_is_reached_at_target_at_and_kept_exactly() -> None:
    target = FixedSize(777.7, SHORT.schedule)
    path = [target.bits(progress, 9999.0) for progress in (0.35, 0.5, 0.6, 0.61, 1.0)]
    assert path[0] == 9999.0
    assert path[0] > path[1] > path[2]
    assert path[2:] == [777.7] * 3
