"""ONNX files in the training loop: taught by their own float outputs, and written into the user's graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import sws_compress as sws
from sws_compress.ort.user_models import run_model
from sws_compress.train.output_distillation import Readout
from sws_compress.train.taught_batches import TaughtBatches
from tests.pipelines.test_distilled import spectra
from tests.pipelines.test_distilled_files import saved, scores_error

INPUTS = {"x": spectra(320, seed=1).numpy()}
RATIO = 6.0


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A file, and what training makes of it."""
    folder = tmp_path_factory.mktemp("files")
    path = saved(folder / "model.onnx")
    request = sws.FineTuned(train=INPUTS, epochs=20)
    return path, sws.compress(path, folder / "small.onnx", request, ratio=RATIO)


def test_a_file_is_trained_to_a_size(files: tuple[Path, Any]) -> None:
    path, found = files
    assert found.ratio == pytest.approx(RATIO, rel=0.1)
    assert scores_error(path, found.output) < 0.4
    assert found.trained


def test_the_graph_stays(files: tuple[Path, Any]) -> None:
    path, found = files
    before, after = (onnx.load(each).graph for each in (path, found.output))
    for one, other in ((before.input, after.input), (before.output, after.output)):
        assert [value.name for value in one] == [value.name for value in other]
    assert [node.op_type for node in after.node][-len(before.node) :] == [node.op_type for node in before.node]


def test_metrics_take_files(files: tuple[Path, Any], tmp_path: Path) -> None:
    path, _ = files
    seen = []

    def evaluate(asked: Path) -> float:
        seen.append(asked)
        return -float(np.square(run_model(asked, {"x": INPUTS["x"][:8]})["answers"]).sum())

    request = sws.FineTuned(train=INPUTS, epochs=2)
    found = sws.compress(path, tmp_path / "small.onnx", request, ratio=5, evaluate=evaluate)
    assert found.before == pytest.approx(evaluate(path), rel=1e-4)
    assert found.after == pytest.approx(evaluate(found.output), rel=1e-4)
    assert all(Path(each).suffix == ".onnx" for each in seen)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"loss": torch.nn.functional.cross_entropy}, "loss must be left out for an ONNX file"),
        ({"distillation": sws.Distillation(weight=1.0)}, "distillation must be left out for an ONNX file"),
        ({"train": {"y": INPUTS["x"]}}, "calibration inputs must be named 'x'"),
    ],
)
def test_what_does_not_fit_a_file_is_refused(
    files: tuple[Path, Any], tmp_path: Path, options: dict[str, Any], line: str
) -> None:
    request = sws.FineTuned(**{"train": INPUTS, **options})
    with pytest.raises(sws.SwsError, match=line):
        sws.compress(files[0], tmp_path / "small.onnx", request)


def test_what_is_not_covered_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.onnx", last="Hardmax")
    with pytest.raises(sws.ModelError, match="Hardmax: compress it with Calibrated"):
        sws.compress(path, tmp_path / "small.onnx", sws.FineTuned(train=INPUTS))


def test_batches_are_mixtures_with_the_teachers_scores() -> None:
    teacher = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Softmax(-1))
    inputs = [(torch.randn(5, 3),) for _ in range(6)]
    batches = TaughtBatches(teacher, inputs, [Readout("Softmax")])
    assert len(batches) == 102
    torch.manual_seed(0)
    first = [(arguments[0], wanted[0]) for arguments, wanted in batches]
    assert len(first) == 102
    for mixture, wanted in first:
        centred = teacher[0](mixture)
        torch.testing.assert_close(wanted, centred - centred.mean(-1, keepdim=True), rtol=1e-4, atol=1e-5)
    torch.manual_seed(0)
    assert all(torch.equal(one[0], other[0][0]) for one, other in zip(first, batches, strict=True))
    assert float(batches.loss(teacher(first[0][0]), [first[0][1]])) == pytest.approx(0, abs=1e-6)
