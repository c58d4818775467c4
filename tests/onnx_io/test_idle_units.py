"""Pruning leaves the outputs of a network as they are, and no unit in it that does nothing."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

from sws_compress.onnx_io.from_torch import from_torch
from sws_compress.onnx_io.write.idle_units import ELEMENTWISE, KEEPING_ZERO, prune_units
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.session import check_runs, session


def seeded(*layers):
    """A network of these layers, with weights and biases that are nowhere zero."""
    random = torch.Generator().manual_seed(0)
    network = nn.Sequential(*layers)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random))
    return network


def silence(layer, *units):
    with torch.no_grad():
        layer.weight[list(units)] = 0
        layer.bias[list(units)] = 0


def ignore(layer, *inputs):
    with torch.no_grad():
        layer.weight[:, list(inputs)] = 0


def answer(model, inputs):
    data = to_bytes(model)
    check_runs(data)
    runtime = session(data)
    return runtime.run({runtime.inputs[0].name: inputs.numpy()})[0]


def pruned(network, example):
    """Shapes by name after pruning; outputs must be those from before."""
    model = from_torch(network, (example,))
    before = answer(model.clone(), example)
    size = sum(value.const_value.size for value in model.graph.initializers.values())
    pruning = prune_units(model)
    np.testing.assert_allclose(answer(model, example), before, rtol=1e-5, atol=1e-5 * np.abs(before).max())
    assert pruning.weights == size - sum(value.const_value.size for value in model.graph.initializers.values())
    return {name: tuple(value.const_value.shape.numpy()) for name, value in model.graph.initializers.items()}


ROWS = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
IMAGES = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def perceptron():
    return seeded(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 4))


def test_units_that_nothing_reads_go():
    network = perceptron()
    ignore(network[2], 0, 3, 6)
    assert prune_units(from_torch(network, (ROWS,))).units == {"0.weight": (4, 7)}
    assert pruned(network, ROWS) == {"0.weight": (4, 5), "0.bias": (4,), "2.weight": (4, 4), "2.bias": (4,)}


def test_units_that_are_always_zero_go():
    network = perceptron()
    silence(network[0], 1, 5)
    assert pruned(network, ROWS)["2.weight"] == (4, 5)


def test_a_bias_keeps_a_unit_without_weights():
    network = perceptron()
    with torch.no_grad():
        network[0].weight[2] = 0
    assert pruned(network, ROWS)["0.weight"] == (7, 5)


def activated(operator):
    """Two layers with an operator between them: unit 0 is always zero, and nothing reads unit 1."""
    random = np.random.default_rng(0)
    first, bias, second = random.normal(size=(5, 4)), random.normal(size=4), random.normal(size=(4, 3))
    first[:, 0], bias[0], second[1] = 0, 0, 0
    model = onnx.parser.parse_model(
        f"""
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[n, 5] rows) => (float[n, 3] logits) {{
            hidden = Gemm(rows, a, b)
            active = {operator}(hidden)
            logits = MatMul(active, c)
        }}
        """
    )
    for name, array in zip("abc", (first, bias, second), strict=True):
        model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    return ir.from_proto(model)


@pytest.mark.parametrize("operator", sorted(ELEMENTWISE))
def test_silent_units_go_where_zero_stays_zero(operator):
    model = activated(operator)
    before = answer(model.clone(), ROWS)
    prune_units(model)
    np.testing.assert_allclose(answer(model, ROWS), before, rtol=1e-5, atol=1e-5)
    kept = model.graph.initializers["b"].const_value.shape
    assert tuple(kept.numpy()) == ((2,) if operator in KEEPING_ZERO else (3,))


def test_channels_go_with_all_their_pixels():
    pools = nn.MaxPool2d(2), nn.AvgPool2d(2)
    network = seeded(
        nn.Conv2d(2, 6, 3), nn.ReLU(), pools[0], nn.Conv2d(6, 5, 2), pools[1], nn.Flatten(), nn.Linear(5, 3)
    )
    silence(network[0], 2)
    ignore(network[3], 0)
    ignore(network[6], 1, 4)
    assert pruned(network, IMAGES) == {
        "0.weight": (4, 2, 3, 3),
        "0.bias": (4,),
        "3.weight": (3, 4, 2, 2),
        "3.bias": (3,),
        "6.weight": (3, 3),
        "6.bias": (3,),
    }


def test_a_channel_stays_as_long_as_one_of_its_pixels_is_read():
    network = seeded(nn.Conv2d(2, 4, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3))
    ignore(network[4], 0, 1, 2, 3, 4, 5, 6)
    shapes = pruned(network, IMAGES)
    assert (shapes["0.weight"], shapes["4.weight"]) == ((3, 2, 5, 5), (3, 12))


def test_idleness_spreads_both_ways():
    network = seeded(*(nn.Linear(5 + (i > 0), 6) if i % 2 == 0 else nn.ReLU() for i in range(6)), nn.Linear(6, 4))
    with torch.no_grad():
        network[4].weight[1:] = 0  # reads unit 0 alone, which reads unit 5 alone
        network[4].bias[1:] = 0
        network[4].weight[0, :5] = 0
        network[2].weight[5, 2:] = 0
    shapes = pruned(network, ROWS)
    assert [shapes[f"{layer}.weight"] for layer in (0, 2, 4, 6)] == [(2, 5), (1, 2), (1, 1), (4, 1)]


def test_one_unit_stays_where_all_are_idle():
    network = perceptron()
    ignore(network[2], *range(7))
    assert pruned(network, ROWS)["0.weight"] == (1, 5)


def test_sequences_of_rows():
    network = perceptron()
    ignore(network[2], 0, 1)
    rows = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(1))
    assert pruned(network, rows)["0.bias"] == (5,)


def test_biases_that_are_zero_go():
    network = seeded(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(108, 3))
    with torch.no_grad():
        for layer in (network[0], network[2]):
            layer.bias.zero_()
    assert pruned(network, IMAGES).keys() == {"0.weight", "2.weight"}


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = seeded(nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 5))

    def forward(self, rows):
        hidden = self.first(rows).relu()
        return self.third(hidden + self.second(hidden).relu())


class Twice(nn.Module):
    """A layer that is used twice."""

    def __init__(self):
        super().__init__()
        self.first, self.second = seeded(nn.Linear(5, 5), nn.Linear(5, 5))

    def forward(self, rows):
        return self.second(self.second(self.first(rows).relu()).relu())


class Shown(nn.Module):
    """A network whose hidden units are an output."""

    def __init__(self):
        super().__init__()
        self.first, self.second = seeded(nn.Linear(5, 5), nn.Linear(5, 5))

    def forward(self, rows):
        hidden = self.first(rows).relu()
        return self.second(hidden), hidden


@pytest.mark.parametrize("make", [Residual, Twice, Shown])
def test_units_that_others_read_stay(make):
    network = make()
    ignore(network.second, 0, 1)
    silence(network.first, 0, 1)
    assert pruned(network, ROWS)["first.weight"] == (5, 5)


@pytest.mark.parametrize("between", [nn.Softmax(-1), nn.LayerNorm(8), nn.Flatten(0, 1), nn.MaxPool1d(2, 1, padding=1)])
def test_operators_that_mix_units_end_a_link(between):
    width = 9 if isinstance(between, nn.MaxPool1d) else 8
    network = seeded(nn.Linear(5, 8), between, nn.Linear(width, 3))
    silence(network[0], 0, 7)
    ignore(network[2], 1)
    rows = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(1))
    assert pruned(network, rows)["0.bias"] == (8,)


def test_channels_of_groups_stay():
    network = seeded(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(64, 3))
    silence(network[0], 0)
    ignore(network[4], *range(16))
    shapes = pruned(network, IMAGES)
    assert (shapes["0.weight"], shapes["2.weight"]) == ((4, 2, 3, 3), (4, 2, 3, 3))


def test_a_model_without_idle_units_stays_as_it_is():
    model = from_torch(perceptron(), (ROWS,))
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    prune_units(model)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before
