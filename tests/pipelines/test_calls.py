"""What users pass as module, as example inputs and as batches: it works, or one line says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional

import sws_compress as sws
from sws_compress.pipelines.calls import positional
from sws_compress.train.readiness import checked_module
from tests.models import Mlp, answers, batches, write_mlp

X = batches()[0][0]


class Keywords(nn.Module):
    """A module with optional arguments, whose order is not that of the dict."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(20, 40), nn.Linear(40, 7)

    def forward(
        self,
        x: torch.Tensor,
        scale: float = 2.0,
        mask: torch.Tensor | None = None,
        *,
        last: bool = False,
    ) -> Any:
        hidden = self.a(x).relu() * scale
        return {
            "logits": self.b(hidden if mask is None else hidden * mask),
            "last": None,
        }


class Nested(nn.Module):
    """A module whose one argument is a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(20, 40)

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        y: torch.Tensor = self.a(batch["x"])
        return y


def test_names_become_positions() -> None:
    mask = torch.rand(16, 40)
    x, scale, third = positional(Keywords(), {"mask": mask, "x": X.numpy()})
    assert torch.equal(x, X)
    assert (scale, third is mask) == (2.0, True)
    assert len(positional(Keywords(), {"x": X})) == 1
    nested = {"x": X}
    assert positional(Nested(), nested) == (nested,)
    assert positional(Keywords(), (X, 1.0)) == (X, 1.0)


def test_example_inputs_by_name(tmp_path: Path) -> None:
    torch.manual_seed(0)
    inputs = {"mask": torch.rand(16, 40), "x": X}
    result = sws.compress(Keywords(), tmp_path / "small.onnx", example_inputs=inputs)
    assert [value.name for value in onnx.load(result.output).graph.input] == [
        "x",
        "mask",
    ]
    expected = result.network(**inputs)["logits"].detach().numpy()
    np.testing.assert_allclose(answers(result.output, (X, inputs["mask"]))[0], expected, atol=1e-4)


def test_an_argument_that_is_a_dict(tmp_path: Path) -> None:
    result = sws.compress(Nested(), tmp_path / "small.onnx", example_inputs={"x": X})
    expected = result.network({"x": X}).detach().numpy()
    np.testing.assert_allclose(answers(result.output, (X,))[0], expected, atol=1e-4)


def test_wrappers_of_parallel_training_are_taken_off() -> None:
    net = Mlp()
    assert checked_module(nn.DataParallel(nn.DataParallel(net))) is net


def scripted() -> Any:
    return torch.jit.script(nn.Linear(20, 7))  # type: ignore[no-untyped-call]


def quantised() -> Any:
    return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(20, 7)), {nn.Linear}, dtype=torch.qint8)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: nn.Sequential(nn.LazyLinear(64)),
            sws.ModelError,
            "0.weight must be initialised, got one of a lazy layer",
        ),
        (
            lambda: nn.Linear(20, 7, device="meta"),
            sws.ModelError,
            "weight must have values, got a tensor on the meta dev",
        ),
        (
            lambda: nn.Linear(20, 7).state_dict(),
            sws.ArgumentError,
            "got a state dict: build the module",
        ),
        (
            lambda: nn.Linear,
            sws.ArgumentError,
            "got the class Linear: pass an instance",
        ),
        (
            lambda: lambda x: x,
            sws.ArgumentError,
            "got function: put the function into the forward",
        ),
        (lambda: [Mlp()], sws.ArgumentError, "got list: pass one of them"),
        (
            lambda: onnx.ModelProto(),
            sws.ArgumentError,
            r"got ModelProto: save it with onnx\.save",
        ),
        (
            scripted,
            sws.ModelError,
            "must be an ordinary module, got RecursiveScriptModule",
        ),
        (quantised, sws.ModelError, "0 must be a float layer, got a quantised Linear"),
    ],
)
def test_what_is_no_module_with_weights(make: Any, error: Any, message: str, trained: bool, tmp_path: Path) -> None:
    request = sws.FineTuned(train=batches(1), loss=functional.cross_entropy) if trained else sws.WeightsOnly()
    with pytest.raises(error, match=message) as refusal:
        sws.compress(make(), tmp_path / "small.onnx", request, example_inputs=X)
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Sequential(nn.LazyLinear(64)), "0.weight must be initialised"),
        (lambda: nn.Linear(20, 70, device="meta"), "weight must have values"),
    ],
)
def test_the_prior_refuses_weights_without_values(make: Any, message: str) -> None:
    net = make()
    with pytest.raises(sws.ModelError, match=message):
        sws.SoftWeightSharing(net, torch.optim.SGD(net.parameters(), 0.1))


@pytest.mark.parametrize(
    ("inputs", "found"),
    [
        (X.long(), r"got a tensor int64 \(16, 20\) \(RuntimeError: .*as a tuple"),
        (X.double(), r"got a tensor float64 \(16, 20\) \(RuntimeError: .*its weights are float32: cast the inputs"),
        (
            (X, X),
            r"got a tensor float32 \(16, 20\), a tensor float32 \(16, 20\) \(TypeError: .*as a tuple",
        ),
        ({"y": X}, r"got a dict of y \(TypeError: .*as a tuple.*forward takes x"),
        ("inputs.npz", r"got str \(.*as a tuple"),
    ],
)
def test_example_inputs_that_do_not_fit(inputs: Any, found: str, tmp_path: Path) -> None:
    with pytest.raises(
        sws.DataError,
        match=f"example_inputs must be arguments that Mlp takes, {found}",
    ) as refusal:
        sws.compress(Mlp(), tmp_path / "small.onnx", example_inputs=inputs)
    assert "\n" not in str(refusal.value)


def test_outputs_that_are_no_tensors(tmp_path: Path) -> None:
    class DynamicCache:
        pass

    class Caching(Mlp):
        def forward(self, x: torch.Tensor) -> Any:
            return super().forward(x), DynamicCache()

    with pytest.raises(
        sws.ModelError,
        match=r"got DynamicCache among its outputs: set model\.config\.use_cache = False",
    ):
        sws.compress(Caching(), tmp_path / "small.onnx", example_inputs=X)


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_checkpoints_are_no_models(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{ending}"
    torch.save(Mlp().state_dict(), path)
    for request in (sws.WeightsOnly(), sws.FineTuned(train=batches(1))):
        with pytest.raises(
            sws.ModelError,
            match="must be an ONNX file, got a checkpoint: build the module",
        ):
            sws.compress(path, tmp_path / "small.onnx", request)


@pytest.mark.parametrize(
    ("save", "found"),
    [
        (
            lambda path: np.savez(path, x=np.array([1, None], object)),
            "got arrays of Python objects",
        ),
        (
            lambda path: np.save(path.open("wb"), np.ones((2, 40), np.float32)),
            "got a single array",
        ),
    ],
)
def test_inputs_in_other_forms_are_named(save: Any, found: str, tmp_path: Path) -> None:
    save(tmp_path / "inputs.npz")
    model = write_mlp(tmp_path / "model.onnx")
    with pytest.raises(sws.DataError, match=f"{found}.*write it with numpy.savez"):
        sws.compress(model, tmp_path / "small.onnx", example_inputs=tmp_path / "inputs.npz")
