"""Batch norms that are a scale and a shift go into the layers before them, and the network computes the same."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import nn

from sws_compress.onnx_io.from_torch import from_torch
from sws_compress.onnx_io.rewrite.settled_norms import HALF_TOLERANCE, absorb_settled_norms
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.packing.pack import find_palettes, pack


def settled(network: nn.Module, *, few: int = 6) -> nn.Module:
    """Norms with means of 0 and variances of 1, and tensors of few values that float16 holds, none of them alike."""
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            values = torch.linspace(-1.5, 2, few + number % 3)
            parameter.copy_(values.half()[torch.randint(0, len(values), parameter.shape, generator=draw)])
    return network.eval()


def normed(layer: nn.Module, norm: nn.Module) -> nn.Sequential:
    return settled(nn.Sequential(layer, norm, nn.ReLU()))


def answers(data: bytes, values: torch.Tensor) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": values.numpy()})[0]


def norms_in(model: ir.Model) -> int:
    return sum(node.op_type == "BatchNormalization" for node in model.graph)


class Shared(nn.Module):
    """A convolution whose output is read beside its norm."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Conv2d(4, 8, 3, bias=False), nn.BatchNorm2d(8)

    def forward(self, input):
        inner = self.layer(input)
        return inner + self.norm(inner)


class Twice(nn.Module):
    """One convolution with two norms, as in networks that share weights over places."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norms = nn.Conv2d(4, 8, 3, bias=False), nn.ModuleList(nn.BatchNorm2d(8) for _ in range(2))

    def forward(self, input):
        first, second = (norm(self.layer(input + number)) for number, norm in enumerate(self.norms))
        return first * second


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (normed(nn.Conv2d(4, 8, 3, bias=False), nn.BatchNorm2d(8)), (4, 6, 6)),
        (normed(nn.Conv2d(4, 8, 3, groups=4, stride=2, bias=False), nn.BatchNorm2d(8)), (4, 6, 6)),
        (normed(nn.Conv1d(4, 8, 3, bias=False), nn.BatchNorm1d(8)), (4, 6)),
        (normed(nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8)), (4,)),
        (settled(nn.Sequential(nn.Conv2d(4, 8, 3, bias=False), nn.BatchNorm2d(8))), (4, 6, 6)),
        (settled(Twice()), (4, 6, 6)),
    ],
    ids=["convolution", "groups", "one axis", "linear", "output of the network", "shared weight"],
)
def test_layers_take_in_their_norms(network, shape):
    model = from_torch(network, (torch.randn(2, *shape),))
    weights = {name: value.const_value.numpy() for name, value in model.graph.initializers.items()}
    absorb_settled_norms(model)
    assert norms_in(model) == 0
    for name, values in weights.items():
        if values.ndim > 1 and values.size > 8:
            np.testing.assert_array_equal(model.graph.initializers[name].const_value.numpy(), values)
    values = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = network(values).numpy()
    np.testing.assert_allclose(answers(to_bytes(model), values), wanted, atol=5e-5 * np.abs(wanted).max())


def test_scales_of_all_norms_are_one_tensor_of_few_values():
    layers = [each for _ in range(3) for each in (nn.Conv2d(8, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())]
    network = settled(nn.Sequential(*layers))
    model = from_torch(network, (torch.ones(2, 8, 9, 9),))
    absorb_settled_norms(model)
    (scales,) = (value for name, value in model.graph.initializers.items() if name.startswith("norm_scales"))
    wanted = np.concatenate([network[number].weight.detach().numpy() for number in (1, 4, 7)])
    np.testing.assert_array_equal(scales.const_value.numpy().reshape(-1), wanted)  # as float16 has them
    assert list(scales.shape) == [24, 1, 1, 1]
    assert "norm_scales_0" in find_palettes(model)
    assert not any((value.const_value.numpy() == 1).all() for value in model.graph.initializers.values())


def test_a_file_gets_smaller():
    widths = (8, 16, 24, 32)
    layers: list[nn.Module] = []
    for inputs, outputs in zip((8, *widths), widths, strict=False):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    model = from_torch(settled(nn.Sequential(*layers)), (torch.ones(2, 8, 5, 5),))
    before = len(pack(model, find_palettes(model)).data)
    absorb_settled_norms(model)
    packed = pack(model, find_palettes(model))
    assert len(packed.data) < before - 20 * len(widths)


@pytest.mark.parametrize(
    "network",
    [
        normed(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8)),
        normed(nn.Conv2d(4, 8, 3, bias=False), nn.BatchNorm2d(8, eps=1e-3)),
        normed(nn.ConvTranspose2d(4, 8, 3, bias=False), nn.BatchNorm2d(8)),
        settled(Shared()),
    ],
    ids=["bias", "scales that float16 does not hold", "other channels", "read twice"],
)
def test_norms_that_would_cost_more_stay(network):
    model = from_torch(network, (torch.randn(2, 4, 6, 6),))
    before = to_bytes(model)
    absorb_settled_norms(model)
    assert to_bytes(model) == before


@pytest.mark.parametrize("moment", ["running_mean", "running_var"])
def test_norms_that_are_not_settled_stay(moment):
    network = normed(nn.Conv2d(4, 8, 3, bias=False), nn.BatchNorm2d(8))
    getattr(network[1], moment)[3] += 0.5
    model = from_torch(network, (torch.randn(2, 4, 6, 6),))
    absorb_settled_norms(model)
    assert norms_in(model) == 1


def test_scales_in_float32_are_kept_exactly():
    network = normed(nn.Conv2d(4, 8, 3, bias=False), nn.BatchNorm2d(8, eps=1e-3))
    with torch.no_grad():
        network[1].weight.copy_(torch.linspace(-1, 1, 8) / 3)
    model = from_torch(network, (torch.randn(2, 4, 6, 6),))
    absorb_settled_norms(model)
    scales = model.graph.initializers["norm_scales_0"].const_value.numpy().reshape(-1)
    wanted = network[1].weight.detach().double().numpy() / np.sqrt(1 + 1e-3)
    np.testing.assert_allclose(scales, wanted, rtol=1e-7)
    assert HALF_TOLERANCE < 2**-12
