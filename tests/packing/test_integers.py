"""Files whose weights stay in integers: what ONNX Runtime computes, holds and folds."""

from __future__ import annotations

import io
from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from sws_compress.onnx_io.format.held import held_tensors
from sws_compress.onnx_io.write.matmul_nbits import in_float_arithmetic
from sws_compress.onnx_io.write.replaced import with_values
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.compare import outputs_in_runtime
from sws_compress.ort.decode import decoded_weights, unfolded_nodes
from sws_compress.packing.integers import Memory
from sws_compress.packing.pack import pack
from sws_compress.quantize.palette import Palette
from sws_compress.quantize.weight_scales import ChannelScales

FEEDS = {"ids": np.array([[0, -1, 89], [7, 7, 30]]), "x": np.linspace(-1, 1, 2 * 8 * 64).reshape(2, 8, 64)}
FEEDS = {"ids": FEEDS["ids"], "x": FEEDS["x"].astype(np.float32)}
FORMS = (Memory(True), Memory(True, True))


def palette(shape, *, reach, seed, axis=None, far=0):
    """Bell-shaped multiples of a step up to ``reach``, with scales along an axis, and one weight farther out."""
    random = np.random.default_rng(seed)
    numbers = np.clip(np.rint(random.normal(0, reach / 3, shape)), -reach, reach)
    if far:
        numbers.flat[5] = far
    used, indices = np.unique(numbers, return_inverse=True)
    scales = None
    if axis is not None:
        scales = ChannelScales(random.uniform(0.5, 2, shape[axis]).astype(np.float32), axis)
    codebook = (used * 0.2 / reach).astype(np.float32)
    return Palette(codebook, indices.reshape(-1).astype(np.uint8), shape, scales)


def network(palettes, *, opset=17):
    """ids -> rows of E -> MatMul V -> Gemm W (transposed, with a bias); x -> Conv K -> ConvTranspose T."""
    nodes = [
        helper.make_node("Gather", ["E", "ids"], ["e"]),
        helper.make_node("MatMul", ["e", "V"], ["v"]),
        helper.make_node("Relu", ["v"], ["r"]),
        helper.make_node("Reshape", ["r", "flat"], ["f"]),
        helper.make_node("Gemm", ["f", "W", "b"], ["y"], transB=1),
        helper.make_node("Conv", ["x", "K"], ["k"]),
        helper.make_node("ConvTranspose", ["k", "T"], ["z"]),
    ]
    tensors = [numpy_helper.from_array(each.expand(), name) for name, each in palettes.items()]
    tensors.append(numpy_helper.from_array(np.linspace(-1, 1, 40, dtype=np.float32), "b"))
    tensors.append(numpy_helper.from_array(np.array([-1, 72]), "flat"))
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "m"]),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 8, 64]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["p", 40]),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, [2, 6, 66]),
        ],
        tensors,
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8))


def palettes_of(reach, *, scaled=False, far=0):
    return {
        "E": palette((90, 64), reach=reach, seed=1, axis=0 if scaled else None),
        "V": palette((64, 72), reach=reach, seed=2, axis=1 if scaled else None, far=far),
        "W": palette((40, 72), reach=reach, seed=3, axis=0 if scaled else None),
        "K": palette((32, 8, 5), reach=reach, seed=4, axis=0 if scaled else None),
        "T": palette((32, 6, 7), reach=reach, seed=5, axis=1 if scaled else None),
    }


def differences(model, packed, palettes):
    """Largest differences of outputs from those of the expanded weights, relative to the largest, in float products."""
    values = {name: packed.integers[name].expand() for name in packed.integers}
    assert values.keys() == palettes.keys()
    wanted = outputs_in_runtime(to_bytes(with_values(model, values)), FEEDS)
    actual = outputs_in_runtime(in_float_arithmetic(packed.data), FEEDS, optimize=False)
    return [float(np.abs(a - w).max() / np.abs(w).max()) for a, w in zip(actual, wanted, strict=True)]


@pytest.mark.parametrize("memory", FORMS, ids=("nbits", "standard"))
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(("reach", "bits"), [(1, 2), (7, 4), (127, 8)])
def test_outputs_are_those_of_the_palettes(reach, bits, scaled, memory):
    palettes = palettes_of(reach, scaled=scaled)
    model = network(palettes)
    packed = pack(model, palettes, memory=memory)
    assert {found.bits for found in packed.integers.values()} == {bits}
    assert max(np.abs(packed.integers[name].expand() - each.expand()).max() for name, each in palettes.items()) < 1e-6
    assert max(differences(model, packed, palettes)) < 2e-6
    values = {name: found.expand() for name, found in packed.integers.items()}
    rounded, exact = (outputs_in_runtime(data, FEEDS) for data in (packed.data, to_bytes(with_values(model, values))))
    for left, right in zip(rounded, exact, strict=True):  # products round what they multiply by
        assert np.abs(left - right).max() < 0.03 * np.abs(right).max()


@pytest.mark.parametrize("memory", FORMS, ids=("nbits", "standard"))
def test_nothing_that_decodes_is_left_once_it_is_loaded(memory):
    palettes = palettes_of(100, scaled=True, far=300)
    packed = pack(network(palettes), palettes, memory=memory)
    assert set(unfolded_nodes(packed.data)) <= {"DequantizeLinear"}
    for name, values in decoded_weights(packed.data, [tensor.name for tensor in packed.tensors]).items():
        assert np.array_equal(values, packed.palettes[name].expand())


def test_a_weight_far_out_costs_its_block_alone():
    palettes = palettes_of(60, far=200)
    packed = pack(network(palettes), palettes, memory=Memory(True))
    found = packed.integers["V"]
    assert Counter(found.factors.reshape(-1).tolist()) == {1.0: found.factors.size - 1, 2.0: 1}
    assert max(differences(network(palettes), packed, palettes)) < 2e-6


def test_files_are_hardly_larger_and_hold_integers():
    random = np.random.default_rng(0)
    numbers = np.clip(np.rint(random.normal(0, 4, (512, 512))), -100, 100)
    used, indices = np.unique(numbers, return_inverse=True)
    big = Palette((used * 0.01).astype(np.float32), indices.reshape(-1).astype(np.uint8), (512, 512))
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    interface = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 512]) for name in "xy"]
    graph = helper.make_graph([node], "g", interface[:1], interface[1:], [numpy_helper.from_array(big.expand(), "w")])
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    in_floats = pack(model, {"w": big})
    for memory in FORMS:
        packed = pack(model, {"w": big}, memory=memory)
        assert len(packed.data) < 1.03 * len(in_floats.data)
        proto = onnx.load(io.BytesIO(packed.data))
        assert held_tensors(proto, {"w"})["w"].route == ("dequantised" if memory.standard_operators else "product")


def test_what_cannot_stay_in_integers_is_decoded_and_named():
    close = Palette(
        np.sort(np.random.default_rng(1).normal(size=256)).astype(np.float32),
        np.random.default_rng(2).integers(0, 256, 90 * 64).astype(np.uint8),
        (90, 64),
    )
    palettes = {**palettes_of(7), "E": close}
    model = network(palettes)
    for node in model.graph:
        if node.op_type == "MatMul":
            node.replace_input_with(1, model.graph.initializers["V"])
    packed = pack(model, palettes, memory=Memory(True))
    assert "E" not in packed.integers
    assert packed.palettes["E"] is close
    assert any("E" in note and "no integers of 8 bits" in note for note in packed.notes)


def test_floats_in_memory_are_the_default():
    palettes = palettes_of(7)
    packed = pack(network(palettes), palettes)
    assert not packed.integers
    assert {values.dtype.name for values in decoded_weights(packed.data, palettes).values()} == {"float32"}
