"""The picture of the clusters: every weight matrix in the colours of its clusters. It needs matplotlib."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sws_compress.files import write_atomically
from sws_compress.report.cells import cell_strengths
from sws_compress.report.clustered import ClusteredTensor, axis_names
from sws_compress.report.colours import cluster_colours, diverging
from sws_compress.report.drawing import heading, short

Floats = npt.NDArray[np.float64]

MAX_CELLS = (400, 800)
"""Rows and columns of cells of a matrix. In a larger matrix a cell is several weights."""
MAX_SHARP_CELLS = (200, 400)
"""Rows and columns up to which a cell is at least a dot and a half, so that it can have sharp edges."""
MAX_KERNELS = 4096
"""Kernels that are drawn one by one; more of them are drawn as a matrix."""
MAX_BARS = 20
"""Clusters that have a labelled bar; more of them are lines on an axis of values."""
LARGEST_AXIS_START = 1.0
"""Percent at which the axis of shares starts at the latest, so that it has two powers of ten to label."""
MAX_LABELLED_CELLS = 49
"""Cells that are labelled with their numbers: a kernel of 7x7."""
PICTURES_PER_LINE, PICTURE_LINES = 24, 2
"""Rows of a matrix that are laid out like the input."""
PANEL_SHAPE = 2.4
"""Width of the panel of the weights over its height."""
DPI = 120
ROW_INCHES = 2.9
SLICES_INCHES = 1.5
BAR_EDGE_COLOUR = "#4b5563"
SHARE_COLOURS = LinearSegmentedColormap.from_list("shares", [(1.0, 1.0, 1.0), (0.2, 0.2, 0.25)])
"""Shares of weights from 0 to 100 %; not black, on which nothing can be seen."""
DARK_PERCENT = 55
"""Shares above it are so dark that they need white letters."""
SEAM_GREY = 0.9
"""Grey level between kernels, 0..1."""


def cluster_figure(tensors: Sequence[ClusteredTensor], inputs: Sequence[tuple[int, ...]], path: Path) -> None:
    """Draw tensors, one row each: their weights, their clusters, and where weights are not zero.

    Parameters
    ----------
    tensors : sequence of ClusteredTensor
        Tensors of two axes or more.
    inputs : sequence of tuple of int
        Shape of one sample of every model input. An axis of a matrix that is as long as an input is laid out like it.
    path : Path
        The PNG file to write.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    layouts = [input_layout(tensor.shape, inputs) for tensor in tensors]
    heights = [
        inches for layout in layouts for inches in ([ROW_INCHES] if layout is None else [ROW_INCHES, SLICES_INCHES])
    ]
    figure = Figure(figsize=(13, 0.5 + sum(heights)), dpi=DPI, layout="constrained")
    figure.suptitle("Blue: weights below zero, red: above, white: zero; one shade per cluster", fontsize=11)
    grid = figure.add_gridspec(len(heights), 3, width_ratios=(3.4, 1.3, 1.4), height_ratios=heights)
    row = 0
    for tensor, layout in zip(tensors, layouts, strict=True):
        _draw_weights(figure.add_subplot(grid[row, 0]), tensor)
        _draw_clusters(figure.add_subplot(grid[row, 1]), tensor)
        _draw_live(figure.add_subplot(grid[row, 2]), tensor, layout)
        if layout is not None:
            row += 1
            _draw_slices(figure.add_subplot(grid[row, :]), tensor, layout)
        row += 1
    buffer = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # letters of names are boxes then
        figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomically(path, buffer.getvalue())


# -- the weights ------------------------------------------------------------------------------------------------------


def _draw_weights(axes: Axes, tensor: ClusteredTensor) -> None:
    shape = "x".join(map(str, tensor.shape))
    heading(axes, f"{short(tensor.name)} ({shape}, {tensor.palette.indices.size:,} weights)")
    kernels = math.prod(tensor.shape[:2])
    if len(tensor.shape) == 4 and math.prod(tensor.shape[2:]) > 1 and kernels <= MAX_KERNELS:
        _show(axes, kernels_image(tensor))
        axes.set(xticks=[], yticks=[], anchor="W")
        below = "kernels, each a small square; those of one output channel side by side"
        axes.set_xlabel(below, fontsize=8, loc="left")
        return
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    image, (tall, wide) = matrix_image(tensor)
    _show(axes, image, aspect="auto", extent=(0, columns, rows, 0))
    names = ("row", "column") if len(tensor.shape) == 2 else ("output channel", "input channel, kernel position")
    axes.set_ylabel(names[0], fontsize=8)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator("auto", integer=True))  # a lone row has no half ones
    each = "a point is a weight" if (tall, wide) == (1, 1) else f"a point is the mean of {tall}x{wide} weights"
    axes.set_xlabel(f"{names[1]} ({each})", fontsize=8)
    axes.tick_params(labelsize=8)


def _show(axes: Axes, image: Floats, **options: Any) -> None:
    """Draw cells with sharp edges if each is several dots, else with the mean colours of neighbouring cells."""
    coarse = image.shape[0] <= MAX_SHARP_CELLS[0] and image.shape[1] <= MAX_SHARP_CELLS[1]
    axes.imshow(image, interpolation="nearest" if coarse else "auto", **options)


def matrix_image(tensor: ClusteredTensor) -> tuple[Floats, tuple[int, int]]:
    """Colours of a tensor as a matrix.

    Parameters
    ----------
    tensor : ClusteredTensor
        A tensor of two axes or more; those after the first are joined.

    Returns
    -------
    image : ndarray, shape (rows, columns, 3)
        RGB, 0..1, of at most `MAX_CELLS` cells.
    cell : (int, int)
        Rows and columns of weights that a cell stands for. Its colour is the mean of theirs; cells at the far edges may
        have fewer.
    """
    strengths, cell = cell_strengths(tensor, MAX_CELLS)
    return diverging(strengths), cell


def kernels_image(tensor: ClusteredTensor) -> Floats:
    """Colours of all kernels of a convolution side by side, about as wide as the panel (`PANEL_SHAPE`).

    Parameters
    ----------
    tensor : ClusteredTensor
        A tensor of shape (out, in, height, width).

    Returns
    -------
    ndarray, shape (rows, columns, 3)
        RGB, 0..1. Kernels of one output channel lie side by side, with seams of `SEAM_GREY` between all kernels.
    """
    out, inner, height, width = tensor.shape
    colours = cluster_colours(tensor.palette.codebook)[tensor.palette.indices.reshape(tensor.shape)]
    many = math.sqrt(PANEL_SHAPE * out * (height + 1) / (inner * (width + 1)))  # groups in a line, for that shape
    lower = max(1, math.floor(many))
    return _tiled(colours, lower if many**2 <= lower * (lower + 1) else lower + 1)


def _tiled(pictures: Floats, groups: int) -> Floats:
    """Pictures (n, m, height, width, 3) side by side with seams; each line has ``groups`` groups of m pictures."""
    count, m, height, width, _ = pictures.shape
    groups = min(count, groups)
    lines = math.ceil(count / groups)
    tiles = np.full((lines * groups, m, height + 1, width + 1, 3), SEAM_GREY)
    tiles[:count, :, :height, :width] = pictures
    grid = tiles.reshape(lines, groups * m, height + 1, width + 1, 3).transpose(0, 2, 1, 3, 4)
    return grid.reshape(lines * (height + 1), groups * m * (width + 1), 3)[:-1, :-1]


# -- the clusters -----------------------------------------------------------------------------------------------------


def _draw_clusters(axes: Axes, tensor: ClusteredTensor) -> None:
    """Share of the weights in every cluster, which is also the key to the colours."""
    means = np.array([cluster.mean for cluster in tensor.clusters])
    percent = np.array([100 * cluster.share for cluster in tensor.clusters])
    colours = cluster_colours(means)
    clusters = f"{len(means)} cluster{'s' if len(means) > 1 else ''}"
    axes.set_title(f"{clusters}, {percent[means == 0].sum():.1f} % zeros", fontsize=10, loc="left")
    lowest = min(0.5 * percent.min(), LARGEST_AXIS_START)
    if len(means) <= MAX_BARS:
        axes.barh(np.arange(len(means)), percent, color=colours, edgecolor=BAR_EDGE_COLOUR, linewidth=0.8)
        axes.set_yticks(np.arange(len(means)), [f"{mean:.3g}" for mean in means])
        axes.set(xscale="log", xlim=(lowest, 150))
        axes.set_xlabel("% of the weights", fontsize=8)
        axes.set_ylabel("value of the cluster", fontsize=8)
    else:
        axes.vlines(means, lowest, percent, color=colours, linewidth=2)
        axes.set(yscale="log", ylim=(lowest, 150))
        axes.set_xlabel("value of the cluster", fontsize=8)
        axes.set_ylabel("% of the weights", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


# -- where the live weights are ---------------------------------------------------------------------------------------


def _draw_live(axes: Axes, tensor: ClusteredTensor, layout: InputLayout | None) -> None:
    """Percentage of weights that are not zero, laid out like the input or the kernel, or by sorted rows and columns."""
    percent = 100 * tensor.live()
    if layout is not None:
        by_input = percent.mean(1 - layout.axis).reshape(-1, layout.height, layout.width).mean(0)
        _draw_share(axes, by_input, "not zero, by place in the input")
        return
    if len(tensor.shape) == 4 and math.prod(tensor.shape[2:]) > 1:
        _draw_share(axes, percent.mean((0, 1)), "not zero, by place in the kernel")
        return
    names = [f"{name}s" for name in axis_names(tensor.shape)[:2]]
    for axis, along, colour in zip((0, 1), names, ("#b2182b", "#2166ac"), strict=True):
        shares = np.sort(np.moveaxis(percent, axis, 0).reshape(tensor.shape[axis], -1).mean(1))[::-1]
        line = np.append(shares, shares[-1])
        axes.plot(np.linspace(0, 100, len(line)), line, drawstyle="steps-post", color=colour, label=along)
    axes.set_title("not zero, in falling order", fontsize=10, loc="left")
    axes.set(xlim=(0, 100), ylim=(0, max(1.05 * axes.dataLim.y1, 1)))
    axes.set_xlabel(f"% of the {', of the '.join(names)}", fontsize=8)
    axes.set_ylabel("% of their weights", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_share(axes: Axes, percent: Floats, title: str) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.set(xticks=[], yticks=[])
    labelled = percent.size <= MAX_LABELLED_CELLS
    if not labelled and np.ptp(percent) == 0:
        axes.text(0.5, 0.5, f"{percent.flat[0]:.3g} % everywhere", ha="center", fontsize=9, transform=axes.transAxes)
        return
    # A kernel of much the same everywhere shall look so, and a picture shall use all greys.
    image = axes.imshow(percent, cmap=SHARE_COLOURS, vmin=0, vmax=100 if labelled else percent.max())
    if labelled:
        axes.set_xlabel("% of the weights", fontsize=8)
        for (row, column), share in np.ndenumerate(percent):
            colour = "white" if share > DARK_PERCENT else "black"
            axes.text(column, row, f"{share:.3g}", ha="center", va="center", fontsize=8, color=colour)
        return
    assert axes.figure is not None
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label("% of the weights", fontsize=8)
    bar.ax.tick_params(labelsize=8)


def _draw_slices(axes: Axes, tensor: ClusteredTensor, layout: InputLayout) -> None:
    """The rows or columns with the most weights that are not zero, laid out like the input: what a unit looks at."""
    slices = np.moveaxis(tensor.palette.indices.reshape(tensor.shape), layout.axis, 1)
    live = np.moveaxis(tensor.live(), layout.axis, 1).sum(1)
    count = min(PICTURES_PER_LINE * PICTURE_LINES, len(slices))
    chosen = np.sort(np.argsort(-live, kind="stable")[:count])
    colours = cluster_colours(tensor.palette.codebook)[slices[chosen]]
    tiles = colours.reshape(count, -1, layout.height, layout.width, 3).mean(1)
    other = "row" if layout.axis == 1 else "column"
    _show(axes, _tiled(tiles[:, None], PICTURES_PER_LINE))
    axes.set(xticks=[], yticks=[])
    heading(
        axes,
        f"{short(tensor.name)}: the {count} {other}s with the most weights that are not zero, each laid out like the "
        f"input ({layout.height}x{layout.width}): what one unit looks at",
    )


@dataclass(frozen=True)
class InputLayout:
    """An axis of a matrix that is as long as an input of the model, which is a picture.

    Parameters
    ----------
    axis : int
        0 for rows, 1 for columns.
    height, width : int
        Size of the picture. The axis may hold several, one per channel.
    """

    axis: int
    height: int
    width: int


def input_layout(shape: tuple[int, ...], inputs: Sequence[tuple[int, ...]]) -> InputLayout | None:
    """How an axis of a matrix is laid out like an input.

    Parameters
    ----------
    shape : tuple of int
        Shape of the weight.
    inputs : sequence of tuple of int
        Shape of one sample of every model input; () where it is not known.

    Returns
    -------
    InputLayout or None
        The last two dimensions of an input, or a square for an input of one dimension. None if the weight is no matrix,
        if no axis is as long as an input, or if its length is no square.
    """
    if len(shape) != 2:
        return None
    for axis in (1, 0):
        for sample in inputs:
            if not sample or math.prod(sample) != shape[axis]:
                continue
            side = math.isqrt(shape[axis])
            if len(sample) > 1:
                return InputLayout(axis, *sample[-2:])
            if side * side == shape[axis] and side > 1:
                return InputLayout(axis, side, side)
    return None
