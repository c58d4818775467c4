"""Requests are checked when they are made, and say which arguments their mode takes."""

from __future__ import annotations

from typing import Any

import pytest

import sws_compress as sws
from sws_compress.requests import DEFAULT_WEIGHT_QUALITY, MODES, Goal


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (sws.WeightsOnly, {"components": 1}, "components must be >= 2, got 1"),
        (sws.WeightsOnly, {"components": 257}, "components must be <= 256, got 257"),
        (sws.WeightsOnly, {"granularity": "channel"}, r"granularity must be PerTensor\(\), .*, got 'channel'"),
        (sws.WeightsOnly, {"granularity": sws.PerBlock()}, r"granularity must be .*, got PerBlock"),
        (sws.WeightsOnly, {"quality": 0}, "quality must be > 0, got 0"),
        (sws.WeightsOnly, {"quality": float("nan")}, "quality must be > 0, got nan"),
        (sws.WeightsOnly, {"quality": 30, "components": 8}, "quality must be left out with components, got 30: either"),
        (
            sws.WeightsOnly,
            {"granularity": sws.PerChannel()},
            r"granularity must come with components, got Per",
        ),
        (sws.LowBit, {"bits": 2}, "bits must be 4 or 8, got 2"),
        (sws.LowBit, {"block_size": 48}, "block_size must be one of .*, got 48"),
        (sws.FileOptions, {"load_budget": 2.0}, "load_budget must be a LoadCost, got 2.0"),
        (sws.FileOptions, {"memory": "int8"}, "memory must be float or packed, got int8: choose one"),
        (
            sws.FileOptions,
            {"standard_operators_only": True},
            "standard_operators_only must come with memory packed, got float",
        ),
        (Goal, {}, "exactly one of ratio, target_bytes, max_drop must be given, got none"),
        (Goal, {"ratio": 3, "max_drop": 1}, "exactly one of .*, got ratio, max_drop"),
        (Goal, {"ratio": 1}, "ratio must be > 1, got 1"),
        (Goal, {"target_bytes": 0}, "target_bytes must be > 0, got 0"),
        (Goal, {"max_drop": -0.1}, "max_drop must be >= 0, got -0.1"),
        (Goal, {"max_drop": float("nan")}, "max_drop must be >= 0, got nan"),
    ],
)
def test_what_is_out_of_range(make: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(sws.ArgumentError, match=message) as raised:
        make(**arguments)
    assert "\n" not in str(raised.value)


def test_a_mode_takes_only_arguments_that_exist() -> None:
    known = {"evaluate", "keep", "overrides", *vars(Goal(ratio=2)), *vars(sws.FileOptions())}
    assert set().union(*(mode.takes for mode in MODES)) == known


def test_requests_compare_by_value_and_cannot_be_changed() -> None:
    assert sws.WeightsOnly(components=16) == sws.WeightsOnly(components=16, granularity=sws.PerTensor())
    assert sws.WeightsOnly() == sws.WeightsOnly(quality=DEFAULT_WEIGHT_QUALITY) != sws.WeightsOnly(quality=40)
    with pytest.raises(AttributeError):
        sws.LowBit().bits = 4  # type: ignore[misc]
