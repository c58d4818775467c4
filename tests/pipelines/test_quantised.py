"""Quantised models are packed without loss, and ONNX Runtime runs the same integer kernels as before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

import sws_compress as sws
from sws_compress.ort.decode import decoded_weights
from sws_compress.pipelines.job import Job, Limits
from sws_compress.pipelines.source import open_source
from sws_compress.pipelines.weights_only import compress_weights

FLOAT = TensorProto.FLOAT


def laplace(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).laplace(0, 0.05, shape).astype(np.float32)


def save(path: Path, nodes: list, tensors: Mapping[str, np.ndarray], x: object, y: object, opset: int = 21) -> Path:
    initialisers = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], initialisers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), path)
    return path


def float_net(path: Path) -> Path:
    """Conv, Relu, MatMul."""
    nodes = [
        helper.make_node("Conv", ["x", "c"], ["h"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "m"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", FLOAT, ["n", 16, 8, 8])
    y = helper.make_tensor_value_info("y", FLOAT, ["n", 512])
    return save(path, nodes, {"c": laplace(96, 16, 3, 3), "m": laplace(96, 512)}, x, y)


def lstm_net(path: Path) -> Path:
    nodes = [helper.make_node("LSTM", ["x", "W", "R"], ["y"], hidden_size=128)]
    x = helper.make_tensor_value_info("x", FLOAT, [5, "n", 32])
    y = helper.make_tensor_value_info("y", FLOAT, [5, 1, "n", 128])
    return save(path, nodes, {"W": laplace(1, 512, 32), "R": laplace(1, 512, 128)}, x, y, 18)


def product_net(path: Path) -> Path:
    x, y = (helper.make_tensor_value_info(name, FLOAT, ["n", size]) for name, size in (("x", 128), ("y", 512)))
    return save(path, [helper.make_node("MatMul", ["x", "m"], ["y"])], {"m": laplace(128, 512)}, x, y)


class Calibration(CalibrationDataReader):
    def __init__(self) -> None:
        self._inputs: Iterator[dict[str, np.ndarray]] = iter([{"x": 20 * laplace(4, 16, 8, 8)}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._inputs, None)


def static(path: Path, **options: object) -> None:
    quantize_static(float_net(path.with_name("float.onnx")), path, Calibration(), **options)


def nbits(path: Path, quant_format: QuantFormat) -> None:
    config = DefaultWeightOnlyQuantConfig(block_size=128, quant_format=quant_format, is_symmetric=True)
    quantizer = MatMulNBitsQuantizer(onnx.load(product_net(path.with_name("float.onnx"))), algo_config=config)
    quantizer.process()
    quantizer.model.save_model_to_file(str(path))


def lstm(path: Path) -> None:
    quantize_dynamic(lstm_net(path.with_name("float.onnx")), path, op_types_to_quantize=["LSTM"])


QUANTISED = {
    "static pairs": lambda path: static(path, quant_format=QuantFormat.QDQ),
    "static pairs by channel": lambda path: static(path, quant_format=QuantFormat.QDQ, per_channel=True),
    "static pairs, unsigned": lambda path: static(
        path, quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8, weight_type=QuantType.QUInt8
    ),
    "static operators": lambda path: static(path, quant_format=QuantFormat.QOperator),
    "dynamic": lambda path: quantize_dynamic(float_net(path.with_name("float.onnx")), path),
    "lstm": lstm,
    "blocks of 4 bits": lambda path: nbits(path, QuantFormat.QOperator),
    "blocks of 4 bits, pairs": lambda path: nbits(path, QuantFormat.QDQ),
}


def integers(path: Path) -> dict[str, np.ndarray]:
    """The initialisers of at least 64 integers; those of less than a byte as int8."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    return {name: a for name, a in arrays.items() if a.dtype.name not in ("float32", "float16") and a.size >= 64}


def optimised(path: Path) -> tuple[onnxruntime.InferenceSession, Counter[str]]:
    """A session at the default level, and how often each operator is in what it runs."""
    options, written = onnxruntime.SessionOptions(), path.with_suffix(".optimised")
    options.optimized_model_filepath, options.log_severity_level = str(written), 4
    runtime = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return runtime, Counter(node.op_type for node in onnx.load(written).graph.node)


@pytest.mark.parametrize("kind", QUANTISED)
def test_integers_decode_to_the_same_and_the_kernels_stay(kind: str, tmp_path: Path) -> None:
    source, small = tmp_path / "quantised.onnx", tmp_path / "small.onnx"
    QUANTISED[kind](source)
    result = sws.compress(source, small)
    wanted = integers(source)
    packed = [row.name for row in result.tensors if row.encoding != "dense" and row.name in wanted]
    assert sum(wanted[name].nbytes for name in packed) > 0.8 * sum(array.nbytes for array in wanted.values())
    for name, found in decoded_weights(small.read_bytes(), packed).items():
        assert (found.dtype, found.tobytes()) == (wanted[name].dtype, wanted[name].tobytes())
    first, operators = optimised(source)
    second, found_operators = optimised(small)
    assert found_operators == operators
    shape = [size if isinstance(size, int) else 3 for size in first.get_inputs()[0].shape]
    feeds = {"x": 20 * laplace(*shape)}
    np.testing.assert_array_equal(second.run(None, feeds)[0], first.run(None, feeds)[0])
    assert result.output_error == 0
    assert sws.expand(small, tmp_path / "expanded.onnx").expanded
    for name, array in integers(tmp_path / "expanded.onnx").items():
        assert array.tobytes() == wanted[name].tobytes()


def dequantised(path: Path, values: np.ndarray) -> Path:
    """x times the dequantised ``values``."""
    nodes = [helper.make_node("DequantizeLinear", ["q", "s"], ["w"]), helper.make_node("MatMul", ["x", "w"], ["y"])]
    x, y = (
        helper.make_tensor_value_info(name, FLOAT, ["n", size]) for name, size in zip("xy", values.shape, strict=True)
    )
    return save(path, nodes, {"q": values, "s": np.float32(0.1)}, x, y, 19)


def test_other_runtimes_decode_the_same(tmp_path: Path) -> None:
    values = np.random.default_rng(0).binomial(12, 0.4, (90, 70)).astype(np.int8) - np.int8(5)
    source, small = dequantised(tmp_path / "quantised.onnx", values), tmp_path / "small.onnx"
    sws.compress(source, small)
    feeds = {"x": laplace(3, 90)}
    expected, actual = (ReferenceEvaluator(str(path)).run(None, feeds)[0] for path in (source, small))
    np.testing.assert_array_equal(actual, expected)


def test_large_integers_are_streamed(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-7, 8, (300, 300)).astype(np.int8)
    source, small = dequantised(tmp_path / "quantised.onnx", values), tmp_path / "small.onnx"
    job = Job(output=small, limits=Limits(model_bytes=0))
    result = compress_weights(open_source(source, job), sws.WeightsOnly(), job)
    (row,) = result.tensors
    assert (row.name, row.encoding, row.distinct_values) == ("q", "radix", 15)
    assert row.file_bytes < 0.52 * values.nbytes
    assert decoded_weights(small.read_bytes(), ["q"])["q"].tobytes() == values.tobytes()


@pytest.mark.parametrize("limits", [Limits(), Limits(model_bytes=0)], ids=["in memory", "streamed"])
def test_integers_without_structure_are_refused_with_the_reason(tmp_path: Path, limits: Limits) -> None:
    values = np.random.default_rng(0).integers(-128, 128, (300, 300)).astype(np.int8)
    source = dequantised(tmp_path / "quantised.onnx", values)
    job = Job(output=tmp_path / "small.onnx", limits=limits)
    reason = "'q' \\(90,000 bytes\\) is int8, read by DequantizeLinear, and gets no smaller by packing"
    with pytest.raises(sws.ModelError, match=reason):
        compress_weights(open_source(source, job), sws.WeightsOnly(), job)
    assert not job.output.exists()
