"""Tables say what a result holds, and fit their console."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console, RenderableType

from sws_compress.mixture.histogram import weight_histogram
from sws_compress.mixture.mixture import Mixture
from sws_compress.ort.differences import OutputDifference
from sws_compress.quantize.palette import palette_of
from sws_compress.report.cluster_report import ClusterReport, Picture
from sws_compress.report.file_reports import ExpansionResult, Inspection, Verification
from sws_compress.report.inspection import ModelParts, TensorRow
from sws_compress.report.result import MAX_TENSOR_LINES, CompressionResult
from sws_compress.report.tables import TensorsTable

ROWS = (
    TensorRow("fc1.weight", (300, 784), "sparse+huffman", 7, 0.96, 0.4, 14_000, 0.7),
    TensorRow("fc1.bias", (10,), "dense", 10, 0.0, 3.3, 58, 0.0029),
)


def shown(table: RenderableType, width: int) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width).print(table)
    return stream.getvalue().splitlines()


def result(**changes: object) -> CompressionResult:
    values = {
        "output": Path("small.onnx"),
        "dense_bytes": 950_000,
        "file_bytes": 20_000,
        "tensors": ROWS,
        "decoded_difference": 1e-7,
        "seconds": 12.5,
        **changes,
    }
    return CompressionResult(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_long_names_have_lines_of_their_own_where_there_is_no_room(width: int) -> None:
    name = "model.layers.11.self_attention.query_projection.weight"
    rows = (TensorRow(name, (4096, 4096), "sparse+huffman", 256, 1.0, 7.999, 16_000_000, 1.0), *ROWS)
    lines = shown(TensorsTable(rows), width)
    if width >= 80:
        assert max(map(len, lines)) <= width
    (line,) = [line for line in lines if name in line]
    assert ("4096x4096" in line) is (width == 160)
    heading = next(line for line in lines if "entropy" in line)
    if width == 160:  # numbers end where their heading ends
        assert line.index("7.999") + 5 == heading.index("entropy") + len("entropy")


def test_summary_of_a_compression() -> None:
    text = "\n".join(shown(result(before=0.98, after=0.97).table([("test error", "1.2 %")]), 80))
    for words in ("950,000 bytes", "20,000 bytes", "47.5x", "0.98, 0.97", "96.0 %", "test error", "1.2 %", "12.5 s"):
        assert words in text
    assert "bits per weight" in text
    other_things = "\n".join(shown(result(file_bytes=10_000_000), 80))
    assert "bits per weight" not in other_things


@pytest.mark.parametrize(("file_bytes", "ratio"), [(20_000, "47.5x"), (475_000, "2.0x"), (930_000, "1.02x")])
def test_small_ratios_have_two_decimals(file_bytes: int, ratio: str) -> None:
    assert ratio in "\n".join(shown(result(file_bytes=file_bytes), 80)).split()


def test_shares_of_entries_are_told() -> None:
    outputs = (OutputDifference("y", 1.0, 0.05, 0.02, 6), OutputDifference("ids", 1.0, 1e-4, 1e-4, 40, 0.25))
    text = "\n".join(shown(result(outputs=outputs), 160))
    assert "differ from the original in 25 % of entries (on given inputs: 'y' 2 %, 'ids' 25 % of entries)" in text
    verification = Verification(Path("a"), Path("b"), 1000, 100, outputs, 0.1)
    assert not verification.passed
    text = "\n".join(shown(verification, 120))
    assert "entries that differ" in text
    assert "25 %" in text
    plain = Verification(Path("a"), Path("b"), 1000, 100, outputs[:1], 0.1)
    assert "entries that differ" not in "\n".join(shown(plain, 120))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"random_inputs": True}, "differ from the original by 25 % of their norm (on random inputs)"),
        ({"trained": True}, "differ from the network before training by 25 % of their norm (on given inputs)"),
        ({"outputs": ()}, "not compared with the original"),
        ({"outputs": (OutputDifference("y", 0.0, 0.0, 0.0, 6),)}, "equal those of the original (on given inputs)"),
        (
            {"outputs": (OutputDifference("y", 1.0, float("inf"), float("inf"), 6),)},
            "differ from the original without bound",
        ),
    ],
)
def test_the_table_tells_decoding_from_the_original(changes: dict[str, object], words: str) -> None:
    compression = result(**{"outputs": (OutputDifference("y", 1.0, 0.5, 0.25, 6),), **changes})
    text = "\n".join(shown(compression, 140))
    assert "weights decoded exactly, outputs to 1.0e-07" in text
    assert words in text
    assert ("warning" in text) is bool(compression.warnings)


@pytest.mark.parametrize(("relative", "verdict"), [(0.1, "passed"), (0.1001, "FAILED"), (float("inf"), "FAILED")])
def test_verdict_is_by_the_relative_difference(relative: float, verdict: str) -> None:
    outputs = (OutputDifference("y", 3.0, 0.0, 0.0, 6), OutputDifference("z[/b]", 0.2, relative, 0.0, 6))
    verification = Verification(Path("a"), Path("b"), 1000, 100, outputs, 0.1)
    assert verification.passed is (verdict == "passed")
    text = "\n".join(shown(verification, 80))
    assert verdict in text
    assert "z[/b]" in text
    assert "10.0x smaller" in text


# -- print, repr ------------------------------------------------------------------------------------------------------


def test_print_is_the_table_of_the_command_line() -> None:
    compression = result(before=0.98, after=0.97)
    text = str(compression)
    assert text.split("\n") == [line.rstrip() for line in shown(compression, 80)]
    assert text.startswith("small.onnx: 20,000 bytes, 47.5x smaller, metric 0.98 -> 0.97\n")
    assert compression._repr_html_().startswith("<pre>small.onnx: 20,000 bytes")
    assert repr(compression) == "<CompressionResult small.onnx: 20,000 bytes, 47.5x smaller, metric 0.98 -> 0.97>"


def test_names_from_files_do_not_reach_the_terminal_raw() -> None:
    rows = (replace(ROWS[0], name="w\x1b[31m\u202e<b>"),)
    compression = result(tensors=rows, notes=("look at w\x1b[2J",))
    assert not {"\x1b", "\u202e"} & set(str(compression))
    assert "&lt;b&gt;" in compression._repr_html_()


def test_hundreds_of_tensors_are_a_screenful() -> None:
    rows = tuple(replace(ROWS[0], name=f"layer{i}", file_bytes=100 + (7 * i) % 300) for i in range(300))
    lines = shown(result(tensors=rows), 80)
    named = [line.split()[0] for line in lines if line.startswith("layer")]
    assert len(named) == MAX_TENSOR_LINES
    assert [int(name.removeprefix("layer")) for name in named] == sorted(
        sorted(range(300), key=lambda i: -rows[i].file_bytes)[:MAX_TENSOR_LINES]
    )
    rest = sum(row.file_bytes for row in rows if row.name not in named)
    assert f"and 276 smaller ones, {rest:,} bytes together: inspect lists all" in lines
    equal = tuple(replace(ROWS[0], name=f"layer{i}") for i in range(30))
    assert sum(line.startswith("layer") for line in shown(TensorsTable(equal, 24), 80)) == 24
    assert not any("smaller ones" in line for line in shown(TensorsTable(equal, 30), 80))


@pytest.mark.parametrize(
    "one",
    [
        Verification(Path("a"), Path("b"), 1000, 100, (), 0.1),
        ExpansionResult(Path("plain.onnx"), 100, 1000, ("w",)),
        Inspection(Path("small.onnx"), 1000, ModelParts(ROWS, 1000, 10, 20, None)),
        ClusterReport(Path("small.onnx"), (), ("w",)),
        Picture(Path("clusters.png"), ("w",), ()),
        result(),
        palette_of(np.repeat(np.float32([0, 1]), 5000)),
        Mixture(np.full(200, 0.005), np.arange(200.0), np.ones(200)),
        weight_histogram(np.arange(10.0), low=0, high=9, bins=4),
    ],
    ids=lambda one: type(one).__name__,
)
def test_repr_is_one_short_line(one: object) -> None:
    text = repr(one)
    assert text.startswith(f"<{type(one).__name__} ")
    assert text.endswith(">")
    assert len(text) < 100
    assert "\n" not in text
