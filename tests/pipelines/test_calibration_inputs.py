"""Calibration inputs in all the forms that callers have them in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from sws_compress.errors import ArgumentError, DataError
from sws_compress.pipelines.calibration_inputs import ROWS_PER_FEED, calibration_feeds
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.source import Source, open_source


def source_of(folder: Path, rows: str = "n") -> Source:
    text = (
        f'<ir_version: 8, opset_import: ["": 17]> g (float[{rows},4] x, int64 k) => (float[m,4] y) {{ y = Mul(x, x) }}'
    )
    onnx.save(onnx.parser.parse_model(text), folder / "model.onnx")
    return open_source(folder / "model.onnx", Job(output=folder / "small.onnx"))


X = np.arange(80, dtype=np.float32).reshape(20, 4)
K = np.array(3)


def joined(feeds: Any) -> list[list[float]]:
    return joined_as("x", feeds)


def joined_as(name: str, feeds: Any) -> list[list[float]]:
    return [row for feed in feeds for row in feed[name].tolist()]


def test_many_rows_are_split_and_all_are_used(tmp_path: Path) -> None:
    feeds = calibration_feeds({"x": X, "k": K}, source_of(tmp_path))
    assert [len(feed["x"]) for feed in feeds] == [ROWS_PER_FEED, ROWS_PER_FEED, 4]
    assert all(feed["k"] == 3 for feed in feeds)
    assert joined(feeds) == X.tolist()


def test_a_fixed_number_of_rows_is_kept(tmp_path: Path) -> None:
    feeds = calibration_feeds({"x": X, "k": K}, source_of(tmp_path, rows="3"))
    assert [len(feed["x"]) for feed in feeds] == [3] * 7
    np.testing.assert_array_equal(feeds[-1]["x"], X[-3:])
    assert {tuple(row) for row in joined(feeds)} == {tuple(row) for row in X.tolist()}


@pytest.mark.parametrize("as_folder", [False, True])
def test_files_and_folders(tmp_path: Path, as_folder: bool) -> None:
    folder = tmp_path / "inputs"
    folder.mkdir()
    np.savez(folder / "a.npz", x=X[:10], k=K)
    np.savez(folder / "b.npz", x=X[10:], k=K)
    feeds = calibration_feeds(folder if as_folder else str(folder / "a.npz"), source_of(tmp_path))
    assert joined(feeds) == (X if as_folder else X[:10]).tolist()


def test_iterables_of_arrays_tensors_and_arguments(tmp_path: Path) -> None:
    source = source_of(tmp_path)
    for given in (
        [{"x": X[:2], "k": K}, {"x": X[2:4], "k": K}],
        ({"x": torch.from_numpy(part), "k": torch.tensor(3)} for part in (X[:2], X[2:4])),
        [(X[:2], K), (X[2:4], K, "label")],
    ):
        assert joined(calibration_feeds(given, source)) == X[:4].tolist()


def test_numbers_get_the_type_of_the_input(tmp_path: Path) -> None:
    """Floats of NumPy are float64 unless one cares."""
    for given in (X.astype(np.float64), X.astype(np.int64), X.astype(np.float16)):
        (feed,) = calibration_feeds([{"x": given[:4], "k": np.array(3, np.int8)}], source_of(tmp_path))
        assert (feed["x"].dtype, feed["k"].dtype) == (np.float32, np.int64)
        np.testing.assert_array_equal(feed["x"], X[:4])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": X[:, :3]}, r"'x' must be float32 \(any, 4\), got float32 \(8, 3\): give what"),
        ({"x": X[0]}, r"'x' must be float32 \(any, 4\), got float32 \(4,\)"),
        ({"x": np.full((2, 4), "a")}, r"'x' must be float32 \(any, 4\), got str32 \(2, 4\)"),
        ({"k": np.array(0.5)}, r"'k' must be int64 \(\), got float64 \(\)"),
    ],
)
def test_other_shapes_and_types_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"calibration input {message}"):
        calibration_feeds({"x": X, "k": K, **change}, source_of(tmp_path))


def test_modules_take_loaders_of_mappings_with_labels(tmp_path: Path) -> None:
    network = torch.nn.Linear(4, 3)
    source = open_source(network, Job(output=tmp_path / "small.onnx", inputs=torch.from_numpy(X[:2])))
    (name,) = (str(value.name) for value in source.model.graph.inputs)
    rows = [{name: row, "labels": 1} for row in X]
    assert joined_as(name, calibration_feeds(torch.utils.data.DataLoader(rows, batch_size=5), source)) == X.tolist()


def test_bad_inputs_are_told(tmp_path: Path) -> None:
    source = source_of(tmp_path)
    with pytest.raises(DataError, match="must be named 'x', 'k', got 'x': name them like"):
        calibration_feeds({"x": X}, source)
    with pytest.raises(DataError, match="must not be empty"):
        calibration_feeds([], source)
    with pytest.raises(DataError, match=r"must hold \.npz files, got none"):
        calibration_feeds(tmp_path, source)
    with pytest.raises(ArgumentError, match="got int"):
        calibration_feeds(3, source)
