"""Batches, losses and metrics as callers have them: they work, or one line says which is wrong, before a run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, TensorDataset
from transformers import BatchEncoding, BertConfig, BertForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutput

import sws_compress as sws
from sws_compress.train.first_batch import check_batches
from tests.models import Mlp

torch.manual_seed(0)
X = torch.randn(48, 20)
Y = torch.randint(0, 7, (48,))
BATCHES = list(zip(X.split(16), Y.split(16), strict=True))
ENTROPY = cross_entropy
QUICK = {"epochs": 4, "components": 8}


class Named(nn.Module):
    """A classifier as those of transformers: arguments by name, outputs with names, and its own loss."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(50, 24), nn.Linear(24, 7)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None
    ) -> SequenceClassifierOutput:
        rows = self.table(input_ids)
        weights = torch.ones_like(rows) if attention_mask is None else attention_mask.unsqueeze(-1).float()
        logits = self.head((rows * weights).sum(1))
        return SequenceClassifierOutput(loss=None if labels is None else cross_entropy(logits, labels), logits=logits)


def tokens(rows: int = 16, batches: int = 3) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    ids = [torch.randint(0, 50, (rows, 9), generator=generator) for _ in range(batches)]
    return [{"attention_mask": (part > 5).long(), "input_ids": part, "labels": part[:, 0] % 7} for part in ids]


def of_logits(outputs: Any, labels: Tensor) -> Tensor:
    return cross_entropy(outputs.logits, labels)


def compressed(net: nn.Module, folder: Path, train: Any, loss: Any = None, **options: Any) -> sws.CompressionResult:
    request = sws.FineTuned(train=train, loss=loss, **QUICK)
    return sws.compress(net, folder / "small.onnx", request, **{"ratio": 3, **options})


def input_names(path: Path) -> list[str]:
    return [value.name for value in onnx.load(path).graph.input]


# -- what works -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "loss"),
    [
        ([BatchEncoding({**batch}) for batch in tokens()], None),
        ([({**batch}, batch.pop("labels")) for batch in tokens()], of_logits),
        ([{name: value.numpy() for name, value in batch.items()} for batch in tokens()], of_logits),
    ],
    ids=["tokeniser, own loss", "pairs", "NumPy"],
)
def test_batches_by_name(train: list[Any], loss: Any, tmp_path: Path) -> None:
    """``model(**batch)``, and a file without labels."""
    torch.manual_seed(1)
    result = compressed(Named(), tmp_path, train, loss)
    assert input_names(result.output) == ["input_ids", "attention_mask"]
    assert result.decoded_difference < 1e-5


def test_own_loss_is_what_a_run_lowers(tmp_path: Path) -> None:
    """Without a loss, it is the run with that loss given."""
    files = []
    settings: list[dict[str, Any]] = [{}, {"loss": lambda outputs, labels: outputs.loss}]
    for each in settings:
        torch.manual_seed(1)
        request = sws.FineTuned(train=tokens(), **QUICK, **each)
        files.append(sws.compress(Named(), tmp_path / "small.onnx", request, ratio=3).output.read_bytes())
    assert files[0] == files[1]


@pytest.mark.slow
def test_a_network_of_transformers(tmp_path: Path) -> None:
    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16, num_labels=7,
    )  # fmt: skip
    torch.manual_seed(1)
    net = BertForSequenceClassification(config).eval()
    trained = compressed(net, tmp_path, tokens(), ratio=2)
    assert input_names(trained.output) == ["input_ids", "attention_mask"]
    batch = tokens()[0]
    calibrated = sws.Calibrated(inputs=tokens(), distillation=False)
    result = sws.compress(net, tmp_path / "calibrated.onnx", calibrated, example_inputs=batch)
    assert input_names(result.output) == ["input_ids", "attention_mask"]


@pytest.mark.parametrize("pairs", [False, True])
def test_calibration_inputs_and_example_inputs_by_name(pairs: bool, tmp_path: Path) -> None:
    """Labels are left out, before or in the dict."""
    inputs: list[Any] = [(batch, batch["labels"]) for batch in tokens()] if pairs else tokens()
    request = sws.Calibrated(inputs=inputs, distillation=False)
    result = sws.compress(Named(), tmp_path / "small.onnx", request, example_inputs=BatchEncoding(tokens()[0]))
    assert input_names(result.output) == ["input_ids", "attention_mask"]


def test_a_loop_of_ones_own(tmp_path: Path) -> None:
    net = Named()
    optimizer = torch.optim.Adam(net.parameters())
    prior = sws.SoftWeightSharing(net, optimizer, components=8, total_steps=12)
    for batch in tokens() * 4:
        net(**batch).loss.backward()
        optimizer.step()
        prior.step()
        optimizer.zero_grad()
    result = sws.export(net, prior.snap(), tmp_path / "small.onnx", example_inputs=tokens()[0])
    assert input_names(result.output) == ["input_ids", "attention_mask"]


def test_arrays_become_tensors_of_the_type_of_the_weights(tmp_path: Path) -> None:
    """Floats of NumPy are float64 unless one cares: outputs, targets and example inputs fit all the same."""
    arrays = [(x.double().numpy(), y.numpy()) for x, y in BATCHES]
    torch.manual_seed(1)
    net = Mlp()
    ours = compressed(net, tmp_path, arrays, cross_entropy).output.read_bytes()
    assert ours == compressed(net, tmp_path, BATCHES, cross_entropy).output.read_bytes()
    regression = [(x.numpy().astype(">f8"), np.zeros((16, 7))) for x, _ in BATCHES]
    with pytest.raises(sws.ArgumentError, match="target_bytes must be"):  # the batches have passed
        compressed(net, tmp_path, regression, functional.mse_loss, ratio=None, target_bytes=7)
    assert sws.compress(net, tmp_path / "small.onnx", example_inputs=np.zeros((2, 20))).ratio > 2


def test_labels_that_forward_needs_are_inputs(tmp_path: Path) -> None:
    class Guided(Mlp):
        def forward(self, x: Tensor, target: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x) + target

    result = sws.compress(Guided(), tmp_path / "small.onnx", example_inputs={"target": torch.zeros(2, 7), "x": X[:2]})
    assert input_names(result.output) == ["x", "target"]


def test_metrics_of_numpy_and_torch_are_numbers(tmp_path: Path) -> None:
    for value in (np.float32(0.5), torch.tensor([0.5])):
        result = sws.compress(Mlp(), tmp_path / "small.onnx", example_inputs=X[:2], evaluate=lambda _, v=value: v)
        assert result.before == float(value)


# -- what does not ----------------------------------------------------------------------------------------------------


class Broken(Dataset[Any]):
    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Any:
        if index == 3:
            raise KeyError("no picture 3")
        return X[index], Y[index]


class Normed(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(20, 40), nn.BatchNorm1d(40), nn.Linear(40, 7))


def unequal() -> Iterator[Any]:
    yield from ((X[i], Y[i]) for i in range(3))
    yield X[3, :7], Y[3]


LOADERS: list[tuple[str, Any, Any, str]] = [
    ("triple", [(X, Y, Y)], ENTROPY, r"train must yield \(inputs, targets\) pairs, got 3 values: put the inputs"),
    ("inputs alone", [X], ENTROPY, "pairs, got Tensor: leave loss out for unlabelled data"),
    ("width", [(X[:, :3], Y)], ENTROPY, r"must be .* float32 \(8, 3\) \(RuntimeError"),
    ("later width", [*BATCHES, (X[:, :3], Y)], ENTROPY, r"inputs of train must be .* \(48, 3\) \(RuntimeError"),
    ("dtype", [(X.double(), Y)], ENTROPY, r"got a tensor float64 .*: its weights are float32: cast the inputs"),
    ("name", [{"y": X, "labels": Y}], ENTROPY, r"got a dict of y, labels .* by the names of forward.*takes x$"),
    ("one name more", [{"x": X, "z": X, "labels": Y}], ENTROPY, r"unexpected keyword argument 'z'.*takes x$"),
    ("no labels", [{"x": X, "y": Y}], ENTROPY, "must hold labels, got a dict of x, y: name them"),
    ("empty", [(X[:0], Y[:0])], ENTROPY, r"batches must have rows, got one of shape \(0, 20\): leave empty"),
    ("later empty", [*BATCHES, (X[:0], Y[:0])], ENTROPY, r"batches must have rows, got one of shape \(0, 20\)"),
    ("NaN", [(X * torch.nan, Y)], ENTROPY, "loss must be finite before training, got nan on the first"),
    ("worker", DataLoader(Broken(), 4, num_workers=1), ENTROPY, r"train must yield batches, got KeyError \(.*3"),
    ("collation", DataLoader(list(unequal()), 4), ENTROPY, r"yield batches, got RuntimeError \(stack exp"),
    ("single samples", TensorDataset(X, Y), ENTROPY, r"yield batches, got the data set TensorD.*DataLoader"),
    ("None", [(None, Y)], ENTROPY, r"inputs of train must be arguments that Mlp takes, got NoneType"),
    ("float classes", [(X, Y.float())], ENTROPY, r"and a tensor float32 \(48,\) .* cast them with targets.long"),
    ("classes out of range", [(X, Y + 3)], ENTROPY, r"loss must take .*: Target \d+ is out of bounds"),
    ("int targets", [(X, torch.ones(48, 7).long())], functional.binary_cross_entropy_with_logits, "cast the"),
    ("vector", BATCHES, lambda o, t: cross_entropy(o, t, reduction="none"), r"one number, got .*\(16,\): average it"),
    ("float", BATCHES, lambda o, t: cross_entropy(o, t).item(), r"loss must return a tensor, got float: .*\.item"),
    ("nothing", BATCHES, lambda o, t: None, "loss must return a tensor, got NoneType"),
    (
        "no gradient",
        BATCHES,
        lambda o, t: (o.argmax(1) == t).float().mean(),
        "loss must have gradients, got a tensor wit",
    ),
    ("its own error", BATCHES, lambda o, t: o.nothing, "loss must take .*AttributeError"),
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("train", "loss", "message"), [row[1:] for row in LOADERS], ids=[row[0] for row in LOADERS])
def test_what_cannot_be_trained_on(train: Any, loss: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises((sws.DataError, sws.ArgumentError), match=message) as raised:
        compressed(Mlp(), tmp_path, train, loss)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("loader", [DataLoader(TensorDataset(X[:33], Y[:33]), 16), [*BATCHES, (X[:1], Y[:1])]])
def test_a_last_row_alone_and_batch_norms(loader: Any, tmp_path: Path) -> None:
    """It is known before the run, and does not hurt networks that take it."""
    with pytest.raises(sws.DataError, match=r"float32 \(1, 20\) .*: batch norms need two rows .*drop_last"):
        compressed(Normed(), tmp_path, loader, cross_entropy)
    with pytest.raises(sws.ArgumentError, match="target_bytes must be"):
        compressed(Mlp(), tmp_path, loader, cross_entropy, ratio=None, target_bytes=7)


@pytest.mark.parametrize(
    ("outputs", "cure"),
    [
        (lambda y: (y, y), r"got tuple and .*your_loss\(outputs\[0\], targets\)"),
        (lambda y: {"a": y}, "got a dict"),
    ],
)
def test_outputs_that_a_loss_does_not_take(outputs: Any, cure: str, tmp_path: Path) -> None:
    class Several(Mlp):
        def forward(self, x: Tensor) -> Any:
            return outputs(super().forward(x))

    with pytest.raises(sws.DataError, match=f"loss must take the outputs .* targets, {cure}") as raised:
        compressed(Several(), tmp_path, BATCHES, cross_entropy)
    assert isinstance(raised.value.__cause__, TypeError)
    with pytest.raises(sws.DataError, match=r"got a dict of loss, logits .*your_loss\(outputs.logits, targets\)"):
        compressed(Named(), tmp_path, tokens(), cross_entropy)


def raising(_: Any) -> float:
    raise ZeroDivisionError("no rows")


METRICS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda _: None, "finite number, got None"),
    (lambda _: torch.zeros(3), r"finite number, got tensor\("),
    (lambda _: True, "finite number, got True"),
    (lambda _: "0.9", "finite number, got '0.9'"),
    (lambda _: float("nan"), "finite number, got nan"),
    (raising, "number for the module, got ZeroDivisionError: no rows"),
]


@pytest.mark.parametrize(("evaluate", "message"), METRICS)
@pytest.mark.parametrize("trained", [False, True])
def test_metrics_that_are_no_numbers(evaluate: Any, message: str, trained: bool, tmp_path: Path) -> None:
    request = sws.FineTuned(train=BATCHES, loss=cross_entropy, **QUICK) if trained else sws.WeightsOnly()
    with pytest.raises(sws.DataError, match=f"evaluate must return a {message}") as raised:
        sws.compress(Mlp(), tmp_path / "small.onnx", request, evaluate=evaluate, example_inputs=X[:2])
    assert "\n" not in str(raised.value)


def test_calibration_inputs_that_cannot_be_read(tmp_path: Path) -> None:
    request = sws.Calibrated(inputs=DataLoader(Broken(), 4, num_workers=1))
    with pytest.raises(sws.DataError, match=r"calibration inputs must yield batches, got KeyError \(.*picture 3"):
        sws.compress(Mlp(), tmp_path / "small.onnx", request, example_inputs=X[:2])


def test_arguments_by_name_alone(tmp_path: Path) -> None:
    class Alone(Mlp):
        def forward(self, x: Tensor, *, scale: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x) * scale

    with pytest.raises(sws.DataError, match="takes by position, got scale by name alone: wrap it"):
        sws.compress(Alone(), tmp_path / "small.onnx", example_inputs={"x": X, "scale": torch.ones(1)})


def test_nothing_that_a_first_batch_draws_or_counts_remains() -> None:
    """The check before a run leaves buffers, modes and torch's generator as they were."""

    class Counting(Normed):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
            self.dropout = nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            self.steps += self.training
            return super().forward(x)

    net = Counting().eval()
    before, generator = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    check_batches(net, sws.FineTuned(train=BATCHES, loss=cross_entropy), BATCHES[0])
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(torch.get_rng_state(), generator)
    assert not any(part.training for part in net.modules())
