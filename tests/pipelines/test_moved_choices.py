"""Choices between numbers that are equal but for rounding: told in a note, where all before them agrees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import sws_compress as sws
from sws_compress.onnx_io.analyse.choices import first_choices
from sws_compress.onnx_io.write.replaced import with_values
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.compare import outputs_in_runtime
from sws_compress.pipelines.low_bit_model import pack_low_bit
from sws_compress.pipelines.moved_choices import moved_choices
from sws_compress.quantize.palette import palette_of
from tests.models import gaussian

X = gaussian(1, 256, seed=5)
"""One row: only for more of them ONNX Runtime expands low-bit weights and multiplies as ever."""

CHOICES = {
    "NonZero": "above = Greater(y, t) \n z = NonZero(above)",
    "ArgMax": "a = Unsqueeze(y, first) \n b = Unsqueeze(t, first) \n c = Concat<axis = 0>(a, b)"
    "\n z = ArgMax<axis = 0, keepdims = 0>(c)",
    "Cast": "d = Div(y, t) \n z = Cast<to = 7>(d)",
}


def network(choice: str, threshold: np.ndarray) -> onnx.ModelProto:
    """x -> MatMul -> y, beside what is chosen between y and a threshold."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 18]> g (float[1, 256] x) => (float[1, 40] y, int64[a, b] z) {{
        y = MatMul(x, w)
        {CHOICES[choice]} }}"""
    )
    for name, values in (("w", gaussian(256, 40)), ("t", threshold), ("first", np.array([0]))):
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model


def tied(choice: str, request: sws.LowBit) -> onnx.ModelProto:
    """A network whose threshold is what it computes itself, with its weights on grids."""
    loose = ir.from_proto(network(choice, np.zeros((1, 40), np.float32)))
    palettes = pack_low_bit(loose, request).palettes
    snapped = with_values(loose, {name: palette.expand() for name, palette in palettes.items()})
    return network(choice, outputs_in_runtime(to_bytes(snapped), {"x": X})[0])


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("bits", [4, 8])
def test_choices_of_low_bit_networks(tmp_path: Path, choice: str, bits: int) -> None:
    request = sws.LowBit(bits=bits)
    onnx.save(tied(choice, request), tmp_path / "net.onnx")
    result = sws.compress(tmp_path / "net.onnx", tmp_path / "small.onnx", request, example_inputs={"x": X})
    (note,) = [note for note in result.notes if "so close that rounding decides" in note]
    assert note.startswith({"NonZero": "Greater"}.get(choice, choice))
    assert "'z' behind them" in note
    assert np.isinf(result.decoded_difference)
    assert result.outputs[0].largest_relative < 0.3


class Tied(nn.Module):
    """A linear layer, and which of its outputs are larger than a threshold."""

    def __init__(self, threshold: torch.Tensor) -> None:
        super().__init__()
        self.layer = nn.Linear(256, 40, bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(torch.from_numpy(gaussian(40, 256)))
        self.register_buffer("threshold", threshold)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.layer(x).softmax(1)
        return y, torch.stack((y, self.threshold)).argmax(0)


def test_choices_of_modules(tmp_path: Path) -> None:
    x = torch.from_numpy(X)
    request = sws.WeightsOnly(components=16)
    snapped = sws.compress(Tied(torch.zeros(1, 40)), tmp_path / "loose.onnx", request, example_inputs=(x,)).network
    with torch.no_grad():
        y = snapped(x)[0]
    assert sws.compress(Tied(y), tmp_path / "small.onnx", request, example_inputs=(x,)).network is not None
    snapped.threshold.copy_(y)
    palettes = {"layer.weight": palette_of(snapped.layer.weight.detach().numpy())}
    result = sws.export(snapped, palettes, tmp_path / "exported.onnx", example_inputs=(x,))
    assert any("so close that rounding decides" in note for note in result.notes)
    assert np.isinf(result.decoded_difference)


def test_what_no_choice_explains() -> None:
    """Other weights move what is chosen by; outputs before a choice have to agree."""
    model = ir.from_proto(network("NonZero", np.zeros((1, 40), np.float32)))
    right = outputs_in_runtime(to_bytes(model), {"x": X})
    other = {"w": gaussian(256, 40, seed=9)}
    wrong = outputs_in_runtime(to_bytes(with_values(model, other)), {"x": X})

    def found(outputs: list[np.ndarray], values: dict[str, np.ndarray]) -> str | None:
        return moved_choices(
            model, {}, lambda probe: to_bytes(with_values(probe, values)), {"x": X}, (right, outputs), tolerance=1e-3
        )

    moved = [right[0], right[1][:, 1:]]
    assert found(wrong, other) is None
    assert found(moved, other) is None
    assert found(moved, {}) is not None


def test_first_choices_depend_on_inputs_and_on_no_other() -> None:
    text = """<ir_version: 8, opset_import: ["": 18]> g (float[n] x, float[n] k) => (float[n] r, int64 p, float[n] q) {
        c = Greater(k0, k0) \n q = Where(c, x, k) \n h = Neg(q) \n r = Round(h) \n f = Floor(r) \n
        p = ArgMax<axis = 0, keepdims = 0>(f) \n u = Cast<to = 11>(q) }"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "k0"))
    found = first_choices(ir.from_proto(model))
    assert (found.chosen_by, found.operators, found.dependent) == (("h",), ("Round",), {"r", "f", "p"})
