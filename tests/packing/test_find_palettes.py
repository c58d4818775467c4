"""The lossless seam: every floating-point initialiser of few values is found, and nothing else."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from sws_compress.onnx_io.read.model import read_model
from sws_compress.packing.pack import find_palettes
from sws_compress.thresholds import SMALLEST_EXACT_TENSOR, SMALLEST_EXACT_VECTOR
from tests.onnx_io.models import as_ir, few_values, lenet, matmul_model
from tests.packing.models import arrays

FEW = few_values((30, 40), [-0.0, 0.0, 1.5], [1, 5, 2])


def model_with(array, *, output=False):
    """y = x + W, which may be an output as well."""
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    outputs = [helper.make_tensor_value_info("y", kind, None)]
    outputs += [helper.make_tensor_value_info("W", kind, array.shape)] if output else []
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "W"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, None)],
        outputs,
        [numpy_helper.from_array(array, "W")],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))


def with_value(value):
    array = FEW.copy()
    array[3, 5] = value
    return array


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_palettes_hold_every_bit(dtype):
    wanted = FEW.astype(dtype)
    (palette,) = find_palettes(model_with(wanted)).values()
    assert palette.expand().dtype == wanted.dtype
    assert palette.expand().tobytes() == wanted.tobytes()
    assert len(palette.codebook) == 3


@pytest.mark.parametrize(
    "array",
    [
        np.random.default_rng(0).standard_normal((30, 40)).astype(np.float32),
        with_value(np.nan),
        with_value(np.inf),
        np.arange(1200).reshape(30, 40),
        FEW.astype(np.complex64),
    ],
    ids=["many values", "nan", "inf", "many integers", "complex"],
)
def test_what_has_no_palette_is_left_out(array):
    assert find_palettes(model_with(array)) == {}


def test_outputs_and_tensors_that_are_known_are_left_out():
    assert find_palettes(model_with(FEW, output=True)) == {}
    assert find_palettes(model_with(FEW), besides=["W"]) == {}


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((SMALLEST_EXACT_TENSOR // 8, 8), True),
        ((SMALLEST_EXACT_TENSOR // 8 - 1, 8), False),
        ((SMALLEST_EXACT_VECTOR,), True),
        ((SMALLEST_EXACT_VECTOR, 1, 1), True),
        ((SMALLEST_EXACT_VECTOR - 1,), False),
    ],
)
def test_vectors_may_be_smaller(shape, found):
    array = few_values(shape, [0, 1], [1, 1])
    assert (find_palettes(model_with(array)).keys() == {"W"}) is found


def test_smallest_may_be_given():
    model = as_ir(matmul_model(few_values((6, 6), [0, 1], [1, 1])))
    assert find_palettes(model, smallest=37) == {}
    assert find_palettes(model, smallest=36).keys() == {"W"}


def test_external_weights_are_found(tmp_path):
    dense = lenet(sizes=(40, 30, 20))
    wanted = arrays(dense)
    onnx.save(dense, tmp_path / "net.onnx", save_as_external_data=True, location="data", size_threshold=0)
    palettes = find_palettes(read_model(tmp_path / "net.onnx"))
    assert {name: palette.expand().tobytes() for name, palette in palettes.items()} == {
        name: array.tobytes() for name, array in wanted.items()
    }
