"""Small ONNX models for the tests of this room."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from sws_compress.codec.candidates import candidates
from sws_compress.codec.transforms import unpack


def offer_only(monkeypatch, encoding):
    """Let tensors be packed by codes of one encoding or not at all, whatever loading costs."""

    def one_encoding(symbols, codebook, cuts, limit):
        return tuple(code for code in candidates(symbols, codebook, cuts) if code.encoding == encoding)

    monkeypatch.setattr(unpack, "candidates", one_encoding)


def fourier_basis(size, window=None, dtype=np.float32):
    """Cosines, then negative sines, of all frequencies of a real Fourier transform: (size + 2, size) for even sizes."""
    waves = np.fft.rfft(np.eye(size)).T
    basis = np.concatenate([waves.real, waves.imag])
    return (basis if window is None else basis * window).astype(dtype)


def few_values(shape, codebook, shares, seed=0):
    shares = np.asarray(shares, float)
    random = np.random.default_rng(seed)
    return np.asarray(codebook, np.float32)[random.choice(len(shares), shape, p=shares / shares.sum())]


def matmul_model(weights, *, name="W", opset=18):
    """y = x W for one matrix."""
    rows, columns = weights.shape
    return _model(
        [helper.make_node("MatMul", ["x", name], ["y"], name="the matmul", doc_string="from /home/someone/net.py")],
        [numpy_helper.from_array(weights, name)],
        ("x", ["batch", rows]),
        ("y", ["batch", columns]),
        opset,
    )


def lenet(*, seed=0, zeros=(0.97, 0.9, 0.6, 0.5), sizes=(784, 300, 100, 10), opset=18):
    """LeNet-300-100 as torch exports it; weights and biases of a layer share seven values."""
    random = np.random.default_rng(seed)
    nodes, tensors, value = [], [], "input"
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        codebook = np.append(random.standard_normal(6), 0).astype(np.float32)
        shares = np.array([5, 15, 30, 30, 15, 5])
        for kind, shape, zero in (("weight", (outputs, inputs), zeros[layer]), ("bias", (outputs,), 0.5)):
            probabilities = np.append(shares / 100 * (1 - zero), zero)
            array = codebook[random.choice(7, shape, p=probabilities)]
            tensors.append(numpy_helper.from_array(array, f"{2 * layer}.{kind}"))
        result = "output" if layer == len(sizes) - 2 else f"linear_{layer}"
        attributes = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
        nodes.append(helper.make_node("Gemm", [value, *(t.name for t in tensors[-2:])], [result], **attributes))
        value = result
        if result != "output":
            nodes.append(helper.make_node("Relu", [result], [f"relu_{layer}"]))
            value = f"relu_{layer}"
    return _model(nodes, tensors, ("input", ["batch", sizes[0]]), ("output", ["batch", sizes[-1]]), opset)


def _model(nodes, tensors, entry, result, opset):
    graph = helper.make_graph(
        nodes,
        "main_graph",
        [helper.make_tensor_value_info(entry[0], TensorProto.FLOAT, entry[1])],
        [helper.make_tensor_value_info(result[0], TensorProto.FLOAT, result[1])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    model.producer_name = "pytorch"
    helper.set_model_props(model, {"author": "me"})
    onnx.checker.check_model(model)
    return model


def as_ir(model) -> ir.Model:
    return ir.from_proto(model)


def graph_model(nodes, tensors, inputs, outputs, opset=17):
    def entries(items):
        return [helper.make_tensor_value_info(name, dtype, shape) for name, dtype, shape in items]

    arrays = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = helper.make_graph(nodes, "g", entries(inputs), entries(outputs), arrays)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    return model
