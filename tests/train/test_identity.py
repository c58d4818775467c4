"""What tells one run from another."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sws_compress.errors import ArgumentError
from sws_compress.train.distillation import Distillation
from sws_compress.train.identity import (
    at_any_rate,
    refuse_other,
    refuse_other_run,
    run_identity,
    settings_by_name,
    weights_digest,
)
from sws_compress.train.targets import SteeringTarget
from tests.train.digits import trained
from tests.train.runs import SHORT


class Colour(enum.Enum):
    RED = "red"


@dataclass(frozen=True)
class Inner:
    width: float = 0.5


@dataclass(frozen=True)
class Outer:
    number: Any
    whole: Any
    flag: bool = True
    text: str = "a"
    nothing: None = None
    pair: tuple[float, float] = (1, 2.5)
    inner: Inner = Inner()
    colour: Colour = Colour.RED
    function: Any = print
    names: tuple[str, ...] = ("a", "b")


def test_settings_are_plain_values_by_name() -> None:
    found = settings_by_name(Outer(np.float32(2), np.int64(3)))
    assert found == {
        "number": 2.0,
        "whole": 3,
        "flag": True,
        "text": "a",
        "nothing": None,
        "pair": (1, 2.5),
        "inner.width": 0.5,
        "colour": "red",
    }
    assert type(found["number"]) is float
    assert type(found["whole"]) is int
    assert type(found["flag"]) is bool


def test_digest_follows_values_names_types_and_shapes() -> None:
    model = trained()
    digest = weights_digest(model)
    assert len(digest) == 16
    assert int(digest, 16) >= 0
    assert weights_digest(trained()) == digest
    assert weights_digest(nn.DataParallel(model)) == digest
    others = [trained() for _ in range(4)]
    others[0][2].bias.data[3] *= 1 + 2**-23  # the next float32
    others[1].half()
    others[2][0].weight.data = others[2][0].weight.data.reshape(64, 32)
    others[3] = nn.Sequential(nn.ReLU(), *trained())
    assert len({digest, *map(weights_digest, others)}) == 5


def test_first_difference_is_named() -> None:
    refuse_other({"a": 1, "b": None}, {"a": 1}, "cure")
    with pytest.raises(ArgumentError, match=r"^b must be 2 as in the saved run, got 3: cure$"):
        refuse_other({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 3, "c": 4}, "cure")
    with pytest.raises(ArgumentError, match=r"^c must be 3 as in the saved run, got None: cure$"):
        refuse_other({"c": 3}, {}, "cure")


def identity(**changes: Any) -> dict[str, Any]:
    return run_identity(replace(SHORT, **changes), SteeringTarget(coded_ratio=16), 3, trained(), None)


def test_where_a_run_is_written_is_no_setting_of_it(tmp_path: Path) -> None:
    elsewhere = identity(state=tmp_path / "state", log=str(tmp_path / "log.csv"), frames="x.gif", train=[0] * 9)
    assert identity() == elsewhere
    assert identity(epochs=9) != elsewhere
    assert identity()["target.coded_ratio"] == 16
    assert identity()["schedule.soft_until"] == 0.35
    assert identity(distillation=Distillation(weight=0.3))["distillation.weight"] == 0.3


def test_a_run_that_broke_down_goes_on_at_any_rate() -> None:
    other = identity(learning_rate=1.0)
    with pytest.raises(ArgumentError, match=r"learning_rate must be 0\.001"):
        refuse_other_run(identity(), other)
    refuse_other_run(at_any_rate(identity()), other)
    with pytest.raises(ArgumentError, match="components must be 8"):
        refuse_other_run(at_any_rate(identity()), {**other, "components": 7})


def test_teacher_counts_by_its_weights() -> None:
    model, teacher = trained(), trained()
    found = run_identity(SHORT, None, 3, model, teacher)
    assert found["digest of the teacher's weights"] == weights_digest(model)
    with torch.no_grad():
        teacher[0].weight[0, 0] += 1
    assert run_identity(SHORT, None, 3, model, teacher) != found
