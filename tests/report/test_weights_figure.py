"""The figure of a run shows weights and mixture."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from sws_compress.mixture.mixture import Mixture
from sws_compress.report.weights_figure import density_curve, shown_range, weights_figure


def test_curve_shows_peaks_narrower_than_a_pixel() -> None:
    mixture = Mixture(np.array([0.5, 0.5]), np.array([0.0, 0.3]), np.array([1e-12, 1e-2]))
    grid, density = density_curve(mixture, 0.5)
    assert (np.diff(grid) > 0).all()
    assert density.max() == pytest.approx(0.5 / np.sqrt(2 * np.pi * 1e-12), rel=1e-3)
    assert np.sum(np.diff(grid) * (density[1:] + density[:-1]) / 2) == pytest.approx(1.0, abs=0.03)


def test_figure_is_a_readable_picture(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    before = {name: (0.1 * random.standard_normal((40, 50))).astype(np.float32) for name in ("a", "b")}
    after = {name: np.round(values, 1) for name, values in before.items()}
    mixture = Mixture(np.array([0.6, 0.2, 0.2]), np.array([0.0, -0.1, 0.1]), np.full(3, 1e-3))
    weights_figure(before, after, dict.fromkeys(before, mixture), tmp_path / "weights.png")
    picture = matplotlib.image.imread(tmp_path / "weights.png")
    assert picture.shape[0] > 400
    assert picture.shape[1] > 1000
    blue = (picture[..., 2] > 0.7) & (picture[..., 0] < 0.3)
    left, right = np.array_split(blue.sum(0), 2)
    assert left.sum() > 500  # the mixture is drawn over both
    assert right.sum() > 500


def test_values_beyond_the_float_weights_are_shown() -> None:
    """A value of the last layer may end up outside of what the float weights reach, on either side."""
    before = np.array([[-0.5, 0.25], [0.1, 0.0]], np.float32)
    for after in (np.array([-0.8, 0.2], np.float32), np.array([-0.1, 0.9], np.float32), np.zeros(2, np.float32)):
        limit = shown_range(before, after)
        assert limit > np.abs(after).max()
        assert limit > 0.5
