"""Torch modules become dense ONNX models that compute the same, with their parameters under their own names."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

import sws_compress as sws
from sws_compress.errors import ModelError
from sws_compress.module_modes import evaluating
from sws_compress.onnx_io.from_torch import from_torch
from sws_compress.ort.session import session
from tests.models import Mlp, make


def initialisers(model: ir.Model) -> dict[str, np.ndarray]:
    return {str(name): value.const_value.numpy() for name, value in model.graph.initializers.items()}


@pytest.mark.parametrize("kind", ["mlp", "cnn", "gru", "tied", "two"])
def test_the_model_computes_what_the_module_computes(kind: str) -> None:
    module, inputs = make(kind)
    runtime = session(ir.to_proto(from_torch(module, inputs(3))).SerializeToString())
    names = [value.name for value in runtime.inputs]
    for rows in (1, 2, 7):
        feeds = inputs(rows)
        with evaluating(module), torch.no_grad():
            wanted = module(*feeds)
        actual = runtime.run({name: value.numpy() for name, value in zip(names, feeds, strict=True)})
        for left, right in zip(actual, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
            np.testing.assert_allclose(left, right.numpy(), rtol=1e-4, atol=1e-5)


def test_parameters_keep_names_and_bits() -> None:
    module, inputs = make("cnn")
    stored = initialisers(from_torch(module, inputs(2)))
    for name, parameter in module.named_parameters():
        assert stored[name].tobytes() == parameter.detach().numpy().tobytes(), name


def test_outputs_have_names_of_their_own() -> None:
    for kind, names in (("mlp", ["output"]), ("two", ["output_0", "output_1"])):
        module, inputs = make(kind)
        assert [value.name for value in from_torch(module, inputs(2)).graph.outputs] == names


class Returning(nn.Module):
    """Returns inputs beside a result, one of them twice; one has the name of an output."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(20, 30)

    def forward(self, x: Tensor, output_1: Tensor, unused: Tensor) -> tuple[Tensor, ...]:
        return self.layer(x), x, output_1, x


def test_inputs_that_are_returned_keep_their_names() -> None:
    module, inputs = Returning(), (torch.rand(3, 20), torch.rand(3, 5), torch.rand(3, 2))
    model = from_torch(module, inputs)
    names = [value.name for value in model.graph.inputs]
    assert names == ["x", "output_1", "unused"]
    assert [value.name for value in model.graph.outputs] == ["output_0", "output_1_1", "output_2", "output_3"]
    runtime = session(ir.to_proto(model).SerializeToString())
    feeds = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    result, *copies = runtime.run(feeds)
    np.testing.assert_allclose(result, module(*inputs)[0].detach().numpy(), rtol=1e-4, atol=1e-5)
    for copy, name in zip(copies, ("x", "output_1", "x"), strict=True):
        np.testing.assert_array_equal(copy, feeds[name])


def test_returned_inputs_keep_their_names_in_the_small_file(tmp_path: Path) -> None:
    sws.compress(
        Returning(), tmp_path / "s.onnx", example_inputs=(torch.rand(3, 20), torch.rand(3, 5), torch.rand(3, 2))
    )
    assert [entry.name for entry in session(tmp_path / "s.onnx").inputs] == ["x", "output_1", "unused"]


class Named(nn.Module):
    """A parameter has the name of the output."""

    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Parameter(torch.rand(20, 30))

    def forward(self, output_1: Tensor) -> Tensor:
        return output_1 @ self.output


def test_outputs_give_way_to_parameters_and_inputs() -> None:
    model = from_torch(Named(), (torch.rand(3, 20),))
    assert list(model.graph.initializers) == ["output"]
    assert [value.name for value in model.graph.inputs] == ["output_1"]
    assert [value.name for value in model.graph.outputs] == ["output_2"]


def test_recurrent_weights_in_the_order_of_onnx_carry_the_parameter_s_name() -> None:
    """The order of gates is i, o, f, g in ONNX and i, f, g, o in torch; the exporter's change is folded."""
    module, inputs = make("lstm")
    model = from_torch(module, inputs(2))
    stored = initialisers(model)
    i, f, g, o = module.cell.weight_hh_l0.detach().numpy().reshape(4, 20, 20)
    np.testing.assert_array_equal(stored["cell.weight_hh_l0"].reshape(4, 20, 20), [i, o, f, g])
    assert stored["cell.weight_ih_l0"].size == module.cell.weight_ih_l0.numel()
    (lstm,) = [node for node in model.graph if node.op_type == "LSTM"]
    assert all(value.is_initializer() for value in lstm.inputs[1:4])


def test_tied_table_is_stored_once() -> None:
    module, inputs = make("tied")
    stored = initialisers(from_torch(module, inputs(2)))
    assert sum(array.size == 3200 for array in stored.values()) == 1


def test_modes_come_back_part_by_part() -> None:
    module, inputs = make("cnn")
    module.norm1.eval()
    before = [part.training for part in module.modules()]
    from_torch(module, inputs(2))
    assert [part.training for part in module.modules()] == before
    assert True in before
    assert False in before


def test_the_exporter_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    module, inputs = make("mlp")
    level = logging.root.manager.disable
    from_torch(module, inputs(2))
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert logging.root.manager.disable == level


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("module", "inputs", "reason"),
    [
        (Branch(), (torch.ones(2, 3),), "data-dependent"),
        (Mlp(), (torch.ones(2, 3),), "20"),  # a shape that does not match
        (Mlp(), (), "missing a required argument: 'x'"),
    ],
)
def test_what_torch_refuses_is_told_in_one_line(module: nn.Module, inputs: tuple[Tensor, ...], reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as error:
        from_torch(module, inputs)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{type(module).__name__} must be exportable by torch.onnx.export, got '")


def test_flattening_needs_no_shapes() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 4 * 4, 3))
    model = from_torch(module, (torch.rand(2, 1, 6, 6),))
    assert [node.op_type for node in model.graph] == ["Conv", "Flatten", "Gemm"]
    runtime = session(ir.to_proto(model).SerializeToString())
    (logits,) = runtime.run({runtime.inputs[0].name: np.zeros((5, 1, 6, 6), np.float32)})
    assert logits.shape == (5, 3)


def test_examples_may_be_cut_out_of_pictures_whose_channels_come_last() -> None:
    layers = (nn.Conv2d(3, 3, 3, padding=1, groups=3), nn.ReLU(), nn.Conv2d(3, 4, 1))
    cut_out = torch.rand(2, 10, 10, 3).permute(0, 3, 1, 2)[..., 1:9, 1:9]
    assert not cut_out.is_contiguous(memory_format=torch.channels_last)
    model = from_torch(nn.Sequential(*layers), (cut_out,))
    assert [str(dimension) for dimension in model.graph.inputs[0].shape][1:] == ["3", "8", "8"]
