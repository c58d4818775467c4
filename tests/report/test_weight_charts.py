"""What is drawn of weights: every weight is counted, and pictures are what other programs read."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

from sws_compress.mixture.mixture import Mixture
from sws_compress.report.clustered import clustered
from sws_compress.report.colours import cluster_colours
from sws_compress.report.indexed_png import indexed_png
from sws_compress.report.weight_charts import BINS, MAX_CELLS, weight_chart
from tests.models import gaussian

MIXTURE = Mixture(np.array([0.7, 0.3]), means=np.array([0.0, 0.2]), variances=np.array([0.01, 0.0004]))


def rounded(*shape: int) -> np.ndarray:
    """Weights of about nine values, not centred on zero."""
    return np.round(gaussian(*shape), 1) + np.float32(0)  # no negative zeros


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (96, 192), (40, 1)])
def test_pictures_are_read_by_others(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    indices = rng.integers(0, 200, shape, dtype=np.uint8)
    colours = rng.integers(0, 256, (200, 3), dtype=np.uint8)
    image = Image.open(io.BytesIO(indexed_png(indices, colours)))
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), colours[indices])


def test_every_weight_is_counted() -> None:
    before = gaussian(30, 50)
    values = np.round(before, 1) + np.float32(0)
    chart = weight_chart("w", values, clustered("w", values, before), before, None)
    assert chart is not None
    assert chart.counts.sum() == chart.members.sum() == 1500
    assert chart.before
    assert chart.low < min(before.min(), values.min()) < max(before.max(), values.max()) < chart.high
    edges = np.linspace(chart.low, chart.high, BINS + 1)
    assert chart.counts[40] == ((before >= edges[40]) & (before < edges[41])).sum()
    for value, members in zip(chart.codebook, chart.members, strict=True):
        assert members == (values == np.float32(value)).sum()


def test_mixture_is_the_integral_of_its_density_over_each_bin() -> None:
    values = gaussian(40, 40)
    chart = weight_chart("w", values, None, None, MIXTURE)
    assert chart is not None
    edges = np.linspace(chart.low, chart.high, BINS + 1)
    for number in (0, 17, 41, 60):
        points = np.linspace(edges[number], edges[number + 1], 2001)
        mass = np.trapezoid(np.exp(MIXTURE.log_density(points)), points)
        assert chart.expected[number] == pytest.approx(1600 * mass, rel=1e-4, abs=1e-9)
    assert chart.to_json()["mixture"] == {"weights": [0.7, 0.3], "means": [0.0, 0.2], "variances": [0.01, 0.0004]}


def test_pictures_have_the_colours_of_clusters() -> None:
    values = rounded(20, 30)
    tensor = clustered("w", values)
    chart = weight_chart("w", values, tensor, None, None)
    assert tensor is not None
    assert chart is not None
    image = np.asarray(Image.open(io.BytesIO(chart.png)).convert("RGB"))
    expected = 255 * cluster_colours(tensor.palette.codebook)[tensor.palette.indices.reshape(20, 30)]
    assert np.abs(image - expected).max() < 3  # 255 colours stand for all
    assert chart.cell == (1, 1)


def test_large_matrices_are_drawn_in_cells() -> None:
    values = rounded(300, 8, 7, 9)
    chart = weight_chart("w", values, clustered("w", values), None, None)
    assert chart is not None
    columns, rows = Image.open(io.BytesIO(chart.png)).size
    assert rows <= MAX_CELLS[0]
    assert columns <= MAX_CELLS[1]
    assert chart.cell == (math.ceil(300 / MAX_CELLS[0]), math.ceil(504 / MAX_CELLS[1]))


def test_units_that_are_left_out_of_the_file_are_in_the_histogram() -> None:
    before = gaussian(30, 50)
    values = np.round(before[:20], 1)
    chart = weight_chart("w", values, clustered("w", values), before, None)
    assert chart is not None
    assert (chart.counts.sum(), chart.members.sum()) == (1500, 1000)


def test_values_that_have_no_place_are_left_out() -> None:
    values = gaussian(40)
    values[:3] = np.nan, np.inf, -np.inf
    chart = weight_chart("w", values, None, None, None)
    assert chart is not None
    assert chart.counts.sum() == 37
    assert weight_chart("w", np.full(20, np.nan, np.float32), None, None, None) is None
    same = weight_chart("w", np.full((4, 5), 3, np.float32), None, None, None)
    assert same is not None
    assert same.counts.sum() == 20


def test_vectors_and_halves_are_drawn() -> None:
    vector = rounded(64).astype(np.float16)
    chart = weight_chart("w", vector, clustered("w", vector), None, None)
    assert chart is not None
    assert chart.png == b""
    assert chart.counts.sum() == 64


@pytest.mark.parametrize("shape", [(20, 30), (200, 40, 3, 3)])
def test_many_values_are_coloured_by_how_large_they_are(shape: tuple[int, ...]) -> None:
    values = gaussian(*shape)
    chart = weight_chart("w", values, None, None, None)
    assert chart is not None
    image = np.asarray(Image.open(io.BytesIO(chart.png)).convert("RGB")).astype(int)
    tall, wide = chart.cell
    matrix = values.reshape(len(values), -1)
    for row, column in ((0, 0), (3, 7), (19, 11)):
        mean = matrix[tall * row : tall * (row + 1), wide * column : wide * (column + 1)].mean()
        red, _, blue = image[row, column]
        assert np.sign(red - blue) == np.sign(mean) or abs(mean) < 0.01
