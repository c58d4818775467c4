"""A run that was killed goes on as if nothing had happened; a state that is not its own is refused and kept."""

from __future__ import annotations

import copy
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sws_compress.errors import ArgumentError, TrainingError
from sws_compress.train.distillation import Distillation
from sws_compress.train.measures import Measures
from sws_compress.train.progress import Progress
from sws_compress.train.saved_state import read_state, write_state
from sws_compress.train.schedule import Stage
from sws_compress.train.targets import SteeringTarget
from tests.train.digits import Batches, trained
from tests.train.runs import SEED, SHORT, SIZE, Dropping, Failing, KilledError, assert_same, tune


@pytest.mark.parametrize("distillation", [None, Distillation()])
@pytest.mark.parametrize("epoch", [0, 2, 5, 9])  # in the first epoch, the soft, the hard and the tuning stage
def test_killed_and_resumed_is_the_same_run(epoch: int, distillation: Distillation | None, tmp_path: Path) -> None:
    settings = replace(SHORT, distillation=distillation)
    whole = Dropping()
    wanted = tune(whole, Batches(400, 50), settings)

    state = tmp_path / "run.state"
    with pytest.raises(KilledError):
        tune(Dropping(), Failing(at=8 * epoch + 5), settings, state=state)
    assert state.exists() == (epoch > 0)
    torch.manual_seed(999)  # another process
    resumed = Dropping()
    stages: list[Progress] = []
    found = tune(resumed, Batches(400, 50), settings, state=state, on_progress=stages.append)
    assert stages[0].step == 8 * epoch + 1
    assert_same(whole, resumed)
    assert found.steps == wanted.steps == 80
    for name, palette in wanted.palettes.items():
        np.testing.assert_array_equal(palette.indices, found.palettes[name].indices)
        np.testing.assert_array_equal(palette.codebook, found.palettes[name].codebook)

    finished = Dropping()  # is not run again: its first batch would raise
    tune(finished, Failing(at=1), settings, state=state)
    assert_same(whole, finished)


def test_stages_of_the_resumption_tests() -> None:
    """The epochs above lie in the stages that the comment names."""
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
    with pytest.raises(
        ArgumentError, match=r"must be a state that this run saved, got damaged or other bytes: delete it"
    ):
        tune(model, Batches(400, 50), state=path)
    assert path.read_bytes() == content
    assert_same(model, trained())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_state_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    """To open it would wait for a writer."""
    os.mkfifo(tmp_path / "run.state")
    with pytest.raises(ArgumentError, match=r"run.state cannot be resumed: it must be an ordinary file"):
        tune(trained(), Batches(400, 50), state=tmp_path / "run.state")


def test_truncated_state_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.state"
    with pytest.raises(KilledError):
        tune(trained(), Failing(at=12), state=path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ArgumentError, match="must be a state that this run saved"):
        tune(trained(), Batches(400, 50), state=path)
    assert path.read_bytes() == content[: len(content) // 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 11}, "epochs must be 10 as in the saved run, got 11"),
        ({"components": 7}, "components must be 8 as in the saved run, got 7"),
        ({"parameters": ["2.weight"]}, "compressed parameters must be those of the saved run"),
        ({"target": SteeringTarget(coded_ratio=17)}, "target.coded_ratio must be 16 as in the saved run, got 17"),
        ({"target": None, "bit_price": 0.1}, "bit_price must be None as in the saved run, got 0.1"),
        ({"target": SteeringTarget(metric_drop=2)}, "target.metric_drop must be None as in the saved run, got 2"),
        (
            {"learning_rate": 2e-3},
            "learning_rate must be 0.001 as in the saved run, got 0.002: use the same network and",
        ),
        (
            {"schedule": replace(SHORT.schedule, floor=(0.4, 0.1))},
            r"schedule.floor must be \(0.5, 0.1\) as in the saved",
        ),
        ({"seed": 4}, "seed must be 3 as in the saved run, got 4"),
        ({"bfloat16": True}, "bfloat16 must be False as in the saved run, got True"),
        ({"distillation": Distillation(weight=0.5)}, "distillation.weight must be None as in the saved run, got 0.5"),
    ],
)
def test_state_of_another_run_is_refused_and_kept(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "run.state"
    with pytest.raises(KilledError):
        tune(trained(), Failing(at=12), state=path)
    content = path.read_bytes()
    model = trained()
    options: dict[str, Any] = {"state": path, "measures": Measures(validate=lambda: 1.0)}
    target, seed = change.pop("target", SIZE), change.pop("seed", SEED)
    with pytest.raises(ArgumentError, match=rf"run.state cannot be resumed: {message}"):
        tune(model, Batches(400, 50), replace(SHORT, **change), target, seed=seed, **options)
    assert path.read_bytes() == content
    assert_same(model, trained())


def test_state_is_of_the_weights_that_the_run_began_with(tmp_path: Path) -> None:
    """This holds for a finished run, too: its result would be taken for that of another network."""
    path = tmp_path / "run.state"
    settings = replace(SHORT, epochs=3, distillation=Distillation(teacher=trained()))
    tune(trained(), Batches(400, 50), settings, state=path)
    content = path.read_bytes()
    message = "digest of the {} must be [0-9a-f]{{16}} as in the saved run, got [0-9a-f]{{16}}: use the same network"
    other = trained()
    other[2].bias.data[3] += 1e-3
    kept = copy.deepcopy(other)
    with pytest.raises(ArgumentError, match=message.format("weights at the start")):
        tune(other, Batches(400, 50), settings, state=path)
    assert_same(other, kept)
    taught = replace(settings, distillation=Distillation(teacher=other))
    with pytest.raises(ArgumentError, match=message.format("teacher's weights")):
        tune(trained(), Batches(400, 50), taught, state=path)
    assert path.read_bytes() == content


def test_state_of_other_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.state"
    tune(trained(), Batches(400, 50), replace(SHORT, epochs=2), state=path)
    with pytest.raises(ArgumentError, match=r"run.state cannot be resumed: total_steps must be 16 as .*, got 20"):
        tune(trained(), Batches(500, 50), replace(SHORT, epochs=2), state=path)


def test_run_that_broke_down_goes_on_with_another_learning_rate(tmp_path: Path) -> None:
    path = tmp_path / "run.state"
    with pytest.raises(TrainingError, match=r"lower learning_rate and go on from the last good state, saved in"):
        tune(trained(), Failing(at=37, poison=True), state=path)
    slower = replace(SHORT, learning_rate=5e-4)
    with pytest.raises(ArgumentError, match="seed must be 3"):
        tune(trained(), Batches(400, 50), slower, seed=4, state=path)
    with pytest.raises(KilledError):
        tune(trained(), Failing(at=12), slower, state=path)
    with pytest.raises(ArgumentError, match=r"learning_rate must be 0.0005 as in the saved run, got 0.001"):
        tune(trained(), Batches(400, 50), state=path)
    assert tune(trained(), Batches(400, 50), slower, state=path).steps == 80


def test_numbers_of_any_kind_are_the_same_settings(tmp_path: Path) -> None:
    path = tmp_path / "run.state"
    given = replace(SHORT, learning_rate=np.float64(1e-3), epochs=2)
    tune(trained(), Batches(400, 50), given, SteeringTarget(coded_ratio=np.float32(16)), state=path)
    tune(trained(), Failing(at=1), replace(SHORT, epochs=2), state=path)


def test_damaged_state_and_moments_of_another_shape_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.state"
    with pytest.raises(KilledError):
        tune(trained(), Failing(at=37), state=path)
    content = path.read_bytes()
    for place in range(0, len(content), len(content) // 10):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ArgumentError, match="got damaged or other bytes: delete it"):
            tune(trained(), Batches(400, 50), state=path)
    path.write_bytes(content)
    state = read_state(path)
    for part, entry, value in (
        (state["optimizer"]["state"][0], "exp_avg", torch.zeros(3)),
        (state["steering"], "measurements", "x"),
        (state["model"], "0.weight", torch.zeros(3)),
        (state, "epoch", -1),
    ):
        kept, part[entry] = part[entry], value
        write_state(path, state)
        part[entry] = kept
        model = trained()
        with pytest.raises(ArgumentError, match=r"run.state cannot be resumed: saved .* must be"):
            tune(model, Batches(400, 50), state=path)
        assert_same(model, trained())
