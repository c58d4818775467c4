"""float16, bfloat16 and float64 tensors: the codebook has the tensor's type, and decoding gives back every bit."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto

from sws_compress.codec import NumpyOps, candidates
from sws_compress.ort.compare import compare_outputs
from sws_compress.ort.decode import decoded_weights, unfolded_nodes
from sws_compress.ort.session import check_runs
from sws_compress.packing.pack import find_palettes, pack
from sws_compress.quantize.palette import Palette, palette_of
from tests.onnx_io.models import as_ir, few_values, offer_only
from tests.packing.models import cast_model

TYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float64": np.float64}
SHARES = {
    "radix": [3, 3, 3, 3, 3],
    "huffman": [1, 2, 16, 5, 2],
    "sparse": [1, 1, 90, 1, 1],
    "constant": [0, 0, 1, 0, 0],
}


@pytest.mark.parametrize("encoding", SHARES)
@pytest.mark.parametrize("name", TYPES)
def test_every_type_and_encoding_round_trips(name, encoding, monkeypatch):
    dtype = TYPES[name]
    codebook = np.array([-1.7, -0.0 if encoding == "radix" else 3e-7, 0, 0.3, 2.1], np.float64).astype(dtype)
    weights = codebook[few_values((71, 131), np.arange(5), SHARES[encoding]).astype(int)]
    offer_only(monkeypatch, encoding)
    dense = cast_model(weights)
    packed = pack(as_ir(dense), find_palettes(as_ir(dense)))
    assert [tensor.encoding for tensor in packed.tensors] == [encoding]
    check_runs(packed.data)
    decoded = decoded_weights(packed.data, ["W"])["W"]
    assert decoded.dtype == weights.dtype
    assert decoded.tobytes() == weights.tobytes()
    assert unfolded_nodes(packed.data) == ()
    (difference,) = compare_outputs(dense.SerializeToString(), packed.data)
    assert difference.largest_absolute == 0
    assert len(packed.data) < weights.nbytes / 2


def test_float64_beyond_float32_is_exact():
    codebook = np.array([1e-310, 0.0, -1e300, np.nextafter(0.1, 1), 0.1])
    weights = codebook[few_values((60, 60), np.arange(5), [1, 30, 1, 1, 1]).astype(int)]
    packed = pack(as_ir(cast_model(weights)), {"W": palette_of(weights)})
    assert decoded_weights(packed.data, ["W"])["W"].tobytes() == weights.tobytes()
    palette = palette_of(weights)
    for code in candidates(palette.indices, palette.codebook):
        assert code.decode(NumpyOps()).tobytes() == weights.tobytes()


def test_codebooks_of_half_tensors_take_two_bytes():
    weights = few_values((100, 100), np.linspace(-1, 2, 200), np.ones(200)).astype(np.float16)
    packed = pack(as_ir(cast_model(weights)), {"W": palette_of(weights)})
    model = onnx.load_from_string(packed.data)
    assert {tensor.data_type for tensor in model.graph.initializer} >= {TensorProto.FLOAT16}
    assert not {tensor.data_type for tensor in model.graph.initializer} & {TensorProto.FLOAT, TensorProto.DOUBLE}


def test_vectors_of_half_tensors():
    random = np.random.default_rng(0)
    codebook = random.standard_normal((9, 2)).astype(np.float16)
    palette = Palette(codebook, random.integers(0, 9, 2000).astype(np.uint8), (40, 100))
    packed = pack(as_ir(cast_model(palette.expand())), {"W": palette})
    assert decoded_weights(packed.data, ["W"])["W"].tobytes() == palette.expand().tobytes()
