"""The picture of clusters shows every weight, alone or in a cell with others."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from sws_compress.report.cluster_figure import SEAM_GREY, cluster_figure, input_layout, kernels_image, matrix_image
from sws_compress.report.clustered import ClusteredTensor, clustered
from sws_compress.report.colours import cluster_colours

VALUES = np.array([-0.5, -0.1, 0.0, 0.3], dtype=np.float32)


def tensor(*shape: int, seed: int = 0) -> ClusteredTensor:
    """Lopsided shares: most weights are zero."""
    values = np.random.default_rng(seed).choice(VALUES, shape, p=[0.05, 0.15, 0.7, 0.1])
    found = clustered("w", values)
    assert found is not None
    return found


def test_small_matrices_are_drawn_weight_by_weight() -> None:
    found = tensor(30, 11)
    image, cell = matrix_image(found)
    assert cell == (1, 1)
    np.testing.assert_array_equal(image, cluster_colours(VALUES)[found.palette.indices.reshape(30, 11)])


def test_large_matrices_are_drawn_in_cells() -> None:
    """Odd sizes: the last cells are smaller, and count for what they hold."""
    values = np.zeros((1001, 1603), np.float32)
    values[:500, 800:] = 0.3
    values[:, :3] = -0.5
    found = clustered("w", values)
    assert found is not None
    image, cell = matrix_image(found)
    assert cell == (3, 3)
    assert image.shape == (334, 535, 3)
    assert (image[:, 0, 2] > image[:, 0, 0]).all()  # blue
    assert (image[:160, 270:, 0] > image[:160, 270:, 2]).all()  # red
    assert (image[200:, 10:] == 1).all()


@pytest.mark.parametrize("shape", [(16, 3, 3, 3), (20, 1, 5, 5), (7, 5, 2, 3), (1, 2, 3, 3)])
def test_every_weight_of_a_kernel_is_drawn_once(shape: tuple[int, ...]) -> None:
    found = tensor(*shape)
    points = kernels_image(found).reshape(-1, 3)
    for cluster, colour in zip(found.clusters, cluster_colours(VALUES), strict=True):
        assert np.isclose(points, colour).all(1).sum() == cluster.members
    assert np.isclose(points, SEAM_GREY).all(1).sum() == len(points) - math.prod(shape)


def test_axis_that_is_a_picture() -> None:
    assert input_layout((300, 784), ((784,),)).height == 28  # type: ignore[union-attr]
    layout = input_layout((3072, 10), ((3, 32, 32),))
    assert layout is not None
    assert (layout.axis, layout.height, layout.width) == (0, 32, 32)
    assert input_layout((10, 100), ((784,),)) is None  # as long as no input
    assert input_layout((10, 200), ((200,),)) is None  # no square
    assert input_layout((20, 784, 1, 1), ((784,),)) is None
    assert input_layout((300, 784), ((),)) is None  # of unknown size


def test_picture_of_every_kind(tmp_path: Path) -> None:
    tensors = [tensor(25, 64), tensor(8, 4, 3, 3), tensor(12, 6, 5), tensor(30, 500)]
    cluster_figure(tensors, ((1, 8, 8),), tmp_path / "clusters.png")
    picture = matplotlib.image.imread(tmp_path / "clusters.png")
    assert picture.shape[1] == 13 * 120
    assert picture.shape[0] > 4 * 300
    blue, red = (np.count_nonzero(picture[..., a] - picture[..., b] > 0.25) for a, b in ((2, 0), (0, 2)))
    assert blue > 5000
    assert red > 5000


ODD = {
    "constant": np.full((40, 64), 0.3, np.float32),
    "nothing": np.zeros((40, 64), np.float32),
    "one row": tensor(1, 400).palette.expand(),
    "one column": tensor(400, 1).palette.expand(),
    "full": np.where(tensor(25, 64).palette.expand() < 0, np.float32(-0.5), np.float32(0.3)),
    "square kernels": tensor(32, 32, 3, 3).palette.expand(),
    "encoder.layers.11.self_attention.query_key_value_projection.and_much_more.weight": tensor(30, 64).palette.expand(),
}


def test_words_are_neither_cut_off_nor_written_over_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the picture is drawn: every title and label lies inside it, and no two of them touch."""
    figures: list[Figure] = []
    usual = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), usual(self, *a, **k))[1])
    found = [clustered(name, values) for name, values in ODD.items()]
    cluster_figure([each for each in found if each is not None], ((1, 8, 8),), tmp_path / "odd.png")
    (figure,) = figures
    whole = figure.bbox
    for axes in figure.axes:
        for text in (axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label):  # type: ignore[attr-defined]
            if text.get_text():
                box = text.get_window_extent()
                assert whole.x0 <= box.x0, text
                assert box.x1 <= whole.x1, text
    titles = [axes._left_title.get_window_extent() for axes in figure.axes]  # type: ignore[attr-defined]
    titles = [box for box in titles if box.width]
    assert len(titles) >= 3 * len(ODD)
    assert not any(a.overlaps(b) for a, b in combinations(titles, 2))


def test_kernels_fill_their_panel() -> None:
    for shape in ((32, 32, 3, 3), (64, 64, 3, 3), (64, 32, 3, 3), (96, 1, 5, 5)):
        height, width, _ = kernels_image(tensor(*shape)).shape
        assert 1 <= width / height <= 6, shape


def test_shares_are_never_drawn_black(tmp_path: Path) -> None:
    full = clustered("full", np.full((16, 16, 3, 3), 0.3, np.float32))
    assert full is not None
    cluster_figure([full], (), tmp_path / "full.png")
    picture = matplotlib.image.imread(tmp_path / "full.png")[..., :3]
    right = picture[:, int(0.8 * picture.shape[1]) :]
    assert (right.max(2) < 0.15).mean() < 0.1
