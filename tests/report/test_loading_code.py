"""Code that a page shows does what it says."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sws_compress.report.loading_code import ModelInput, loading_code
from tests.models import write_mlp

HOSTILE = 'a"]); import os; os.system("x")\n#\u2028é\U0001f600'


def test_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mlp(tmp_path / 'odd"name.onnx')
    monkeypatch.chdir(tmp_path)
    code = loading_code('odd"name.onnx', [ModelInput("x", "float", ("n", 40))], ["y"])["Python"]
    names: dict[str, Any] = {"x": np.zeros((2, 40), np.float32)}
    exec(code, names)
    assert names["outputs"][0].shape == (2, 30)


def test_names_stay_within_their_literals() -> None:
    inputs = [ModelInput(HOSTILE, "float", (HOSTILE, 3)), ModelInput("ids", "int64", ())]
    for text in loading_code(HOSTILE, inputs, [HOSTILE, "z"]).values():
        assert "\u2028" not in text
        assert not any(line.startswith("#") for line in text.splitlines())
    python = loading_code(HOSTILE, inputs, ["y"])["Python"]
    calls: list[Any] = []

    class Session:
        def __init__(self, name: str) -> None:
            calls.append(name)

        def run(self, wanted: None, feeds: dict[str, Any]) -> list[Any]:
            return [feeds]

    names: dict[str, Any] = {"input_0": 1, "input_1": 2}
    body = python.replace("import onnxruntime\n", "")
    names["onnxruntime"] = type("module", (), {"InferenceSession": Session})
    exec(body, names)
    assert calls == [HOSTILE]
    assert names["outputs"] == [{HOSTILE: 1, "ids": 2}]


def test_several_inputs_and_none() -> None:
    code = loading_code("m.onnx", [ModelInput("a", "float", (1, "n")), ModelInput("b", "int64", (2,))], ["y"])
    assert 'const input_1 = new ort.Tensor("int64", data, [2]);' in code["JavaScript"]
    assert "CreateTensor<int64_t>" in code["C++"]
    assert "Ort::Value inputs[] = {std::move(input_0), std::move(input_1)};" in code["C++"]
    assert "names, inputs, 2, wanted, 1" in code["C++"]
    assert loading_code("m.onnx", [], ["y"])["Python"].endswith("session.run(None, {})")


@pytest.mark.parametrize("names", [["x"], [HOSTILE, "b"], []])
def test_javascript_parses(names: list[str], tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node.js")
    path = tmp_path / "load.mjs"
    inputs = [ModelInput(name, "float", ("n", 3)) for name in names]
    path.write_text(loading_code(HOSTILE, inputs, ["y"])["JavaScript"], encoding="utf-8")
    subprocess.run([node, "--check", path], check=True)
