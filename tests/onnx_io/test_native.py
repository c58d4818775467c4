"""What crashes onnx's C++ ends the child process only; everything else passes through it unchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import sws_compress as sws
from sws_compress.child_process.client import CallError
from sws_compress.onnx_io.native import check_fully, converted_to, inferred
from tests.models import gaussian
from tests.onnx_io.models import matmul_model


def crashing(opset: int) -> onnx.ModelProto:
    """Its second node makes shape inference read in front of a shape's first dimension."""
    model = parser.parse_model(
        f"""<ir_version: 7, opset_import: ["": {opset}]>
        g (float[2, 64] x, int64[2] i) => (float[2, 64] y, float[n] z) {{
            y = MatMul(x, w)
            z = GatherND<batch_dims = -1000>(x, i)
        }}"""
    )
    model.graph.initializer.append(numpy_helper.from_array(gaussian(64, 64), "w"))
    return model


@pytest.mark.parametrize(
    "call",
    [
        lambda proto: converted_to(proto, 13),
        inferred,
        lambda proto: inferred(proto, strict=True),
        lambda proto: inferred(proto, data_prop=True),
        lambda proto: check_fully(proto.SerializeToString()),
    ],
)
def test_a_crash_is_an_error(call) -> None:
    with pytest.raises(CallError, match="a crash of its process") as caught:
        call(crashing(12))
    assert caught.value.out_of_bounds


@pytest.mark.parametrize("opset", [12, 17])
def test_a_model_that_crashes_onnx_is_bad_input(opset: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(crashing(opset).SerializeToString())
    with pytest.raises(sws.ModelError, match="a crash of its process") as caught:
        sws.compress(path, tmp_path / "small.onnx")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_results_are_those_of_onnx() -> None:
    model = matmul_model(np.ones((3, 2), np.float32), opset=12)
    assert converted_to(model, 13) == onnx.version_converter.convert_version(model, 13)
    assert inferred(model, strict=True) == onnx.shape_inference.infer_shapes(model, strict_mode=True)
    check_fully(model.SerializeToString())
    model.graph.output[0].type.tensor_type.shape.dim[-1].dim_value = 99
    with pytest.raises(CallError, match="99") as caught:
        check_fully(model.SerializeToString())
    assert not caught.value.out_of_bounds
