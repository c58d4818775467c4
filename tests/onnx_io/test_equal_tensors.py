"""Equal initialisers are stored once, and nothing stays mapped that was only compared."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from sws_compress.onnx_io.read.equal_tensors import merge_equal
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.compare import compare_outputs

RANDOM = np.random.default_rng(0)
TABLE = RANDOM.standard_normal((70, 50)).astype(np.float32)


def adding(tensors, *, inputs=()):
    """y = x + the sum of all tensors, each cast to float32; those in ``inputs`` are inputs too."""
    nodes, value = [], "x"
    for name in tensors:
        nodes.append(helper.make_node("Cast", [name], [f"{name}_cast"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Add", [value, f"{name}_cast"], [f"{name}_sum"]))
        value = f"{name}_sum"
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [70, 50]),
            *(helper.make_tensor_value_info(name, TensorProto.FLOAT, [70, 50]) for name in inputs),
        ],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, [70, 50])],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def merged(model):
    read = ir.from_proto(model)
    merge_equal(read.graph)
    return read


def one_element(array, index):
    changed = array.copy()
    changed.reshape(-1)[index] += 1
    return changed


def test_equal_tensors_are_one_and_the_first_name_stays():
    model = adding({"a": TABLE, "b": one_element(TABLE, 7), "c": TABLE.copy(), "d": TABLE.copy()})
    read = merged(model)
    assert list(read.graph.initializers) == ["a", "b"]
    (difference,) = compare_outputs(model.SerializeToString(), to_bytes(read))
    assert difference.largest_absolute == 0


@pytest.mark.parametrize("index", [0, 1, 3499])
def test_one_different_element_keeps_tensors_apart(index):
    """Also one between those that are compared first."""
    assert len(merged(adding({"a": TABLE, "b": one_element(TABLE, index)})).graph.initializers) == 2


@pytest.mark.parametrize(
    "other", [TABLE.T.copy().reshape(70, 50), TABLE[:, None], TABLE.view(np.int32), -TABLE, np.zeros_like(TABLE)]
)
def test_shape_type_and_bytes_must_agree(other):
    model = adding({"a": TABLE})
    model.graph.initializer.append(numpy_helper.from_array(other, "b"))
    assert len(merged(model).graph.initializers) == 2


def test_zeros_of_both_signs_are_not_equal():
    zeros = np.zeros((70, 50), np.float32)
    assert len(merged(adding({"a": zeros, "b": -zeros})).graph.initializers) == 2


def test_nan_is_equal_to_itself():
    broken = one_element(TABLE, 3)
    broken[0, 0] = np.nan
    assert len(merged(adding({"a": broken, "b": broken.copy()})).graph.initializers) == 1


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64, np.int64, np.bool_])
def test_types(dtype):
    values = TABLE.astype(dtype)
    assert len(merged(adding({"a": values, "b": values.copy()})).graph.initializers) == 1


def test_inputs_and_outputs_stay():
    assert len(merged(adding({"a": TABLE, "b": TABLE.copy()}, inputs=["b"])).graph.initializers) == 2
    model = adding({"a": TABLE, "b": TABLE.copy()})
    model.graph.output.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, [70, 50]))
    assert len(merged(model).graph.initializers) == 2


def test_external_tensors_are_unmapped_again(tmp_path):
    model = adding({"a": TABLE, "b": TABLE.copy(), "c": one_element(TABLE, 5)})
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="w", size_threshold=0)
    read = ir.load(tmp_path / "net.onnx")
    merge_equal(read.graph)
    assert list(read.graph.initializers) == ["a", "c"]
    for value in read.graph.initializers.values():
        assert isinstance(value.const_value, ir.ExternalTensor)
        assert value.const_value.raw is None
    assert read.graph.initializers["a"].const_value.numpy().tobytes() == TABLE.tobytes()
