"""Colours of clusters tell them apart."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps

from sws_compress.report.colours import cluster_colours, cluster_strengths, diverging


def test_colours_diverge_from_white() -> None:
    means = np.array([0.4, -0.01, 0.0, 0.02, -0.3])
    red, blue = cluster_colours(means)[:, 0], cluster_colours(means)[:, 2]
    assert cluster_colours(means)[2].tolist() == [1, 1, 1]
    assert (np.sign(red - blue) == np.sign(means)).all()
    strengths = cluster_strengths(means)
    assert strengths[0] > strengths[3] > 0 > strengths[1] > strengths[4]
    assert np.abs(strengths[means != 0]).min() >= 0.3  # not to be taken for zero
    np.testing.assert_allclose(cluster_strengths(1000 * means), strengths)


def test_colours_are_those_of_matplotlib() -> None:
    strengths = np.array([-1, -0.7, -0.1, 0.05, 0.4, 1])
    expected = colormaps["RdBu_r"](0.5 + strengths / 2)[:, :3]  # of 256 colours
    np.testing.assert_allclose(diverging(strengths), expected, atol=0.02)
