"""Comparison of files of different kinds: what is compared, and what is said in one line."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import sws_compress as sws
from sws_compress.errors import VerificationError
from sws_compress.ort.differences import difference
from tests.models import gaussian

FIRST = """g (float[n, 64] x, int64[n] i) => (float[n, 40] y, int64[n] z) {
    m = MatMul(x, w) \n y = MatMul(m, v) \n z = Neg(i) }"""


def network(path: Path, text: str = FIRST, *, opset: int = 18, dtype: str = "float32", scale: float = 1) -> Path:
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}')
    weights = (gaussian(64, 96, seed=1) * scale, gaussian(96, 40, seed=2) * scale)
    model.graph.initializer.extend(
        numpy_helper.from_array(w.astype(dtype), name) for w, name in zip(weights, "wv", strict=True)
    )
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("text", "opset", "dtype"),
    [
        (FIRST, 13, "float32"),
        (FIRST.replace("(float[n, 40] y, int64[n] z)", "(int64[n] z, float[n, 40] y)"), 18, "float32"),
        (FIRST.replace("(float[n, 64] x, int64[n] i)", "(int64[n] i, float[n, 64] x)"), 18, "float32"),
        (FIRST.replace("float", "float16"), 18, "float16"),
        (FIRST.replace("float", "double"), 18, "float64"),
        (FIRST.replace("int64", "int32"), 18, "float32"),
    ],
)
def test_the_same_network_in_another_form_passes(tmp_path: Path, text: str, opset: int, dtype: str) -> None:
    first = network(tmp_path / "first.onnx")
    second = network(tmp_path / "second.onnx", text, opset=opset, dtype=dtype)
    for inputs in (None, {"x": gaussian(3, 64), "i": np.arange(3)}):
        result = sws.verify(first, second, inputs=inputs, tolerance=0.005)
        assert result.passed
        assert [output.name for output in result.outputs] == ["y", "z"]
        assert result.random_inputs is (inputs is None)
    assert not sws.verify(first, network(second, text, opset=opset, dtype=dtype, scale=1.2), tolerance=0.005).passed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            FIRST.replace(" x", " image").replace("(x", "(image"),
            "inputs of the second model must be 'x', 'i' as in the",
        ),
        (
            FIRST.replace(" z", " label"),
            "outputs of the second model must be 'y', 'z' as in the first, got 'y', 'label'",
        ),
        (FIRST.replace(", int64[n] z", ""), "outputs of the second model must be 'y', 'z' as in the first, got 'y'"),
    ],
)
def test_other_networks_are_told_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(sws.ModelError, match=message) as caught:
        sws.verify(network(tmp_path / "first.onnx"), network(tmp_path / "second.onnx", text))
    assert "\n" not in str(caught.value)


def test_huge_and_wide_numbers_are_compared_without_warnings() -> None:
    huge = np.array([1e308, 1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert difference("y", huge, -huge).largest_absolute == np.inf
        assert difference("y", huge, huge).largest_absolute == 0
        assert difference("y", huge, huge * 0.5).largest_relative == 0.5
        assert difference("y", np.array([5e-324]), np.array([1e300])).largest_relative == np.inf
    wide = np.array([2**60, 7])
    assert difference("z", wide, wide).largest_absolute == 0
    assert difference("z", wide, wide + np.array([1, 0])).largest_absolute == 1
    with pytest.raises(VerificationError, match=r"must have shape \(2,\), got \(2,\) of text"):
        difference("s", wide, np.array(["a", "b"], object))
