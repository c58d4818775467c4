"""What a trained network is steered to where the caller gives no goal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn
from torch.nn.functional import cross_entropy

import sws_compress as sws
from tests.train.digits import TRAINING, Batches, accuracy, trained

REQUEST = sws.FineTuned(train=Batches(TRAINING, 50), loss=cross_entropy, components=8, epochs=8)


def compressed(folder: Path, **options: Any) -> sws.CompressionResult:
    return sws.compress(trained(), folder / "small.onnx", REQUEST, progress=False, **options)


def test_a_metric_may_fall_by_a_hundredth(tmp_path: Path) -> None:
    result = compressed(tmp_path, evaluate=accuracy)
    assert result.before is not None
    assert result.after is not None
    assert result.before - result.after <= 0.01 * result.before
    (note,) = (note for note in result.notes if "no goal was given" in note)
    assert f"at most {0.01 * result.before:.4g} (1% of itself)" in note
    assert not any("metric fell" in note for note in result.notes)


def test_without_a_metric_the_loss_may_rise_by_a_hundredth_of_what_the_network_knows(tmp_path: Path) -> None:
    result = compressed(tmp_path)
    assert result.ratio > 4
    assert accuracy(trained()) - accuracy(result.network) < 5
    assert any("neither a goal nor evaluate was given" in note and "at most 1%" in note for note in result.notes)


def test_a_metric_of_zero_has_no_hundredth(tmp_path: Path) -> None:
    with pytest.raises(sws.ArgumentError, match="max_drop must be given where evaluate returns 0 for the network"):
        compressed(tmp_path, evaluate=lambda model: 0.0)


def test_a_goal_of_any_kind_takes_the_place_of_the_default(tmp_path: Path) -> None:
    for goal in ({"ratio": 6}, {"max_drop": 5.0}):
        notes = compressed(tmp_path, evaluate=accuracy, **goal).notes
        assert not any("goal was given" in note for note in notes)


def test_outputs_that_tell_nothing_need_a_goal(tmp_path: Path) -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = trained()

        def forward(self, pixels: Any) -> Any:
            outputs = self.inner(pixels)
            return outputs, outputs.exp()

    request = sws.FineTuned(train=Batches(100, 50), loss=lambda outputs, labels: cross_entropy(outputs[0], labels))
    with pytest.raises(sws.ArgumentError, match="ratio, target_bytes or evaluate must be given for this network"):
        sws.compress(Pair(), tmp_path / "small.onnx", request, progress=False)
