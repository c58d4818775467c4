"""Weights from safetensors: the same file as with them in the model, and one line for whatever does not fit."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

import sws_compress as sws
from sws_compress.errors import ModelError
from sws_compress.onnx_io.read import safetensors_files
from sws_compress.onnx_io.read.safetensors_files import stored_tensors
from sws_compress.onnx_io.write import joined
from sws_compress.pipelines.fingerprints import fingerprint
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.joined_model import joined_model
from tests.test_cli import assert_one_line, run

WIDTH = 48
FEW = sws.WeightsOnly(components=16)
NAMES = ("first.weight", "second.weight")


def values(kind: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    random = np.random.default_rng(0)
    return {name: torch.tensor(random.standard_normal((WIDTH, WIDTH)), dtype=kind) for name in NAMES}


def write_graph(path: Path, weights: dict[str, torch.Tensor] | None = None, *, as_inputs: bool = False) -> Path:
    """Two products; without weights, their data is in a file that does not exist, or they are inputs."""
    tensors, entries = [], [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])]
    for name in NAMES:
        if weights is not None:
            tensors.append(numpy_helper.from_array(weights[name].float().numpy(), name))
        elif as_inputs:
            entries.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [WIDTH, WIDTH]))
        else:
            tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=(WIDTH, WIDTH))
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="nowhere.bin")
            tensors.append(tensor)
    nodes = [
        helper.make_node("MatMul", ["x", NAMES[0]], ["h"]),
        helper.make_node("Tanh", ["h"], ["t"]),
        helper.make_node("MatMul", ["t", NAMES[1]], ["y"]),
    ]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", WIDTH])
    graph = helper.make_graph(nodes, "net", entries, [result], tensors)
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )
    return path


def in_shards(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """A folder as the hub has them: a file for each tensor, and an index."""
    folder.mkdir(exist_ok=True)
    places = {}
    for number, (name, tensor) in enumerate(tensors.items(), 1):
        places[name] = f"model-{number:05}-of-{len(tensors):05}.safetensors"
        save_file({name: tensor, f"unused.{number}": torch.zeros(3)}, folder / places[name])
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def one_file(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder / "model.safetensors"


@pytest.mark.parametrize("inline_bytes", [1 << 20, 0], ids=["inline", "external"])
@pytest.mark.parametrize("as_inputs", [False, True])
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_weights_are_those_of_the_files(
    tmp_path: Path, kind: torch.dtype, as_inputs: bool, inline_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joined, "INLINE_BYTES", inline_bytes)
    tensors = values(kind)
    graph = write_graph(tmp_path / "graph.onnx", as_inputs=as_inputs)
    shards = in_shards(tmp_path / "hub", tensors)
    for weights in (shards, shards / "model.safetensors.index.json", one_file(tmp_path / "one", tensors)):
        with joined_model(graph, weights, tmp_path / "small.onnx") as path:
            model = onnx.load(path)
        assert [entry.name for entry in model.graph.input] == ["x"]
        found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        assert found.keys() == tensors.keys()
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(found[name], tensor.float().numpy(), strict=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graph.onnx", "hub", "one"]


def test_files_are_those_of_the_model_with_its_weights(tmp_path: Path) -> None:
    whole = write_graph(tmp_path / "whole.onnx", values())
    graph, shards = write_graph(tmp_path / "graph.onnx"), in_shards(tmp_path / "hub", values())
    sws.compress(whole, tmp_path / "expected.onnx", FEW)
    sws.compress(graph, tmp_path / "small.onnx", FEW, weights=shards)
    assert (tmp_path / "small.onnx").read_bytes() == (tmp_path / "expected.onnx").read_bytes()


def test_the_command_line_takes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph, shards = write_graph(tmp_path / "graph.onnx"), in_shards(tmp_path / "hub", values())
    options = ("compress", graph, "-o", tmp_path / "small.onnx", "--components", "16", "--weights")
    assert run(*options, shards) == 0
    capsys.readouterr()
    assert run(*options, tmp_path / "nowhere") == 2
    assert_one_line(capsys.readouterr(), "must exist, got no such file or folder")


def test_the_work_of_a_stream_is_known_again(tmp_path: Path) -> None:
    """The joined model has another name every time: that does not make the work another's."""
    graph, shards = write_graph(tmp_path / "graph.onnx"), in_shards(tmp_path / "hub", values())
    prints = []
    for _ in range(2):
        with joined_model(graph, shards, tmp_path / "small.onnx") as path:
            prints.append(fingerprint(path, [], "quality 25", Job(output=tmp_path / "small.onnx"), "1"))
    assert prints[0] == prints[1]
    in_shards(shards, {**values(), NAMES[0]: torch.zeros(WIDTH, WIDTH)})
    with joined_model(graph, shards, tmp_path / "small.onnx") as path:
        assert fingerprint(path, [], "quality 25", Job(output=tmp_path / "small.onnx"), "1") != prints[0]


def test_places_are_those_of_the_library(tmp_path: Path) -> None:
    tensors = {
        "a": torch.arange(6).reshape(2, 3),
        "b": torch.randn(4, 5, dtype=torch.bfloat16),
        "c": torch.tensor([True, False]),
        "d": torch.zeros(0, 3),
        "e": torch.tensor(2.5, dtype=torch.float64),
    }
    save_file(tensors, tmp_path / "model.safetensors", metadata={"k": "v"})
    found = stored_tensors(tmp_path)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        own = found[name].values()
        assert own.shape == tuple(tensor.shape)
        raw = tensor.reshape(-1).view(torch.uint8).numpy() if tensor.numel() else np.zeros(0, np.uint8)
        assert own.tobytes() == raw.tobytes()


def rename(folder: Path, index: dict[str, Any]) -> None:
    index["weight_map"][NAMES[0]] = "../secret.safetensors"


def absolute(folder: Path, index: dict[str, Any]) -> None:
    index["weight_map"][NAMES[0]] = str((folder / index["weight_map"][NAMES[0]]).resolve())


def linked(folder: Path, index: dict[str, Any]) -> None:
    file = folder / index["weight_map"][NAMES[0]]
    os.rename(file, folder.parent / "secret.safetensors")
    file.symlink_to(folder.parent / "secret.safetensors")


def removed(folder: Path, index: dict[str, Any]) -> None:
    (folder / index["weight_map"][NAMES[0]]).unlink()


def unlisted(folder: Path, index: dict[str, Any]) -> None:
    del index["weight_map"][NAMES[1]]


def no_map(folder: Path, index: dict[str, Any]) -> None:
    index["weight_map"] = [1, 2]


def cut_off(folder: Path, index: dict[str, Any]) -> None:
    file = folder / index["weight_map"][NAMES[0]]
    file.write_bytes(file.read_bytes()[:-9])


def headless(folder: Path, index: dict[str, Any]) -> None:
    (folder / index["weight_map"][NAMES[0]]).write_bytes(b"\xff" * 64)


def narrow_graph(folder: Path, index: dict[str, Any]) -> None:
    in_shards(folder, values(torch.float64))


def transposed(folder: Path, index: dict[str, Any]) -> None:
    in_shards(folder, {**values(), NAMES[1]: torch.zeros(WIDTH, 2)})


def other_names(folder: Path, index: dict[str, Any]) -> None:
    index["weight_map"] = {f"model.{name}": file for name, file in index["weight_map"].items()}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (rename, "must lie in it, got '../secret.safetensors'"),
        (absolute, "must lie in it, got '/"),
        (linked, "must lie in it, got 'model-00001"),
        (removed, "must be complete, got no file 'model-00001"),
        (unlisted, "got none named 'second.weight' of shape"),
        (no_map, "must map tensors to files"),
        (cut_off, "within the file, got bytes"),
        (headless, "must be a safetensors file"),
        (narrow_graph, "'first.weight' must be float as in the model, or narrower, got double"),
        (transposed, "'second.weight' must have shape"),
        (other_names, "got none such as 'first.weight'"),
    ],
)
def test_what_does_not_fit_is_one_line(
    tmp_path: Path, damage: Callable[[Path, dict[str, Any]], None], message: str
) -> None:
    graph, shards = write_graph(tmp_path / "graph.onnx"), in_shards(tmp_path / "hub", values())
    index = json.loads((shards / "model.safetensors.index.json").read_text())
    damage(shards, index)
    (shards / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=message) as caught:
        sws.compress(graph, tmp_path / "small.onnx", weights=shards)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "small.onnx").exists()


def test_links_of_the_cache_of_the_hub_are_followed(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "models" / "blobs", tmp_path / "models" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    in_shards(blobs, values())
    for file in sorted(blobs.iterdir()):
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
    graph = write_graph(tmp_path / "graph.onnx")
    assert sws.compress(graph, tmp_path / "small.onnx", FEW, weights=snapshot).ratio > 4


def test_headers_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = one_file(tmp_path / "one", values())
    monkeypatch.setattr(safetensors_files, "LARGEST_HEADER_BYTES", 10)
    with pytest.raises(ModelError, match="must be a safetensors file"):
        stored_tensors(path)


def test_modules_take_no_weights(tmp_path: Path) -> None:
    with pytest.raises(sws.ArgumentError, match="weights must come with an ONNX file"):
        sws.compress(torch.nn.Linear(3, 3), tmp_path / "small.onnx", weights=tmp_path, example_inputs=torch.zeros(1, 3))
