"""The script of docs/distributed.md, as it stands there, under torchrun; a second start goes on from its checkpoint."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.test_docs import BLOCK


def torchrun(processes: int, script: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    source = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, script.name], cwd=script.parent, env=environment, capture_output=True, text=True, timeout=500
    )


@pytest.mark.slow
def test_documented_script(repository: Path, tmp_path: Path) -> None:
    (block,) = BLOCK.findall((repository / "docs" / "distributed.md").read_text(encoding="utf-8"))
    script = tmp_path / "train.py"
    script.write_text(block)
    first = torchrun(2, script)
    assert first.returncode == 0, first.stderr
    small = tmp_path / "small.onnx"
    content = small.read_bytes()
    saved = torch.load(tmp_path / "run.pt", weights_only=True)
    assert saved["progress"] == {"epoch": 6}

    small.unlink()
    second = torchrun(1, script)  # nothing is left to train: snapped and exported from the file
    assert second.returncode == 0, second.stderr
    assert small.read_bytes() == content
