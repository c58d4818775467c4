"""Totals and JSON of a result say what its tensors say."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from sws_compress.ort.differences import OutputDifference
from sws_compress.report.inspection import TensorRow
from sws_compress.report.result import CompressionResult

ROWS = (
    TensorRow("fc1.weight", (300, 784), "sparse+huffman", 7, 0.96, 0.4, 14_000, 0.7),
    TensorRow("fc1.bias", (10,), "dense", 10, 0.0, 3.3, 58, 0.0029),
)


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


def differing(*relative: float, **changes: object) -> CompressionResult:
    outputs = (OutputDifference(name, 0.5, value, 6) for name, value in zip("ab", relative, strict=False))
    return result(outputs=tuple(outputs), **changes)


def test_outputs_far_from_the_original_are_warned_of() -> None:
    assert math.isnan(result().output_difference)
    assert result().warnings == ()
    assert differing(0.02, 0.1).warnings == ()
    (warning,) = differing(0.02, 0.53, random_inputs=True).warnings
    assert warning.startswith("output 'b' differs from the original by 53 %: raise --components")
    assert "--inputs" in warning
    assert "--inputs" not in differing(0.53).warnings[0]
    assert "in shape" in differing(math.inf).warnings[0]
    assert math.isnan(differing(math.nan).output_difference)
    assert differing(math.nan, 0.2).output_difference == differing(0.2, math.nan).output_difference == 0.2
    assert differing(0.53, trained=True).warnings == ()


def test_other_classes_are_warned_of_by_their_share() -> None:
    few, many = (OutputDifference("ids", 1, 1e-4, 40, share) for share in (0.05, 0.25))
    assert result(outputs=(few,)).warnings == ()
    (warning,) = result(outputs=(few, many)).warnings
    assert warning.startswith("output 'ids' differs from the original in 25 % of its entries: raise")
    assert result(outputs=(few, many)).output_difference == 0.25


def test_totals_are_of_compressed_tensors_and_the_whole_file() -> None:
    assert result().ratio == 47.5
    assert result().weights == 235_200
    assert result().zeros == pytest.approx(0.96)
    assert result().bits_per_weight == pytest.approx(8 * 20_000 / 235_200)
    nothing = result(tensors=ROWS[1:])
    assert (nothing.weights, nothing.zeros, nothing.bits_per_weight) == (0, 0.0, None)


def test_bits_per_weight_are_not_told_of_a_file_of_other_things() -> None:
    assert result(file_bytes=235_200 * 8).bits_per_weight == 64
    larger = result(file_bytes=235_200 * 8 + 1)
    assert larger.bits_per_weight is None
    assert larger.to_json()["bits_per_weight"] is None


def test_json_says_the_same() -> None:
    values = json.loads(json.dumps(result(before=0.98, after=0.97).to_json()))
    assert (values["ratio"], values["file_bytes"], values["before"], values["after"]) == (47.5, 20_000, 0.98, 0.97)
    values = json.loads(json.dumps(differing(0.25, random_inputs=True).to_json()))
    assert values["outputs"] == [
        {"name": "a", "largest_absolute": 0.5, "largest_relative": 0.25, "elements": 6, "differing_share": None}
    ]
    assert (values["output_difference"], values["inputs"], len(values["warnings"])) == (0.25, "random", 1)
    assert values["tensors"][0]["shape"] == [300, 784]
    assert values["tensors"][0]["elements"] == 235_200
    assert values["tensors"][0]["file_bits"] == pytest.approx(8 * 14_000 / 235_200)
