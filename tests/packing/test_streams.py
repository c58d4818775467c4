"""Partitions: every tensor once, and together only what may share a stream."""

from __future__ import annotations

import warnings

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from sws_compress.codec import NumpyOps
from sws_compress.codec.load_cost import LoadCost
from sws_compress.codec.transforms.unpack import unpack
from sws_compress.onnx_io.format.sizes import framed
from sws_compress.packing.pack import packed_model
from sws_compress.packing.streams import MAX_COMPANION_ELEMENTS, MAX_POOLED_ELEMENTS, stream_partitions
from sws_compress.quantize.palette import Palette
from tests.onnx_io.models import as_ir, few_values, lenet
from tests.packing.models import arrays, cast_model, partitions_of

WEIGHTS, BIASES = ("0.weight", "2.weight", "4.weight"), ("0.bias", "2.bias", "4.bias")


def groups(partition):
    return [stream.names for stream in partition]


def with_biases(values, sizes=(30, 25, 20, 15)):
    """Biases of values that no weight has."""
    model = lenet(sizes=sizes)
    for tensor in model.graph.initializer:
        if tensor.name.endswith("bias"):
            array = few_values(tensor.dims, values, np.ones(len(values)))
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


@pytest.mark.parametrize("model", [lenet(), with_biases([9, 10, 11])], ids=["same values", "other values"])
def test_every_partition_holds_every_tensor_once_and_every_code_all_its_values(model):
    wanted = arrays(model)
    for partition in partitions_of(model):
        assert sorted(name for stream in partition for name in stream.names) == sorted(wanted)
        for stream in partition:
            for code in stream.codes:
                decoded = unpack(NumpyOps(), code, stream.shapes)
                for name, tensor in zip(stream.names, decoded, strict=True):
                    assert tensor.tobytes() == wanted[name].tobytes()


def test_biases_join_their_weight_where_it_has_their_values():
    found = [groups(partition) for partition in partitions_of(lenet())]
    assert found[0] == [(f"{i}.{kind}",) for i in (0, 2, 4) for kind in ("weight", "bias")]
    assert found[1] == [(f"{i}.weight", f"{i}.bias") for i in (0, 2, 4)]
    assert [("0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias")] in found


def test_biases_that_no_weight_has_the_values_of_share_a_stream():
    found = [groups(partition) for partition in partitions_of(with_biases([9, 10, 11]))]
    assert [*((name,) for name in WEIGHTS), BIASES] in found
    assert [WEIGHTS, BIASES] in found
    assert not any(("0.weight", "0.bias") in partition for partition in found)


def test_streams_of_several_partitions_are_made_once():
    first, *_, last = partitions_of(with_biases([9, 10, 11], sizes=(30, 25)))
    alone = {stream.names: stream for stream in first}
    assert all(alone[stream.names] is stream for stream in last if stream.names in alone)


def test_a_stream_has_at_most_256_values():
    random = np.random.default_rng(0)
    model = lenet(sizes=(30, 25, 20, 15))
    for tensor in model.graph.initializer:
        if tensor.name.endswith("weight"):
            array = few_values(tensor.dims, random.standard_normal(100), np.ones(100), seed=1)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    pooled = {group for partition in partitions_of(model) for group in groups(partition) if len(group) > 2}
    assert pooled
    for group in pooled:
        values = np.unique(np.concatenate([arrays(model)[name].reshape(-1) for name in group]))
        assert len(values) <= 256
        assert not set(WEIGHTS) <= set(group)


def palettes_of(shapes, **changes):
    """Palettes of lopsided symbols, and a model that need not read them."""
    model = as_ir(cast_model(few_values((40, 30), [0, 1], [3, 1])))
    names = list(shapes)
    palettes = {
        name: Palette(
            np.array([0, 1, 2], changes.get(name, np.float32)),
            np.random.default_rng(seed).choice(3, int(np.prod(shapes[name])), p=[0.8, 0.15, 0.05]).astype(np.uint8),
            shapes[name],
        )
        for seed, name in enumerate(names)
    }
    for name in names:
        model.graph.register_initializer(model_value(name, palettes[name].expand()))
    return model, palettes


def model_value(name, array):
    return ir.Value(name=name, const_value=ir.tensor(array, name=name))


UNLIMITED = LoadCost(np.inf, np.inf)


def test_types_are_kept_apart():
    model, palettes = palettes_of({"a": (40, 9), "b": (30, 11), "c": (20, 10)}, c=np.float64)
    found = [groups(partition) for partition in stream_partitions(model, palettes, UNLIMITED)]
    assert [("c",), ("a", "b")] in found
    assert all(group == ("c",) or "c" not in group for partition in found for group in partition)


def test_large_tensors_stay_alone():
    rows = MAX_POOLED_ELEMENTS // 512
    model, palettes = palettes_of({"a": (rows, 512), "b": (rows, 513), "c": (20, 10)})
    found = {group for partition in stream_partitions(model, palettes, UNLIMITED) for group in groups(partition)}
    assert found == {("a",), ("b",), ("c",), ("a", "c")}


@pytest.mark.parametrize(("elements", "joins"), [(MAX_COMPANION_ELEMENTS, True), (MAX_COMPANION_ELEMENTS + 1, False)])
def test_only_small_tensors_join_a_companion(elements, joins):
    found = [groups(partition) for partition in partitions_of(lenet(sizes=(2, elements, 3)))]
    assert any(("0.weight", "0.bias") in partition for partition in found) is joins


def test_tensors_of_vectors_stay_alone():
    model, palettes = palettes_of({"a": (40, 9), "b": (30, 11)})
    pairs = Palette(np.array([[0, 1], [2, 3]], np.float32), np.zeros(100, np.uint8), (20, 10))
    model.graph.register_initializer(model_value("pairs", pairs.expand()))
    found = [
        group
        for partition in stream_partitions(model, {**palettes, "pairs": pairs}, UNLIMITED)
        for group in groups(partition)
    ]
    assert ("a", "b") in found
    assert all(group == ("pairs",) for group in found if "pairs" in group)


def test_streams_keep_codes_that_cost_more_than_their_share():
    model, palettes = palettes_of({"a": (300, 200)})
    ((unlimited,),) = stream_partitions(model, palettes, UNLIMITED)
    ((none,),) = stream_partitions(model, palettes, LoadCost(0.0, 0.0))
    assert {code.encoding for code in unlimited.codes} <= {code.encoding for code in none.codes}


@pytest.mark.parametrize("shape", [(3,), (300, 200)])
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_dense_bytes_are_those_of_an_initialiser(shape, dtype):
    model, palettes = palettes_of({"a": shape}, a=dtype)
    ((stream,),) = stream_partitions(model, palettes, UNLIMITED)
    tensor = numpy_helper.from_array(palettes["a"].expand(), "a")
    assert abs(stream.dense_bytes - framed(tensor.ByteSize())) <= 8


def test_what_must_not_stay_dense_gets_a_code_where_none_pays():
    """Words that are as random as can be, beside others that compress; no arithmetic with infinities is done."""
    random = np.random.default_rng(0)
    palettes = {
        name: Palette(np.arange(k, dtype=np.uint8), random.integers(0, k, 4096).astype(np.uint8), (64, 64))
        for name, k in (("noise", 256), ("words", 3))
    }
    nodes = [helper.make_node("Cast", [name], [f"{name}_"], to=TensorProto.FLOAT) for name in palettes]
    outputs = [helper.make_tensor_value_info(f"{name}_", TensorProto.FLOAT, [64, 64]) for name in palettes]
    tensors = [numpy_helper.from_array(each.expand(), name) for name, each in palettes.items()]
    graph = helper.make_graph(nodes, "g", [], outputs, tensors)
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    for limit in (None, LoadCost(0.0, 0.0)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            _, free = packed_model(model, palettes, {}, load_limit=limit)
            _, coded = packed_model(model, palettes, {}, load_limit=limit, never_dense=("noise",))
        assert {tensor.name for tensor in free} == {"words"}
        assert {tensor.name for tensor in coded} == {"noise", "words"}
