"""Files beyond a size or below a metric fail, in the call, in the command, and in what CI runs of it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml

import sws_compress as sws
from sws_compress.cli import main as cli
from sws_compress.cli.check_command import size_given
from tests.models import write_mlp


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_mlp(tmp_path / "model.onnx")


def told(*arguments: str | Path) -> int:
    try:
        return cli.main([str(argument) for argument in arguments])
    except SystemExit as leaving:
        return int(leaving.code or 0)


def by_size(path: Path) -> float:
    """A metric that tells files apart."""
    return path.stat().st_size / 1000


def test_a_byte_too_many_fails(model: Path) -> None:
    size = model.stat().st_size
    assert sws.check(model, max_bytes=size).passed
    found = sws.check(model, max_bytes=size - 1)
    assert not found.passed
    (line,) = found.problems
    assert f"at most {size - 1:,} bytes, got {size:,}: " in line
    assert "FAILED" in str(found)


def test_external_data_counts(model: Path) -> None:
    proto = onnx.load(model)
    path = model.with_name("external.onnx")
    onnx.save(proto, path, save_as_external_data=True, location="external.data", size_threshold=0)
    assert path.stat().st_size < 2000
    assert not sws.check(path, max_bytes=2000).passed


def test_metric_is_held_against_both_limits(model: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.onnx"
    result = sws.compress(model, small)
    drop = (model.stat().st_size - result.file_bytes) / 1000
    assert sws.check(small, evaluate=by_size, original=model, max_drop=drop + 1e-6).passed
    assert not sws.check(small, evaluate=by_size, original=model, max_drop=drop - 1e-3).passed
    assert sws.check(small, evaluate=by_size, worst_metric=result.file_bytes / 1000).passed
    both = sws.check(small, evaluate=by_size, worst_metric=1e3, original=model, max_drop=drop + 1)
    assert both.worst_metric == 1e3  # the stricter one
    assert len(sws.check(small, max_bytes=1, evaluate=by_size, worst_metric=1e3).problems) == 2


def test_errors_are_held_against_limits_from_above(model: Path, tmp_path: Path) -> None:
    """A metric of which less is better: bytes."""
    small = tmp_path / "small.onnx"
    sws.compress(model, small)
    low, high = by_size(small), by_size(model)
    assert sws.check(model, evaluate=by_size, mode="min", worst_metric=high).passed
    assert not sws.check(model, evaluate=by_size, mode="min", worst_metric=high - 1e-3).passed
    rise = {"evaluate": by_size, "mode": "min", "original": small}
    assert sws.check(model, **rise, max_drop=high - low + 1e-6).passed
    found = sws.check(model, **rise, max_drop=high - low - 1e-3, worst_metric=2 * high)
    assert found.worst_metric == pytest.approx(high - 1e-3)  # the stricter one
    assert "a metric of at most" in found.problems[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "a check must have a limit, got none"),
        ({"max_bytes": 0}, "max_bytes must be > 0, got 0"),
        ({"max_bytes": 1.5}, "max_bytes must be a whole number"),
        ({"max_drop": -1, "original": "m", "evaluate": by_size}, "max_drop must be >= 0, got -1"),
        ({"worst_metric": float("nan"), "evaluate": by_size}, "worst_metric must be a number, got nan"),
        ({"worst_metric": 1}, "must come with evaluate"),
        ({"max_bytes": 1, "mode": "less"}, "mode must be 'max' or 'min', got 'less'"),
        ({"max_drop": 1, "evaluate": by_size}, "max_drop must come with original"),
        ({"max_bytes": 1, "original": "m"}, "original must come with max_drop"),
    ],
)
def test_limits_that_make_no_sense_are_refused(arguments: dict[str, Any], words: str, model: Path) -> None:
    with pytest.raises(sws.ArgumentError, match=re.escape(words)):
        sws.check(model, **arguments)


def test_a_metric_that_is_no_number_is_an_error_and_no_pass(model: Path) -> None:
    with pytest.raises(sws.DataError, match="finite number"):
        sws.check(model, evaluate=lambda path: float("nan"), worst_metric=0)


def test_a_file_that_is_no_model_does_not_pass(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"small, but no model")
    with pytest.raises(sws.ModelError):
        sws.check(tmp_path / "model.onnx", max_bytes=1000)


@pytest.mark.parametrize(
    ("text", "count"),
    [("500000", 500_000), ("500k", 500_000), ("1.5MB", 1_500_000), ("2 MiB", 2**21), (".5g", 5 * 10**8), ("7b", 7)],
)
def test_sizes(text: str, count: int) -> None:
    assert size_given(text) == count


@pytest.mark.parametrize("text", ["", "k", "-5k", "1e6", "5x", "5i", "500 k B", "nan"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(sws.ArgumentError, match="--max-bytes must be a size"):
        size_given(text)


def test_exit_codes(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told("check", model, "--max-bytes", "1MB") == 0
    assert "passed" in capsys.readouterr().out
    assert told("check", model, "--max-bytes", "1k", "--json") == 1
    values = json.loads(capsys.readouterr().out)
    assert (values["passed"], values["files"][0]["passed"]) == (False, False)
    assert told("check", tmp_path / "missing.onnx", "--max-bytes", "1k") == 2
    assert told("check", model) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_one_of_several_files_is_enough_to_fail(model: Path, tmp_path: Path) -> None:
    sws.compress(model, tmp_path / "small.onnx")
    assert told("check", tmp_path / "small.onnx", tmp_path / "small.onnx", "--max-bytes", "10k") == 0
    assert told("check", tmp_path / "small.onnx", model, "--max-bytes", "10k") == 1


def test_metric_on_the_command_line(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sizemetric.py").write_text("def size(path):\n    return path.stat().st_size\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    size = model.stat().st_size
    assert told("check", model, "--evaluate", "sizemetric:size", "--worst-metric", str(size)) == 0
    assert told("check", model, "--evaluate", "sizemetric:size", "--worst-metric", str(size + 1)) == 1
    assert told("check", model, "--evaluate", "sizemetric:size", "--original", model, "--max-drop", "0") == 0


# -- what CI runs -----------------------------------------------------------------------------------------------------


def test_pre_commit_hook_runs_the_check(repository: Path, model: Path) -> None:
    (hook,) = yaml.safe_load((repository / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    program, *arguments = shlex.split(hook["entry"])
    assert program == "sws-compress"
    assert re.search(hook["files"], "models/net.onnx")
    assert not re.search(hook["files"], "net.onnx.py")
    assert told(*arguments, "--max-bytes", "1k", model) == 1  # pre-commit puts args before the files
    assert told(*arguments, "--max-bytes", "1m", model, model) == 0


def action_check(repository: Path, folder: Path, inputs: dict[str, str]) -> list[str]:
    """The arguments that the action's step hands to the command, where ``inputs`` are given."""
    action = yaml.safe_load((repository / "action.yml").read_text(encoding="utf-8"))
    step = action["runs"]["steps"][-1]
    assert "${{" not in step["run"]
    values = {**{name: entry.get("default", "") for name, entry in action["inputs"].items()}, **inputs}
    given = {
        variable: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: values[found[1]], text)
        for variable, text in step["env"].items()
    }
    program = folder / "sws-compress" / "bin" / "sws-compress"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    program.chmod(0o755)
    environment = {**os.environ, **given, "RUNNER_TEMP": str(folder)}
    command = ["bash", "-e", "-c", step["run"]]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_action_hands_its_inputs_on(repository: Path, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).touch()
    found = action_check(repository, tmp_path, {"models": "*.onnx", "max-bytes": "500k", "worst-metric": "0.9"})
    assert found == ["check", "--max-bytes=500k", "--worst-metric=0.9", "--", "a.onnx", "b.onnx"]
    hostile = {"models": "a.onnx", "max-bytes": "$(touch no); touch no", "original": "`touch no`"}
    assert action_check(repository, tmp_path, hostile)[1:3] == [
        "--max-bytes=$(touch no); touch no",
        "--original=`touch no`",
    ]
    assert not (tmp_path / "no").exists()


def test_action_has_an_input_for_each_option(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = yaml.safe_load((repository / "action.yml").read_text(encoding="utf-8"))["inputs"]
    assert told("check", "--help") == 0
    options = set(re.findall(r"--([a-z][a-z-]+) [A-Z{]", capsys.readouterr().out))
    assert options == set(inputs) - {"models"}
