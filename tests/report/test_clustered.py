"""Clusters of a tensor: shares add up, places are right, and the picture shows them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from sws_compress.report.cluster_figure import SEAM, _input_layout, _kernels, _matrix, cluster_figure
from sws_compress.report.clustered import ClusteredTensor, Where, clustered
from sws_compress.report.colours import cluster_colours, cluster_strengths
from sws_compress.report.tables import where

VALUES = np.array([-0.5, -0.1, 0.0, 0.3], dtype=np.float32)


def tensor(*shape: int, seed: int = 0) -> ClusteredTensor:
    """Lopsided shares: most weights are zero."""
    values = np.random.default_rng(seed).choice(VALUES, shape, p=[0.05, 0.15, 0.7, 0.1])
    found = clustered("w", values)
    assert found is not None
    return found


@pytest.mark.parametrize("shape", [(200,), (30, 11), (8, 5, 3, 3), (6, 9, 4), (7, 5, 1, 2, 3)])
def test_shares_and_members_add_up(shape: tuple[int, ...]) -> None:
    found = tensor(*shape)
    size = math.prod(shape)
    assert [cluster.mean for cluster in found.clusters] == [float(value) for value in VALUES]
    assert sum(cluster.share for cluster in found.clusters) == pytest.approx(1.0)
    assert sum(cluster.members for cluster in found.clusters) == size
    for table in found.members_by_axis().values():
        assert (table.sum(0) == [cluster.members for cluster in found.clusters]).all()
        assert (table.sum(1) == size // len(table)).all()


def test_places_against_a_loop() -> None:
    values = np.zeros((6, 5, 2, 3), np.float32)
    values[4] = 0.3
    values[1, 2] = -0.5
    values[1, 3, 1, 2] = -0.5
    found = clustered("conv", values)
    assert found is not None
    low, zero, high = found.clusters
    assert low.where == (
        Where("output channel", 6, holding=1, whole=0, most=((1, 7),)),
        Where("input channel", 5, holding=2, whole=0, most=((2, 6), (3, 1))),
        Where("kernel position", 6, holding=6, whole=0, most=((5, 2), (0, 1), (1, 1))),
    )
    assert (high.where[0].whole, high.where[0].most) == (1, ((4, 30),))
    assert (zero.where[0].whole, zero.where[0].holding) == (4, 5)
    assert zero.members == 6 * 5 * 6 - 30 - 7


def test_permuted_rows_permute_the_places() -> None:
    found = tensor(40, 30)
    order = np.random.default_rng(3).permutation(40)
    moved = clustered("w", found.palette.expand()[order])
    assert moved is not None
    np.testing.assert_array_equal(moved.members_by_axis()["row"], found.members_by_axis()["row"][order])
    np.testing.assert_array_equal(moved.members_by_axis()["column"], found.members_by_axis()["column"])


def test_spread_is_of_the_weights_before() -> None:
    random = np.random.default_rng(5)
    values = random.choice(VALUES, (50, 40))
    spreads = {float(value): 0.01 * (i + 1) for i, value in enumerate(VALUES)}
    original = values + np.vectorize(spreads.get)(values) * random.standard_normal(values.shape)
    found = clustered("w", values, original.astype(np.float32))
    assert found is not None
    for cluster in found.clusters:
        assert cluster.spread == pytest.approx(spreads[cluster.mean], rel=0.15)
    other_shape = clustered("w", values, original.T)
    assert other_shape is not None
    assert all(cluster.spread is None for cluster in other_shape.clusters)


@pytest.mark.parametrize("values", [np.arange(2000.0), np.arange(100.0), np.zeros(15)])
def test_tensors_without_clusters(values: np.ndarray) -> None:
    """Too many distinct values, hardly any twice, too few weights."""
    assert clustered("w", values.astype(np.float32)) is None


def test_json() -> None:
    values = json.loads(json.dumps(tensor(30, 11).to_json()))
    assert values["shape"] == [30, 11]
    assert values["clusters"][2]["mean"] == 0
    assert values["clusters"][2]["where"][1]["axis"] == "column"


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (Where("row", 300, 85, 0, ((81, 9), (168, 8), (6, 7))), "85 rows, most in 81, 168, 6"),
        (Where("row", 300, 2, 0, ((81, 9), (168, 8))), "2 rows: 81, 168"),
        (Where("input channel", 16, 1, 0, ((4, 1),)), "1 input channel: 4"),
        (Where("column", 784, 500, 363, ((0, 300), (1, 300), (2, 300))), "363 whole columns"),
        (Where("element", 300, 33, 33, ((6, 1), (15, 1), (21, 1))), "33 elements: 6, 15, 21, ..."),
    ],
)
def test_places_in_words(place: Where, text: str) -> None:
    assert where(place) == text


# -- colours ----------------------------------------------------------------------------------------------------------


def test_colours_diverge_from_white() -> None:
    means = np.array([0.4, -0.01, 0.0, 0.02, -0.3])
    red, blue = cluster_colours(means)[:, 0], cluster_colours(means)[:, 2]
    assert cluster_colours(means)[2].tolist() == [1, 1, 1]
    assert (np.sign(red - blue) == np.sign(means)).all()
    strengths = cluster_strengths(means)
    assert strengths[0] > strengths[3] > 0 > strengths[1] > strengths[4]
    assert np.abs(strengths[means != 0]).min() >= 0.3  # not to be taken for zero
    np.testing.assert_allclose(cluster_strengths(1000 * means), strengths)


# -- the picture ------------------------------------------------------------------------------------------------------


def test_small_matrices_are_drawn_weight_by_weight() -> None:
    found = tensor(30, 11)
    image, cell = _matrix(found)
    assert cell == (1, 1)
    np.testing.assert_array_equal(image, cluster_colours(VALUES)[found.palette.indices.reshape(30, 11)])


def test_large_matrices_are_drawn_in_cells() -> None:
    """Odd sizes: the last cells are smaller, and count for what they hold."""
    values = np.zeros((1001, 1603), np.float32)
    values[:500, 800:] = 0.3
    values[:, :3] = -0.5
    found = clustered("w", values)
    assert found is not None
    image, cell = _matrix(found)
    assert cell == (3, 3)
    assert image.shape == (334, 535, 3)
    assert (image[:, 0, 2] > image[:, 0, 0]).all()  # blue
    assert (image[:160, 270:, 0] > image[:160, 270:, 2]).all()  # red
    assert (image[200:, 10:] == 1).all()


@pytest.mark.parametrize("shape", [(16, 3, 3, 3), (20, 1, 5, 5), (7, 5, 2, 3), (1, 2, 3, 3)])
def test_every_weight_of_a_kernel_is_drawn_once(shape: tuple[int, ...]) -> None:
    found = tensor(*shape)
    points = _kernels(found).reshape(-1, 3)
    for cluster, colour in zip(found.clusters, cluster_colours(VALUES), strict=True):
        assert np.isclose(points, colour).all(1).sum() == cluster.members
    assert np.isclose(points, SEAM).all(1).sum() == len(points) - math.prod(shape)


def test_axis_that_is_a_picture() -> None:
    assert _input_layout((300, 784), ((784,),)).height == 28  # type: ignore[union-attr]
    layout = _input_layout((3072, 10), ((3, 32, 32),))
    assert layout is not None
    assert (layout.axis, layout.height, layout.width) == (0, 32, 32)
    assert _input_layout((10, 100), ((784,),)) is None  # as long as no input
    assert _input_layout((10, 200), ((200,),)) is None  # no square
    assert _input_layout((20, 784, 1, 1), ((784,),)) is None
    assert _input_layout((300, 784), ((),)) is None  # of unknown size


def test_picture_of_every_kind(tmp_path: Path) -> None:
    tensors = [tensor(25, 64), tensor(8, 4, 3, 3), tensor(12, 6, 5), tensor(30, 500)]
    cluster_figure(tensors, ((1, 8, 8),), tmp_path / "clusters.png")
    picture = matplotlib.image.imread(tmp_path / "clusters.png")
    assert picture.shape[1] == 13 * 120
    assert picture.shape[0] > 4 * 300
    blue, red = (np.count_nonzero(picture[..., a] - picture[..., b] > 0.25) for a, b in ((2, 0), (0, 2)))
    assert blue > 5000
    assert red > 5000
