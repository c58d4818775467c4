"""The Python blocks of each page run, in order, in a folder of their own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import sws_compress

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def run_blocks(document: Path, names: dict[str, Any]) -> int:
    """Execute the blocks of a page in one namespace, with its line numbers in tracebacks; returns their number."""
    text = document.read_text(encoding="utf-8")
    blocks = list(BLOCK.finditer(text))
    for block in blocks:
        line = text.count("\n", 0, block.start(1))
        exec(compile("\n" * line + block[1], str(document), "exec"), names)
    return len(blocks)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def names() -> dict[str, Any]:
    """Names that a page takes for granted: a network, its data, an optimiser, a metric."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(30, 60), nn.ReLU(), nn.Linear(60, 5))
    x = torch.randn(400, 30)
    return {
        "sws": sws_compress,
        "torch": torch,
        "net": net,
        "loader": list(zip(x.split(20), x[:, :5].argmax(1).split(20), strict=True)),
        "optimizer": torch.optim.Adam(net.parameters(), 1e-3),
        "epochs": 2,
        "accuracy": lambda model: 0.5,
        "cross_entropy": cross_entropy,
    }


def test_readme(repository: Path, tmp_path: Path, names: dict[str, Any]) -> None:
    assert run_blocks(repository / "README.md", names) >= 2
    assert (tmp_path / "small.onnx").stat().st_size > 0
    assert names["result"].ratio > 3


def test_watching(repository: Path, tmp_path: Path, names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_blocks(repository / "docs" / "watching.md", names) == 4
    assert {"small.onnx", "training.csv", "weights.gif", "mine.gif", "clusters.png"} == {
        path.name for path in tmp_path.iterdir()
    }
    assert names["steps"] == (1, *range(10, 81, 10))
    assert "% of the weights" in capsys.readouterr().out


def test_loops(repository: Path, tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    assert run_blocks(repository / "docs" / "loops.md", names) >= 7
    written = {path.name for path in tmp_path.glob("*.onnx")}
    assert written == {f"{loop}.onnx" for loop in ("plain", "mixed", "bert", "lightning", "compiled")}
    assert names["result"].ratio > 3


def test_tutorial(repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    assert run_blocks(repository / "docs" / "tutorial.md", names) >= 8
    assert {"small.onnx", "taught.onnx", "model.small.onnx", "mine.onnx"} <= {path.name for path in tmp_path.iterdir()}
    assert not (tmp_path / "again.onnx").exists()
    assert "must not be compressed already" in capsys.readouterr().out
    assert names["verification"].passed
    mine = names["accuracy"](names["mine"])
    assert mine > names["accuracy"](names["net"]) - 0.03
