"""Whole models in few bits."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import sws_compress as sws
from sws_compress.errors import ArgumentError, ModelError, VerificationError
from sws_compress.onnx_io.write.replaced import with_values
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.compare import compare_outputs, outputs_in_runtime
from sws_compress.pipelines.low_bit import verify_low_bit
from sws_compress.pipelines.low_bit_model import LowBitModel, pack_low_bit
from sws_compress.requests import LowBit
from tests.models import gaussian


def small_model(*, convolution=False):
    """Tokens -> embedding -> layer normalisation -> MatMul -> Gemm, with bytes of an exporter in it."""
    random = np.random.default_rng(0)
    arrays = {
        "E": random.standard_normal((100, 64)),
        "gain": random.uniform(0.1, 3, 64),
        "bias": random.standard_normal(64),
        "V": random.standard_t(4, (64, 72)) * 0.1,
        "W": random.standard_t(4, (40, 72)) * 0.1,
        "b": random.standard_normal(40),
    }
    nodes = [
        helper.make_node("Gather", ["E", "tokens"], ["e"], name="from_the_exporter"),
        helper.make_node("LayerNormalization", ["e", "gain", "bias"], ["n"]),
        helper.make_node("MatMul", ["n", "V"], ["v"]),
        helper.make_node("Relu", ["v"], ["r"]),
        helper.make_node("Gemm", ["r", "W", "b"], ["y"], transB=1),
    ]
    tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 40])],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


FEEDS = {"tokens": np.arange(100)}


def largest_difference(model, packed):
    """What ``verify_low_bit`` finds between a packed model and the same with its weights expanded."""
    expanded = with_values(model, {name: palette.expand() for name, palette in packed.palettes.items()})
    return verify_low_bit(packed, FEEDS, outputs_in_runtime(to_bytes(expanded), FEEDS), model).largest


def error(model, data):
    (difference,) = compare_outputs(model.SerializeToString(), data, FEEDS)
    return difference.largest_relative


@pytest.mark.parametrize(
    ("bits", "block_size", "symmetric", "integer"),
    [(bits, size, *rest) for bits, size in ((4, 32), (8, 64)) for rest in itertools.product((False, True), repeat=2)],
)
def test_packed_models_compute_what_their_grids_say(bits, block_size, symmetric, integer):
    dense = small_model()
    model = ir.from_proto(dense)
    asked = LowBit(bits=bits, block_size=block_size, symmetric=symmetric)
    packed = pack_low_bit(model, asked, integer_arithmetic=integer)
    assert [(tensor.name, tensor.encoding) for tensor in packed.tensors] == [
        ("E", "int8"),
        ("V", f"int{bits}"),
        ("W", f"int{bits}"),
    ]
    assert len(packed.data) < (0.4 if bits == 8 else 0.3) * dense.ByteSize()
    stored = sum(tensor.payload_bytes for tensor in packed.tensors)
    assert stored < len(packed.data) < stored + 4500
    assert largest_difference(model, packed) < (0.05 if integer else 1e-5)
    assert error(dense, packed.data) < (0.3 if bits == 4 else 0.03)
    assert b"from_the_exporter" not in packed.data
    assert ir.to_proto(model).SerializeToString() == ir.to_proto(ir.from_proto(dense)).SerializeToString()


def test_the_same_model_gives_the_same_bytes():
    first, second = (pack_low_bit(ir.from_proto(small_model()), LowBit(bits=4)).data for _ in range(2))
    assert first == second


def test_a_layer_normalisations_gains_make_weights_count():
    """Errors weighted by the gains are smaller than those of a fit that does not know them."""
    model = ir.from_proto(small_model())
    palettes = pack_low_bit(model, LowBit(bits=4)).palettes
    unknown = small_model()
    unknown.graph.node[1].op_type = "Identity"
    del unknown.graph.node[1].input[1:]
    plain = pack_low_bit(ir.from_proto(unknown), LowBit(bits=4)).palettes
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in small_model().graph.initializer}
    h = arrays["gain"].astype(float) ** 2 + arrays["bias"].astype(float) ** 2

    def weighted(palette):
        return (h[:, None] * (palette.expand() - arrays["V"]) ** 2).sum()

    assert weighted(palettes["V"]) < 0.97 * weighted(plain["V"])
    assert np.array_equal(palettes["W"].indices, plain["W"].indices)


def test_wrong_weights_are_noticed():
    model = ir.from_proto(small_model())
    packed = pack_low_bit(model, LowBit(bits=4))
    proto = onnx.load_from_string(packed.data)
    (tensor,) = [tensor for tensor in proto.graph.initializer if tensor.name == "W.indices"]
    flipped = bytearray(tensor.raw_data)
    flipped[0] ^= 1
    tensor.raw_data = bytes(flipped)
    broken = LowBitModel(proto.SerializeToString(), packed.tensors, packed.palettes, packed.left_dense)
    with pytest.raises(VerificationError, match=r"W must be multiplied as it was fitted, got other weights"):
        largest_difference(model, broken)


def test_wrong_embeddings_are_noticed():
    model = ir.from_proto(small_model())
    packed = pack_low_bit(model, LowBit(bits=4))
    proto = onnx.load_from_string(packed.data)
    (tensor,) = [tensor for tensor in proto.graph.initializer if tensor.name == "E.indices"]
    tensor.raw_data = bytes(byte ^ 64 for byte in tensor.raw_data)
    broken = LowBitModel(proto.SerializeToString(), packed.tensors, packed.palettes, packed.left_dense)
    with pytest.raises(VerificationError, match="outputs must equal those of expanded weights"):
        largest_difference(model, broken)


def test_convolutions_are_left_alone_and_said_so():
    random = np.random.default_rng(1)
    tensors = [numpy_helper.from_array(random.standard_normal((32, 8, 3, 3)).astype(np.float32), "K")]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "K"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 9, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 32, 7, 7])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(ModelError, match=r"got 0\.0 % \(K: no low-bit kernel for how Conv reads it\)"):
        pack_low_bit(ir.from_proto(model), LowBit(bits=8))


def test_compressed_models_are_refused():
    packed = pack_low_bit(ir.from_proto(small_model()), LowBit(bits=4))
    with pytest.raises(ModelError, match="must not be compressed already"):
        pack_low_bit(ir.from_proto(onnx.load_from_string(packed.data)), LowBit(bits=4))


def test_a_runtime_without_products_of_eight_bits_is_named_before_the_work(monkeypatch):
    monkeypatch.setattr("sws_compress.pipelines.low_bit_model.runtime_version", lambda: "1.22.1")
    with pytest.raises(ArgumentError, match=r"must be 1\.23 or newer for products of 8 bits, got 1\.22\.1"):
        pack_low_bit(ir.from_proto(small_model()), LowBit(bits=8))
    pack_low_bit(ir.from_proto(small_model()), LowBit(bits=4))


def convolutions(path, last):
    """Two convolutions of 37 kB and a last layer of so many outputs."""
    nodes = [
        helper.make_node("Conv", ["x", "c"], ["h"]),
        helper.make_node("GlobalAveragePool", ["h"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "m"], ["y"]),
    ]
    random = np.random.default_rng(0)
    tensors = {"c": random.standard_normal((64, 32, 3, 3)), "m": random.standard_normal((64, last))}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 32, 9, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, last])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in tensors.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize(("last", "share"), [(5, "0.0"), (20, "6.5"), (31, "9.7")])
def test_networks_of_convolutions_are_refused_whatever_their_last_layer(tmp_path, last, share):
    """Below 1,024 elements the last layer does not count, and above it is too little: the answer is the same."""
    source = convolutions(tmp_path / "net.onnx", last)
    for bits in (4, 8):
        with pytest.raises(
            ModelError, match=f"at least 10 % of its weights in MatMul, .*, got {share} % .c: no low-bit"
        ):
            sws.compress(source, tmp_path / "small.onnx", LowBit(bits=bits))
    assert not (tmp_path / "small.onnx").exists()
    sws.compress(convolutions(tmp_path / "net.onnx", 40), tmp_path / "small.onnx", LowBit(bits=4))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_weights_of_other_types_are_refused_by_their_type(tmp_path, dtype):
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    x, y = (helper.make_tensor_value_info(name, kind, ["n", 64]) for name in "xy")
    weight = numpy_helper.from_array(gaussian(64, 64).astype(dtype), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=f"w: it is {np.dtype(dtype)}, and products in few bits are of float32"):
        sws.compress(tmp_path / "net.onnx", tmp_path / "small.onnx", LowBit(bits=4))


def test_weights_of_functions_behind_identities_stay_in_few_bits(tmp_path):
    body = [helper.make_node("Identity", ["V"], ["w"]), helper.make_node("MatMul", ["x", "w"], ["h"])]
    function = helper.make_function("local", "Layer", ["x", "V"], ["h"], body, [helper.make_opsetid("", 17)])
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Layer", [x, "V"], [y], domain="local") for x, y in (("x", "h"), ("h", "y"))],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64])],
        [numpy_helper.from_array(weight, "V")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=8), tmp_path / "net.onnx")
    result = sws.compress(tmp_path / "net.onnx", tmp_path / "small.onnx", LowBit(bits=8))
    assert [row.name for row in result.tensors] == ["V"]
    assert result.ratio > 3
    assert result.output_error < 0.05


def test_integer_arithmetic_may_change_how_many_things_are_found(tmp_path):
    """As in a detector: numbers near a threshold are on its other side in 8 bits."""
    text = """<ir_version: 8, opset_import: ["": 17]> g (float[800, 64] x) => (float[800, 96] y, int64[2, k] places) {
        y = MatMul(x, w)
        above = Greater(y, zero)
        places = NonZero(above)
    }"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(gaussian(64, 96, offset=0), "w"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(0, np.float32), "zero"))
    onnx.save(model, tmp_path / "net.onnx")
    result = sws.compress(tmp_path / "net.onnx", tmp_path / "small.onnx", LowBit(bits=8))
    assert result.outputs[0].largest_relative < 0.3
    assert result.outputs[1].largest_relative == np.inf
    assert np.isinf(result.decoded_difference)
    (warning,) = result.warnings
    assert warning.startswith("output 'places' differs from the original in shape")
