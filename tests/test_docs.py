"""The Python blocks of each page run, in order, in a folder of their own."""

from __future__ import annotations

import io
import re
import shlex
from contextlib import nullcontext, redirect_stdout
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import sws_compress
from sws_compress.cli.main import main
from tests.test_architecture import FLOORS

BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", re.MULTILINE | re.DOTALL)
"""A block of Python, and what it prints, if the page says so."""

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
TOLERANCE = 0.1
"""Relative difference of printed numbers: other machines round sums in another order, and training enlarges that."""

COMMAND = re.compile(r"^ {4}sws-compress (\w+)(.*)$", re.MULTILINE)
OPTION = re.compile(r"(?<!\S)--[a-z][a-z-]*")
INLINE_OPTION = re.compile(r"`(--[a-z][a-z-]*)[^`\n]*`")
MAKE_TARGET = re.compile(r"^ {4}make ([\w-]+)|`make ([\w-]+)[^`\n]*`", re.MULTILINE)
PUBLIC_NAME = re.compile(r"\bsws\.([A-Za-z]\w*)\b(?! *=)")
USER_PAGES = (
    "README.md",
    "docs/budget.md",
    "docs/choosing.md",
    "docs/faq.md",
    "docs/large.md",
    "docs/sharing.md",
    "docs/loading.md",
    "docs/tutorial.md",
    "docs/watching.md",
    "docs/format.md",
    "docs/weights.md",
)
"""Pages whose inline options are those of the command line, not of a benchmark."""


def run_blocks(document: Path, names: dict[str, Any], tolerance: float = TOLERANCE) -> int:
    """Execute the blocks of a page in one namespace, with its line numbers in tracebacks; returns their number.

    What a block prints must be what the page says, where it says something; numbers may differ by the tolerance.
    """
    text = document.read_text(encoding="utf-8")
    blocks = list(BLOCK.finditer(text))
    for block in blocks:
        line = text.count("\n", 0, block.start(1))
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile("\n" * line + block[1], str(document), "exec"), names)
        print(printed.getvalue(), end="")  # noqa: T201 - for the test of the page
        if block[2] is not None:
            assert_printed(printed.getvalue(), block[2], tolerance=tolerance)
    return len(blocks)


def assert_printed(printed: str, written: str, *, tolerance: float = TOLERANCE) -> None:
    """The words of a page are the printed ones, and its numbers are close to them; times do not count."""
    found, wanted = squeezed(printed), squeezed(written)
    assert NUMBER.sub("#", found) == NUMBER.sub("#", wanted)
    numbers = ([float(number.replace(",", "")) for number in NUMBER.findall(text)] for text in (found, wanted))
    assert next(numbers) == pytest.approx(next(numbers), rel=tolerance, abs=tolerance / 10)


def squeezed(text: str) -> str:
    """A text with single blanks, wherever its lines end, and without the lines that tell the time."""
    lines = (line.strip() for line in text.splitlines())
    return " ".join(" ".join(line for line in lines if not line.startswith("time ")).split())


def block_behind(page: Path, line: str) -> str:
    """The indented block behind a line of a page."""
    lines = iter(page.read_text(encoding="utf-8").splitlines())
    assert line in lines, f"{page.name} must have a line {line!r}"
    block = takewhile(lambda each: not each or each.startswith("    "), lines)
    return "\n".join(each.removeprefix("    ") for each in block)


def run_command(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command line prints on its standard output."""
    capsys.readouterr()
    assert main(shlex.split(command)[1:]) == 0
    return capsys.readouterr().out


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
    assert run_blocks(repository / "docs" / "watching.md", names) == 5
    assert {"small.onnx", "training.csv", "weights.gif", "mine.gif", "report.html", "clusters.png"} == {
        path.name for path in tmp_path.iterdir()
    }
    assert names["steps"] == (1, *range(10, 81, 10))
    assert "% of the weights" in capsys.readouterr().out


@pytest.mark.slow
def test_recipes(repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_blocks(repository / "docs" / "recipes.md", {}) >= 6
    assert {path.stem for path in tmp_path.glob("*.onnx")} == {"cnn", "bert", "tagger", "words"}
    sizes = re.findall(r"^([\d,]+) -> ([\d,]+) bytes$", capsys.readouterr().out, re.MULTILINE)
    assert len(sizes) == 4
    assert all(int(dense.replace(",", "")) > 3.5 * int(small.replace(",", "")) for dense, small in sizes)


def test_questions(repository: Path, tmp_path: Path) -> None:
    assert run_blocks(repository / "docs" / "faq.md", {}) == 1
    assert (tmp_path / "inputs.npz").stat().st_size > 0


def test_scikit_learn(repository: Path, tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    assert run_blocks(repository / "docs" / "scikit-learn.md", names) == 2
    assert names["result"].ratio > 5
    assert names["result"].after > names["result"].before - 0.03


def test_sharing(repository: Path, tmp_path: Path) -> None:
    assert run_blocks(repository / "docs" / "sharing.md", {}) == 1
    assert {path.name for path in (tmp_path / "hub").iterdir()} == {"README.md", "small.onnx"}


def test_budget(repository: Path, tmp_path: Path) -> None:
    assert run_blocks(repository / "docs" / "budget.md", {}) == 1


def test_loops(repository: Path, tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    assert run_blocks(repository / "docs" / "loops.md", names) >= 7
    written = {path.name for path in tmp_path.glob("*.onnx")}
    assert written == {f"{loop}.onnx" for loop in ("plain", "mixed", "bert", "lightning", "compiled", "frozen")}
    assert names["result"].ratio > 3


def test_tutorial(repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    assert run_blocks(repository / "docs" / "tutorial.md", names, tolerance=0.3) >= 8  # sizes that training found
    assert {"small.onnx", "taught.onnx", "model.small.onnx", "mine.onnx"} <= {path.name for path in tmp_path.iterdir()}
    assert not (tmp_path / "again.onnx").exists()
    assert "must not be compressed already" in capsys.readouterr().out
    assert names["verification"].passed
    mine = names["accuracy"](names["mine"])
    assert mine > names["accuracy"](names["net"]) - 0.03


# -- what commands print ----------------------------------------------------------------------------------------------


def test_clusters_of_a_record_are_those_of_the_page(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page shows one tensor of several."""
    monkeypatch.chdir(repository)
    command = "sws-compress inspect benchmarks/records/lenet_300_100_190x.onnx --clusters"
    written = block_behind(repository / "docs" / "watching.md", f"    {command}")
    assert squeezed(written) in squeezed(run_command(command, capsys))


@pytest.mark.slow
def test_demo_prints_what_the_readme_says(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = f"sws-compress demo --data {repository / 'benchmarks' / 'data'}"
    assert_printed(run_command(command, capsys), block_behind(repository / "README.md", "It prints:"), tolerance=0.3)


@pytest.mark.parametrize(
    ("printed", "same"),
    [
        ("a.onnx   5,620 bytes\ntime 3 s", True),
        ("a.onnx 5,618 bytes", True),
        ("a.onnx 9,000 bytes", False),
        ("b.onnx 5,618 bytes", False),
        ("a.onnx 5,618 bytes 1", False),
    ],
)
def test_other_words_and_numbers_are_noticed(printed: str, same: bool) -> None:
    with nullcontext() if same else pytest.raises(AssertionError):
        assert_printed(printed, "a.onnx 5,618 bytes\n\ntime 4 s\n")


def options_of(command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """Options that the help of a command lists."""
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0, command
    return set(OPTION.findall(capsys.readouterr().out.replace("[", " ").replace(",", " ")))


def pages(repository: Path) -> dict[str, str]:
    """All pages but those of the benchmarks, by name."""
    paths = [repository / "README.md", repository / "CONTRIBUTING.md", *sorted((repository / "docs").glob("*.md"))]
    return {path.relative_to(repository).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def test_commands_and_options_exist(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = ("compress", "inspect", "picture", "verify", "check", "expand", "demo")
    known = {command: options_of(command, capsys) for command in commands}
    used = {(name, *match) for name, text in pages(repository).items() for match in COMMAND.findall(text)}
    assert {command for _, command, _ in used} >= {"compress", "inspect", "picture", "verify", "expand"}
    unknown = [
        (name, command, option)
        for name, command, rest in used
        for option in OPTION.findall(rest)
        if option not in known[command]
    ]
    every = set().union(*known.values())
    inline = {(name, option) for name in USER_PAGES for option in INLINE_OPTION.findall(pages(repository)[name])}
    assert len(inline) >= 8
    assert unknown + sorted((name, "", option) for name, option in inline if option not in every) == []


def test_make_targets_exist(repository: Path) -> None:
    makefile = (repository / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    used = {(name, a or b) for name, text in pages(repository).items() for a, b in MAKE_TARGET.findall(text)}
    assert len(used) >= 10
    assert sorted(pair for pair in used if pair[1] not in targets) == []


def test_the_reference_has_every_public_name_once(repository: Path) -> None:
    text = (repository / "docs/api.md").read_text(encoding="utf-8")
    named = re.findall(r"^\.\. auto\w+:: sws_compress\.(\w+)$", text, re.MULTILINE)
    assert sorted(named) == sorted(set(sws_compress.__all__) - {"__version__"})


def test_public_names_exist(repository: Path) -> None:
    used = {(name, public) for name, text in pages(repository).items() for public in PUBLIC_NAME.findall(text)}
    assert {public for _, public in used} >= {"compress", "FineTuned", "SoftWeightSharing"}
    formats = {"rows"}  # the function domain of a file is called sws, too
    assert sorted(pair for pair in used if pair[1] not in {*sws_compress.__all__, *formats}) == []


def test_contributing_shows_the_floors(repository: Path) -> None:
    text = (repository / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown: dict[int, set[str]] = {}
    for floor, rooms in re.findall(r"^\| (\d+) \| ([^|]*) \|", text, re.MULTILINE):
        names = (name.strip("/").removesuffix(".py") for name in re.findall(r"`([^`]+)`", rooms))
        shown.setdefault(int(floor), set()).update("" if name == "__init__" else name for name in names)
    assert shown == dict(enumerate(FLOORS))
