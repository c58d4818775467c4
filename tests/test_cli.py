"""The command line: what goes where, exit codes, and one line for everything that is wrong with the input."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import sws_compress
from sws_compress.cli import main as cli
from tests.models import gaussian, write_mlp
from tests.test_package import HEAVY, START_SECONDS, fastest_start_seconds

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x10\x00\x00\x00\x10\x08\x06\x00\x00\x00\x1f\xf3\xffa"


def run(*arguments: str | Path) -> int:
    """``main`` in this process; argparse leaves by SystemExit."""
    try:
        return cli.main([str(argument) for argument in arguments])
    except SystemExit as leaving:
        return int(leaving.code or 0)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return write_mlp(folder / "model.onnx")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A path in a folder of its own that holds an older result."""
    folder = tmp_path / "results"
    folder.mkdir()
    path = folder / "small.onnx"
    path.write_bytes(b"older result")
    return path


def assert_nothing_happened(output: Path) -> None:
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    assert output.read_bytes() == b"older result"


def assert_one_line(captured: Any, *words: str) -> None:
    """Nothing on standard output; one line that names thing, rule, value and cure."""
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("sws-compress: error: ")
    assert ": " in captured.err.removeprefix("sws-compress: error: ")  # what is wrong: what to do
    assert "Traceback" not in captured.err
    for word in words:
        assert word in captured.err, f"{word} is not in: {captured.err}"


# -- every command ----------------------------------------------------------------------------------------------------


def test_compress_inspect_verify_as_json(model: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compress", model, "-o", output, "--components", "64", "--json") == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert captured.err == ""
    assert result["file_bytes"] == os.path.getsize(output)
    assert 0 <= os.path.getsize(model) - result["dense_bytes"] < 100  # names of nodes, and the producer
    assert [tensor["distinct_values"] for tensor in result["tensors"]] == [64, 64]

    assert run("inspect", output, "--json") == 0
    seen = json.loads(capsys.readouterr().out)
    assert seen["disk_bytes"] == os.path.getsize(output)
    assert seen["tensors"] == result["tensors"]

    assert run("verify", model, output, "--json") == 0
    verification = json.loads(capsys.readouterr().out)
    assert verification["passed"] is True
    assert 0 < verification["outputs"][0]["largest_relative"] < 0.1


def test_tables_fit_80_columns(
    model: Path, output: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(output.parent)
    for command in (
        ("compress", model, "-o", output.name),
        ("inspect", output.name),
        ("inspect", model),
        ("verify", model, output.name),
    ):
        assert run(*command) in (0, 1)
        captured = capsys.readouterr()
        assert captured.err == ""
        assert max(map(len, captured.out.splitlines())) <= 80
    assert run("inspect", output.name) == 0
    table = capsys.readouterr().out
    assert "w1" in table
    assert "40x60" in table
    assert f"{os.path.getsize(output):,} bytes" in table


def test_names_with_brackets_are_no_markup(tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_mlp(tmp_path / "[bold]model.onnx", names=("block[/red]", ":smile:[b]"))
    assert run("compress", source, "-o", output) == 0
    assert run("inspect", output) == 0
    out = capsys.readouterr().out
    assert out.count("block[/red]") == 2
    assert out.count(":smile:[b]") == 2


@pytest.mark.parametrize("name", ["compress", "inspect", "verify", "demo"])
def test_help_of_each_command(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(name, "--help") == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: sws-compress {name}")
    assert "--json" in text
    assert max(map(len, text.splitlines())) <= 80
    assert run("--help") == 0
    assert f"\n    {name} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "COMMAND"),
        (("decompress",), "invalid choice: 'decompress'"),
        (("compress", "model.onnx"), "required: -o/--output"),
        (("compress", "model.onnx", "-o", "small.onnx", "--components", "x"), "--components: invalid int value: 'x'"),
        (("compress", "model.onnx", "-o", "small.onnx", "--low-bit", "2"), "invalid choice: 2"),
        (("verify", "model.onnx"), "required: COMPRESSED"),
    ],
)
def test_arguments_that_cannot_be_read(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    assert_one_line(capsys.readouterr(), words, "--help")


def test_seeds_are_not_negative(model: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (("compress", model, "-o", output), ("verify", model, model)):
        assert run(*command, "--seed", "-1") == 2
        assert_one_line(capsys.readouterr(), "seed must be >= 0, got -1")


@pytest.mark.parametrize(("rows", "fill", "found"), [(0, 0.0, "shape (0, "), (2, np.nan, "nothing but NaN")])
def test_inputs_that_tell_nothing(
    rows: int, fill: float, found: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = onnx.load(model).graph.input[0]
    width = entry.type.tensor_type.shape.dim[1].dim_value
    np.savez(tmp_path / "inputs.npz", **{entry.name: np.full((rows, width), fill, np.float32)})
    assert run("verify", model, model, "--inputs", tmp_path / "inputs.npz") == 2
    assert_one_line(capsys.readouterr(), f"input {entry.name!r} must hold numbers, got {found}")


def test_module_and_version() -> None:
    command = [sys.executable, "-m", "sws_compress", "--version"]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert result.stdout == f"sws-compress {sws_compress.__version__}\n"


def test_help_comes_at_once_and_loads_nothing_heavy() -> None:
    assert fastest_start_seconds("-m", "sws_compress", "--help") < START_SECONDS
    program = (
        "import sys\nfrom sws_compress.cli.main import main\n"
        "try: main(['compress', '--help'])\nexcept SystemExit: pass\n"
        f"print(sorted(set({(*HEAVY, 'rich', 'numpy')!r}) & set(sys.modules)), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert result.stderr.strip() == "[]"


def test_progress_stays_off_standard_output(model: Path, output: Path) -> None:
    """Also on a terminal, which both streams pretend to be here."""
    command = [sys.executable, "-m", "sws_compress", "compress", str(model), "-o", str(output), "--json"]
    environment = {**os.environ, "FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}
    result = subprocess.run(command, check=True, capture_output=True, env=environment)
    assert json.loads(result.stdout)["file_bytes"] == os.path.getsize(output)


def test_reader_that_leaves_early(model: Path) -> None:
    command = f"'{sys.executable}' -m sws_compress inspect '{model}' --json | true; echo ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], check=True, capture_output=True, text=True)
    assert result.stderr == ""
    assert result.stdout.strip() in ("0", str(cli.BROKEN_PIPE))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_standard_output_that_is_full(model: Path, options: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "sws_compress", "inspect", str(model), *options]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "standard output must be writable" in result.stderr


HOSTILE = "w[/red]\x1b[31m\x07\x00\u202e $\\frac{$ \u00fc\u6743"
"""A name with markup, control characters, half a formula, and letters that ASCII does not have."""


def _assert_shown(text: str) -> None:
    assert "Traceback" not in text
    assert not {"\x07", "\x00", "\u202e"} & set(text)
    assert "\x1b[31m" not in text
    assert r"w[/red]\x1b[31m" in text


@pytest.mark.parametrize(("options", "stages", "weights"), [((), 0, 0), (("-v",), 1, 0), (("-vv",), 1, 1)])
def test_verbose_says_what_is_done(
    options: tuple[str, ...], stages: int, weights: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_mlp(tmp_path / "model.onnx", names=("w1\x1b[31m", "w2"))
    assert run("compress", model, "-o", tmp_path / "small.onnx", *options) == 0
    captured = capsys.readouterr()
    assert captured.err.count("packing 2 tensors of") == stages
    assert captured.err.count("w2: 26 values") == weights
    assert bool(captured.err) is bool(stages)
    assert "\x1b" not in captured.err
    assert "packing" not in captured.out
    assert logging.getLogger("sws_compress").level == logging.NOTSET
    assert run("inspect", tmp_path / "none.onnx", "-v") == 2
    assert_one_line(capsys.readouterr(), "none.onnx")


def test_names_do_not_reach_the_terminal_raw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The names are long: nothing of them is cut off, either."""
    model, small = write_mlp(tmp_path / "model.onnx", names=(HOSTILE, "w2")), tmp_path / "small.onnx"
    assert run("compress", model, "-o", small) == 0
    assert run("inspect", small, "--clusters") == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # letters that the font lacks
        assert run("picture", small, "-o", tmp_path / "small.png") == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.count(r"$\frac{$ " + "\u00fc\u6743") == 3
    _assert_shown(captured.out)
    assert run("picture", small, "-o", tmp_path / "small.png", "--tensor", HOSTILE + "?") == 2
    _assert_shown(capsys.readouterr().err)


def test_names_on_a_terminal_without_their_letters(tmp_path: Path) -> None:
    """Both streams pretend to be terminals, so the progress bar is drawn, too."""
    model = write_mlp(tmp_path / "model.onnx", names=(HOSTILE, "w2"))
    environment = {**os.environ, "TTY_COMPATIBLE": "1", "FORCE_COLOR": "1", "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "sws_compress", "compress", model, "-o", tmp_path / "small.onnx"]
    result = subprocess.run(command, capture_output=True, env=environment, check=True, encoding="ascii")
    _assert_shown(result.stdout + result.stderr)
    assert r"\xfc\u6743" in result.stdout


def test_error_lines_are_short_and_end_with_the_cure(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (("/".join(["a" * 100] * 30),), ("model.onnx", "--" + "a" * 3000)):
        assert run("inspect", *arguments) == 2
        line = capsys.readouterr().err
        assert line.startswith("sws-compress: error: ")
        assert 400 < len(line) <= 500
        assert line.count("\n") == 1
    assert line.endswith(": see sws-compress --help\n")


def test_model_whose_name_no_file_can_have(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", "a\0b.onnx") == 2
    assert_one_line(capsys.readouterr(), r"a\x00b.onnx must be readable")


@pytest.mark.skipif(os.name != "posix", reason="needs a shell that closes streams")
@pytest.mark.parametrize(("closed", "code", "lines"), [(">&-", 2, 1), ("2>&-", 0, 0), (">&- 2>&-", 2, 0)])
def test_closed_streams(model: Path, closed: str, code: int, lines: int) -> None:
    command = f"'{sys.executable}' -m sws_compress inspect '{model}' {closed}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert result.returncode == code
    assert result.stderr.count("\n") == lines
    assert ("w1" in result.stdout) == (code == 0)
    assert "Traceback" not in result.stderr


def test_inputs_that_are_a_pipe(model: Path, output: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """To open it would wait for a writer."""
    os.mkfifo(tmp_path / "pipe")
    assert run("compress", model, "-o", output, "--inputs", tmp_path / "pipe") == 2
    assert_one_line(capsys.readouterr(), "must be an ordinary file")
    assert_nothing_happened(output)


def test_json_has_no_infinities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A difference from outputs that are all zero is infinitely large, relative to them."""
    zeros = write_mlp(tmp_path / "zeros.onnx", second=np.zeros((60, 30), np.float32))
    other = write_mlp(tmp_path / "other.onnx")
    assert run("verify", zeros, other, "--json") == 1

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    values = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert values["passed"] is False
    assert values["outputs"][0]["largest_relative"] is None


# -- bad models -------------------------------------------------------------------------------------------------------


def _nan(path: Path) -> None:
    weights = gaussian(60, 30)
    weights[3, 4], weights[5, 6] = np.nan, np.inf
    write_mlp(path, second=weights)


def _few_elements(path: Path) -> None:
    write_mlp(path, gaussian(40, 6), gaussian(6, 30, seed=1))


def _constants(path: Path) -> None:
    write_mlp(path, np.full((40, 60), 0.25, np.float32), np.full((60, 30), 0.5, np.float32))


def _compressed(path: Path) -> None:
    write_mlp(path)
    assert run("compress", path, "-o", path.with_name("once.onnx"), "--json") == 0
    path.with_name("once.onnx").replace(path)


def _nodeless(path: Path) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    onnx.save(helper.make_model(helper.make_graph([], "g", [value], [value])), path)


def _outputless(path: Path) -> None:
    model = onnx.load(write_mlp(path))
    del model.graph.output[:]
    onnx.save(model, path)


def _unknown_operator(path: Path) -> None:
    model = onnx.load(write_mlp(path))
    model.graph.node[1].op_type = "Rectify"
    onnx.save(model, path)


def _external_elsewhere(path: Path) -> None:
    model = onnx.load(write_mlp(path))
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    path.with_name("weights.bin").unlink()


BAD_MODELS = {
    "text": (
        lambda path: path.write_text("a shopping list\n"),
        ["must be an ONNX file", "cut off or of another format"],
    ),
    "png": (lambda path: path.write_bytes(PNG * 20), ["must be an ONNX file"]),
    "empty": (lambda path: path.write_bytes(b""), ["must be an ONNX file", "got an empty file"]),
    "missing": (lambda path: None, ["must be readable", "No such file", "check the path"]),
    "directory": (lambda path: path.mkdir(), ["must be a file, got a directory"]),
    "nodeless": (_nodeless, ["must have nodes"]),
    "outputless": (_outputless, ["must have outputs, got none"]),
    "unknown operator": (_unknown_operator, ["must pass the ONNX checker", "Rectify"]),
    "external data missing": (_external_elsewhere, ["external data of 'w1' must exist", "weights.bin"]),
    "nan": (_nan, ["'w2' must be finite", "got 2 NaN or infinite of 1800"]),
    "few elements": (
        _few_elements,
        ["got no tensor that packing makes smaller", "'w1' (960 bytes) has 240 elements, fewer than 256"],
    ),
    "constants": (_constants, ["w1 must not be constant", "got 0.25 everywhere"]),
    "compressed": (_compressed, ["must not be compressed already", "start from the original"]),
    "opset 99": (lambda path: write_mlp(path, opset=99), ["99", "newer"]),
}


@pytest.mark.parametrize("kind", BAD_MODELS)
def test_bad_model(kind: str, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, words = BAD_MODELS[kind]
    path = tmp_path / "bad.onnx"
    spoil(path)
    capsys.readouterr()
    assert run("compress", path, "-o", output) == 2
    assert_one_line(capsys.readouterr(), *words)
    assert_nothing_happened(output)


@pytest.mark.parametrize("share", [0.0005, 0.01, 0.3, 0.55, 0.9, 0.995, 0.9999])
def test_truncated_model(
    share: float, model: Path, output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = model.read_bytes()
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(data[: int(share * len(data))])
    for command in (("compress", cut, "-o", output), ("inspect", cut), ("verify", cut, model), ("verify", model, cut)):
        assert run(*command) == 2
        assert_one_line(capsys.readouterr(), "cut.onnx must")
    assert_nothing_happened(output)


def test_any_damage_is_told_in_one_line(
    model: Path, output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bytes of the graph itself, not of the weights, changed at random."""
    random = np.random.default_rng(3)
    data = model.read_bytes()
    places = [i for i in range(len(data)) if i < 120 or i > len(data) - 80]
    codes = []
    for _ in range(60):
        damaged = bytearray(data)
        damaged[int(random.choice(places))] ^= 1 << int(random.integers(8))
        (tmp_path / "damaged.onnx").write_bytes(damaged)
        codes.append(run("inspect", tmp_path / "damaged.onnx"))
        captured = capsys.readouterr()
        if codes[-1]:
            assert_one_line(captured, "must")
    assert set(codes) == {0, 2}


# -- bad outputs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["missing/small.onnx", "models", "models/model.onnx/small.onnx", "x" * 300 + ".onnx"])
def test_bad_output(name: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = model.read_bytes()
    assert run("compress", model, "-o", tmp_path / name) == 2
    assert_one_line(capsys.readouterr(), "output")
    assert [path.name for path in model.parent.iterdir()] == ["model.onnx"]
    assert [path.name for path in tmp_path.iterdir()] == ["models"]
    assert model.read_bytes() == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_output_where_no_file_can_be_made(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compress", model, "-o", "/proc/small.onnx") == 2
    assert_one_line(capsys.readouterr(), "output /proc/small.onnx must be writable", "choose another path")


@pytest.mark.parametrize("kind", ["same", "relative", "symlink", "hard link"])
def test_output_equal_to_input(
    kind: str, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = model.read_bytes()
    other = model.with_name("other.onnx")
    if kind == "symlink":
        other.symlink_to(model)
    elif kind == "hard link":
        other.hardlink_to(model)
    elif kind == "relative":
        monkeypatch.chdir(model.parent)
        other = Path("../models/model.onnx")
    else:
        other = model
    assert run("compress", model, "-o", other) == 2
    assert_one_line(capsys.readouterr(), "must not be the input", "choose another path")
    assert model.read_bytes() == before
    assert not list(model.parent.glob(".*"))


def test_full_disk_leaves_the_old_result(
    model: Path, output: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for function in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, full)
            assert run("compress", model, "-o", output) == 2
        assert_one_line(capsys.readouterr(), "must be writable", "No space left on device", "make room")
        assert_nothing_happened(output)


def test_a_wrong_decoder_is_a_failed_verification(
    model: Path, output: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sws_compress.pipelines import publish

    right = publish.decoded_weights

    def off_by_one_ulp(data: bytes, names: list[str], **options: bool) -> dict[str, np.ndarray]:
        found = right(data, names, **options)
        found["w2"] = found["w2"].copy()
        found["w2"].view(np.uint32)[7, 8] += 1
        return found

    monkeypatch.setattr(publish, "decoded_weights", off_by_one_ulp)
    assert run("compress", model, "-o", output) == 1
    assert_one_line(capsys.readouterr(), "w2 must decode to the snapped weights")
    assert_nothing_happened(output)


def test_a_packer_that_changes_a_weight_is_caught(
    model: Path, output: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same from the other end: the file itself is wrong, by the last bit of one codebook entry."""
    import dataclasses

    from sws_compress.pipelines import publish

    right = publish.pack

    def spoiled(original: Any, palettes: Any, **limit: Any) -> Any:
        codebook = palettes["w1"].codebook.copy()
        codebook.view(np.uint32)[5] += 1
        return right(original, {**palettes, "w1": dataclasses.replace(palettes["w1"], codebook=codebook)}, **limit)

    monkeypatch.setattr(publish, "pack", spoiled)
    assert run("compress", model, "-o", output) == 1
    assert_one_line(capsys.readouterr(), "w1 must decode to the snapped weights")
    assert_nothing_happened(output)


def test_a_file_that_is_no_smaller_is_not_shipped(
    tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_mlp(tmp_path / "tiny.onnx", gaussian(40, 7), gaussian(7, 2))
    assert run("compress", source, "-o", output, "--components", "256") == 2
    assert_one_line(capsys.readouterr(), "must be smaller than the original")
    assert_nothing_happened(output)


# -- bad options ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "rule"), [("1", ">= 2"), ("0", ">= 2"), ("-3", ">= 2"), ("257", "<= 256")])
def test_bad_components(value: str, rule: str, model: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compress", model, "-o", output, "--components", value) == 2
    assert_one_line(capsys.readouterr(), f"components must be {rule}, got {value}")
    assert_nothing_happened(output)


def test_a_small_load_budget_makes_a_larger_file_that_decodes_faster(
    tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_mlp(tmp_path / "wide.onnx", gaussian(300, 200, seed=1))
    seen = []
    for budget in ("none", "1MB"):
        assert run("compress", source, "-o", output, "--components", "16", "--load-budget", budget) == 0
        capsys.readouterr()
        assert run("inspect", output, "--json") == 0
        seen.append(json.loads(capsys.readouterr().out))
    small, fast = seen
    assert {row["encoding"] for row in fast["tensors"] if row["elements"] > 1000} == {"radix"}
    assert small["disk_bytes"] < fast["disk_bytes"]
    assert small["decoding"]["computed_bytes"] > 2 * fast["decoding"]["computed_bytes"] > 8 * 60_000
    assert small["decoding"]["seconds"] > 0
    assert run("inspect", output) == 0
    assert "s of decoding here" in capsys.readouterr().out


def test_bad_load_budgets(model: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compress", model, "-o", output, "--load-budget", "fast") == 2
    assert_one_line(capsys.readouterr(), "load budget must be seconds, megabytes or both, got 'fast'")
    assert_nothing_happened(output)


def _npz(**arrays: np.ndarray) -> Any:
    return lambda path: np.savez(path, **arrays)


BAD_INPUTS = {
    "missing": (lambda path: None, ["must be readable", "No such file"]),
    "text": (lambda path: path.write_text("x = 3\n"), ["must be an .npz", "numpy.savez"]),
    "truncated": (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(30)), ["must be an .npz"]),
    "array": (lambda path: np.save(path.open("wb"), np.ones((2, 40), np.float32)), ["must be an .npz"]),
    "objects": (_npz(x=np.array([{}, None])), ["must be an .npz"]),
    "names": (_npz(image=gaussian(2, 40)), ["must be arrays named 'x', got 'image'"]),
    "too many": (_npz(x=gaussian(2, 40), y=gaussian(2, 2)), ["must be arrays named 'x', got 'x', 'y'"]),
    "shape": (_npz(x=gaussian(2, 41)), ["must run on the given inputs", "Got: 41 Expected: 40", "check their shapes"]),
    "type": (_npz(x=np.ones((2, 40))), ["must run on the given inputs", "double"]),
}


@pytest.mark.parametrize("kind", BAD_INPUTS)
def test_bad_inputs(kind: str, model: Path, output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write, words = BAD_INPUTS[kind]
    inputs = tmp_path / "inputs.npz"
    write(inputs)
    for command in (("verify", model, model), ("compress", model, "-o", output)):
        assert run(*command, "--inputs", inputs) == 2
        assert_one_line(capsys.readouterr(), *words)
    assert_nothing_happened(output)


def test_inputs_from_a_file(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "inputs.npz", x=gaussian(5, 40))
    assert run("verify", model, model, "--inputs", tmp_path / "inputs.npz", "--tolerance", "0") == 0
    assert run("verify", model, model, "--tolerance", "-1") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "tolerance must be >= 0, got -1.0" in error


def test_verify_models_with_other_inputs_or_outputs(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = write_mlp(tmp_path / "classes.onnx", classes=True)
    assert run("verify", model, classes) == 2
    assert_one_line(capsys.readouterr(), "outputs of the second model must be 'y'", "got 'z'")
    renamed = onnx.load(model)
    renamed.graph.input[0].name = renamed.graph.node[0].input[0] = "image"
    onnx.save(renamed, tmp_path / "renamed.onnx")
    assert run("verify", model, tmp_path / "renamed.onnx") == 2
    assert_one_line(capsys.readouterr(), "inputs of the second model must be 'x'", "got 'image'")
    narrow = write_mlp(tmp_path / "narrow.onnx", second=gaussian(60, 29))
    assert run("verify", model, narrow) == 1
    assert_one_line(capsys.readouterr(), "output 'y' must have shape (2, 30), got (2, 29)")


def test_what_libraries_say_of_a_file_stays_off_the_terminal(tmp_path: Path) -> None:
    """onnx-ir logs attributes that are no UTF-8, and warns of unknown keys of external data."""
    text = '<ir_version: 8, opset_import: ["": 17]> g (float[n, 40] x) => (float[n, 30] y) {y = MatMul(x, w)}'
    model = onnx.parser.parse_model(text)
    weight = onnx.numpy_helper.from_array(np.ones((40, 30), np.float32), "w")
    (tmp_path / "w.bin").write_bytes(weight.raw_data)
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "w.bin"), ("odd", "1")):
        weight.external_data.add(key=key, value=value)
    model.graph.initializer.append(weight)
    model.graph.node.append(onnx.helper.make_node("Foo", ["y"], ["z"], domain="mine", text=b"\xff\xfe"))
    model.opset_import.append(onnx.helper.make_opsetid("mine", 1))
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    command = [sys.executable, "-m", "sws_compress", "inspect", "--json", str(tmp_path / "net.onnx")]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert process.stderr == ""
    assert json.loads(process.stdout)["tensors"][0]["name"] == "w"
