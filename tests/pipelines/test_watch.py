"""A run can be watched: a line for the bar, a log that resumption continues, an animation."""

from __future__ import annotations

import csv
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

import sws_compress as sws
from sws_compress.train.progress import Progress
from sws_compress.train.schedule import Stage
from tests.models import Mlp, batches, fail_if_it_trains, tuned

STEPS = 24


def run(tmp_path: Path, **options: Any) -> None:
    settings = {"train": batches(), "loss": cross_entropy, "components": 4, "ratio": 4, "epochs": 4, **options}
    torch.manual_seed(0)
    tuned(Mlp(), tmp_path / "small.onnx", **settings)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def kill(description: str, done: int, total: int) -> None:
    if done == 21:
        raise KeyboardInterrupt


@pytest.mark.slow
def test_log_function_and_animation_tell_of_the_run(tmp_path: Path) -> None:
    seen: list[Progress] = []
    run(tmp_path, log=seen.append, frames=tmp_path / "weights.gif", evaluate=lambda network: 90.0)
    assert [progress.step for progress in seen] == [1, 10, 20, STEPS]
    assert seen[0].ratio is None
    assert seen[-1].ratio is not None
    assert seen[-1].metric == 90.0
    assert seen[-1].projected_bytes is not None
    with Image.open(tmp_path / "weights.gif") as picture:
        assert picture.n_frames == STEPS + 1  # type: ignore[attr-defined]

    run(tmp_path, log=tmp_path / "run.csv", evaluate=lambda network: 90.0)
    rows = read(tmp_path / "run.csv")
    assert [int(row["step"]) for row in rows] == [1, 10, 20, STEPS]
    assert [float(row["loss"]) for row in rows] == [progress.loss for progress in seen]
    assert [row["stage"] for row in rows] == [progress.stage.value for progress in seen]
    assert rows[-1]["projected_bytes"] == str(seen[-1].projected_bytes)


def test_killed_and_resumed_run_leaves_the_log_of_a_whole_one(tmp_path: Path) -> None:
    run(tmp_path, log=tmp_path / "whole.csv", state=tmp_path / "whole.state")
    log, state = tmp_path / "run.csv", tmp_path / "run.state"
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, log=log, state=state, progress=kill)
    assert [int(row["step"]) for row in read(log)] == [1, 10, 20]  # of which 20 is done again, from 18 on
    run(tmp_path, log=log, state=state)
    assert log.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_log_tells_of_every_epoch_and_of_a_resumption(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state, lines = tmp_path / "run.state", []
    caplog.set_level(logging.INFO, logger="sws_compress")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, state=state, progress=kill)
    caplog.clear()
    run(tmp_path, state=state, progress=lambda text, *_: lines.append(text))
    told = [record.getMessage() for record in caplog.records]
    assert f"goes on at epoch 4 of 4 from {state}" in told
    assert any(line.startswith("trains for 4 epochs of ") and "at a learning rate of 0.00" in line for line in told)
    assert any(line.startswith("epoch 4/4, resumed, ") for line in told)
    assert any(line.startswith("epoch 4/4, resumed, ") for line in lines)
    assert {record.name for record in caplog.records} == {"sws_compress"}

    caplog.clear()
    run(tmp_path, evaluate=lambda network: 90.0)
    epochs = [line.split(",")[0] for line in (record.getMessage() for record in caplog.records) if "loss" in line]
    assert epochs == [f"epoch {epoch}/4" for epoch in range(1, 5)]
    assert any("metric 90" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"log": "run.txt"}, r"log must end in \.csv or \.jsonl, or be a folder"),
        ({"log": "none/run.csv"}, "log folder .* must exist"),
        ({"log": "other.csv"}, "must be the log of a training run"),
        ({"frames": "weights.mp4"}, r"frames must end in \.gif"),
        ({"frames": "none/weights.gif"}, "frames folder .* must exist"),
    ],
)
def test_wrong_places_are_found_before_the_run(
    options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.csv").write_text("day,price\n1,2\n")
    with pytest.raises(sws.SwsError, match=message) as error:
        run(tmp_path, progress=fail_if_it_trains, **options)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["other.csv"]


def test_line_for_the_bar() -> None:
    soft = Progress(step=5, total_steps=100, epoch=1, epochs=20, stage=Stage.SOFT, loss=0.25)
    assert soft.line == "epoch 1/20, soft  loss 0.250"
    hard = replace(soft, step=50, epoch=12, stage=Stage.HARD, ratio=190.46, metric=98.512, projected_bytes=56010)
    assert hard.line == "epoch 12/20, hard  loss 0.250  metric 98.51  56,010 bytes"
    assert replace(hard, resumed=True).line.startswith("epoch 12/20, resumed, hard  loss")
    assert len(hard.line) <= 80 - len("  0:00:12 0:00:34")  # what the bar has beside it
