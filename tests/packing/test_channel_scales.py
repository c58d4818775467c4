"""Tensors with a factor for every channel: one product after the decoder, the same bits everywhere."""

from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from sws_compress.codec.interpreter import NumpyOps
from sws_compress.codec.transforms.unpack import tensor_candidates, unpack
from sws_compress.errors import ArgumentError
from sws_compress.ort.decode import decoded_weights, unfolded_nodes
from sws_compress.ort.session import check_runs
from sws_compress.packing import pack as packing
from sws_compress.quantize.palette import Palette
from sws_compress.quantize.weight_scales import ChannelScales
from tests.onnx_io.models import as_ir, matmul_model
from tests.packing.models import cast_model
from tests.whole import expanded, factors_in, inspected


def palette(shape=(40, 50), axis=1, dtype=np.float32, components=9, zero=0.6, seed=0):
    """Lopsided symbols with dead rows, and scales of two bytes or, one of them, of four."""
    random = np.random.default_rng(seed)
    codebook = np.append(0, random.standard_normal(components - 1)).astype(np.float16).astype(dtype)
    shares = np.append(zero, np.arange(1, components) / components)
    indices = random.choice(components, shape, p=shares / shares.sum()).astype(np.uint8)
    indices[3::4] = 0
    factors = random.gamma(2, 1, shape[axis]).astype(np.float16).astype(np.float32)
    factors[0] = 1.1 if seed else 1.0
    return Palette(codebook, indices.reshape(-1), shape, ChannelScales(factors, axis))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("seed", [0, 1])
def test_all_decoders_agree(axis, seed):
    wanted = palette(axis=axis, seed=seed)
    factors = wanted.scales.broadcast(wanted.shape)
    codes = tensor_candidates([wanted.indices.reshape(wanted.shape)], wanted.codebook, factors=factors)
    assert len({code.encoding for code in codes}) > 2
    for code in codes:
        decoded = unpack(NumpyOps(), code, (wanted.shape,))[0]
        assert decoded.tobytes() == wanted.expand().tobytes(), code.encoding
    packed = packing.pack(as_ir(matmul_model(wanted.expand())), {"W": wanted})
    assert decoded_weights(packed.data, ["W"])["W"].tobytes() == wanted.expand().tobytes()
    assert unfolded_nodes(packed.data) == ()
    identity = np.eye(wanted.shape[0], dtype=np.float32)
    model = onnx.load_from_string(packed.data)
    assert ReferenceEvaluator(model).run(None, {"x": identity})[0].tobytes() == (identity @ wanted.expand()).tobytes()
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", 13))
    for function in model.functions:
        for entry in function.opset_import:
            entry.version = 13 if not entry.domain else entry.version
    if model.functions:
        model.opset_import.append(helper.make_opsetid("sws", 1))
    check_runs(model.SerializeToString())


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_types(dtype):
    wanted = palette(dtype=dtype)
    packed = packing.pack(as_ir(cast_model(wanted.expand())), {"W": wanted})
    assert [tensor.name for tensor in packed.tensors] == ["W"]
    assert decoded_weights(packed.data, ["W"])["W"].tobytes() == wanted.expand().tobytes()


def test_vectors_with_scales():
    base = palette(shape=(40, 50), axis=0)
    codebook = np.random.default_rng(2).standard_normal((9, 2)).astype(np.float32)
    wanted = Palette(codebook, base.indices[:1000], base.shape, base.scales)
    packed = packing.pack(as_ir(matmul_model(wanted.expand())), {"W": wanted})
    assert decoded_weights(packed.data, ["W"])["W"].tobytes() == wanted.expand().tobytes()
    (row,) = inspected(packed.data).rows
    assert row.entropy_bits == pytest.approx(wanted.entropy_bits / 2)


def test_inspection_tells_symbols_not_products():
    wanted = palette()
    packed = packing.pack(as_ir(matmul_model(wanted.expand())), {"W": wanted})
    (row,) = inspected(packed.data).rows
    assert row.encoding == packed.tensors[0].encoding
    assert row.encoding.endswith("+scales")
    assert row.distinct_values == 9
    assert row.entropy_bits == pytest.approx(wanted.entropy_bits)
    assert row.zeros == pytest.approx(wanted.zeros)
    values, factors = factors_in(packed.data)["W"]
    assert values.tobytes() == replace(wanted, scales=None).expand().tobytes()
    assert (values * factors).tobytes() == wanted.expand().tobytes()


def test_expanded_models_are_plain():
    wanted = palette()
    packed = packing.pack(as_ir(matmul_model(wanted.expand())), {"W": wanted})
    plain = onnx.load_from_string(expanded(packed.data).data)
    (weight,) = plain.graph.initializer
    assert onnx.numpy_helper.to_array(weight).tobytes() == wanted.expand().tobytes()
    assert [node.op_type for node in plain.graph.node] == ["MatMul"]


@pytest.mark.parametrize("factors", [np.ones((40, 50)), np.zeros((1, 50)), np.ones((1, 1, 50)), np.ones(50)])
def test_products_that_are_none_of_ours_are_no_scales(factors):
    wanted = palette()
    packed = packing.pack(as_ir(matmul_model(wanted.expand())), {"W": wanted})
    model = onnx.load_from_string(packed.data)
    (product,) = [node for node in model.graph.node if node.output[0] == "W"]
    name = next(
        (node.input[0] for node in model.graph.node if product.input[1] in node.output), product.input[1]
    )  # stored in half, it is cast first
    (stored,) = [tensor for tensor in model.graph.initializer if tensor.name == name]
    dtype = onnx.numpy_helper.to_array(stored).dtype
    stored.CopyFrom(onnx.numpy_helper.from_array(factors.astype(dtype), name))
    data = model.SerializeToString()
    assert factors_in(data) == {}
    inspected(data)


def test_a_codebook_that_float32_does_not_hold():
    with pytest.raises(ArgumentError, match="exact in float32"):
        tensor_candidates([np.zeros((3, 2), np.uint8)], np.array([0.1]), factors=np.ones((3, 1), np.float32))
