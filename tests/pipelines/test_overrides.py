"""What the caller decides about single weights holds in every way, and patterns that match nothing are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import sws_compress as sws
from sws_compress.ort.decode import decoded_weights
from sws_compress.pipelines import job
from sws_compress.pipelines.job import Limits

ROWS, COLUMNS = 50, 64


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A table that is looked up, and two products."""
    random = np.random.default_rng(0)
    shapes = {"table": (ROWS, COLUMNS), "body.w": (COLUMNS, COLUMNS), "head.w": (COLUMNS, COLUMNS)}
    tensors = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("MatMul", ["rows", "body.w"], ["h"]),
        helper.make_node("Tanh", ["h"], ["t"]),
        helper.make_node("MatMul", ["t", "head.w"], ["y"]),
    ]
    ids = helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["n"])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", COLUMNS])
    graph = helper.make_graph(nodes, "g", [ids], [y], tensors)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "model.onnx"
    )
    return tmp_path / "model.onnx"


def values_of(path: Path, names: tuple[str, ...] = ("table", "body.w", "head.w")) -> dict[str, Any]:
    dense = {each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}
    packed = [name for name in names if name not in dense]
    return {name: dense[name] for name in names if name in dense} | dict(decoded_weights(path.read_bytes(), packed))


INPUTS = {"ids": np.arange(48) % ROWS}
REQUESTS = [sws.WeightsOnly(components=4), sws.Calibrated(inputs=INPUTS, quality=15)]


@pytest.fixture(params=["weights only", "calibrated", "streamed"])
def request_(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> sws.WeightsOnly | sws.Calibrated:
    """A request, and whether the model counts as large."""
    if request.param == "streamed":
        small = Limits(model_bytes=1, alone_elements=COLUMNS**2)
        monkeypatch.setattr("sws_compress.api.Job", lambda **given: job.Job(**given, limits=small))
    return REQUESTS[request.param == "calibrated"]


def test_kept_weights_are_the_same_bits(model: Path, tmp_path: Path, request_: Any) -> None:
    result = sws.compress(model, tmp_path / "small.onnx", request_, keep=["head.*", "op:Gather"])
    before, after = values_of(model), values_of(tmp_path / "small.onnx")
    np.testing.assert_array_equal(before["table"], after["table"])
    np.testing.assert_array_equal(before["head.w"], after["head.w"])
    assert len(np.unique(after["body.w"])) < len(np.unique(before["body.w"]))
    assert "kept as asked: 'head.w', 'table'" in result.notes
    assert any("'head.w' (16,384 bytes) is kept as asked" in note for note in result.notes)
    if result.decisions:
        assert [(each.name, each.how, each.entries) for each in result.decisions if each.how == "kept as asked"] == [
            ("table", "kept as asked", 0),
            ("head.w", "kept as asked", 0),
        ]


def test_weights_with_rules_of_their_own(model: Path, tmp_path: Path, request_: Any) -> None:
    rules = {
        "*.w": sws.WeightsOnly(components=7),
        "op:Gath*": sws.WeightsOnly(components=5),
        "body.w": sws.WeightsOnly(quality=40),
    }
    if isinstance(request_, sws.Calibrated):
        del rules["*.w"]  # something is left to calibrate
    result = sws.compress(model, tmp_path / "small.onnx", request_, overrides=rules)
    before, after = values_of(model), values_of(tmp_path / "small.onnx")
    assert len(np.unique(after["table"])) == 5
    error = after["body.w"] - before["body.w"]
    share = before["body.w"].size / sum(values.size for values in before.values())  # of the error of the network
    wanted = 40 - 10 * np.log10(share)
    assert 20 * np.log10(np.linalg.norm(before["body.w"]) / np.linalg.norm(error)) == pytest.approx(wanted, abs=1)
    if "*.w" in rules:
        assert len(np.unique(after["head.w"])) == 7
    if result.decisions:
        assert [each.how for each in result.decisions][:2] == ["5 components asked for", "quality 40 asked for"]


def test_sizes_are_met_with_what_is_left(model: Path, tmp_path: Path) -> None:
    result = sws.compress(
        model,
        tmp_path / "small.onnx",
        sws.Calibrated(inputs=INPUTS),
        target_bytes=17_800,
        keep=["table"],
        overrides={"head.w": sws.WeightsOnly(components=16)},
    )
    assert result.file_bytes == pytest.approx(17_800, rel=0.02)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            {"keep": ["heads.*"]},
            "pattern of keep must match a weight that would be compressed, got 'heads.*': the nearest are 'head.w', "
            "'body.w', 'table'",
        ),
        (
            {"overrides": {"op:Gater": sws.WeightsOnly()}},
            "pattern of overrides must match a weight that would be compressed, got 'op:Gater': the nearest are "
            "'op:Gather', 'op:MatMul'",
        ),
        ({"keep": ["*"]}, "keep must leave a weight to compress, got patterns of all 3: leave one out"),
        ({"keep": "table"}, "keep must be a sequence of patterns, got 'table': put them into a list"),
        (
            {"overrides": {"table": 35}},
            "overrides must be WeightsOnly by pattern, got 35 for 'table': for example WeightsOnly(quality=35)",
        ),
    ],
)
def test_patterns_that_cannot_be_followed(options: dict[str, Any], line: str, model: Path, tmp_path: Path) -> None:
    for request in REQUESTS:
        with pytest.raises(sws.ArgumentError) as raised:
            sws.compress(model, tmp_path / "small.onnx", request, **options)
        assert str(raised.value) == line


def test_other_modes_do_not_take_patterns(model: Path, tmp_path: Path) -> None:
    with pytest.raises(sws.ArgumentError, match="keep must be left out with LowBit, got table: WeightsOnly and Calib"):
        sws.compress(model, tmp_path / "small.onnx", sws.LowBit(), keep=["table"])


def test_something_must_be_left_to_calibrate(model: Path, tmp_path: Path) -> None:
    with pytest.raises(sws.ArgumentError, match="overrides must leave a weight to calibrate, got patterns of all 3"):
        sws.compress(model, tmp_path / "small.onnx", REQUESTS[1], overrides={"*": sws.WeightsOnly()})
