"""Clusters of a tensor: shares add up, and places are right."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from sws_compress.report.cluster_report import place_text
from sws_compress.report.clustered import ClusteredTensor, Place, clustered

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
        Place("output channel", 6, holding=1, whole=0, most=((1, 7),)),
        Place("input channel", 5, holding=2, whole=0, most=((2, 6), (3, 1))),
        Place("kernel position", 6, holding=6, whole=0, most=((5, 2), (0, 1), (1, 1))),
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
    values = json.loads(json.dumps(tensor(30, 11).summary().to_json()))
    assert values["shape"] == [30, 11]
    assert values["clusters"][2]["mean"] == 0
    assert values["clusters"][2]["where"][1]["axis"] == "column"


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (Place("row", 300, 85, 0, ((81, 9), (168, 8), (6, 7))), "85 rows, most in 81, 168, 6"),
        (Place("row", 300, 2, 0, ((81, 9), (168, 8))), "2 rows: 81, 168"),
        (Place("input channel", 16, 1, 0, ((4, 1),)), "1 input channel: 4"),
        (Place("column", 784, 500, 363, ((0, 300), (1, 300), (2, 300))), "363 whole columns"),
        (Place("element", 300, 33, 33, ((6, 1), (15, 1), (21, 1))), "33 elements: 6, 15, 21, ..."),
    ],
)
def test_places_in_words(place: Place, text: str) -> None:
    assert place_text(place) == text
