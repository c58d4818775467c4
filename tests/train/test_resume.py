"""A run that was killed goes on as if nothing had happened; a state that is not its own is refused and kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sws_compress.errors import ArgumentError
from sws_compress.train.distillation import Distillation
from sws_compress.train.loop import Progress
from sws_compress.train.schedule import Stage
from tests.train.digits import Batches, trained
from tests.train.runs import SHORT, Dropping, Failing, KilledError, assert_same, tune


@pytest.mark.parametrize("distillation", [None, Distillation()])
@pytest.mark.parametrize("epoch", [0, 2, 5, 9])  # in the first epoch, the soft, the hard and the tuning stage
def test_killed_and_resumed_is_the_same_run(epoch: int, distillation: Distillation | None, tmp_path: Path) -> None:
    settings = replace(SHORT, distillation=distillation)
    whole = Dropping()
    wanted = tune(whole, Batches(400, 50), settings)

    state = tmp_path / "run.state"
    with pytest.raises(KilledError):
        tune(Dropping(), Failing(at=8 * epoch + 5), settings, state_path=state)
    assert state.exists() == (epoch > 0)
    torch.manual_seed(999)  # another process
    resumed = Dropping()
    if epoch > 0:  # the state holds the network and the teacher
        for parameter in resumed.parameters():
            nn.init.normal_(parameter, std=0.1)
    stages: list[Progress] = []
    found = tune(resumed, Batches(400, 50), settings, state_path=state, on_progress=stages.append)
    assert stages[0].step == 8 * epoch + 1
    assert_same(whole, resumed)
    assert found.steps == wanted.steps == 80
    for name, palette in wanted.palettes.items():
        np.testing.assert_array_equal(palette.indices, found.palettes[name].indices)
        np.testing.assert_array_equal(palette.codebook, found.palettes[name].codebook)

    finished = Dropping()  # is not run again: its first batch would raise
    tune(finished, Failing(at=1), settings, state_path=state)
    assert_same(whole, finished)


def test_stages_of_the_resumption_tests() -> None:
    """The epochs above do lie in the stages that they are said to lie in."""
    seen: list[Progress] = []
    tune(trained(), Batches(400, 50), on_progress=seen.append)
    assert [seen[8 * epoch + 4].stage for epoch in (0, 2, 5, 9)] == [Stage.SOFT, Stage.SOFT, Stage.HARD, Stage.TUNE]
    assert all((progress.coded_bits is None) == (progress.stage is Stage.SOFT) for progress in seen[:28] + seen[29:])
    assert [progress.step for progress in seen] == list(range(1, 81))


@pytest.mark.parametrize("content", [b"", b"not a state", b"PK\x03\x04 half a zip"])
def test_file_that_is_no_state_is_refused_and_kept(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.state"
    path.write_bytes(content)
    model = trained()
    with pytest.raises(ArgumentError, match=r"run.state must be a state that this run saved, got \w+: delete it"):
        tune(model, Batches(400, 50), state_path=path)
    assert path.read_bytes() == content
    assert_same(model, trained())


def test_truncated_state_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.state"
    with pytest.raises(KilledError):
        tune(trained(), Failing(at=12), state_path=path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ArgumentError, match="must be a state that this run saved"):
        tune(trained(), Batches(400, 50), state_path=path)
    assert path.read_bytes() == content[: len(content) // 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 11}, "total_steps must be 80 as in the saved run, got 88"),
        ({"components": 7}, "components must be 8 as in the saved run, got 7"),
        ({"parameters": ["2.weight"]}, "compressed parameters must be those of the saved run"),
    ],
)
def test_state_of_another_run_is_refused_and_kept(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "run.state"
    with pytest.raises(KilledError):
        tune(trained(), Failing(at=12), state_path=path)
    content = path.read_bytes()
    model = trained()
    with pytest.raises(ArgumentError, match=rf"run.state cannot be resumed: {message}"):
        tune(model, Batches(400, 50), replace(SHORT, **change), state_path=path)
    assert path.read_bytes() == content
    assert_same(model, trained())
