"""Totals and JSON of a result say what its tensors say."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from sws_compress.ort.differences import OutputDifference
from sws_compress.report.distances import LARGE_AFTER_TRAINING, LARGE_ERROR, LARGE_SHARE
from sws_compress.report.inspection import TensorRow
from sws_compress.report.result import CompressionResult, MeasuredSize

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
    outputs = (OutputDifference(name, 0.5, 2 * value, value, 6) for name, value in zip("ab", relative, strict=False))
    return result(outputs=tuple(outputs), **changes)


def test_outputs_far_from_the_original_are_warned_of_in_one_line_with_the_cure() -> None:
    assert math.isnan(result().output_error)
    assert result().warnings == ()
    assert differing(0.02, LARGE_ERROR).warnings == ()
    (warning,) = differing(0.11, 0.53, random_inputs=True, cure="raise it").warnings
    assert warning == (
        "output 'b' differs from the original by 53 % of its norm: raise it; judge by real inputs (--inputs)"
    )
    assert "--inputs" not in differing(0.53).warnings[0]
    assert "in shape" in differing(math.inf).warnings[0]
    assert math.isnan(differing(math.nan).output_error)
    assert differing(math.nan, 0.2).output_error == differing(0.2, math.nan).output_error == 0.2


def test_certain_outputs_hide_no_error_of_the_scores_behind_them() -> None:
    assert differing(0.0, score_error=LARGE_ERROR).warnings == ()
    (warning,) = differing(0.0, score_error=0.3, cure="raise it").warnings
    assert warning.startswith("values before a last softmax, sigmoid or argmax differ from the original's by 30 %")
    assert warning.endswith(": raise it")
    assert len(differing(0.5, score_error=0.3).warnings) == 1
    assert differing(0.0, score_error=0.3, curve=(MeasuredSize(20_000, 0.98),)).warnings == ()


def test_training_moves_outputs_on_purpose_but_not_without_bound() -> None:
    assert differing(0.53, trained=True).warnings == ()
    (warning,) = differing(LARGE_AFTER_TRAINING + 0.3, trained=True, cure="train longer").warnings
    assert warning == "output 'a' differs from the original by 120 % of its norm: train longer"


def test_a_file_that_a_metric_has_chosen_is_judged_by_it() -> None:
    assert differing(0.53, curve=(MeasuredSize(20_000, 0.98),)).warnings == ()


def test_other_classes_are_warned_of_by_their_share() -> None:
    few, many = (OutputDifference("ids", 1, 1e-4, 1e-4, 40, share) for share in (LARGE_SHARE, 0.25))
    assert result(outputs=(few,)).warnings == ()
    (warning,) = result(outputs=(few, many)).warnings
    assert warning.startswith("output 'ids' differs from the original in 25 % of its entries: ")
    assert result(outputs=(few, many)).output_error == 0.25
    (number,) = (OutputDifference("y", 1, 1, 1.2 * LARGE_ERROR, 6),)
    (name,) = (OutputDifference("ids", 1, 1, 1, 6, 1.5 * LARGE_SHARE),)
    assert result(outputs=(number, name)).warnings[0].startswith("output 'ids'")  # by how far each is beyond its own


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
    assert values["outputs"] == [{
        "name": "a", "largest_absolute": 0.5, "largest_relative": 0.5, "relative_error": 0.25, "elements": 6,
        "differing_share": None,
    }]  # fmt: skip
    assert (values["output_error"], values["inputs"], len(values["warnings"])) == (0.25, "random", 1)
    assert values["tensors"][0]["shape"] == [300, 784]
    assert values["tensors"][0]["elements"] == 235_200
    assert values["tensors"][0]["file_bits"] == pytest.approx(8 * 14_000 / 235_200)
