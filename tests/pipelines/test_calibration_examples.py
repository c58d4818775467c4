"""Modules need no example inputs where they have calibration inputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sws_compress.errors import ArgumentError
from sws_compress.pipelines.calibration_examples import with_examples
from sws_compress.pipelines.calibration_inputs import calibration_feeds
from sws_compress.pipelines.calls import EXAMPLE_ROWS
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.source import open_source
from sws_compress.requests import Calibrated


class Sum(nn.Linear):
    def forward(self, x: torch.Tensor, shift: torch.Tensor | None = None) -> torch.Tensor:
        y = super().forward(x)
        return y if shift is None else y + shift


class Product(nn.Linear):
    def forward(self, x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * factor


X = torch.arange(80, dtype=torch.float32).reshape(20, 4)
FACTOR = X[:, :1]
LABELS = torch.arange(20)


def saved(folder: Path) -> Path:
    np.savez(folder / "inputs.npz", x=X.numpy())
    return folder / "inputs.npz"


@pytest.mark.parametrize(
    ("module", "inputs"),
    [
        (Sum(4, 3), lambda _: X),
        (Sum(4, 3), lambda _: X.numpy()),
        (Sum(4, 3), lambda _: {"x": X}),
        (Sum(4, 3), saved),
        (Sum(4, 3), lambda _: list(X.split(10))),
        (Sum(4, 3), lambda _: iter(X.split(10))),
        (Sum(4, 3), lambda _: list(zip(X.split(10), LABELS.split(10), strict=True))),
        (Sum(4, 3), lambda _: [{"x": x, "labels": y} for x, y in zip(X.split(10), LABELS.split(10), strict=True)]),
        (Product(4, 3), lambda _: list(zip(X.split(10), FACTOR.split(10), LABELS.split(10), strict=True))),
    ],
)
def test_examples_are_the_first_rows_and_all_inputs_are_left(
    module: nn.Module, inputs: Callable[[Path], Any], tmp_path: Path
) -> None:
    job = Job(output=tmp_path / "small.onnx")
    request, job = with_examples(module, Calibrated(inputs=inputs(tmp_path)), job)
    wanted = (X, FACTOR)[: 1 + isinstance(module, Product)]
    for found, tensor in zip(job.inputs, wanted, strict=True):
        assert torch.equal(found, tensor[:EXAMPLE_ROWS])
    feeds = calibration_feeds(request.inputs, open_source(module, job))
    for name, tensor in zip(feeds[0], wanted, strict=True):
        assert np.array_equal(np.concatenate([feed[name] for feed in feeds]), tensor)


def test_the_callers_example_inputs_stay(tmp_path: Path) -> None:
    job = Job(output=tmp_path / "small.onnx", inputs=X[:3])
    assert with_examples(Sum(4, 3), Calibrated(inputs=3), job)[1] is job


def test_loaders_that_shuffle_draw_no_other_numbers(tmp_path: Path) -> None:
    loader = torch.utils.data.DataLoader(list(X), batch_size=5, shuffle=True)
    module = Sum(4, 3)
    torch.manual_seed(0)
    with_examples(module, Calibrated(inputs=loader), Job(output=tmp_path / "small.onnx"))
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert drawn == torch.rand(1)


def test_what_are_no_inputs_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="calibration inputs must be arrays by name, a path, or an iterable"):
        with_examples(Sum(4, 3), Calibrated(inputs=3), Job(output=tmp_path / "small.onnx"))
