"""Models are read piece by piece: the result is that of reading them whole, and no piece outlives the next."""

from __future__ import annotations

import dataclasses
import gc
import io
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from rich.console import Console

import sws_compress as sws
from sws_compress.errors import DataError, ModelError, OutputError
from sws_compress.onnx_io.external_data import StoredModel, in_memory
from sws_compress.onnx_io.format.decoders import compressed_names
from sws_compress.onnx_io.format.mark import mark_of_proto
from sws_compress.onnx_io.read.on_disk import stored_model
from sws_compress.onnx_io.write.plain import make_plain
from sws_compress.ort import decode
from sws_compress.ort.all_weights import StoredWeights
from sws_compress.ort.decode import decoded_weights
from sws_compress.ort.session import SessionError
from sws_compress.ort.weight_differences import relative_error, weight_differences
from sws_compress.pipelines import inspect as inspecting
from sws_compress.pipelines import verify as verifying
from sws_compress.pipelines.clusters import drawn_tensors, model_clusters
from sws_compress.pipelines.expand import expand_model
from sws_compress.pipelines.inspect import inspect_model
from sws_compress.pipelines.job import Limits
from sws_compress.pipelines.verify import compare_models
from tests.onnx_io.nested_models import MODELS
from tests.pipelines.test_streamed import ALWAYS, stream, write_net
from tests.runtimes.files import EMBEDDINGS, SOURCES, files_of

TWO_FILES = Limits(file_bytes=0)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three weights, each with a decoder of its own, and vectors that stay dense."""
    folder = tmp_path_factory.mktemp("net")
    source = write_net(folder / "net.onnx")
    stream(source, folder / "small.onnx", ALWAYS)
    return folder / "small.onnx"


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scaled")
    source = write_net(folder / "net.onnx")
    request = sws.WeightsOnly(components=16, granularity=sws.PerChannel())
    sws.compress(source, folder / "small.onnx", request)
    return folder / "small.onnx"


@pytest.fixture(params=["net", "scaled"])
def small(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


def split(path: Path, folder: Path) -> Path:
    """The same model with all its tensors in a file beside it."""
    model = onnx.load(path)
    onnx.save(model, folder / "split.onnx", save_as_external_data=True, location="split.data", size_threshold=0)
    return folder / "split.onnx"


def parts_of(path: Path, **options: Any) -> dict[str, Any]:
    """An inspection without the time it took."""
    parts = dataclasses.asdict(inspect_model(stored_model(path), **options))
    parts["decoding"] = parts["decoding"]["computed_bytes"]
    return parts


def plain_twin(model: StoredModel) -> StoredModel:
    assert model.path is not None
    return stored_model(model.path.parent / "net.onnx")


def whole_plain(path: Path) -> bytes:
    """The plain model, made in memory in one piece."""
    data = path.read_bytes()
    proto = onnx.load_from_string(data)
    mark = mark_of_proto(proto)
    assert mark is not None
    weights = decoded_weights(data, compressed_names(proto, mark))
    make_plain(proto, mark, [numpy_helper.from_array(values, name) for name, values in weights.items()])
    plain: bytes = proto.SerializeToString(deterministic=True)
    return plain


# -- inspect ----------------------------------------------------------------------------------------------------------


def test_inspection_is_the_same_wherever_tensors_lie_and_however_few_are_decoded(small: Path, tmp_path: Path) -> None:
    whole = parts_of(small)
    assert whole["file_bytes"] == small.stat().st_size
    assert whole["decoding"] > 0
    assert parts_of(small, together_elements=0) == whole
    assert parts_of(split(small, tmp_path)) == whole
    assert parts_of(split(small, tmp_path), together_elements=0) == whole


def test_inspection_of_plain_models_is_the_same_wherever_tensors_lie(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    for make in MODELS:
        onnx.save(make(), path)
        assert parts_of(split(path, tmp_path)) == parts_of(path)


def test_counting_in_pieces_is_counting_at_once(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = inspect_model(stored_model(small)).rows
    monkeypatch.setattr(inspecting, "PIECE_ELEMENTS", 7)
    for row, expected in zip(inspect_model(stored_model(small)).rows, whole, strict=True):
        assert row.entropy_bits == pytest.approx(expected.entropy_bits, abs=1e-9)
        assert dataclasses.replace(row, entropy_bits=0) == dataclasses.replace(expected, entropy_bits=0)


@pytest.mark.parametrize("source", [name for name in SOURCES if name != EMBEDDINGS and "long" not in name])
def test_shapes_of_every_encoding_are_known_before_decoding(source: str) -> None:
    """What is small is decoded together for that reason."""
    for file in files_of(source):
        weights = StoredWeights(in_memory(file.data))
        dense = {t.name: tuple(t.dims) for t in onnx.load_from_string(file.dense).graph.initializer}
        shapes = weights.shapes()
        assert {name: shapes.get(name) for name in weights.compressed} == {n: dense[n] for n in weights.compressed}


# -- one piece at a time ----------------------------------------------------------------------------------------------


@pytest.fixture
def decoded_names(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What is decoded, call by call. Every call checks that nothing large of the one before is still held."""
    calls: list[list[str]] = []
    alive: list[weakref.ref[Any]] = []
    real = decode._decoded

    def watched(model: StoredModel, names: Any, **options: Any) -> Any:
        assert [ref for ref in alive if ref() is not None] == []
        calls.append(list(names))
        values, decoding = real(model, names, **options)
        alive[:] = [weakref.ref(array) for array in values.values() if array.size > 1000]
        return values, decoding

    monkeypatch.setattr(decode, "_decoded", watched)
    return calls


@pytest.mark.parametrize(
    "work",
    [
        lambda model, folder: inspect_model(model, together_elements=0),
        lambda model, folder: model_clusters(model, together_elements=0),
        lambda model, folder: expand_model(model, folder / "plain.onnx", together_elements=0),
        lambda model, folder: list(weight_differences(plain_twin(model), model, together_elements=0)),
    ],
    ids=["inspect", "clusters", "expand", "verify"],
)
def test_no_weight_is_held_while_the_next_is_decoded(
    net: Path, tmp_path: Path, decoded_names: list[list[str]], work: Callable[[StoredModel, Path], object]
) -> None:
    work(stored_model(net), tmp_path)
    assert {name for names in decoded_names for name in names} == {"ones", "w0", "w1", "w2"}
    assert max(map(len, decoded_names)) == 1


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped")
def test_weights_beside_the_file_are_unmapped_when_they_are_let_go(net: Path) -> None:
    def is_mapped() -> bool:
        return "net.onnx.data" in Path("/proc/self/maps").read_text()

    gc.collect()  # what other tests had mapped
    weights = StoredWeights(stored_model(net.parent / "net.onnx"))
    for name in weights.names:
        weight = weights.get(name)
        assert weight is not None
        assert is_mapped()
        del weight
        assert not is_mapped()
    for weight in weights.each():
        assert weight.values.size
    del weight
    assert not is_mapped()


def test_pictures_decode_what_they_draw(net: Path, decoded_names: list[list[str]]) -> None:
    drawn, left_out = drawn_tensors(stored_model(net), ["w1"])
    assert [tensor.name for tensor in drawn] == ["w1"]
    assert left_out == ("w0", "w2")
    assert decoded_names == [["w1"]]


def test_clusters_are_the_same_however_few_are_decoded(small: Path, tmp_path: Path) -> None:
    original = stored_model(small.parent / "net.onnx")
    whole = model_clusters(stored_model(small), original)
    assert [tensor.name for tensor in whole.tensors] == ["ones", "w0", "w1", "w2"]
    apart = model_clusters(stored_model(split(small, tmp_path)), original, together_elements=0)
    assert (apart.tensors, apart.others) == (whole.tensors, whole.others)


# -- expand -----------------------------------------------------------------------------------------------------------


def test_expanding_piece_by_piece_gives_the_bytes_of_expanding_at_once(small: Path, tmp_path: Path) -> None:
    expected = whole_plain(small)
    for number, options in enumerate([{}, {"together_elements": 0}, {"limits": Limits(model_bytes=0)}]):
        output = tmp_path / f"{number}.onnx"
        result = expand_model(stored_model(small), output, **options)
        assert output.read_bytes() == expected
        assert result.file_bytes == len(expected)
        assert result.expanded == ("ones", "w0", "w1", "w2")
    expand_model(stored_model(split(small, tmp_path)), tmp_path / "plain.onnx")
    ours = {t.name: t for t in onnx.load(tmp_path / "plain.onnx").graph.initializer}
    assert ours == {t.name: t for t in onnx.load_from_string(expected).graph.initializer}


def test_what_is_too_large_for_one_file_is_two(small: Path, tmp_path: Path) -> None:
    output = tmp_path / "plain.onnx"
    result = expand_model(stored_model(small), output, limits=TWO_FILES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain.onnx", "plain.onnx.data"]
    assert result.file_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    ours = {t.name: t.raw_data for t in onnx.load(output).graph.initializer}
    assert ours == {t.name: t.raw_data for t in onnx.load_from_string(whole_plain(small)).graph.initializer}
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    expand_model(stored_model(small), output, limits=TWO_FILES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain.onnx", "plain.onnx.2.data"]
    assert (tmp_path / "plain.onnx.2.data").read_bytes() == before["plain.onnx.data"]
    expand_model(stored_model(small), output)
    assert [path.name for path in tmp_path.iterdir()] == ["plain.onnx"]


@pytest.mark.parametrize("fails_at", [0, 1])
def test_a_disk_that_fails_at_the_end_leaves_the_old_model(
    net: Path, tmp_path: Path, disk_fails_at: Callable[[int], None], fails_at: int
) -> None:
    output = tmp_path / "plain.onnx"
    expand_model(stored_model(net), output, limits=TWO_FILES)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    disk_fails_at(fails_at)
    with pytest.raises(OutputError, match="Input/output error"):
        expand_model(stored_model(net), output, limits=TWO_FILES)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_data_file_of_the_input_is_not_overwritten(tmp_path: Path, net: Path) -> None:
    """The plain model would need it."""
    model = onnx.load(net)
    small = tmp_path / "small.onnx"
    onnx.save(model, small, save_as_external_data=True, location="plain.onnx.data", size_threshold=0)
    with pytest.raises(OutputError, match="must not be the input"):
        sws.expand(small, tmp_path / "plain.onnx")


def test_dense_tensors_of_all_types_are_copied(tmp_path: Path) -> None:
    """Integers, strings and floats of less than a byte that no decoder touches, inside and beside the file."""
    source, small = write_net(tmp_path / "net.onnx"), tmp_path / "small.onnx"
    model = onnx.load(source)
    model.opset_import[0].version, model.ir_version = 21, 10
    onnx.save(model, source)
    sws.compress(source, small)
    model = onnx.load(small)
    random = np.random.default_rng(0)
    extra = [
        numpy_helper.from_array(random.integers(-100, 100, (70, 80)).astype(np.int8), "bytes"),
        helper.make_tensor("nibbles", onnx.TensorProto.UINT4, (121, 77), random.bytes(-(-121 * 77 // 2)), raw=True),
        helper.make_tensor("words", onnx.TensorProto.STRING, (2,), [b"a", b"b"]),
    ]
    model.graph.initializer.extend(extra)
    for tensor in extra:
        output, strings = f"{tensor.name}_out", tensor.data_type == onnx.TensorProto.STRING
        cast = () if strings else ({"to": onnx.TensorProto.FLOAT},)
        kind = onnx.TensorProto.STRING if strings else onnx.TensorProto.FLOAT
        model.graph.node.append(
            helper.make_node("Identity" if strings else "Cast", [tensor.name], [output], **dict(*cast))
        )
        model.graph.output.append(helper.make_tensor_value_info(output, kind, list(tensor.dims)))
    for external in (False, True):
        onnx.save(model, small, save_as_external_data=external, location="small.data", size_threshold=100)
        for limits in (Limits(), TWO_FILES):
            expand_model(stored_model(small), tmp_path / "plain.onnx", limits=limits)
            plain = {t.name: t for t in onnx.load(tmp_path / "plain.onnx").graph.initializer}
            for tensor in extra:
                assert numpy_helper.to_array(plain[tensor.name]).tobytes() == numpy_helper.to_array(tensor).tobytes()


# -- verify -----------------------------------------------------------------------------------------------------------

LARGE = Limits(model_bytes=0)


def compared(first: Path, second: Path, tolerance: float = 0.5, **options: Any) -> sws.Verification:
    arguments = {"inputs": None, "seed": 0, "limits": LARGE, **options}
    return compare_models(first, second, tolerance=tolerance, **arguments)


def test_weights_of_large_models_are_compared_too(small: Path, tmp_path: Path) -> None:
    original = small.parent / "net.onnx"
    result = compared(original, small)
    assert result.outputs == sws.verify(original, small, tolerance=0.5).outputs
    before = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in onnx.load(original).graph.initializer}
    after = {t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(whole_plain(small)).graph.initializer}
    expected = {name: np.linalg.norm(after[name] - old) / np.linalg.norm(old) for name, old in before.items()}
    assert {weight.name: weight.relative_error for weight in result.weights} == pytest.approx(expected)
    assert result.notes == ()
    sws.expand(small, tmp_path / "plain.onnx")
    assert {weight.relative_error for weight in compared(tmp_path / "plain.onnx", small, 1e-4).weights} == {0.0}
    assert sws.verify(original, small).weights == ()


@pytest.mark.parametrize("missing", ["net.onnx", "small.onnx"])
def test_weights_decide_where_the_runtime_cannot_run_a_model(
    net: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    real = verifying.open_model

    def failing(path: Path) -> Any:
        if path.name == missing:
            raise ModelError(f"model {path} must load, got no memory: buy some") from SessionError(
                "no memory", out_of_bounds=True
            )
        return real(path)

    monkeypatch.setattr(verifying, "open_model", failing)
    original = net.parent / "net.onnx"
    for options in ({}, {"inputs": {"x": np.zeros((1, 260), np.float32)}}):
        result = compared(original, net, **options)
        assert result.passed
        assert result.outputs == ()
        assert result.notes == (
            f"outputs were not compared, only weights: model {net.parent / missing} must load, got no memory: buy some",
        )
    assert not compared(original, net, 0.01).passed
    largest = max(weight.relative_error for weight in result.weights)
    assert compared(original, net, largest).passed
    assert not compared(original, net, 0.999 * largest).passed
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(result)
    text = console.export_text()
    assert f"compared, relative error at most {largest:.2g}" in text
    assert "outputs were not compared, only weights" in text
    with pytest.raises(ModelError, match="no memory"):
        compared(original, net, limits=Limits())


def test_inputs_that_do_not_fit_are_refused_for_large_models_too(net: Path) -> None:
    original = net.parent / "net.onnx"
    for inputs, message in (
        ({"x": np.zeros((1, 3), np.float32)}, "must run on the given inputs"),
        ({"z": np.zeros((1, 260), np.float32)}, "must be arrays named 'x'"),
    ):
        with pytest.raises(DataError, match=message):
            compared(original, net, inputs=inputs)


@pytest.mark.parametrize(
    ("expected", "actual", "error"),
    [
        ([3.0, 4.0], [3.0, 4.5], 0.1),
        ([0.0, 0.0], [0.0, -0.0], 0.0),
        ([0.0, 0.0], [0.0, 1e-30], np.inf),
        ([np.nan, np.inf, 1.0], [np.nan, np.inf, 1.0], 0.0),
        ([np.nan, 1.0], [1.0, 1.0], np.inf),
        ([np.inf, 1.0], [1.0, 1.0], np.inf),
        ([], [], 0.0),
    ],
)
def test_relative_errors(expected: list[float], actual: list[float], error: float) -> None:
    assert relative_error(np.array(expected), np.array(actual)) == pytest.approx(error)
