"""Every encoding as ONNX: ONNX Runtime and the reference evaluator agree with NumPy, and it all folds at load."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from sws_compress.codec import NumpyOps, candidates
from sws_compress.ort.decode import decoded_weights, unfolded_nodes
from sws_compress.ort.session import check_runs
from sws_compress.packing import pack as packing
from sws_compress.quantize.palette import Palette, palette_of
from sws_compress.quantize.sinusoids import sinusoid_palette
from tests.onnx_io.models import as_ir, few_values, fourier_basis, matmul_model, offer_only

BELL = np.exp(-(np.linspace(-3, 3, 16) ** 2))
BELL_OF_256 = np.exp(-(np.linspace(-3.5, 3.5, 256) ** 2) / 2)
CASES = {
    "constant": (few_values((40, 30), [0.25], [1]), "constant"),
    "radix of bytes": (few_values((41, 31), np.arange(16) - 8, np.ones(16)), "radix"),
    "radix of int32": (few_values((41, 31), np.arange(7) - 3.5, np.ones(7)), "radix"),
    "radix without padding": (few_values((40, 30), np.arange(16) - 8, np.ones(16)), "radix"),
    "radix of whole bytes": (few_values((40, 30), np.linspace(-1, 1, 200), np.ones(200)), "radix"),
    "radix by table": (few_values((257, 256), np.arange(5) - 2, np.ones(5)), "radix"),
    "huffman": (few_values((211, 99), np.linspace(-1, 2, 16), BELL), "huffman"),
    "huffman of two": (few_values((211, 99), [-1, 1], [1, 9]), "huffman"),
    "huffman of 256": (few_values((211, 199), np.linspace(-1, 2, 256), np.linspace(1, 9, 256)), "huffman"),
    "radix of three bytes": (few_values((257, 256), np.arange(8) - 2, np.ones(8)), "radix"),
    "radix of seven bytes": (few_values((259, 256), np.arange(5) - 2, np.ones(5)), "radix"),
    "strides": (few_values((257, 256), np.linspace(-1, 2, 16), BELL), "strides"),
    "strides of 256": (few_values((259, 257), np.linspace(-1, 2, 256), BELL_OF_256), "strides"),
    "strides of four": (few_values((259, 257), np.arange(4) + 0.5, [70, 20, 7, 3]), "strides"),
    "buckets of single symbols": (few_values((257, 257), np.linspace(-1, 2, 256), BELL_OF_256), "buckets"),
    "buckets of pairs": (few_values((211, 99), np.linspace(-1, 2, 16), BELL), "buckets"),
    "buckets of many": (few_values((40, 31), [-1, 0.5], [1, 3]), "buckets"),
    "tunstall of 12 bits": (few_values((257, 257), np.linspace(-1, 2, 16), BELL), "tunstall"),
    "tunstall of 8 bits": (few_values((259, 257), [-1, 0.5], [1, 3]), "tunstall"),
    "sparse": (few_values((211, 99), [-3, 0, 1, 2.5], [1, 50, 3, 1]), "sparse"),
    "sparse with one value": (few_values((211, 99), [0, 1.5], [50, 1]), "sparse"),
    "sparse with negative zero": (few_values((211, 99), [-0.0, 0, 1], [1, 50, 1]), "sparse"),
    "classes": (few_values((211, 99), [-3, 0, 1, 2.5], [1, 500, 30, 5]), "classes"),
    "classes around another value": (few_values((211, 99), [-3, 0.5, 1], [1, 500, 3]), "classes"),
    "classes of one": (few_values((211, 99), [0, 1.5], [50, 1]), "classes"),
    "sparse and radix": (few_values((211, 99), [-3, -2, 0, 1, 2.5], [1, 1, 5, 1, 1]), "sparse+radix"),
    "progressions": (sinusoid_palette(fourier_basis(64)).expand(), "progressions"),
    "progressions across": (sinusoid_palette(fourier_basis(64).T).expand(), "progressions"),
    "sparse and huffman": (few_values((211, 99), np.arange(8) - 3, [1, 1, 1, 90, 2, 8, 3, 1]), "sparse+huffman"),
}


def exact_palette(weights):
    return sinusoid_palette(weights) or palette_of(weights)


@pytest.fixture(params=CASES, ids=lambda name: name.replace(" ", "-"))
def forced(request, monkeypatch):
    """A model packed with one encoding, and its weights."""
    weights, encoding = CASES[request.param]
    offer_only(monkeypatch, encoding)
    packed = packing.pack(as_ir(matmul_model(weights)), {"W": exact_palette(weights)})
    assert [tensor.encoding.removesuffix("+scales") for tensor in packed.tensors] == [encoding]
    return weights, packed.data


def test_onnx_runtime_decodes_what_numpy_decodes(forced):
    weights, data = forced
    check_runs(data)
    decoded = decoded_weights(data, ["W"])["W"]
    assert decoded.tobytes() == weights.tobytes()
    palette = exact_palette(weights)
    for code in candidates(palette.indices, palette.codebook):
        assert code.decode(NumpyOps()).tobytes() == weights.tobytes()


def test_the_reference_evaluator_agrees(forced):
    weights, data = forced
    outputs = ReferenceEvaluator(onnx.load_from_string(data)).run(None, {"x": np.eye(len(weights), dtype=np.float32)})
    assert np.array_equal(outputs[0], weights)


def test_nothing_is_left_to_decode_at_inference(forced):
    assert unfolded_nodes(forced[1]) == ()


def test_unfolded_nodes_are_seen(forced):
    """Without the written lengths ONNX Runtime >= 1.27 leaves Compress, and what depends on it, in the graph."""
    model = onnx.load_from_string(forced[1])
    written = bool(model.graph.value_info)
    del model.graph.value_info[:]
    left = unfolded_nodes(model.SerializeToString())
    if written and tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 27):
        assert "Compress" in left
    else:
        assert left == ()


def test_only_operators_of_opset_13(forced):
    weights, data = forced
    model = onnx.load_from_string(data)
    for entry in [*model.opset_import, *(entry for function in model.functions for entry in function.opset_import)]:
        if not entry.domain:
            entry.version = 13
    check_runs(model.SerializeToString())
    assert decoded_weights(model.SerializeToString(), ["W"])["W"].tobytes() == weights.tobytes()


def test_vectors(monkeypatch):
    random = np.random.default_rng(5)
    codebook = random.standard_normal((9, 2)).astype(np.float32)
    palette = Palette(codebook, random.choice(9, 700, p=np.arange(9) / 36).astype(np.uint8), (35, 40))
    for encoding in ("radix", "huffman"):
        offer_only(monkeypatch, encoding)
        packed = packing.pack(as_ir(matmul_model(palette.expand())), {"W": palette})
        assert packed.tensors[0].encoding == encoding
        assert decoded_weights(packed.data, ["W"])["W"].tobytes() == palette.expand().tobytes()
        assert unfolded_nodes(packed.data) == ()


def test_constant_vectors():
    palette = Palette(np.array([[1, -2]], np.float32), np.zeros(600, np.uint8), (30, 40))
    packed = packing.pack(as_ir(matmul_model(palette.expand())), {"W": palette})
    assert packed.tensors[0].encoding == "constant"
    assert decoded_weights(packed.data, ["W"])["W"].tobytes() == palette.expand().tobytes()


def test_half_codebooks_are_stored_where_they_are_smaller():
    weights = few_values((100, 100), np.arange(200) / 4, np.ones(200))
    packed = packing.pack(as_ir(matmul_model(weights)), {"W": palette_of(weights)})
    model = onnx.load_from_string(packed.data)
    assert onnx.TensorProto.FLOAT16 in {tensor.data_type for tensor in model.graph.initializer}
    assert decoded_weights(packed.data, ["W"])["W"].tobytes() == weights.tobytes()
    assert unfolded_nodes(packed.data) == ()
