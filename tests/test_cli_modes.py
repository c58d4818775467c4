"""The command line beyond the smallest file: weights that stay in few bits, and the way back to a plain model."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.models import gaussian, write_mlp
from tests.test_cli import assert_one_line, run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_mlp(tmp_path / "model.onnx")


def weights(path: Path) -> dict[str, bytes]:
    return {tensor.name: numpy_helper.to_array(tensor).tobytes() for tensor in onnx.load(path).graph.initializer}


@pytest.mark.parametrize(("bits", "tolerance"), [("8", "0.02"), ("4", "0.2")])
def test_matrices_that_stay_in_few_bits(
    bits: str, tolerance: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "low.onnx"
    assert run("compress", model, "-o", output, "--low-bit", bits, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["file_bytes"] == os.path.getsize(output) < result["dense_bytes"]
    assert {tensor["encoding"] for tensor in result["tensors"]} <= {"int4", "int8"}
    assert "MatMulNBits" in {node.op_type for node in onnx.load(output).graph.node}
    assert run("verify", model, output, "--tolerance", tolerance) == 0
    assert run("verify", model, output, "--tolerance", "1e-6") == 1


@pytest.mark.parametrize(
    "option", [("--components", "8"), ("--granularity", "auto"), ("--load-budget", "1s"), ("--drop-names",)]
)
def test_options_of_decoded_weights_are_refused_with_low_bits(
    option: tuple[str, ...], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("compress", model, "-o", tmp_path / "low.onnx", "--low-bit", "8", *option) == 2
    assert_one_line(capsys.readouterr(), f"{option[0]} must be left out with --low-bit")
    assert not (tmp_path / "low.onnx").exists()


def test_expanding_gives_plain_weights_that_compress_again(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small, plain, again = (tmp_path / name for name in ("small.onnx", "plain.onnx", "again.onnx"))
    assert run("compress", model, "-o", small, "--components", "8") == 0
    capsys.readouterr()
    assert run("expand", small, "-o", plain, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["compressed_bytes"] == os.path.getsize(small)
    assert result["file_bytes"] == os.path.getsize(plain) > os.path.getsize(small)
    assert set(weights(plain)) == set(weights(model))
    assert run("verify", small, plain, "--tolerance", "0") == 0
    assert run("compress", plain, "-o", again, "--components", "8") == 0
    assert run("verify", small, again, "--tolerance", "0") == 0
    assert all(len(np.unique(np.frombuffer(data, np.float32))) <= 8 for data in weights(plain).values())


def test_expanding_what_is_not_compressed(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("expand", model, "-o", tmp_path / "plain.onnx") == 2
    assert_one_line(capsys.readouterr(), "compressed")
    assert not (tmp_path / "plain.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "encoding", "distinct"),
    [
        (("--granularity", "channel", "--components", "16"), "+scales", 16),
        (("--granularity", "vectors:2", "--components", "32"), "", 32),
    ],
)
def test_scales_and_vectors_from_start_to_finish(
    arguments: tuple[str, ...],
    encoding: str,
    distinct: int,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output, plain = tmp_path / "small.onnx", tmp_path / "plain.onnx"
    assert run("compress", model, "-o", output, *arguments, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert run("inspect", output, "--json") == 0
    inspected = {tensor["name"]: tensor for tensor in json.loads(capsys.readouterr().out)["tensors"]}
    for tensor in result["tensors"]:
        assert tensor["encoding"].endswith(encoding)
        assert tensor["distinct_values"] <= distinct
        assert inspected[tensor["name"]]["entropy_bits"] == tensor["entropy_bits"] < 4.01
    assert run("expand", output, "-o", plain) == 0
    assert run("verify", output, plain, "--tolerance", "1e-6") == 0
    assert run("verify", model, output, "--tolerance", "0.5") == 0
    if encoding:
        capsys.readouterr()
        assert run("inspect", output, "--clusters", "--original", model, "--json") == 0
        assert {len(tensor["clusters"]) for tensor in json.loads(capsys.readouterr().out)["tensors"]} == {16}


def test_granularities_that_do_not_exist(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compress", model, "-o", tmp_path / "small.onnx", "--granularity", "vectors:3") == 2
    assert_one_line(capsys.readouterr(), "--granularity: invalid choice: 'vectors:3'")


# -- calibrated -------------------------------------------------------------------------------------------------------

FUNCTIONS = """
import sys
import numpy as np

ROWS = {"x": np.random.default_rng(0).standard_normal((32, 40)).astype(np.float32)}
NUMBER = 3

def returns(): return ROWS
def yields(): yield ROWS
def breaks_off():
    yield ROWS
    raise RuntimeError("second\\nbatch")
def raises(): return {}["train"]
def leaves(): sys.exit(3)
def wants(rows): return rows
def forgets(): pass
def chatty_rows():
    print("reading")
    yield ROWS
    print("read")
def size(path):
    print("measuring", path)
    return path.stat().st_size / 1000
def nothing(path): pass
def crashes(path): raise KeyError("labels")
"""


@pytest.fixture
def here(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a model, inputs, an empty folder, and modules of the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    np.savez("inputs.npz", x=gaussian(32, 40))
    Path("empty").mkdir()
    Path("calibration_functions.py").write_text(FUNCTIONS)
    Path("calibration_crash.py").write_text("raise RuntimeError('no data today')")
    Path("calibration_syntax.py").write_text("def f(:")
    return tmp_path


INPUTS, FUNCTION = ("--calibration", "inputs.npz"), "calibration_functions"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--ratio", "8"), "--ratio must come with --calibration, got it alone: give some hundred inputs with"),
        (("--target-bytes", "9"), "--target-bytes must come with --calibration, got it alone: give some hundred"),
        (
            ("--quality", "20", "--components", "8"),
            "--components must be left out with --quality, got both: the",
        ),
        (("--granularity", "auto"), "--granularity must come with --components, got it alone: say how many values"),
        (("--quality", "-1"), "quality must be > 0, got -1.0: it is"),
        (("--components", "8", "--ratio", "8"), "--ratio must come with --calibration, got it alone"),
        (("--low-bit", "4", "--ratio", "8"), "--ratio must be left out with --low-bit, got both: the bits alone"),
        (
            (*INPUTS, "--components", "8"),
            "--components must be left out with --calibration, got both: ask for the size",
        ),
        (
            (*INPUTS, "--components", "0"),
            "--components must be left out with --calibration, got both: ask for the size",
        ),
        ((*INPUTS, "--granularity", "auto"), "--granularity must be left out with --calibration, got both: ask for"),
        (
            (*INPUTS, "--low-bit", "4"),
            "--low-bit must be left out with --calibration, got both: low bits need no inputs",
        ),
        ((*INPUTS, "--ratio", "8", "--quality", "20"), "--ratio must be left out with --quality, got both: choose one"),
        ((*INPUTS, "--ratio", "8", "--target-bytes", "9"), "--target-bytes must be left out with --ratio, got both"),
        (("--max-drop", "1"), "--max-drop must come with --calibration, got it alone: give some hundred inputs with"),
        ((*INPUTS, "--max-drop", "1"), "--max-drop must come with --evaluate, got it alone: name the metric that may"),
        (
            (*INPUTS, "--mode", "min"),
            "--mode must come with --evaluate, got it alone: name the metric that it is about",
        ),
        ((*INPUTS, "--max-drop", "1", "--ratio", "8"), "--max-drop must be left out with --ratio, got both: choose"),
        (
            (*INPUTS, "--max-drop", "-1", "--evaluate", f"{FUNCTION}:size"),
            "max_drop must be >= 0, got -1.0: it is how far the",
        ),
        ((*INPUTS, "--ratio", "1"), "ratio must be > 1, got 1.0: it is how many times smaller"),
        ((*INPUTS, "--quality", "nan"), "quality must be > 0, got nan: it is"),
    ],
)
def test_options_of_calibration(
    arguments: tuple[str, ...], line: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("compress", "model.onnx", "-o", "small.onnx", *arguments) == 2
    assert_one_line(capsys.readouterr(), line)
    assert not (here / "small.onnx").exists()


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("missing.npz", "got 'missing.npz', which does not exist: check the path"),
        ("missing/in.npz:x", "got 'missing/in.npz:x', which does not exist: check the path"),
        (FUNCTION, f"or package.module:function, got '{FUNCTION}', which does not exist: check the path"),
        (f"{FUNCTION}:", "or package.module:function, got"),
        ("", "or package.module:function, got '', which does not exist: check the path"),
        ("empty", "calibration folder empty must hold .npz files, got none: write them with numpy.savez"),
        (f"{FUNCTION}.py", "must be an .npz of arrays of numbers named like the model's inputs, got a file of another"),
        (
            "calibration_none:f",
            "must name a function that can be imported, got calibration_none:f, ModuleNotFound",
        ),
        ("calibration_crash:f", "got calibration_crash:f, RuntimeError: no data today: check its name"),
        ("calibration_syntax:f", "got calibration_syntax:f, SyntaxError: invalid syntax"),
        (f"{FUNCTION}:absent", f"module '{FUNCTION}' has no attribute 'absent': check its name"),
        (f"{FUNCTION}:NUMBER", f"must name a function, got {FUNCTION}:NUMBER, which is of type int: name a function"),
        (
            f"{FUNCTION}:raises",
            f"{FUNCTION}:raises must return inputs when it is called without arguments, got KeyError",
        ),
        (f"{FUNCTION}:leaves", "got SystemExit: 3: correct the function, or save the inputs with numpy.savez"),
        (f"{FUNCTION}:wants", "missing 1 required positional argument: 'rows': correct the function"),
        (f"{FUNCTION}:breaks_off", r"got RuntimeError: second\nbatch: correct the function"),
        (f"{FUNCTION}:forgets", "must be arrays by name, a path, or an iterable of them, got NoneType: for example"),
    ],
)
def test_calibration_inputs_that_cannot_be_had(
    given: str, line: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("compress", "model.onnx", "-o", "small.onnx", "--calibration", given) == 2
    assert_one_line(capsys.readouterr(), line)
    assert not (here / "small.onnx").exists()


@pytest.mark.parametrize("name", ["returns", "yields"])
def test_calibration_inputs_from_a_function(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compress", "model.onnx", "-o", "small.onnx", "--calibration", f"{FUNCTION}:{name}", "--json") == 0
    assert json.loads(capsys.readouterr().out)["file_bytes"] == os.path.getsize(here / "small.onnx")


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            "metric.py",
            "--evaluate must be package.module:function, got 'metric.py': name a function that takes the path",
        ),
        (
            "metric_none:f",
            "--evaluate must name a function that can be imported, got metric_none:f, ModuleNotFoundError",
        ),
        (f"{FUNCTION}:NUMBER", f"--evaluate must name a function, got {FUNCTION}:NUMBER, which is of type int: name a"),
        (f"{FUNCTION}:nothing", "evaluate must return a finite number, got None: correct the function"),
        (
            f"{FUNCTION}:crashes",
            "evaluate must return a number for the path of an ONNX file, got KeyError: 'labels': correct the function",
        ),
        (f"{FUNCTION}:leaves", "got TypeError: leaves() takes 0 positional arguments but 1 was given: correct the"),
    ],
)
def test_metrics_that_cannot_be_had(given: str, line: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compress", "model.onnx", "-o", "small.onnx", "--evaluate", given) == 2
    assert_one_line(capsys.readouterr(), line)
    assert not (here / "small.onnx").exists()


def test_what_functions_print_goes_to_standard_error(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, metric = f"{FUNCTION}:chatty_rows", f"{FUNCTION}:size"
    goal = ("--max-drop", "5", "--calibration", rows, "--evaluate", metric, "--no-distillation")
    assert run("compress", "model.onnx", "-o", "small.onnx", *goal, "--json") == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert {"reading", "read"} <= set(captured.err.split("\n"))
    assert captured.err.count("measuring") == 2 + len(result["curve"])  # besides, the original and constant outputs
    assert result["before"] == os.path.getsize("model.onnx") / 1000
    assert result["after"] == os.path.getsize("small.onnx") / 1000
    assert {"file_bytes": os.path.getsize("small.onnx"), "metric": result["after"]} in result["curve"]
    assert run("compress", "model.onnx", "-o", "small.onnx", *goal) == 0
    table = capsys.readouterr().out
    assert table.count("metric of a file") == len(result["curve"])
    assert f"{result['after']:.4g} at {result['file_bytes']:,} bytes" in table


def test_single_weights(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = ("--keep", "w2", "--set", "w*=quality:20", "--set", "op:MatMul=components:5")
    assert run("compress", "model.onnx", "-o", "small.onnx", *rules, "--json") == 0
    decisions = json.loads(capsys.readouterr().out)["decisions"]
    assert [each["how"] for each in decisions] == ["5 components asked for", "kept as asked"]
    assert (decisions[0]["entries"], weights(here / "small.onnx")["w2"]) == (5, weights(here / "model.onnx")["w2"])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--set", "w1"), "--set must be PATTERN=quality:DB or PATTERN=components:K, got 'w1': for example 'op:Gather"),
        (("--set", "w1=size:3"), "or PATTERN=components:K, got 'w1=size:3': for example"),
        (("--set", "w1=components:3.5"), "or PATTERN=components:K, got 'w1=components:3.5': for example"),
        (("--set", "w1=components:1"), "components must be >= 2, got 1: one is reserved for zero"),
        (("--keep", "w3"), "must match a weight that would be compressed, got 'w3': the nearest are"),
        (("--keep", "w1", "--low-bit", "8"), "--keep must be left out with --low-bit, got both: the bits of all"),
    ],
)
def test_rules_that_cannot_be_followed(
    arguments: tuple[str, ...], line: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("compress", "model.onnx", "-o", "small.onnx", *arguments) == 2
    assert_one_line(capsys.readouterr(), line)


def test_the_table_of_decisions(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert run("compress", "model.onnx", "-o", "small.onnx", *INPUTS) == 0
    short = capsys.readouterr().out
    assert "decided by" not in short
    assert run("compress", "model.onnx", "-o", "small.onnx", *INPUTS, "--table") == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["weight", "kind", "weights"]
    assert heading.rstrip().endswith("decided by")
    assert [line.split()[0] for line in lines[:2]] == ["w1", "w2"]
    assert all(line.rstrip().endswith("%  inputs of its layer") for line in lines[:2])
    assert run("compress", "model.onnx", "-o", "small.onnx", *INPUTS, "--json") == 0
    decisions = json.loads(capsys.readouterr().out)["decisions"]
    assert [each["name"] for each in decisions] == ["w1", "w2"]
    assert sum(each["error_share"] for each in decisions) == pytest.approx(1)


@pytest.mark.parametrize("columns", ["80", "120"])
def test_the_help_names_the_ways_and_what_they_need(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert run("compress", "--help") == 0
    text = capsys.readouterr().out
    groups = [
        text.index(f"\n{title}:") for title in ("weights only (default)", "calibrated", "low bits", "file", "check")
    ]
    assert groups == sorted(groups)
    assert " ".join(text[groups[1] : groups[2]].split()).count("needs --calibration") == 5
