"""``--config`` says what the command line says, which counts more; what it cannot say is told in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.models import gaussian, write_mlp
from tests.test_cli import assert_one_line, run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder with a model and inputs."""
    monkeypatch.chdir(tmp_path)
    write_mlp(tmp_path / "model.onnx")
    np.savez("inputs.npz", x=gaussian(32, 40))
    return tmp_path


def configured(text: str, *arguments: str) -> int:
    Path("options.toml").write_text(text)
    return run("compress", *arguments, "--config", "options.toml")


EVERYTHING = """
model = "model.onnx"
output = "small.onnx"
calibration = "inputs.npz"
target-bytes = 3000
keep = ["nothing*"]
seed = 3
json = true
drop-names = true
load-budget = "2s"

[overrides]
"op:MatMul" = { components = 5 }
"w2" = { quality = 40 }
"""


def test_a_file_says_the_same_as_the_command_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = 'model = "model.onnx"\noutput = "a.onnx"\nseed = 3\njson = true\ncomponents = 9\ndrop-names = true\n'
    assert configured(f'{text}[overrides]\n"op:MatMul" = {{ components = 5 }}\n"w2" = {{ quality = 40 }}') == 0
    decisions = json.loads(capsys.readouterr().out)["decisions"]
    assert [each["how"] for each in decisions] == ["5 components asked for", "quality 40 asked for"]
    rules = ("--set", "op:MatMul=components:5", "--set", "w2=quality:40", "--drop-names", "--components", "9")
    assert run("compress", "model.onnx", "-o", "b.onnx", *rules, "--seed", "3") == 0
    assert Path("a.onnx").read_bytes() == Path("b.onnx").read_bytes()


def test_options_of_all_kinds_can_be_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert configured(EVERYTHING) == 2  # all keys are known: the pattern of keep is what is wrong
    assert_one_line(capsys.readouterr(), "pattern of keep must match a weight")


def test_the_command_line_counts_more(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = 'model = "absent.onnx"\ncomponents = 9\njson = true\nkeep = ["w1"]\n'
    assert configured(text, "model.onnx", "-o", "small.onnx", "--components", "5") == 0
    result = json.loads(capsys.readouterr().out)
    assert [each["how"] for each in result["decisions"]] == ["kept as asked", "its values"]
    assert [each["entries"] for each in result["decisions"]] == [0, 5]


def test_another_goal_replaces_that_of_the_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = 'calibration = "inputs.npz"\nratio = 5.0\njson = true\n'
    assert configured(text, "model.onnx", "-o", "small.onnx", "--target-bytes", "3000") == 0
    assert json.loads(capsys.readouterr().out)["file_bytes"] == pytest.approx(3000, rel=0.02)


def test_what_is_needed_must_come_from_either(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert configured("components = 9", "model.onnx") == 2
    assert_one_line(capsys.readouterr(), "the following arguments are required: -o/--output: see sws-compress compress")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("qualty = 30", "key of --config options.toml must be an option of compress, got 'qualty': the nearest is qua"),
        ("target_bytes = 9", "must be an option of compress, got 'target_bytes': the nearest is target-bytes"),
        ("config = 'a'", "must be an option of compress, got 'config': the nearest is "),
        ("ratio = '8'", "ratio in --config options.toml must be a number, got '8': correct it"),
        ("components = 8.5", "components in --config options.toml must be a whole number, got 8.5: correct it"),
        ("components = true", "components in --config options.toml must be a whole number, got True: correct it"),
        ("json = 1", "json in --config options.toml must be true or false, got 1: correct it"),
        ("keep = 'w1'", "keep in --config options.toml must be a list of texts, got 'w1': correct it"),
        ("low-bit = 3", "low-bit in --config options.toml must be one of 4, 8, got 3: correct it"),
        ("granularity = 'rows'", "must be one of tensor, channel, auto, vectors:2, vectors:4, vectors:8, got 'rows'"),
        ("model = 3", "model in --config options.toml must be text, got 3: correct it"),
        ("overrides = 3", "overrides in --config options.toml must be a table, got 3: write [overrides] above its"),
        (
            "[overrides]\nhead.w = { quality = 3 }",
            "'head' in overrides of --config options.toml must have a quality or",
        ),
        (
            "[overrides]\nw1 = 35",
            "'w1' in overrides of --config options.toml must have a quality or components, got '35'",
        ),
        (
            "[overrides]\nw1 = { size = 35 }",
            "--set must be PATTERN=quality:DB or PATTERN=components:K, got 'w1=size:35'",
        ),
        ("ratio = ", "--config options.toml must be TOML, got 'Invalid value (at end of document)': correct it"),
        ("components = 0", "components must be >= 2, got 0: one is reserved for zero"),
    ],
)
def test_files_that_cannot_be_followed(text: str, line: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert configured(text, "model.onnx", "-o", "small.onnx") == 2
    assert_one_line(capsys.readouterr(), line)
    assert not Path("small.onnx").exists()


def test_a_file_that_is_not_there(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compress", "--config", "absent.toml") == 2
    line = "--config must be a file that can be read, got absent.toml, 'No such file or directory': check the path"
    assert_one_line(capsys.readouterr(), line)


def test_options_of_a_project(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = '[tool.sws-compress]\nmodel = "model.onnx"\noutput = "small.onnx"\njson = true\n'
    rules = '[tool.sws-compress.overrides]\n"w1" = { components = 5 }\n'
    Path("pyproject.toml").write_text(f'[project]\nname = "mine"\n{table}{rules}')
    assert run("compress", "--config", "pyproject.toml") == 0
    assert json.loads(capsys.readouterr().out)["decisions"][0]["how"] == "5 components asked for"
    Path("pyproject.toml").write_text("[tool.sws-compress]\nqualty = 30\n")
    assert run("compress", "--config", "pyproject.toml") == 2
    assert_one_line(capsys.readouterr(), "must be an option of compress, got 'qualty': the nearest is quality")


@pytest.mark.parametrize("text", ["", "tool = 3", "[tool]\nsws-compress = 3", "[tool.other]\nratio = 3"])
def test_projects_without_options(text: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("pyproject.toml").write_text(text)
    assert run("compress", "model.onnx", "-o", "small.onnx", "--config", "pyproject.toml") == 2
    assert_one_line(capsys.readouterr(), "--config pyproject.toml must have a table [tool.sws-compress], got none")


def test_no_file_is_read_that_was_not_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder of a model may be anybody's, and options name functions that are called."""
    Path("evil.py").write_text("open('called', 'w').close()\ndef inputs(): return []\n")
    Path("pyproject.toml").write_text('[tool.sws-compress]\ncalibration = "evil:inputs"\n')
    assert run("compress", "model.onnx", "-o", "small.onnx", "--components", "5") == 0
    assert not Path("called").exists()
