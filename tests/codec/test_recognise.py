"""Encodings are recognised in a file by the operators of its decoders, each as itself and as no other."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from sws_compress.codec.encodings import ENCODINGS, UNKNOWN, recognise
from sws_compress.codec.encodings.rows import encode_rows
from sws_compress.codec.program import Operators
from sws_compress.codec.transforms.scales import Scales
from sws_compress.codec.transforms.unpack import tensor_candidates, unpack
from sws_compress.onnx_io.format.decoders import find_decoders
from sws_compress.onnx_io.format.mark import ROWS, mark_of_proto
from sws_compress.onnx_io.write.insert import insert
from sws_compress.onnx_io.write.onnx_ops import OnnxOps
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.onnx_io.write.strip import value_names

BELL = np.exp(-(np.linspace(-3.5, 3.5, 16) ** 2) / 2)
SHARES = {
    "one value": [1],
    "a coin": [1, 1],
    "mostly one": [1, 30],
    "two, rarely": [1, 500, 1],
    "three alike": [1, 1, 1],
    "four, skewed": [70, 20, 7, 3],
    "half zeros": [1, 2, 9, 3, 3],
    "around zero": [1, 1, 1, 90, 2, 8, 3, 1],
    "few of many": [1, 1, 1, 900, 2, 8, 3, 1],
    "a bell": BELL,
    "sloped": np.linspace(1, 9, 200),
    "of 600": np.exp(-(np.linspace(-3.5, 3.5, 600) ** 2) / 2),
}
SHAPES = {"short": (41, 31), "long": (257, 256), "long and odd": (353, 391)}


def drawn(shares, shape):
    shares = np.asarray(shares, float)
    symbols = np.random.default_rng(0).choice(len(shares), shape, p=shares / shares.sum())
    symbols = symbols.astype(np.min_scalar_type(len(shares) - 1))
    codebook = np.linspace(-1.1, 1.3, len(shares))
    codebook[np.argmax(shares)] = 0
    if len(shares) > 256:
        codebook = np.float32(0.0123) * (np.arange(len(shares)) - len(shares) // 2).astype(np.float32)
    return symbols, codebook


@functools.cache
def codes_of(shares, shape):
    symbols, codebook = drawn(SHARES[shares], SHAPES[shape])
    return tensor_candidates([symbols], codebook.astype(np.float32))


def operators_of(codes, shapes):
    """Operators that decode each tensor of one file, in which code i makes the tensors of ``shapes[i]``."""
    names = [[f"W{i}.{j}" for j in range(len(those))] for i, those in enumerate(shapes)]
    flat = [(name, shape) for pair in zip(names, shapes, strict=True) for name, shape in zip(*pair, strict=True)]
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}.y"]) for name, _ in flat],
        "tensors",
        [],
        [helper.make_tensor_value_info(f"{name}.y", TensorProto.FLOAT, shape) for name, shape in flat],
        [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in flat],
    )
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))
    ops, outputs = OnnxOps(18, value_names(model)), {}
    for code, those, own in zip(codes, shapes, names, strict=True):
        outputs |= dict(zip(own, unpack(ops, code, those), strict=True))
    insert(model, ops.finish(outputs), [name for name, _ in flat])
    proto = onnx.load_from_string(to_bytes(model))
    return {name: decoder.operators for name, decoder in find_decoders(proto, mark_of_proto(proto)).items()}


def names_by_each_encoding(operators):
    """Names that the encodings give to the operators, each for itself."""
    counted = Operators(operators)
    return [name for encoding in ENCODINGS if (name := encoding.recognise(counted))]


def assert_recognised(codes, shape):
    for code in codes:
        (operators,) = operators_of([code], [(shape,)]).values()
        assert names_by_each_encoding(operators) == [code.encoding]
        assert recognise(operators) == code.encoding


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("shares", SHARES)
def test_every_candidate_is_recognised_as_itself_alone(shares, shape):
    assert_recognised(codes_of(shares, shape), SHAPES[shape])


@pytest.mark.parametrize("shares", SHARES)
def test_candidates_without_a_zero_are_recognised(shares):
    symbols, codebook = drawn(SHARES[shares], SHAPES["long"])
    assert_recognised(tensor_candidates([symbols], codebook.astype(np.float32) + 7), SHAPES["long"])


@pytest.mark.parametrize("transposed", [False, True])
def test_sinusoids_are_recognised(transposed):
    codes = sinusoid_codes(transposed)
    assert_recognised(codes, (64, 64))
    factors = np.linspace(1, 2, 64).astype(np.float32)[None]
    assert_recognised([replace(code, scales=Scales.stored(factors, np.dtype(np.float32))) for code in codes], (64, 64))


def sinusoid_codes(transposed):
    places = np.arange(64)[:, None] * np.arange(5, 69) % 64
    table = (places.T if transposed else places).astype(np.uint8)
    return tensor_candidates([table], np.cos(np.arange(64) * np.pi / 32).astype(np.float32))


def test_the_cases_above_cover_every_encoding():
    found = {code.encoding for shares in SHARES for shape in SHAPES for code in codes_of(shares, shape)}
    found |= {code.encoding for code in sinusoid_codes(transposed=False)}
    plain = {"progressions", "constant", "radix", "huffman", "strides", "buckets", "tunstall", "classes", "sparse"}
    assert found == plain | {"sparse+radix", "sparse+huffman", "sparse+strides"}


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
@pytest.mark.parametrize("shares", ["one value", "four, skewed", "few of many"])
def test_tensors_of_other_types_are_recognised(shares, dtype):
    symbols, codebook = drawn(SHARES[shares], SHAPES["long"])
    assert_recognised(tensor_candidates([symbols], (codebook / 3).astype(dtype)), SHAPES["long"])


@pytest.mark.parametrize(
    ("shares", "masked"), [("one value", False), ("mostly one", False), ("four, skewed", True), ("a bell", True)]
)
def test_tensors_with_masks_scales_or_vectors_are_recognised(shares, masked):
    symbols, codebook = drawn(SHARES[shares], (90, 80))
    symbols[10:70] = np.bincount(symbols.reshape(-1)).argmax()
    codes = tensor_candidates([symbols], codebook.astype(np.float32))
    assert any(code.masks for code in codes) == masked
    assert_recognised(codes, symbols.shape)
    factors = np.linspace(1, 2, 80).astype(np.float32)[None]
    assert_recognised(tensor_candidates([symbols], codebook.astype(np.float32), factors=factors), symbols.shape)
    vectors = np.stack([codebook, codebook[::-1]], axis=1).astype(np.float32)
    assert_recognised(tensor_candidates([symbols.reshape(-1)], vectors), (90, 160))


def test_tensors_in_one_stream_and_several_with_shared_functions_are_recognised():
    symbols, codebook = drawn(SHARES["around zero"], SHAPES["long"])
    bias = symbols[0].copy()
    for code in tensor_candidates([symbols, bias], codebook.astype(np.float32)):
        found = operators_of([code, code], [(symbols.shape, bias.shape), (symbols.shape, bias.shape)])
        assert len(found) == 4
        assert {recognise(operators) for operators in found.values()} == {code.encoding}


@pytest.mark.parametrize("values", [3, 16, 32, 200])
@pytest.mark.parametrize("shape", [(60, 35), (60, 7, 5)])
def test_packed_rows_are_recognised(values, shape):
    symbols = (np.arange(math.prod(shape)) % values).astype(np.uint8)
    code = encode_rows(symbols, np.arange(values, dtype=np.float32), shape)
    ops = OnnxOps(18)
    ops.look_up("table", code.program, code.words, *code.arrays)
    (function,) = [function for function in ops.finish({}).functions if function.name == "rows"]
    operators = [node.op_type for node in function]
    assert names_by_each_encoding(operators) == [recognise(operators)] == [code.encoding] == [ROWS]


@pytest.mark.parametrize("operators", [[], ["Identity"], ["TopK", "ScatterElements", "ScatterElements", "Range"]])
def test_what_no_encoding_writes_is_unknown(operators):
    assert recognise(operators) == UNKNOWN
