"""The way as a whole, from modules and files to a checked file on disk."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch.nn.functional import cross_entropy

import sws_compress as sws
from sws_compress.ort.decode import decoded_weights, unfolded_nodes
from sws_compress.ort.user_models import run_model
from sws_compress.report.result import CompressionResult
from sws_compress.train.distillation import Distillation
from tests.models import Mlp, answers, batches, fail_if_it_trains, gaussian, make, torch_answers, tuned, write_mlp

EIGHT = sws.WeightsOnly(components=8)
KINDS = ("mlp", "cnn", "lstm", "gru", "tied", "two")


def dead_initialisers(path: Path) -> set[str]:
    graph = onnx.load(path).graph
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    return {tensor.name for tensor in graph.initializer} - used


@pytest.fixture(scope="module", params=KINDS)
def shipped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    """(kind, module as it was, module passed in, its inputs, result) of a data-free compression."""
    model, inputs = make(request.param)
    before = copy.deepcopy(model)
    output = tmp_path_factory.mktemp(request.param) / "small.onnx"
    result = sws.compress(model, output, EIGHT, example_inputs=inputs(4))
    return request.param, before, model, inputs, result


def test_file_computes_what_the_snapped_module_computes(shipped: tuple[Any, ...]) -> None:
    _, _, _, inputs, result = shipped
    for rows in (1, 3, 8):
        feeds = inputs(rows)
        for actual, wanted in zip(answers(result.output, feeds), torch_answers(result.network, feeds), strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


def test_weights_hold_few_values_and_the_file_has_them(shipped: tuple[Any, ...]) -> None:
    kind, before, _, _, result = shipped
    parameters = dict(result.network.named_parameters())
    large = [name for name, p in before.named_parameters() if p.dim() > 1 and p.numel() >= 256]
    decoded = decoded_weights(result.output.read_bytes(), [row.name for row in result.tensors])
    assert large
    for name in large:
        values = parameters[name].detach().numpy()
        assert 2 <= len(np.unique(values)) <= 8
        assert not np.array_equal(values, dict(before.named_parameters())[name].detach().numpy())
    if kind == "tied":  # the exporter takes the table's other name
        decoded["embedding.weight"] = decoded["head.weight"]
    for name in large:
        np.testing.assert_array_equal(np.unique(decoded[name]), np.unique(parameters[name].detach().numpy()))


def test_module_that_was_passed_in_is_unchanged(shipped: tuple[Any, ...]) -> None:
    _, before, model, _, _ = shipped
    assert model.training
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.state_dict().items())


def test_file_is_clean(shipped: tuple[Any, ...]) -> None:
    _, _, _, _, result = shipped
    data = result.output.read_bytes()
    assert unfolded_nodes(data) == ()
    assert dead_initialisers(result.output) == set()
    words = onnx.load_from_string(data)
    for tensor in words.graph.initializer:
        tensor.ClearField("raw_data")  # payload may spell anything
    rest = words.SerializeToString()
    for trace in (b".py", b"/", b"torch", b"Traceback", b"namespace", os.getcwd().encode()):
        assert trace not in rest, trace


def test_sizes_are_those_on_disk(shipped: tuple[Any, ...]) -> None:
    _, _, _, _, result = shipped
    assert result.file_bytes == os.path.getsize(result.output) < result.dense_bytes
    assert result.ratio == result.dense_bytes / os.path.getsize(result.output)
    assert result.bits_per_weight == 8 * os.path.getsize(result.output) / result.weights
    seen = sws.inspect(result.output)
    parts = seen.parts.shared_bytes + seen.parts.graph_bytes + sum(row.file_bytes for row in seen.parts.rows)
    assert parts == seen.disk_bytes == result.file_bytes
    assert seen.parts.rows == result.tensors
    assert not list(result.output.parent.glob(".*"))


def test_batch_norms_stay_apart(tmp_path: Path) -> None:
    """Merged into the convolution, each row would be scaled by its own factor, and hold more than 8 values."""
    model, inputs = make("cnn")
    result = sws.compress(model, tmp_path / "small.onnx", EIGHT, example_inputs=inputs(2))
    operators = [node.op_type for node in onnx.load(result.output).graph.node]
    assert operators.count("BatchNormalization") == 2
    assert {row.name: row.encoding for row in result.tensors}["conv1.weight"] != "dense"


def test_tied_table_is_in_the_file_once(tmp_path: Path) -> None:
    model, inputs = make("tied")
    result = sws.compress(model, tmp_path / "small.onnx", EIGHT, example_inputs=inputs(2))
    assert result.weights == 100 * 32 + 32 * 32
    assert result.dense_bytes < 4 * (100 * 32 + 32 * 32) + 2000


# -- training ---------------------------------------------------------------------------------------------------------


def trained(tmp_path: Path, name: str = "small.onnx", **changes: Any) -> tuple[Mlp, CompressionResult]:
    model = Mlp()
    options = {"train": batches(), "loss": cross_entropy, "components": 4, "ratio": 8, "epochs": 4, **changes}
    return model, tuned(model, tmp_path / name, **options)


def test_training_moves_the_copy_only(tmp_path: Path) -> None:
    torch.manual_seed(0)
    seen: list[tuple[str, int, int]] = []
    scores: list[torch.nn.Module] = []

    def evaluate(model: torch.nn.Module) -> float:
        scores.append(model)
        assert not model.training
        return float(len(scores))

    model, result = trained(tmp_path, evaluate=evaluate, progress=lambda *values: seen.append(values))
    assert (result.before, result.after) == (1.0, len(scores))
    assert (scores[0], scores[-1]) == (model, result.network)
    trained_at = [i for i, (text, _, _) in enumerate(seen) if text.startswith("epoch ")]
    assert [seen[i][1:] for i in trained_at] == [(step, 24) for step in range(1, 25)]
    assert seen[trained_at[-5]][0].startswith("epoch 4/4, hard  loss ")
    assert [text for text, _, _ in seen[: trained_at[0]]] == ["exporting Mlp", "measuring the smallest file"]
    assert seen[trained_at[-1] + 1][0].startswith("packing ")
    assert seen[-1] == ("done", seen[-1][2], seen[-1][2])
    assert len(np.unique(result.network.fc1.weight.detach().numpy())) <= 4
    assert len(np.unique(model.fc1.weight.detach().numpy())) > 256
    assert set(result.mixtures) == {"fc1.weight", "fc2.weight"}
    x = batches()[0][0]
    np.testing.assert_allclose(answers(result.output, (x,))[0], torch_answers(result.network, (x,))[0], atol=1e-5)


@pytest.mark.slow
def test_same_seed_same_file(tmp_path: Path) -> None:
    files = []
    for name in ("a.onnx", "b.onnx"):
        torch.manual_seed(5)
        files.append(trained(tmp_path, name)[1].output.read_bytes())
    assert files[0] == files[1]


def test_teacher_alone_needs_no_labels(tmp_path: Path) -> None:
    torch.manual_seed(1)
    _, result = trained(tmp_path, loss=None, train=[x for x, _ in batches()], distillation=Distillation(weight=1.0))
    assert result.file_bytes < result.dense_bytes


@pytest.mark.slow
def test_interrupted_run_goes_on_to_the_same_file(tmp_path: Path) -> None:
    def stop(description: str, done: int, total: int) -> None:
        if done == 15:
            raise KeyboardInterrupt

    torch.manual_seed(2)
    whole = trained(tmp_path, "whole.onnx")[1].output.read_bytes()
    state = tmp_path / "run.state"
    torch.manual_seed(2)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, "half.onnx", state=state, progress=stop)
    assert {path.name for path in tmp_path.iterdir()} == {"whole.onnx", "run.state"}
    torch.manual_seed(2)
    assert trained(tmp_path, "half.onnx", state=state)[1].output.read_bytes() == whole


def test_nan_loss_names_the_step_and_saves_the_last_good_state(tmp_path: Path) -> None:
    steps = 0

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        nonlocal steps
        steps += torch.is_grad_enabled()  # the run measures itself besides
        value = cross_entropy(outputs, targets)
        return value * (torch.nan if steps == 10 else 1.0)  # the first call only tries the loss

    torch.manual_seed(0)
    with pytest.raises(sws.TrainingError, match=r"loss .* nan at step \d of 24.*small\.onnx\.state") as error:
        trained(tmp_path, loss=loss)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["small.onnx.state"]
    saved = torch.load(tmp_path / "small.onnx.state", weights_only=True)
    assert all(torch.isfinite(value).all() for value in saved["model"].values())
    torch.manual_seed(0)
    _, result = trained(tmp_path, state=tmp_path / "small.onnx.state")
    assert result.output.exists()


def test_a_module_that_cannot_be_exported_is_not_trained_first(tmp_path: Path) -> None:
    class Branch(Mlp):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x if x.sum() > 0 else -x)

    with pytest.raises(sws.ModelError, match=r"Branch must be exportable .*data-dependent") as error:
        tuned(
            Branch(),
            tmp_path / "small.onnx",
            train=batches(),
            loss=cross_entropy,
            progress=fail_if_it_trains,
        )
    assert "\n" not in str(error.value)
    assert "\x1b" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


# -- a loop of one's own ----------------------------------------------------------------------------------------------


def test_own_loop_snap_and_export(tmp_path: Path) -> None:
    torch.manual_seed(4)
    model = Mlp()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    prior = sws.SoftWeightSharing(model, optimizer, components=8)
    for _ in range(3):
        for x, y in batches():
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
            prior.step()
        prior.update()
    palettes = prior.snap()
    result = sws.export(model, palettes, tmp_path / "small.onnx", example_inputs=x)
    assert result.file_bytes == os.path.getsize(tmp_path / "small.onnx") < result.dense_bytes / 3
    decoded = decoded_weights(result.output.read_bytes(), palettes)
    for name, palette in palettes.items():
        np.testing.assert_array_equal(decoded[name], palette.expand())
    for rows in (1, 5):
        feeds = (x[:rows],)
        np.testing.assert_allclose(answers(result.output, feeds)[0], torch_answers(model, feeds)[0], atol=1e-5)


def test_export_wants_the_values_of_the_palettes(tmp_path: Path) -> None:
    model = Mlp()
    prior = sws.SoftWeightSharing(model, torch.optim.SGD(model.parameters(), 0.1), components=4)
    palettes = prior.snap()
    with torch.no_grad():
        model.fc1.weight[3, 4] += 1e-7
    with pytest.raises(sws.ModelError, match=r"fc1\.weight must hold the values of its palette"):
        sws.export(model, palettes, tmp_path / "small.onnx", example_inputs=torch.zeros(2, 20))
    with pytest.raises(sws.ArgumentError, match=r"'fc9\.weight'"):
        sws.export(
            model, {"fc9.weight": palettes["fc1.weight"]}, tmp_path / "s.onnx", example_inputs=torch.zeros(2, 20)
        )
    assert list(tmp_path.iterdir()) == []


# -- bad arguments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"components": 1}, sws.ArgumentError, r"components must be >= 2, got 1"),
        ({"components": 257}, sws.ArgumentError, r"components must be <= 256, got 257"),
        ({"epochs": 0}, sws.ArgumentError, r"epochs must be >= 1, got 0"),
        ({"target_bytes": 2000}, sws.ArgumentError, r"exactly one of ratio, .* must be given, got ratio, target_bytes"),
        ({"ratio": None, "target_bytes": 10**6}, sws.ArgumentError, r"target_bytes must be below the \d+ of the plain"),
        ({"ratio": None, "max_drop": 1.0}, sws.ArgumentError, r"max_drop must come with evaluate"),
        ({"ratio": None, "bit_price": 0.0}, sws.ArgumentError, r"bit_price must be > 0, got 0"),
        ({"bit_price": 0.1}, sws.ArgumentError, r"ratio must be left out with bit_price, got both"),
        ({"bias_components": 1}, sws.ArgumentError, r"bias_components must be in 2\.\.256, got 1"),
        ({"ratio": 1.0}, sws.ArgumentError, r"ratio must be > 1, got 1"),
        ({"learning_rate": 0.0}, sws.ArgumentError, r"learning_rate must be > 0"),
        ({"train": []}, sws.DataError, r"train must yield at least one batch"),
        ({"train": iter(batches())}, sws.DataError, r"train must have a length"),
        ({"train": [x for x, _ in batches()]}, sws.DataError, r"train must yield \(inputs, targets\) pairs"),
        ({"parameters": ["fc7.weight"]}, sws.ArgumentError, r"got 'fc7.weight'"),
        ({"parameters": lambda name, parameter: False}, sws.ModelError, r"trainable weight"),
        (
            {"example_inputs": torch.zeros(2, 21)},
            sws.DataError,
            r"example_inputs must be arguments that Mlp takes, got",
        ),
        ({"state": "/"}, sws.OutputError, r"state / must be a file, got a directory"),
    ],
)
def test_bad_arguments(tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as raised:
        trained(tmp_path, **changes)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [{"ratio": 1e4}, {"ratio": None, "target_bytes": 100}])
def test_sizes_below_that_of_the_graph_are_refused_before_the_work(tmp_path: Path, size: dict[str, Any]) -> None:
    rule = r"(ratio must be below \d+\.\d\d|target_bytes must be above \d+ for this network)"
    with pytest.raises(sws.ArgumentError, match=rule):
        tuned(
            torch.nn.Sequential(torch.nn.Linear(20, 16), torch.nn.Linear(16, 7)),
            tmp_path / "s.onnx",
            train=batches(),
            loss=cross_entropy,
            progress=fail_if_it_trains,
            **size,
        )


def test_weights_that_are_all_zero_are_told(tmp_path: Path) -> None:
    class HalfUsed(Mlp):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + 0 * self.fc1.weight.sum()

    model = HalfUsed()
    torch.nn.init.zeros_(model.fc2.weight)
    model.fc2.weight.register_hook(torch.zeros_like)
    result = tuned(model, tmp_path / "s.onnx", train=batches(), loss=cross_entropy, components=4, ratio=3, epochs=2)
    assert any(note.startswith("fc2.weight holds nothing but zeros") for note in result.notes)


def test_modules_may_keep_activations(tmp_path: Path) -> None:
    class Keeping(Mlp):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.kept = super().forward(x)
            return self.kept

    torch.manual_seed(0)
    result = tuned(Keeping(), tmp_path / "s.onnx", train=batches(), loss=cross_entropy, components=4, ratio=6, epochs=4)
    assert result.file_bytes == pytest.approx(result.dense_bytes / 6, rel=0.1)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_a_teacher_alone_needs_classes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """Softmax over one output is 1, whatever it is: nothing would be learned."""

    class Regression(Mlp):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x)[:, :1].reshape(shape)

    with pytest.raises(sws.ArgumentError, match=r"two classes or more, got \(.*\): give a loss"):
        tuned(Regression(), tmp_path / "s.onnx", train=[x for x, _ in batches()], ratio=3, epochs=2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_floats_are_not_trained(tmp_path: Path, dtype: torch.dtype) -> None:
    with pytest.raises(sws.ModelError, match=r"fc1\.weight must be float32 .*float.*model\.float\(\)"):
        tuned(Mlp().to(dtype), tmp_path / "s.onnx", train=[(x.to(dtype), y) for x, y in batches()])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_floats_keep_their_type_without_training(tmp_path: Path, dtype: torch.dtype) -> None:
    module = Mlp().to(dtype)
    result = sws.compress(module, tmp_path / "s.onnx", EIGHT, example_inputs=torch.randn(2, 20, dtype=dtype))
    decoded = decoded_weights(result.output.read_bytes(), ["fc1.weight"])["fc1.weight"]
    written = result.network.fc1.weight.detach()
    assert written.dtype == dtype
    assert decoded.tobytes() == written.numpy().tobytes()


def test_frozen_module_without_data(tmp_path: Path) -> None:
    model = Mlp().requires_grad_(False)
    result = sws.compress(
        model, tmp_path / "small.onnx", sws.WeightsOnly(components=4), example_inputs=torch.zeros(2, 20)
    )
    assert len(np.unique(result.network.fc1.weight.detach().numpy())) == 4
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_only_modules_and_files(tmp_path: Path) -> None:
    with pytest.raises(sws.ArgumentError, match="must be a torch module or the path of an ONNX file, got int"):
        sws.compress(3, tmp_path / "small.onnx")


def test_a_teacher_of_two_answers_is_refused_in_one_line(tmp_path: Path) -> None:
    model, inputs = make("two")
    with pytest.raises(sws.ArgumentError, match="one output tensor, got tuple"):
        tuned(model, tmp_path / "small.onnx", train=[(inputs(4),)] * 3, ratio=4, epochs=1)


def test_nan_weights_of_a_module_are_named(tmp_path: Path) -> None:
    model = Mlp()
    with torch.no_grad():
        model.fc2.weight[1, 2] = torch.inf
    with pytest.raises(sws.ModelError, match=r"fc2\.weight.* must be finite, got 1 NaN or infinite of 350"):
        sws.compress(model, tmp_path / "small.onnx", example_inputs=torch.zeros(2, 20))
    assert list(tmp_path.iterdir()) == []


def test_frozen_parts_stay_in_their_mode(tmp_path: Path) -> None:
    model, inputs = make("cnn")
    model.train()
    model.norm1.eval()
    sws.compress(model, tmp_path / "small.onnx", EIGHT, example_inputs=inputs(2))
    assert model.training
    assert model.norm2.training
    assert not model.norm1.training


# -- ONNX files -------------------------------------------------------------------------------------------------------


def test_onnx_file_data_free(tmp_path: Path) -> None:
    source = write_mlp(tmp_path / "model.onnx")
    original = source.read_bytes()
    result = sws.compress(source, tmp_path / "small.onnx", EIGHT)
    assert source.read_bytes() == original
    assert 0 <= len(original) - result.dense_bytes < 100  # names of nodes, and the producer
    assert result.file_bytes == os.path.getsize(tmp_path / "small.onnx") < len(original) / 6
    decoded = decoded_weights(result.output.read_bytes(), ["w1", "w2"])
    for name, seed, shape in (("w1", 1, (40, 60)), ("w2", 2, (60, 30))):
        weights = gaussian(*shape, seed=seed)
        values = decoded[name]
        assert len(np.unique(values)) == 8
        # Max-Lloyd with 8 levels leaves 3.45 % of a normal distribution's variance; the one at zero costs a little.
        assert 0.02 < np.mean((values - weights) ** 2) / weights.var() < 0.045
    assert set(result.mixtures) == {"w1", "w2"}


def test_external_data_counts_and_is_never_overwritten(tmp_path: Path) -> None:
    source = write_mlp(tmp_path / "model.onnx")
    onnx.save(onnx.load(source), source, save_as_external_data=True, location="model.data", size_threshold=0)
    weights = (tmp_path / "model.data").read_bytes()
    with pytest.raises(sws.OutputError, match="must not be the input"):
        sws.compress(source, tmp_path / "model.data")
    assert (tmp_path / "model.data").read_bytes() == weights
    result = sws.compress(source, tmp_path / "small.onnx")
    on_disk = os.path.getsize(source) + os.path.getsize(tmp_path / "model.data")
    assert 0 <= on_disk - result.dense_bytes < 100
    assert sws.inspect(source).disk_bytes == on_disk
    (tmp_path / "model.data").unlink()
    assert sws.inspect(result.output).disk_bytes == result.file_bytes
    assert sws.verify(result.output, result.output).passed


def test_constant_tensor_beside_others_works(tmp_path: Path) -> None:
    source = write_mlp(tmp_path / "model.onnx", np.full((40, 60), 0.25, np.float32))
    result = sws.compress(source, tmp_path / "small.onnx")
    assert np.all(decoded_weights(result.output.read_bytes(), ["w1"])["w1"] == np.float32(0.25))


def test_fewer_values_than_components_is_exact(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    values = np.array([-0.1, -0.0, 0.0, 0.3], np.float32)
    first, second = random.choice(values, (40, 60)), random.choice(values, (60, 30))
    source = write_mlp(tmp_path / "model.onnx", first, second)
    result = sws.compress(source, tmp_path / "small.onnx")
    decoded = decoded_weights(result.output.read_bytes(), ["w1", "w2"])
    assert decoded["w1"].tobytes() == first.tobytes()
    assert decoded["w2"].tobytes() == second.tobytes()
    verification = sws.verify(source, result.output, tolerance=0.0)
    assert verification.passed
    assert verification.outputs[0].largest_absolute == 0


def test_model_with_integer_outputs_only(tmp_path: Path) -> None:
    source = write_mlp(tmp_path / "model.onnx", classes=True)
    result = sws.compress(source, tmp_path / "small.onnx", sws.WeightsOnly(components=64))
    assert result.decoded_difference == 0
    assert sws.verify(result.output, result.output, tolerance=0.0).passed


def test_the_result_speaks_of_the_original(tmp_path: Path) -> None:
    source = write_mlp(tmp_path / "model.onnx")
    feeds = {"x": gaussian(5, 40)}
    coarse = sws.compress(source, tmp_path / "small.onnx", sws.WeightsOnly(components=2), example_inputs=feeds)
    assert coarse.outputs == sws.verify(source, coarse.output, inputs=feeds).outputs
    assert coarse.decoded_difference < 1e-5 < 0.1 < coarse.output_error
    (warning,) = coarse.warnings
    assert "ask for a quality (--quality) instead of components" in warning
    assert not coarse.random_inputs
    rough = sws.compress(source, tmp_path / "small.onnx", sws.WeightsOnly(quality=6), example_inputs=feeds)
    (warning,) = rough.warnings
    assert warning.endswith("raise the quality (--quality), or give some hundred inputs (--calibration)")
    fine = sws.compress(source, tmp_path / "small.onnx", sws.WeightsOnly(components=256))
    assert fine.outputs == sws.verify(source, fine.output).outputs
    assert fine.output_error < 0.1
    assert fine.random_inputs
    assert fine.warnings == ()


def test_weights_without_elements_are_left_alone(tmp_path: Path) -> None:
    source = write_mlp(tmp_path / "model.onnx", np.zeros((0, 60), np.float32))
    result = sws.compress(source, tmp_path / "small.onnx")
    np.testing.assert_array_equal(run_model(result.output, {"x": np.zeros((3, 0), np.float32)})["y"], np.zeros((3, 30)))


def test_sample_inputs_of_the_callers_own(tmp_path: Path) -> None:
    """Random inputs do not fit every model: two free dimensions of different names may have to differ."""
    model = onnx.load(write_mlp(tmp_path / "model.onnx"))
    model.graph.node.insert(0, onnx.helper.make_node("Concat", ["x1", "x2"], ["x"], axis=1))
    del model.graph.input[:]
    for name, size in (("x1", "p"), ("x2", "q")):
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", size]))
    onnx.save(model, tmp_path / "model.onnx")
    for request in (sws.WeightsOnly(components=64), sws.LowBit(bits=4)):
        unseen = sws.compress(tmp_path / "model.onnx", tmp_path / "small.onnx", request)
        assert (unseen.outputs, unseen.warnings) == ((), ())
        assert np.isnan(unseen.decoded_difference)
        assert any("outputs were not compared" in note and "--inputs" in note for note in unseen.notes)
    with pytest.raises(sws.DataError, match="must run on random inputs"):
        sws.verify(tmp_path / "model.onnx", tmp_path / "small.onnx")
    with pytest.raises(sws.DataError, match="must run on the given inputs"):
        sws.compress(
            tmp_path / "model.onnx",
            tmp_path / "small.onnx",
            example_inputs={"x1": gaussian(3, 15), "x2": gaussian(3, 15)},
        )
    feeds = {"x1": gaussian(3, 15), "x2": gaussian(3, 25)}
    result = sws.compress(tmp_path / "model.onnx", tmp_path / "small.onnx", example_inputs=feeds)
    np.savez(tmp_path / "feeds.npz", **feeds)
    assert sws.verify(tmp_path / "model.onnx", result.output, inputs=tmp_path / "feeds.npz", tolerance=0.5).passed
    with pytest.raises(sws.ArgumentError, match="must be arrays by input name, got tuple"):
        sws.compress(tmp_path / "model.onnx", tmp_path / "s.onnx", example_inputs=(feeds["x1"],))


FILE = sws.FileOptions(load_budget=sws.LoadCost(seconds=1, peak_bytes=1e6))


@pytest.mark.parametrize(
    ("request_", "options", "message"),
    [
        (
            sws.WeightsOnly(),
            {"ratio": 20},
            "ratio must be left out with WeightsOnly, got 20: Calibrated and FineTuned take it",
        ),
        (
            sws.WeightsOnly(),
            {"max_drop": 0.0},
            "max_drop must be left out with WeightsOnly, got 0.0",
        ),
        (
            sws.LowBit(),
            {"file": FILE},
            r"load_budget must be left out with LowBit, got .*: WeightsOnly and ",
        ),
        (
            sws.FineTuned(train=batches(), loss=max),
            {},
            "loss must be left out for an ONNX file, got <built-in function",
        ),
        (sws.LowBit, {}, "request must be WeightsOnly or Calibrated or LowBit or FineTuned, got <class"),
    ],
)
def test_what_a_mode_does_not_know_is_refused(
    tmp_path: Path, request_: Any, options: dict[str, Any], message: str
) -> None:
    source = write_mlp(tmp_path / "model.onnx")
    with pytest.raises(sws.ArgumentError, match=message) as raised:
        sws.compress(source, tmp_path / "small.onnx", request_, **options)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "small.onnx").exists()


def test_float16_weights_stay_float16(tmp_path: Path) -> None:
    model = onnx.load(write_mlp(tmp_path / "model.onnx"))
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(model, tmp_path / "model.onnx")
    sws.compress(tmp_path / "model.onnx", tmp_path / "small.onnx", sws.WeightsOnly(components=16))
    decoded = decoded_weights((tmp_path / "small.onnx").read_bytes(), ["w1"])["w1"]
    assert decoded.dtype == np.float16
    assert len(np.unique(decoded)) <= 16


def test_older_opset_is_converted(tmp_path: Path) -> None:
    source = write_mlp(tmp_path / "model.onnx", opset=12)
    result = sws.compress(source, tmp_path / "small.onnx", sws.WeightsOnly(components=64))
    assert sws.verify(source, result.output).passed


# -- what must not be shipped -----------------------------------------------------------------------------------------


def test_device_is_no_output(tmp_path: Path) -> None:
    """A file renamed over a device would take its place, for everyone."""
    source = write_mlp(tmp_path / "model.onnx")
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    with pytest.raises(sws.OutputError, match="ordinary file"):
        sws.compress(source, fifo)
    assert fifo.is_fifo()


def test_inspect_a_plain_file(tmp_path: Path) -> None:
    source = write_mlp(tmp_path / "model.onnx")
    seen = sws.inspect(source)
    assert [(row.name, row.encoding, row.shape) for row in seen.parts.rows] == [
        ("w1", "dense", (40, 60)),
        ("w2", "dense", (60, 30)),
    ]
    assert seen.parts.graph_bytes + sum(row.file_bytes for row in seen.parts.rows) == os.path.getsize(source)
    assert not seen.parts.compressed


def test_verify_measures_the_difference(tmp_path: Path) -> None:
    first = write_mlp(tmp_path / "a.onnx")
    second = write_mlp(tmp_path / "b.onnx", second=np.float32(1.25) * gaussian(60, 30, seed=2))
    same, other = sws.verify(first, first), sws.verify(first, second)
    assert same.passed
    assert not other.passed
    assert other.outputs[0].largest_relative == pytest.approx(0.25, rel=1e-5)
    assert sws.verify(first, second, tolerance=0.26).passed
    assert sws.verify(first, second, inputs={"x": np.zeros((2, 40), np.float32)}, tolerance=0.0).passed
    with pytest.raises(sws.ArgumentError, match="tolerance must be >= 0, got nan"):
        sws.verify(first, second, tolerance=float("nan"))
