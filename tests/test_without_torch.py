"""ONNX files are compressed where torch is not installed; what needs it says how to get it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import write_mlp

BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnxscript", "sklearn"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
"""
"""What every Python process runs first, those of ONNX Runtime among them."""

COMMANDS = {
    "weights only": "compress model.onnx -o rounded.onnx",
    "components": "compress model.onnx -o few.onnx --components 16 --granularity channel",
    "calibrated": "compress model.onnx -o calibrated.onnx --calibration inputs.npz --ratio 6",
    "low bit": "compress model.onnx -o low.onnx --low-bit 8",
    "inspect": "inspect calibrated.onnx --clusters",
    "verify": "verify model.onnx rounded.onnx --inputs inputs.npz",
    "expand": "expand rounded.onnx -o dense.onnx",
    "picture": "picture rounded.onnx -o weights.png",
    "report": "inspect rounded.onnx --report page.html",
    "check": "check rounded.onnx --max-bytes 1MB",
    "completion": "--print-completion bash",
    "vectors": "compress model.onnx -o vectors.onnx --components 64 --granularity vectors:2",
    "demo": "demo",
}

PROGRAM = """
import io, json, sys
import numpy as np
from contextlib import redirect_stderr, redirect_stdout
import sws_compress as sws
from sws_compress.cli.main import main

def said(do):
    try:
        do()
    except Exception as error:
        return f"{type(error).__mro__[1].__name__} {error}"

told = {}
for name, command in json.loads(sys.argv[1]).items():
    errors = io.StringIO()
    with redirect_stderr(errors), redirect_stdout(io.StringIO()):
        try:
            code = main(command.split())
        except SystemExit as error:
            code = error.code
    told[name] = [code, errors.getvalue()]
told["module"] = said(lambda: sws.compress(object(), "small.onnx"))
batches = [np.zeros((8, 40), np.float32)]
told["training"] = said(lambda: sws.compress("model.onnx", "small.onnx", sws.FineTuned(train=batches)))
told["export"] = said(lambda: sws.export(object(), {}, "small.onnx", example_inputs=1))
told["prior"] = said(lambda: sws.SoftWeightSharing)
told["loaded"] = sorted({"torch", "sklearn", "onnxscript"} & set(sys.modules))
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the commands and calls return and say, in a folder of their own."""
    folder = tmp_path_factory.mktemp("without_torch")
    write_mlp(folder / "model.onnx", np.random.default_rng(0).standard_normal((40, 256)).astype(np.float32))
    np.savez(folder / "inputs.npz", x=np.random.default_rng(1).standard_normal((64, 40)).astype(np.float32))
    (folder / "first").mkdir()
    (folder / "first" / "sitecustomize.py").write_text(BLOCKED)
    path = os.pathsep.join([str(folder / "first"), str(repository)])
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(COMMANDS)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return {**found, "files": sorted(path.name for path in folder.glob("*.*"))}


def test_commands_for_files_work(told: dict[str, Any]) -> None:
    failed = {name: told[name] for name in COMMANDS if name not in ("vectors", "demo") and told[name][0] != 0}
    assert failed == {}
    made = {"rounded.onnx", "few.onnx", "calibrated.onnx", "low.onnx", "dense.onnx", "weights.png", "page.html"}
    assert set(told["files"]) == made | {"model.onnx", "inputs.npz"}
    assert told["loaded"] == []


@pytest.mark.parametrize(("name", "package", "extra"), [("vectors", "sklearn", "vectors"), ("demo", "torch", "torch")])
def test_commands_that_need_more_say_what(told: dict[str, Any], name: str, package: str, extra: str) -> None:
    code, line = told[name]
    assert code == 2
    assert line.count("\n") == 1
    assert f"{package} must be installed for" in line
    assert f"pip install 'sws-compress[{extra}]'" in line


@pytest.mark.parametrize(
    ("name", "thing"),
    [
        ("module", "torch modules"),
        ("training", "FineTuned"),
        ("export", "torch modules"),
        ("prior", "SoftWeightSharing"),
    ],
)
def test_calls_that_need_torch_say_so(told: dict[str, Any], name: str, thing: str) -> None:
    line = f"torch must be installed for {thing}, got no such package: pip install 'sws-compress[torch]'"
    assert told[name] == f"SwsError {line}"
