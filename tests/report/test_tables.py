"""Tables say what a result holds, and fit their console."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from sws_compress.ort.differences import OutputDifference
from sws_compress.report.inspection import TensorRow
from sws_compress.report.result import CompressionResult, Verification
from sws_compress.report.tables import TensorsTable, compression_table, verification_table

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
    text = "\n".join(shown(compression_table(result(before=0.98, after=0.97), [("test error", "1.2 %")]), 80))
    for words in ("950,000 bytes", "20,000 bytes", "47.5x", "0.98, 0.97", "96.0 %", "test error", "1.2 %", "12.5 s"):
        assert words in text
    assert "bits per weight" in text
    other_things = "\n".join(shown(compression_table(result(file_bytes=10_000_000)), 80))
    assert "bits per weight" not in other_things


@pytest.mark.parametrize(("file_bytes", "ratio"), [(20_000, "47.5x"), (475_000, "2.0x"), (930_000, "1.02x")])
def test_small_ratios_have_two_decimals(file_bytes: int, ratio: str) -> None:
    assert ratio in "\n".join(shown(compression_table(result(file_bytes=file_bytes)), 80)).split()


def test_shares_of_entries_are_told() -> None:
    outputs = (OutputDifference("y", 1.0, 0.05, 0.02, 6), OutputDifference("ids", 1.0, 1e-4, 1e-4, 40, 0.25))
    text = "\n".join(shown(compression_table(result(outputs=outputs)), 160))
    assert "differ from the original in 25 % of entries (on given inputs: 'y' 2 %, 'ids' 25 % of entries)" in text
    verification = Verification(Path("a"), Path("b"), 1000, 100, outputs, 0.1)
    assert not verification.passed
    text = "\n".join(shown(verification_table(verification), 120))
    assert "entries that differ" in text
    assert "25 %" in text
    plain = Verification(Path("a"), Path("b"), 1000, 100, outputs[:1], 0.1)
    assert "entries that differ" not in "\n".join(shown(verification_table(plain), 120))


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
    text = "\n".join(shown(compression_table(compression), 140))
    assert "weights decoded exactly, outputs to 1.0e-07" in text
    assert words in text
    assert ("warning" in text) is bool(compression.warnings)


@pytest.mark.parametrize(("relative", "verdict"), [(0.1, "passed"), (0.1001, "FAILED"), (float("inf"), "FAILED")])
def test_verdict_is_by_the_relative_difference(relative: float, verdict: str) -> None:
    outputs = (OutputDifference("y", 3.0, 0.0, 0.0, 6), OutputDifference("z[/b]", 0.2, relative, 0.0, 6))
    verification = Verification(Path("a"), Path("b"), 1000, 100, outputs, 0.1)
    assert verification.passed is (verdict == "passed")
    text = "\n".join(shown(verification_table(verification), 80))
    assert verdict in text
    assert "z[/b]" in text
    assert "10.0x smaller" in text
