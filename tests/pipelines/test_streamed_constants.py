"""Weights behind arithmetic of constants in streamed files: the same as in others, one part after the other."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

import sws_compress as sws
from sws_compress.files import draft
from sws_compress.onnx_io.read.model import read_model
from sws_compress.onnx_io.write.external import DataFile
from sws_compress.ort.decode import decoded_weights
from sws_compress.ort.fold_weights import fold_weights
from sws_compress.pipelines.job import Job, Limits
from sws_compress.pipelines.source import open_source
from sws_compress.pipelines.verify import compare_models
from sws_compress.pipelines.weights_only import compress_weights
from sws_compress.report.result import CompressionResult

STREAMED = Limits(model_bytes=0, alone_elements=1000)
TWO_FILES = Limits(model_bytes=0, alone_elements=1000, file_bytes=0)
WHOLE = Limits()
ROWS, COLUMNS = 96, 80


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(np.float32)


def node(operator: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), [output], **attributes)


def write_net(
    path: Path, nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray], *, smallest: int = 1000, rows: int = ROWS
) -> Path:
    """y = x w for a w that ``nodes`` compute; tensors of ``smallest`` bytes or more are in another file."""
    kind = helper.np_dtype_to_tensor_dtype(next(iter(tensors.values())).dtype)
    graph = helper.make_graph(
        [*nodes, node("MatMul", "x w", "y")],
        "g",
        [helper.make_tensor_value_info("x", kind, ["n", rows])],
        [helper.make_tensor_value_info("y", kind, ["n", "m"])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=8)
    onnx.save(model, path, save_as_external_data=True, location=path.name + ".data", size_threshold=smallest)
    return path


def compressed(source: Path, target: Path, limits: Limits) -> CompressionResult:
    job = Job(output=target, limits=limits)
    return compress_weights(open_source(source, job), sws.WeightsOnly(components=8), job)


PAIR = [node("QuantizeLinear", "V s z", "q"), node("DequantizeLinear", "q s z", "w")]
NORM = [node("ReduceL2", "V a", "n"), node("Div", "V n", "u"), node("Mul", "u g", "w")]
V = normal(ROWS, COLUMNS)
TERNARY = np.random.default_rng(0).choice(np.float32([-1, 0, 1]), (ROWS, COLUMNS), p=[0.2, 0.6, 0.2])
PARTS: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray], str]] = {
    "quantised and back": (PAIR, {"V": V, "s": np.float32(0.02), "z": np.int8(0)}, "V"),
    "weight norm": (NORM, {"V": V, "g": normal(1, COLUMNS), "a": np.array([0])}, "V"),
    "half precision": ([node("Tanh", "V", "w")], {"V": V.astype(np.float16)}, "V"),
    "another shape": (
        [node("Neg", "V", "t"), node("Reshape", "t s", "w")],
        {"V": normal(COLUMNS, ROWS), "s": np.array([ROWS, COLUMNS])},
        "w",
    ),
    "two large constants": ([node("Add", "V U", "w")], {"V": V, "U": normal(ROWS, COLUMNS, seed=1)}, "V"),
    "larger result": ([node("Neg", "V", "n"), node("Tile", "n r", "w")], {"V": V, "r": np.array([1, 3])}, ""),
    "few values": ([node("Mul", "V g", "w")], {"V": TERNARY, "g": normal(1, COLUMNS)}, ""),
}
"""Nodes, tensors, and the name of the initialiser that replaces them: none where they stay."""


@pytest.mark.parametrize("limits", [STREAMED, TWO_FILES], ids=["one file", "two files"])
@pytest.mark.parametrize("name", PARTS)
def test_the_same_weights_are_computed_as_in_other_files(tmp_path: Path, name: str, limits: Limits) -> None:
    nodes, tensors, folded = PARTS[name]
    source = write_net(tmp_path / "net.onnx", nodes, tensors)
    ordinary = compressed(source, tmp_path / "ordinary.onnx", WHOLE)
    streamed = compressed(source, tmp_path / "small.onnx", limits)
    note = f"weights that the graph makes of constants are computed first: '{folded}'"
    assert (note in ordinary.notes) == (note in streamed.notes) == bool(folded)
    (row,) = [row for row in streamed.tensors if row.name == (folded or "V")]
    assert row.encoding == "radix"
    small, same = (onnx.load(tmp_path / file) for file in ("small.onnx", "ordinary.onnx"))
    first, second = (decoded_weights(file.SerializeToString(), [row.name])[row.name] for file in (small, same))
    assert first.dtype == next(iter(tensors.values())).dtype
    assert first.tobytes() == second.tobytes()
    operators = {each.op_type for each in nodes}
    left, expected = ({each.op_type for each in file.graph.node} & operators for file in (small, same))
    assert left - {"Mul", "Reshape"} == expected - {"Mul", "Reshape"}  # which decoders have, too
    assert not any("unfinished" in file.name for file in tmp_path.iterdir())


@pytest.mark.parametrize("name", PARTS)
def test_external_constants_are_computed_like_those_in_memory(tmp_path: Path, name: str) -> None:
    nodes, tensors, folded = PARTS[name]
    path = write_net(tmp_path / "net.onnx", nodes, tensors, smallest=0)
    whole, external = ir.external_data.load_to_model(read_model(path)), read_model(path)
    with draft(tmp_path / "small.onnx") as file:
        assert (
            fold_weights(whole) == fold_weights(external, DataFile(file).add_external) == ((folded,) if folded else ())
        )
        assert [each.op_type for each in whole.graph] == [each.op_type for each in external.graph]
        for key, value in whole.graph.initializers.items():
            expected, actual = value.const_value, external.graph.initializers[key].const_value
            assert expected is not None
            assert isinstance(actual, ir.ExternalTensor)
            assert (actual.dtype, actual.shape, actual.tobytes()) == (
                expected.dtype,
                expected.shape,
                expected.tobytes(),
            )


def test_a_part_that_reads_the_result_of_another_is_computed_from_it(tmp_path: Path) -> None:
    """u = -tanh(V) is a weight and so is exp(u): the second reads what replaced the first."""
    nodes = [node("Tanh", "V", "t"), node("Neg", "t", "u"), node("MatMul", "x u", "h"), node("Exp", "u", "e")]
    nodes.append(node("MatMul", "h e", "k"))
    nodes += [node("Identity", "W", "i"), node("Abs", "i", "w")]
    square = normal(ROWS, ROWS)
    source = write_net(tmp_path / "net.onnx", nodes, {"V": square, "W": normal(ROWS, COLUMNS) + 2})
    ordinary = compressed(source, tmp_path / "ordinary.onnx", WHOLE)
    streamed = compressed(source, tmp_path / "small.onnx", STREAMED)
    names = {row.name for row in streamed.tensors}
    assert names == {row.name for row in ordinary.tensors if row.encoding != "dense"}
    first, second = (decoded_weights((tmp_path / f).read_bytes(), names) for f in ("small.onnx", "ordinary.onnx"))
    assert {n: v.tobytes() for n, v in first.items()} == {n: v.tobytes() for n, v in second.items()}


def test_memory_does_not_grow_with_the_number_of_parts(tmp_path: Path) -> None:
    width, peaks = 512, []
    for parts in (2, 8):
        tensors = {f"V{number}": normal(width, width, seed=number) for number in range(parts)}
        nodes, last = [], "x"
        for number in range(parts):
            nodes += [node("Tanh", f"V{number}", f"w{number}"), node("MatMul", f"{last} w{number}", f"y{number}")]
            last = f"y{number}"
        nodes.append(node("Tanh", "V0", "w"))
        model = read_model(write_net(tmp_path / f"net{parts}.onnx", nodes, tensors, rows=width))
        with draft(tmp_path / "small.onnx") as file:
            tracemalloc.start()
            folded = fold_weights(model, DataFile(file).add_external)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            assert len(folded) >= parts - 1
            for name in folded:
                tensor = model.graph.initializers[name].const_value
                assert isinstance(tensor, ir.ExternalTensor)
                np.testing.assert_allclose(tensor.numpy(), np.tanh(tensors[name]), rtol=1e-5)
    one = 4 * width * width
    assert peaks[1] < peaks[0] + one
    assert peaks[1] < 4 * one


@pytest.mark.parametrize("name", PARTS)
def test_verify_compares_weights_with_weights(tmp_path: Path, name: str) -> None:
    """A computed weight is not compared with the initialiser under it, whose name it has; a note tells."""
    nodes, tensors, folded = PARTS[name]
    source = write_net(tmp_path / "net.onnx", nodes, tensors)
    compressed(source, tmp_path / "small.onnx", STREAMED)
    options: dict[str, Any] = {"inputs": None, "tolerance": 0.5, "seed": 0, "limits": Limits(model_bytes=0)}
    result = compare_models(source, tmp_path / "small.onnx", **options)
    assert result.passed
    assert result.outputs
    computed = folded == "V"
    assert ("V" in {weight.name for weight in result.weights}) == (not folded)
    assert all(weight.relative_error < 0.5 for weight in result.weights)
    assert [note.split(": ")[1].split(";")[0] for note in result.notes] == (["'V'"] if computed else [])
    assert compare_models(tmp_path / "small.onnx", source, **options).notes == result.notes
    same = compare_models(source, source, **options)
    assert same.notes == ()
    assert {weight.relative_error for weight in same.weights} == {0.0}
    assert {weight.name for weight in same.weights} == {k for k, v in tensors.items() if v.dtype.kind == "f"}
