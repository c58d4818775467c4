"""Weights rounded without inputs: to a quality of the whole network, which is checked where it runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper, numpy_helper

import sws_compress as sws
from sws_compress.ort.decode import decoded_weights
from sws_compress.ort.user_models import run_model
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.places import Place, place_of
from sws_compress.pipelines.seen_inputs import seen_inputs
from sws_compress.pipelines.source import Source, in_memory, open_source
from sws_compress.pipelines.untrained import weights_of

Array = npt.NDArray[Any]

FEATURES, HIDDEN, OUTPUTS = 64, 200, 80


def weights(seed: int = 0) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {
        "a": random.standard_normal((FEATURES, HIDDEN)).astype(np.float32) / 8,
        "b": random.standard_normal((HIDDEN, OUTPUTS)).astype(np.float32) / 14,
    }


def write(path: Path, tensors: dict[str, Array]) -> Path:
    """x a, rectified, times b."""
    dtype = next(iter(tensors.values())).dtype
    kind = helper.np_dtype_to_tensor_dtype(dtype)
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "b"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, ["n", FEATURES])],
        [helper.make_tensor_value_info("y", kind, ["n", OUTPUTS])],
        [numpy_helper.from_array(values, name) for name, values in tensors.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def error_decibels(model: Path, other: Path, dtype: Any = np.float32) -> float:
    """Energy of the outputs over that of their error, on inputs that no one else has seen."""
    feeds = {"x": np.random.default_rng(99).standard_normal((300, FEATURES)).astype(dtype)}
    first, second = (run_model(path, feeds)["y"].astype(np.float64) for path in (model, other))
    return float(20 * np.log10(np.linalg.norm(first) / np.linalg.norm(second - first)))


def test_more_quality_is_a_larger_file_and_a_smaller_error(tmp_path: Path) -> None:
    model = write(tmp_path / "model.onnx", weights())
    sizes, errors = [], []
    for quality in (15, 25, 35):
        result = sws.compress(model, tmp_path / f"{quality}.onnx", sws.WeightsOnly(quality=quality))
        sizes.append(result.file_bytes)
        errors.append(error_decibels(model, result.output))
    assert sizes == sorted(set(sizes))
    assert errors == sorted(errors)
    assert errors[2] - errors[0] > 15


def test_few_values_stay_as_they_are(tmp_path: Path) -> None:
    few = {name: np.round(values * 8) / 8 for name, values in weights().items()}
    model = write(tmp_path / "model.onnx", few)
    result = sws.compress(model, tmp_path / "small.onnx", sws.WeightsOnly(quality=30))
    decoded = decoded_weights(result.output.read_bytes(), ["a", "b"])
    assert all(np.array_equal(decoded[name], values) for name, values in few.items())


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_sizes_of_all_weights(tmp_path: Path, size: float) -> None:
    model = write(tmp_path / "model.onnx", {"a": weights()["a"] * np.float32(size), "b": weights()["b"]})
    result = sws.compress(model, tmp_path / "small.onnx")
    assert result.output_error < 0.1


def test_half_precision(tmp_path: Path) -> None:
    model = write(tmp_path / "half.onnx", {name: values.astype(np.float16) for name, values in weights().items()})
    result = sws.compress(model, tmp_path / "small.onnx", sws.WeightsOnly(quality=25))
    assert result.ratio > 2.5
    assert decoded_weights(result.output.read_bytes(), ["a"])["a"].dtype == np.float16
    assert error_decibels(model, result.output, np.float16) > 20


@pytest.mark.parametrize("quality", [12, 20, 30, 45, 60])
def test_the_quality_is_about_that_of_the_outputs(quality: float, tmp_path: Path) -> None:
    """Here layers hand on all of their error."""
    model = write(tmp_path / "model.onnx", weights())
    result = sws.compress(model, tmp_path / "small.onnx", sws.WeightsOnly(quality=quality))
    assert error_decibels(model, result.output) == pytest.approx(quality, abs=2)
    assert not result.notes


def test_a_small_layer_stays_closer_than_a_large_one(tmp_path: Path) -> None:
    tensors = weights()
    model = write(tmp_path / "model.onnx", {"a": tensors["a"], "b": tensors["b"][:, :8]})
    result = sws.compress(model, tmp_path / "small.onnx", sws.WeightsOnly(quality=20))
    decoded = decoded_weights(result.output.read_bytes(), ["a", "b"])
    original = {"a": tensors["a"], "b": tensors["b"][:, :8]}
    errors = [
        float(np.square(decoded[name] - values).sum() / np.square(values).sum()) for name, values in original.items()
    ]
    assert errors[0] / errors[1] == pytest.approx(FEATURES / 8, rel=0.2)


def unequal() -> dict[str, Array]:
    """The same network as that of `weights`, as norms may leave it: channels times c, their readers divided by c."""
    plain = weights()
    sizes = np.random.default_rng(1).permutation(np.geomspace(0.02, 50, HIDDEN)).astype(np.float32)
    return {"a": plain["a"] * sizes, "b": plain["b"] / sizes[:, None]}


@pytest.mark.parametrize("given", [True, False])
def test_weights_are_kept_closer_where_outputs_show_a_larger_error(given: bool, tmp_path: Path) -> None:
    model = write(tmp_path / "model.onnx", unequal())
    inputs = {"x": np.random.default_rng(3).standard_normal((50, FEATURES)).astype(np.float32)} if given else None
    result = sws.compress(model, tmp_path / "small.onnx", sws.WeightsOnly(quality=20), example_inputs=inputs)
    (note,) = (note for note in result.notes if "quality of the weights" in note)
    kind = "given" if given else "random"
    assert re.match(rf"quality of the weights was raised by \d+ dB, since outputs on {kind} inputs had less", note)
    kept = error_decibels(model, result.output)
    assert kept > 19 or "raised by 12 dB" in note
    assert kept > 19 or result.warnings


def test_weights_are_not_kept_closer_for_outputs_that_jump(tmp_path: Path) -> None:
    """The sine of a large number is noise, however close the weights are."""
    network = onnx.load(write(tmp_path / "plain.onnx", weights()))
    network.graph.node[-1].output[0] = "z"
    network.graph.initializer.append(numpy_helper.from_array(np.float32(1e6), "large"))
    network.graph.node.append(helper.make_node("Mul", ["z", "large"], ["phase"]))
    network.graph.node.append(helper.make_node("Sin", ["phase"], ["y"]))
    onnx.save(network, tmp_path / "jumping.onnx")
    found = sws.compress(tmp_path / "jumping.onnx", tmp_path / "small.onnx", sws.WeightsOnly(quality=20))
    plain = sws.compress(tmp_path / "plain.onnx", tmp_path / "same.onnx", sws.WeightsOnly(quality=20))
    assert found.file_bytes < 1.05 * plain.file_bytes
    assert any("closer weights hardly bring them closer: give typical inputs" in note for note in found.notes)
    assert found.warnings


def opened(path: Path) -> tuple[Source, Job]:
    job = Job(output=path.with_suffix(".small"))
    return in_memory(open_source(path, job), job), job


def places(source: Source) -> dict[str, Place]:
    return {weight.name: place_of(source.model, weight) for weight in weights_of(source)}


def test_inputs_of_inner_layers_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the first layer are noise here, and as the caller's inputs are elsewhere."""
    source, job = opened(write(tmp_path / "model.onnx", weights()))
    seen = seen_inputs(source, places(source), job)
    assert list(seen) == ["b"]
    assert source.feeds is not None
    inputs = np.maximum(source.feeds["x"] @ weights()["a"], 0).astype(np.float64)
    assert seen["b"].samples == 2 * len(inputs)  # 64 features are smooth as well
    monkeypatch.setattr("sws_compress.pipelines.seen_inputs.MOST_INPUTS", HIDDEN - 1)
    assert not seen_inputs(source, places(source), job)


def test_nothing_is_seen_of_networks_that_draw(tmp_path: Path) -> None:
    proto = onnx.load(write(tmp_path / "model.onnx", weights()))
    proto.graph.node[1].output[0] = "s"
    proto.graph.node.insert(2, helper.make_node("RandomUniformLike", ["s"], ["u"]))
    proto.graph.node.insert(3, helper.make_node("Add", ["s", "u"], ["r"]))
    onnx.save(proto, tmp_path / "draws.onnx")
    source, job = opened(tmp_path / "draws.onnx")
    assert not seen_inputs(source, places(source), job)


def test_what_was_seen_makes_the_error_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rectified values are positive: errors in the same direction of all weights of an output would add up."""
    model = write(tmp_path / "model.onnx", weights())
    exact = sws.WeightsOnly(quality=60)
    request = {"request": sws.WeightsOnly(quality=20), "overrides": {"a": exact}}
    seen = sws.compress(model, tmp_path / "seen.onnx", **request)
    monkeypatch.setattr("sws_compress.pipelines.weights_only.seen_inputs", lambda *_: {})
    alike = sws.compress(model, tmp_path / "alike.onnx", **request)
    bits, error = (
        [result.tensors[1].entropy_bits for result in (alike, seen)],
        [error_decibels(model, result.output) for result in (alike, seen)],
    )
    assert error[1] - error[0] > 6.02 * (bits[1] - bits[0]) + 0.5


@pytest.mark.parametrize("request_", [sws.WeightsOnly(components=3), sws.WeightsOnly(quality=4)])
def test_outputs_that_are_certain_hide_no_error(request_: sws.WeightsOnly, tmp_path: Path) -> None:
    """A softmax of large scores is 0 or 1, whatever the weights are, unless its largest score changes."""
    tensors = {"a": weights()["a"], "b": weights()["b"] * 100}
    tensors["b"][:, 0] = 100
    proto = onnx.load(write(tmp_path / "model.onnx", tensors))
    proto.graph.node[-1].output[0] = "s"
    proto.graph.node.append(helper.make_node("Softmax", ["s"], ["y"]))
    onnx.save(proto, tmp_path / "certain.onnx")
    result = sws.compress(tmp_path / "certain.onnx", tmp_path / "small.onnx", request_)
    assert result.output_error < 0.01
    assert result.score_error > 0.1
    (warning,) = result.warnings
    assert warning.startswith("values before a last softmax, sigmoid or argmax differ from the original's by ")
