from __future__ import annotations

import pytest

from sws_compress.errors import ArgumentError
from sws_compress.train.schedule import Schedule, Stage


def test_stages_in_order() -> None:
    schedule = Schedule(soft_until=0.2, target_at=0.5, tune_from=0.9)
    stages = [schedule.stage(progress) for progress in (0, 0.19, 0.2, 0.89, 0.9, 1)]
    assert stages == [Stage.SOFT] * 2 + [Stage.HARD] * 2 + [Stage.TUNE] * 2


def test_strength_rises_and_floor_falls_between_their_ends() -> None:
    schedule = Schedule(soft_until=0.2, strength=(0.01, 1.0), floor=(0.5, 0.05))
    shares = [0.2 * i / 10 for i in range(11)] + [0.7]
    strengths = [schedule.pull_strength(share) for share in shares]
    floors = [schedule.variance_floor(share) for share in shares]
    assert strengths == sorted(strengths)
    assert floors == sorted(floors, reverse=True)
    assert (strengths[0], strengths[-1]) == (0.01, 1.0)
    assert (floors[0], floors[-1]) == pytest.approx((0.25, 0.0025))
    assert strengths[5] == pytest.approx(0.1)  # the geometric middle


def test_target_falls_geometrically_and_stays() -> None:
    schedule = Schedule(soft_until=0.2, target_at=0.6)
    assert schedule.target_bits(0.2, 8000, 2000) == pytest.approx(8000)
    assert schedule.target_bits(0.4, 8000, 2000) == pytest.approx(4000)
    assert schedule.target_bits(0.6, 8000, 2000) == pytest.approx(2000)
    assert schedule.target_bits(0.9, 8000, 2000) == pytest.approx(2000)


def test_without_a_soft_stage_the_ends_hold() -> None:
    schedule = Schedule(soft_until=0.0, strength=(0.01, 1.0))
    assert schedule.stage(0.0) is Stage.HARD
    assert schedule.pull_strength(0.0) == 1.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"soft_until": 0.7, "target_at": 0.6}, r"soft_until < target_at <= tune_from <= 1, got 0.7, 0.6, 0.93"),
        ({"tune_from": 1.1}, "put the stages in order"),
        ({"soft_every": 0}, r"schedule.soft_every must be > 0, got 0"),
        ({"floor": (0.5, 0.0)}, r"schedule.floor must be > 0, got 0"),
        ({"penalty": (0.0, 0.1)}, r"schedule.penalty must be > 0, got 0"),
        ({"hard_pull": -1.0}, r"schedule.hard_pull must be >= 0, got -1"),
    ],
)
def test_refuses(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Schedule(**settings)
