"""Networks that draw random numbers are compared with the same draws in both, and written as they were."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper, parser
from torch import Tensor, nn
from torch.nn.functional import mse_loss

import sws_compress as sws
from sws_compress.child_process.client import in_child
from sws_compress.child_process.limits import own
from sws_compress.onnx_io.analyse.draws import DRAWING
from sws_compress.onnx_io.traversal import nodes
from sws_compress.ort.session import Model, Session, session
from sws_compress.ort.user_models import run_model
from sws_compress.pipelines.source import ANSWERS_VARY, SAME_DRAWS
from tests.child_process import calls
from tests.models import gaussian, tuned

MIDDLES = {
    "RandomNormalLike": "e = RandomNormalLike(m) \n z = Add(m, e)",
    "RandomNormalLike with a seed": "e = RandomNormalLike<seed = 3.5>(m) \n z = Add(m, e)",
    "RandomUniformLike": "e = RandomUniformLike(m) \n z = Mul(m, e)",
    "RandomNormal": "e = RandomNormal<shape = [2, 64]>() \n z = Add(m, e)",
    "RandomUniform": "e = RandomUniform<shape = [64]>() \n z = Mul(m, e)",
    "Bernoulli": "p = Sigmoid(m) \n b = Bernoulli(p) \n z = Mul(m, b)",
    "Multinomial": "i = Multinomial<sample_size = 64, dtype = 6>(m) \n f = Cast<to = 1>(i) \n z = Mul(m, f)",
    "Dropout": "r = Constant<value = float {0.4}>() \n t = Constant<value = bool {1}>() \n z = Dropout(m, r, t)",
    "branch": """c = Constant<value = bool {1}>()
        z = If(c) <then_branch = one () => (float[n, 64] z1) { e = RandomNormalLike(m) \n z1 = Add(m, e) },
                   else_branch = two () => (float[n, 64] z2) { z2 = Identity(m) }>""",
    "loop": """n3 = Constant<value = int64 {3}>()
        z = Loop(n3, , m) <body = step (int64 i, bool on, float[n, 64] s) => (bool go, float[n, 64] t) {
            go = Identity(on) \n e = RandomUniformLike(s) \n t = Add(s, e) }>""",
    "function": "z = own.noisy(m)",
}
FUNCTION = '\n<opset_import: ["": 18], domain: "own"> noisy (a) => (b) { e = RandomNormalLike(a) \n b = Add(a, e) }'


def drawing(path: Path, middle: str) -> Path:
    """x (2, 96) -> MatMul -> something that draws -> MatMul -> y (2, 40)."""
    text = f"""<ir_version: 8, opset_import: ["": 18, "own": 1]> g (float[2, 96] x) => (float[2, 40] y) {{
        m = MatMul(x, w)
        {MIDDLES[middle]}
        y = MatMul(z, v)
    }}"""
    model = parser.parse_model(text + (FUNCTION if middle == "function" else ""))
    weights = (gaussian(96, 64, seed=1), gaussian(64, 40, seed=2))
    model.graph.initializer.extend(map(numpy_helper.from_array, weights, ("w", "v")))
    onnx.save(model, path)
    return path


def drawing_nodes(path: Path) -> list[tuple[str, list[float]]]:
    """Operators that draw, and their seeds, in all bodies."""
    found = [node for node in nodes(onnx.load(path)) if node.op_type in DRAWING]
    return sorted((node.op_type, [entry.f for entry in node.attribute if entry.name == "seed"]) for node in found)


@pytest.mark.parametrize("middle", MIDDLES)
def test_draws_are_the_same_in_both(tmp_path: Path, middle: str) -> None:
    source = drawing(tmp_path / "net.onnx", middle)
    fine = sws.WeightsOnly(components=256)
    result = sws.compress(source, tmp_path / "small.onnx", fine)
    assert result.decoded_difference < 1e-5
    assert SAME_DRAWS in result.notes
    if middle != "Multinomial":  # another draw there changes more than weights do
        assert result.output_error < 0.05
        assert sws.verify(source, result.output, tolerance=0.05).passed
    again = sws.compress(source, tmp_path / "again.onnx", fine)
    assert again.outputs == result.outputs
    assert drawing_nodes(result.output) == drawing_nodes(source)
    one, two = (run_model(result.output, {"x": gaussian(2, 96)})["y"] for _ in range(2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("middle", ["RandomNormalLike", "Dropout", "function"])
@pytest.mark.parametrize("bits", [4, 8])
def test_low_bit_files_draw_too(tmp_path: Path, middle: str, bits: int) -> None:
    source = drawing(tmp_path / "net.onnx", middle)
    result = sws.compress(source, tmp_path / "small.onnx", sws.LowBit(bits=bits))
    assert result.output_error < 0.1
    assert SAME_DRAWS in result.notes
    assert drawing_nodes(result.output) == drawing_nodes(source)


def test_external_data_beside_draws(tmp_path: Path) -> None:
    source = drawing(tmp_path / "net.onnx", "RandomNormalLike")
    apart = tmp_path / "apart.onnx"
    onnx.save(onnx.load(source), apart, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert sws.verify(source, apart, tolerance=0).passed


def test_old_opsets_are_converted_and_compared(tmp_path: Path) -> None:
    source = drawing(tmp_path / "net.onnx", "RandomNormalLike")
    model = onnx.load(source)
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", 11))
    onnx.save(model, source)
    assert sws.compress(source, tmp_path / "small.onnx").decoded_difference < 1e-5


def test_verify_tells_weights_from_draws(tmp_path: Path) -> None:
    source = drawing(tmp_path / "net.onnx", "RandomNormalLike")
    model = onnx.load(source)
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(gaussian(64, 40, seed=9), "v"))
    onnx.save(model, tmp_path / "other.onnx")
    assert not sws.verify(source, tmp_path / "other.onnx").passed


@pytest.mark.parametrize("request_", [sws.WeightsOnly(components=64), sws.LowBit(bits=8)])
def test_draws_that_cannot_be_fixed_compare_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request_: sws.WeightsOnly | sws.LowBit
) -> None:
    """As those of an operator that this package does not know: here every session starts from another seed."""
    monkeypatch.setattr("sws_compress.ort.comparable._names_draws", lambda model: False)
    seeds = itertools.count()

    def unlike_the_last(model: Model, **options: bool) -> Session:
        in_child(calls.set_seed, next(seeds), limits=own())
        return session(model, **options)

    monkeypatch.setattr("sws_compress.ort.comparable.session", unlike_the_last)
    source = drawing(tmp_path / "net.onnx", "RandomNormalLike")
    result = sws.compress(source, tmp_path / "small.onnx", request_)
    assert np.isnan(result.decoded_difference)
    assert result.outputs == ()
    assert ANSWERS_VARY in result.notes
    assert SAME_DRAWS not in result.notes
    with pytest.raises(sws.ModelError, match="must answer the same to the same inputs"):
        sws.verify(source, result.output, tolerance=1e-4)


class Vae(nn.Module):
    """The mean of a code, noise, and a decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(40, 64), nn.Linear(64, 40)

    def forward(self, x: Tensor) -> Tensor:
        code = self.encoder(x)
        y: Tensor = self.decoder(code + torch.randn_like(code))
        return y


@pytest.mark.parametrize("request_", [sws.WeightsOnly(components=256), sws.LowBit(bits=8)])
def test_modules_are_compared_with_their_export(tmp_path: Path, request_: sws.WeightsOnly | sws.LowBit) -> None:
    torch.manual_seed(0)
    module, x = Vae(), torch.randn(3, 40)
    result = sws.compress(module, tmp_path / "small.onnx", request_, example_inputs=x)
    assert result.output_error < 0.05
    assert SAME_DRAWS in result.notes
    assert result.network is not None
    assert any(node.op_type == "RandomNormalLike" for node in onnx.load(result.output).graph.node)


def test_a_network_that_draws_can_be_trained_and_exported(tmp_path: Path) -> None:
    torch.manual_seed(0)
    batches = [(x, x) for x in torch.randn(4, 8, 40)]
    result = tuned(Vae(), tmp_path / "small.onnx", train=batches, loss=mse_loss, components=4, epochs=2, ratio=4)
    assert result.decoded_difference < 1e-5
    assert SAME_DRAWS in result.notes
    prior = sws.SoftWeightSharing(net := Vae(), torch.optim.Adam(net.parameters()), components=8)
    exported = sws.export(net, prior.snap(), tmp_path / "exported.onnx", example_inputs=torch.zeros(2, 40))
    assert exported.decoded_difference < 1e-5
