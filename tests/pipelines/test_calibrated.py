"""Calibrated compression: goals are met, outputs are closer than without inputs, and what is not reached is said."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import sws_compress as sws
from sws_compress.ort.decode import decoded_weights
from sws_compress.ort.user_models import run_model
from sws_compress.pipelines import calibration_layers, mean_outputs
from sws_compress.pipelines.calibration_layers import Assigned
from sws_compress.pipelines.decided import Reason
from sws_compress.pipelines.price_search import PriceSearch

Array = npt.NDArray[Any]

FEATURES, HIDDEN, CLASSES = 96, 160, 10


def digits(count: int, seed: int) -> Array:
    """Inputs of a few degrees of freedom and very different sizes, as spectra and images are."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(7).standard_normal((12, FEATURES)) * np.geomspace(0.01, 3, FEATURES)
    return (np.abs(random.standard_normal((count, 12)) @ mixing)).astype(np.float32)


def perceptron(path: Path, dtype: Any = np.float32, *, hidden: int = 2, constants: bool = False) -> Path:
    """Hidden layers and an output."""
    random = np.random.default_rng(0)
    sizes = (FEATURES, *(HIDDEN,) * hidden, CLASSES)
    tensors, nodes, name = [], [], "x"
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        weight = random.standard_normal((inputs, outputs)) * random.uniform(0.1, 1, outputs) / np.sqrt(inputs)
        tensors.append(numpy_helper.from_array(weight.astype(dtype), f"w{i}"))
        nodes.append(helper.make_node("MatMul", [name, f"w{i}"], [f"h{i}"]))
        name = f"h{i}"
        if constants:
            tensors.append(numpy_helper.from_array(random.uniform(-0.1, 0.1, outputs).astype(dtype), f"b{i}"))
            nodes.append(helper.make_node("Add", [name, f"b{i}"], [f"a{i}"]))
            name = f"a{i}"
        if i < hidden:
            nodes.append(helper.make_node("Relu", [name], [f"r{i}"]))
            name = f"r{i}"
    nodes.append(helper.make_node("Softmax", [name], ["y"]))
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, ["n", FEATURES])],
        [helper.make_tensor_value_info("y", kind, ["n", CLASSES])],
        tensors,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return perceptron(tmp_path_factory.mktemp("model") / "model.onnx")


def logits_error(model: Path, other: Path) -> float:
    """Relative error of log probabilities on inputs that calibration has not seen."""
    feeds = {"x": digits(400, seed=99)}
    first, second = (np.log(run_model(path, feeds)["y"].astype(np.float64) + 1e-12) for path in (model, other))
    first, second = (each - each.mean(axis=1, keepdims=True) for each in (first, second))
    return float(np.linalg.norm(second - first) / np.linalg.norm(first))


@pytest.mark.parametrize("ratio", [6.0, 12.0])
def test_sizes_are_met_within_two_percent(model: Path, tmp_path: Path, ratio: float) -> None:
    request = sws.Calibrated(inputs={"x": digits(256, seed=1)})
    result = sws.compress(model, tmp_path / "small.onnx", request, ratio=ratio)
    assert result.file_bytes == pytest.approx(result.dense_bytes / ratio, rel=0.02)
    assert result.file_bytes == (tmp_path / "small.onnx").stat().st_size


def test_outputs_are_closer_than_without_inputs(model: Path, tmp_path: Path) -> None:
    plain = sws.compress(model, tmp_path / "plain.onnx", sws.WeightsOnly(components=16))
    request = sws.Calibrated(inputs={"x": digits(256, seed=1)})
    sws.compress(model, tmp_path / "calibrated.onnx", request, target_bytes=plain.file_bytes)
    without, found = (logits_error(model, tmp_path / f"{name}.onnx") for name in ("plain", "calibrated"))
    assert found < without / 1.8


@pytest.mark.parametrize("quality", [15.0, 30.0])
def test_quality_is_that_of_the_outputs(model: Path, tmp_path: Path, quality: float) -> None:
    request = sws.Calibrated(inputs={"x": digits(256, seed=1)}, quality=quality)
    sws.compress(model, tmp_path / "small.onnx", request)
    assert -20 * np.log10(logits_error(model, tmp_path / "small.onnx")) == pytest.approx(quality, abs=3)


def test_tables_that_products_read_share_the_error(model: Path, tmp_path: Path) -> None:
    """A transform to cosines is coded by what it does to the outputs; without inputs as finely as float16 keeps it."""
    network = onnx.load(model)
    times, frequencies = np.arange(FEATURES)[:, None], np.geomspace(0.5, 40, FEATURES)
    table = np.cos(np.pi * times * frequencies / FEATURES).astype(np.float32)
    network.graph.initializer.append(numpy_helper.from_array(table, "cosines"))
    network.graph.node[0].input[0] = "spectrum"
    network.graph.node.insert(0, helper.make_node("MatMul", ["x", "cosines"], ["spectrum"]))
    path = tmp_path / "spectral.onnx"
    onnx.save(network, path)
    requests = (sws.WeightsOnly(components=16), sws.WeightsOnly(quality=10))
    requests += (sws.Calibrated(inputs={"x": digits(256, seed=1)}, quality=20),)
    results = [sws.compress(path, tmp_path / "small.onnx", request) for request in requests]
    rows = [{row.name: row for row in result.tensors}["cosines"] for result in results]
    assert rows[0].encoding == "dense"
    errors = []
    for request, row in zip(requests[1:], rows[1:], strict=True):
        assert row.file_bytes < 0.5 * table.nbytes
        sws.compress(path, tmp_path / "small.onnx", request)
        decoded = decoded_weights((tmp_path / "small.onnx").read_bytes(), ["cosines"])["cosines"]
        errors.append(-20 * np.log10(np.linalg.norm(decoded - table) / np.linalg.norm(table)))
    assert errors[0] > 65 > errors[1] + 10
    assert -20 * np.log10(logits_error(path, tmp_path / "small.onnx")) == pytest.approx(20, abs=3)


def test_positions_that_are_added_share_the_error(model: Path, tmp_path: Path) -> None:
    """Learned positions, which nothing but Add reads, are coded like weights; masks stay as they are."""
    network = onnx.load(model)
    rows = np.random.default_rng(0).standard_normal((64, FEATURES)).astype(np.float32)
    network.graph.initializer.append(numpy_helper.from_array(rows, "positions"))
    network.graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "which"))
    network.graph.node[0].input[0] = "placed"
    network.graph.node.insert(0, helper.make_node("Slice", ["positions", "which", "one", "which"], ["position"]))
    network.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "one"))
    network.graph.node.insert(1, helper.make_node("Add", ["x", "position"], ["placed"]))
    path = tmp_path / "placed.onnx"
    onnx.save(network, path)
    errors = []
    for request in (sws.WeightsOnly(quality=10), sws.Calibrated(inputs={"x": digits(256, seed=1)}, quality=20)):
        result = sws.compress(path, tmp_path / "small.onnx", request)
        row = {row.name: row for row in result.tensors}["positions"]
        assert row.file_bytes < 0.45 * rows.nbytes
        decoded = decoded_weights((tmp_path / "small.onnx").read_bytes(), ["positions"])["positions"]
        errors.append(-20 * np.log10(np.linalg.norm(decoded - rows) / np.linalg.norm(rows)))
    assert errors[0] > 65 > errors[1] + 10
    assert -20 * np.log10(logits_error(path, tmp_path / "small.onnx")) == pytest.approx(20, abs=3)


def test_layers_that_follow_their_inputs_are_closer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = perceptron(tmp_path / "deep.onnx", hidden=8)
    request = sws.Calibrated(inputs={"x": digits(256, seed=1)})
    sws.compress(path, tmp_path / "in_turn.onnx", request, ratio=8)
    monkeypatch.setattr(PriceSearch, "_in_turn", PriceSearch._at_once)
    sws.compress(path, tmp_path / "at_once.onnx", request, ratio=8)
    in_turn, at_once = (logits_error(path, tmp_path / f"{name}.onnx") for name in ("in_turn", "at_once"))
    assert in_turn < 0.95 * at_once


def test_biases_that_keep_mean_outputs_bring_them_closer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = perceptron(tmp_path / "model.onnx", constants=True)
    request = sws.Calibrated(inputs={"x": digits(256, seed=1)})
    result = sws.compress(path, tmp_path / "with.onnx", request, ratio=12)
    assert {each.how for each in result.decisions} == {"inputs of its layer, bias follows"}
    changed = tensors_of(tmp_path / "with.onnx")
    assert not any(np.array_equal(values, changed[name]) for name, values in tensors_of(path).items() if name[0] == "b")
    monkeypatch.setattr(mean_outputs, "bias_of", lambda *arguments: None)
    result = sws.compress(path, tmp_path / "without.onnx", request, ratio=12)
    assert {each.how for each in result.decisions} == {"inputs of its layer"}
    errors = [logits_error(path, tmp_path / name) for name in ("with.onnx", "without.onnx")]
    assert errors[0] < 0.98 * errors[1]


def tensors_of(path: Path) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def test_biases_that_do_not_help_stay() -> None:
    assigned = Assigned({}, {"w": Reason("seen")}, {"b": np.ones(3)})
    assert mean_outputs.kept_where_they_help(assigned, lambda values: len(values)).biases == {}
    assert mean_outputs.kept_where_they_help(assigned, lambda values: -len(values)) is assigned


def test_the_same_seed_makes_the_same_file(model: Path, tmp_path: Path) -> None:
    files = []
    for name in ("a.onnx", "b.onnx"):
        request = sws.Calibrated(inputs={"x": digits(64, seed=1)})
        sws.compress(model, tmp_path / name, request, ratio=8)
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]


def test_passes_over_the_inputs_make_the_same_file(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inputs that are few enough to be taken whole: how many moments are held at a time changes nothing."""
    files = []
    for name, held in (("a.onnx", 1 << 30), ("b.onnx", 1)):
        monkeypatch.setattr(calibration_layers, "MOMENT_BYTES", held)
        request = sws.Calibrated(inputs={"x": digits(64, seed=1)})
        sws.compress(model, tmp_path / name, request, ratio=8)
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]


def test_half_precision(tmp_path: Path) -> None:
    path = perceptron(tmp_path / "half.onnx", np.float16)
    request = sws.Calibrated(inputs={"x": digits(128, seed=1).astype(np.float16)}, quality=25)
    result = sws.compress(path, tmp_path / "small.onnx", request)
    assert result.ratio > 2
    assert run_model(tmp_path / "small.onnx", {"x": digits(3, seed=2).astype(np.float16)})["y"].dtype == np.float16


class Digits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 16, 3, stride=2)
        self.depthwise = nn.Conv2d(16, 16, 3, groups=16)
        self.linear = nn.Linear(16 * 16, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.depthwise(torch.relu(self.conv(images))))
        return self.linear(features.flatten(1))


def test_modules_take_the_batches_of_a_loader(tmp_path: Path) -> None:
    torch.manual_seed(1)
    images, labels = torch.rand(32, 1, 13, 13), torch.zeros(32)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), batch_size=16)
    network = Digits().eval()
    result = sws.compress(
        network, tmp_path / "small.onnx", sws.Calibrated(inputs=loader, quality=20), example_inputs=images[:2]
    )
    assert result.network is not None
    with torch.no_grad():
        expected, found = network(images), result.network(images)
    assert 0 < float((expected - found).norm() / expected.norm()) < 0.2
    assert not torch.equal(result.network.linear.weight, network.linear.weight)
    assert not torch.equal(result.network.linear.bias, network.linear.bias)


def in_a_branch(path: Path) -> Path:
    """A model with a weight in the main graph and one that only a branch reads."""
    random = np.random.default_rng(0)
    tensors = [
        numpy_helper.from_array(random.standard_normal((FEATURES, FEATURES)).astype(np.float32), name) for name in "ab"
    ]
    value = helper.make_tensor_value_info("t", TensorProto.FLOAT, ["m", FEATURES])
    branches = {
        "then_branch": helper.make_graph([helper.make_node("MatMul", ["h", "b"], ["t"])], "then", [], [value]),
        "else_branch": helper.make_graph([helper.make_node("Identity", ["h"], ["t"])], "else", [], [value]),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("If", ["c"], ["y"], **branches),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES]),
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["k", FEATURES])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_weights_in_branches_meet_their_inputs(tmp_path: Path) -> None:
    path = in_a_branch(tmp_path / "model.onnx")
    result = sws.compress(
        path, tmp_path / "small.onnx", sws.Calibrated(inputs={"x": digits(64, 1), "c": np.array(1 > 0)})
    )
    assert result.ratio > 4
    assert not any("of the weights" in note for note in result.notes)


def test_weights_that_no_input_uses_are_told_and_keep_their_quality(tmp_path: Path) -> None:
    path = in_a_branch(tmp_path / "model.onnx")
    request = sws.Calibrated(inputs={"x": digits(64, seed=1), "c": np.array(False)})
    result = sws.compress(path, tmp_path / "small.onnx", request)
    (note,) = (note for note in result.notes if "of the weights" in note)
    assert note.startswith("50% of the weights did nothing to the outputs on these inputs ('b')")
    feeds = {"x": digits(400, seed=99), "c": np.array(True)}
    first, second = (run_model(file, feeds)["y"] for file in (path, tmp_path / "small.onnx"))
    assert np.linalg.norm(second - first) < 0.2 * np.linalg.norm(first)


def with_a_table(path: Path) -> Path:
    """A perceptron that adds elements of a table, whose reader is not known as a product."""
    proto = onnx.load(perceptron(path))
    table = np.random.default_rng(0).standard_normal((1, FEATURES * HIDDEN)).astype(np.float32)
    numbers = np.zeros((1, CLASSES), np.int64)
    proto.graph.initializer.extend([numpy_helper.from_array(table, "t"), numpy_helper.from_array(numbers, "k")])
    proto.graph.node[-1].output[0] = "p"
    proto.graph.node.append(helper.make_node("GatherElements", ["t", "k"], ["e"], axis=1))
    proto.graph.node.append(helper.make_node("Add", ["p", "e"], ["y"]))
    onnx.save(proto, path)
    return path


def test_weights_that_are_not_reached_are_told(tmp_path: Path) -> None:
    path = with_a_table(tmp_path / "model.onnx")
    result = sws.compress(path, tmp_path / "small.onnx", sws.Calibrated(inputs={"x": digits(64, seed=1)}))
    (note,) = (note for note in result.notes if "inputs cannot be seen" in note)
    assert note.startswith("27% of the weights are read where their inputs cannot be seen ('t')")


def test_a_size_out_of_reach_is_told(model: Path, tmp_path: Path) -> None:
    request = sws.Calibrated(inputs={"x": digits(64, seed=1)})
    result = sws.compress(model, tmp_path / "small.onnx", request, target_bytes=100)
    assert any(note.endswith("% larger than the 100 bytes asked for") for note in result.notes)
    (warning,) = result.warnings
    assert warning.startswith("output 'y' differs from the original by")
    assert warning.endswith(": ask for a larger file (--ratio, --target-bytes), or for a quality (--quality)")


def test_outputs_are_compared_on_all_inputs_that_weights_were_not_assigned_by(model: Path, tmp_path: Path) -> None:
    """One of the five sets of eight rows."""
    rows = digits(40, seed=1)
    result = sws.compress(model, tmp_path / "small.onnx", sws.Calibrated(inputs={"x": rows}))
    first, second = (run_model(file, {"x": rows[:8]})["y"].astype(np.float64) for file in (model, result.output))
    (output,) = result.outputs
    assert output.relative_error == pytest.approx(np.linalg.norm(second - first) / np.linalg.norm(first), rel=1e-4)
    assert output.elements == first.size
    assert result.warnings == ()
    many = sws.compress(model, tmp_path / "small.onnx", sws.Calibrated(inputs={"x": digits(80, seed=1)}))
    assert many.outputs[0].elements == 2 * first.size


# -- how far a metric may fall ----------------------------------------------------------------------------------------


def decibels(model: Path) -> Any:
    """A metric of files: how near their outputs are to the original's, 40 at most."""
    inputs = {"x": digits(200, seed=5)}
    wanted = run_model(model, inputs)["y"].astype(np.float64)

    def evaluate(path: Path) -> float:
        error = float(np.linalg.norm(run_model(path, inputs)["y"] - wanted) / np.linalg.norm(wanted))
        return min(-20 * np.log10(max(error, 1e-9)), 40.0)

    return evaluate


@pytest.mark.parametrize("max_drop", [5.0, 20.0])
def test_the_smallest_file_that_keeps_a_metric(model: Path, tmp_path: Path, max_drop: float) -> None:
    evaluate = decibels(model)
    request = sws.Calibrated(inputs={"x": digits(256, seed=1)}, distillation=False)
    result = sws.compress(model, tmp_path / "small.onnx", request, max_drop=max_drop, evaluate=evaluate)
    assert result.before == 40
    assert result.after == evaluate(result.output) >= 40 - max_drop
    kept = [size.file_bytes for size in result.curve if size.metric >= 40 - max_drop]
    lost = [size.file_bytes for size in result.curve if size.metric < 40 - max_drop]
    assert result.file_bytes == result.output.stat().st_size == min(kept)
    assert min(kept) <= 1.03 * max(lost)  # a file may lose it that is a little larger: some errors are chance
    assert min(lost) < min(kept)
    assert result.notes[-1] == (
        f"metric falls by {40 - result.after:.4g}, at most {max_drop:g} asked for: smallest of {len(result.curve)} "
        "files evaluated"
    )


def test_a_metric_that_no_file_keeps(model: Path, tmp_path: Path) -> None:
    original = model.read_bytes()
    request = sws.Calibrated(inputs={"x": digits(64, seed=1)}, distillation=False)
    result = sws.compress(
        model,
        tmp_path / "small.onnx",
        request,
        max_drop=0.5,
        evaluate=lambda path: float(path.read_bytes() == original),
    )
    assert result.notes[-1].startswith("metric falls by 1, more than the 0.5 asked for: none of ")
    assert result.after == 0


def test_a_metric_of_modules(tmp_path: Path) -> None:
    torch.manual_seed(1)
    images = torch.rand(64, 1, 13, 13)
    network = Digits().eval()
    with torch.no_grad():
        wanted = network(images[32:])

    def evaluate(module: nn.Module) -> float:
        with torch.no_grad():
            return float(-(module(images[32:]) - wanted).norm() / wanted.norm())

    request = sws.Calibrated(inputs=images[:32].split(8))
    result = sws.compress(
        network, tmp_path / "small.onnx", request, max_drop=0.1, evaluate=evaluate, example_inputs=images[:2]
    )
    assert result.network is not None
    assert result.before == 0
    assert result.after == evaluate(result.network)
    assert -0.1 <= result.after < 0
    assert min(size.metric for size in result.curve) < -0.1


def test_metrics_of_files_are_measured_in_all_ways(model: Path, tmp_path: Path) -> None:
    evaluate = decibels(model)
    requests = (sws.WeightsOnly(components=4), sws.LowBit(bits=4), sws.Calibrated(inputs={"x": digits(64, seed=1)}))
    for request in requests:
        result = sws.compress(model, tmp_path / "small.onnx", request, evaluate=evaluate)
        assert result.before == 40
        assert result.after == evaluate(result.output) < 40


def test_drops_need_a_metric(model: Path, tmp_path: Path) -> None:
    request = sws.Calibrated(inputs={"x": digits(64, seed=1)})
    with pytest.raises(sws.ArgumentError, match="max_drop must come with evaluate, got none: pass the metric"):
        sws.compress(model, tmp_path / "small.onnx", request, max_drop=1)


@pytest.mark.parametrize(
    ("found", "told"),
    [(None, "None"), (float("nan"), "nan"), ("0.5", "'0.5'"), (torch.zeros(2), "tensor"), (-np.inf, "-inf")],
)
def test_metrics_that_are_no_numbers(found: Any, told: str, model: Path, tmp_path: Path) -> None:
    with pytest.raises(
        sws.DataError, match=f"evaluate must return a finite number, got {told}.*: correct the function"
    ):
        sws.compress(model, tmp_path / "small.onnx", evaluate=lambda path: found)
    assert not (tmp_path / "small.onnx").exists()


# -- why every weight got its bits ------------------------------------------------------------------------------------


def test_decisions_name_what_decided(tmp_path: Path) -> None:
    path = with_a_table(tmp_path / "model.onnx")
    result = sws.compress(path, tmp_path / "small.onnx", sws.Calibrated(inputs={"x": digits(64, seed=1)}))
    seen, *_, unseen = result.decisions
    assert (seen.name, seen.kind, seen.weights, seen.how) == ("w0", "matrix", FEATURES * HIDDEN, "inputs of its layer")
    assert (unseen.name, unseen.how) == ("t", "its values and a trial: inputs not seen")
    rows = {row.name: row for row in result.tensors}
    for each in result.decisions:
        assert (each.file_bytes, each.entries) == (rows[each.name].file_bytes, rows[each.name].distinct_values)
        assert each.bits_per_weight == rows[each.name].file_bits
        assert each.step is not None
        assert each.level is not None
        assert min(each.step, each.level) > 0
    assert sum(each.error_share or 0 for each in result.decisions) == pytest.approx(1)


def test_without_inputs_values_decide(model: Path, tmp_path: Path) -> None:
    result = sws.compress(model, tmp_path / "small.onnx", sws.WeightsOnly(components=4))
    assert [each.name for each in result.decisions] == ["w0", "w1", "w2"]
    assert {(each.how, each.step, each.level, each.error_share) for each in result.decisions} == {
        ("its values", None, None, None)
    }


# -- progress ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", [1 << 30, 1])
@pytest.mark.parametrize("goal", [{}, {"target_bytes": 30_000}, {"max_drop": 10.0}])
def test_progress_never_goes_back(
    goal: dict[str, Any], held: int, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration_layers, "MOMENT_BYTES", held)
    seen: list[tuple[str, int, int]] = []
    if "max_drop" in goal:
        goal = {**goal, "evaluate": decibels(model)}
    sws.compress(
        model,
        tmp_path / "small.onnx",
        sws.Calibrated(inputs={"x": digits(64, seed=1)}),
        progress=lambda *call: seen.append(call),
        **goal,
    )
    done, totals = [call[1] for call in seen], [call[2] for call in seen]
    assert done == sorted(done)
    assert totals == sorted(totals)
    assert all(0 <= part <= whole for part, whole in zip(done, totals, strict=True))
    assert seen[-1] == ("done", totals[-1], totals[-1])
    phases = {description.split()[0] for description, _, _ in seen}
    assert {"collecting", "measuring", "assigning"} <= phases
    assert max(later - earlier for earlier, later in pairwise(done)) <= 0.5 * totals[-1]  # no phase is a jump
    moved = {before[0].split()[0] for before, after in pairwise(seen) if after[1] > before[1]}
    assert {"collecting", "measuring", "assigning"} <= moved
