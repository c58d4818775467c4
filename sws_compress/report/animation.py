"""The animation of a run: histograms of weights that gather at the means of their mixtures. It needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from sws_compress.files import write_atomically
from sws_compress.mixture.mixture import Array, Mixture, log_joint
from sws_compress.report.colours import cluster_colours
from sws_compress.report.drawing import heading, short
from sws_compress.report.frames import Snapshot

MAX_PANELS = 3
"""Parameters that are drawn: those with the most weights."""
MAX_SHADES = 17
"""Colours of bars; more clusters share them."""
PALETTE_COLOURS = 64
PALETTE_FRAMES = 6
"""Frames that the colours of all frames are chosen from."""
FRAME_MILLISECONDS = 120
LAST_FRAME_MILLISECONDS = 3000
DPI = 80
AXIS_BOTTOM = 0.7
"""Lower end of the logarithmic axis, in weights: a single weight shows."""
PIN_MARGIN = 0.02
"""What lies beyond the last pin, as a share of the axis."""
MIN_PIN_WEIGHTS = 1.5
"""Clusters of fewer weights have no pin: pi of an empty cluster is kept at that of one weight."""
ZERO_COLOUR = "#9aa0a6"
CURVE_COLOUR = "#111827"

SOFT_STAGE = "soft"
"""The stage in which the network computes with the weights that are shown, not with the values of the clusters."""

STAGE_CAPTIONS = {
    SOFT_STAGE: "soft stage: every weight is pulled towards the mixture, and the mixture follows the weights",
    "hard": "hard stage: the network computes with one value per cluster; the latent weights decide the assignment",
    "tune": "tuning: each weight stays in its cluster; only the values of the clusters still move",
}
START_CAPTION = "before the first step: the weights of the float network, and a first mixture"
BARS = "bars: how many weights have a value, in the colours of the clusters (grey: zero)"
LEGENDS = {True: f"{BARS};  line: the mixture", False: f"{BARS};  pins: the values that the network uses"}


def write_gif(snapshots: Sequence[Snapshot], path: Path) -> None:
    """Draw one frame per snapshot, with a panel for each of the `MAX_PANELS` parameters with the most weights.

    Parameters
    ----------
    snapshots : sequence of Snapshot
        At least one; all have the parameters and the bins of the first.
    path : Path
        The GIF file to write.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    pictures = [Image.fromarray(frame) for frame in _frames(snapshots)]
    # One palette for all frames, from a few of them: fewer bytes, and colours that do not flicker.
    few = [pictures[i * (len(pictures) - 1) // (PALETTE_FRAMES - 1)] for i in range(PALETTE_FRAMES)]
    palette = Image.fromarray(np.vstack([np.asarray(picture) for picture in few])).quantize(PALETTE_COLOURS)
    indexed = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    durations = [FRAME_MILLISECONDS] * (len(indexed) - 1) + [LAST_FRAME_MILLISECONDS]
    buffer = BytesIO()
    indexed[0].save(buffer, "GIF", save_all=True, append_images=indexed[1:], duration=durations, loop=0)
    write_atomically(path, buffer.getvalue())


def _frames(snapshots: Sequence[Snapshot]) -> list[npt.NDArray[np.uint8]]:
    """RGB images, uint8. What all frames share is drawn once, so that each takes a few milliseconds."""
    names = _largest(snapshots[0])
    figure = Figure(figsize=(9.5, 1.2 + 1.9 * len(names)), dpi=DPI, layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)
    axes = figure.subplots(len(names), 1, squeeze=False)[:, 0]
    panels = [_Panel(part, name, snapshots) for part, name in zip(axes, names, strict=True)]
    axes[-1].set_xlabel("value of the weight")
    title = figure.suptitle("\n\n", fontsize=10, x=0.01, ha="left")
    canvas.draw()
    figure.set_layout_engine("none")
    title.set_animated(True)
    canvas.draw()
    background = canvas.copy_from_bbox(figure.bbox)
    frames = []
    for snapshot in snapshots:
        canvas.restore_region(background)
        title.set_text(_title(snapshot, snapshots[-1].step))
        figure.draw_artist(title)
        for panel in panels:
            panel.draw(snapshot)
        frames.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return frames


def _title(snapshot: Snapshot, last: int) -> str:
    caption = START_CAPTION if snapshot.step == 0 else STAGE_CAPTIONS[snapshot.stage]
    return f"step {snapshot.step:,} of {last:,}\n{caption}\n{LEGENDS[snapshot.stage == SOFT_STAGE]}"


def _largest(snapshot: Snapshot) -> list[str]:
    """Names of the parameters with the most weights, in the order of the model."""
    by_size = sorted(snapshot.histograms, key=lambda name: -snapshot.histograms[name].count)[:MAX_PANELS]
    return [name for name in snapshot.histograms if name in by_size]


class _Panel:
    """One parameter: bars in the colours of the clusters, and the density of the mixture, both in weights per bin.

    In the hard stage and after it, pins replace the density: they show how many weights have each value.
    """

    def __init__(self, axes: Axes, name: str, snapshots: Sequence[Snapshot]) -> None:
        first = snapshots[0].histograms[name]
        self.axes, self.name = axes, name
        self.centres, self.step = first.centres, (first.high - first.low) / first.bins
        edges = np.linspace(first.low, first.high, first.bins + 1)
        self.grid = np.linspace(first.low, first.high, 6 * first.bins)
        components = snapshots[0].mixtures[name].components
        self.bars = [
            axes.stairs(np.zeros(first.bins), edges, fill=True, baseline=AXIS_BOTTOM / 10, animated=True)
            for _ in range(min(components, MAX_SHADES))
        ]
        (self.curve,) = axes.plot([], [], color=CURVE_COLOUR, linewidth=1.0, animated=True)
        self.pins = axes.vlines([0.0], 0, 0, linewidth=2.5, animated=True)
        self.heads = axes.scatter([], [], marker="o", s=30, edgecolor=CURVE_COLOUR, zorder=3, animated=True)
        self.ticks = axes.scatter([], [], marker="^", s=22, color=CURVE_COLOUR, clip_on=False, zorder=3, animated=True)
        axes.set(yscale="log", ylim=(AXIS_BOTTOM, 2 * first.count), xlim=shown_range(name, snapshots), ylabel="weights")
        heading(axes, f"{short(name)}: {first.count:,.0f} weights")
        axes.spines[["top", "right"]].set_visible(False)

    def draw(self, snapshot: Snapshot) -> None:
        counts, mixture = snapshot.histograms[self.name].counts, _sorted(snapshot.mixtures[self.name])
        colours = np.where(mixture.means[:, None] == 0, to_rgb(ZERO_COLOUR), cluster_colours(mixture.means))
        soft = snapshot.stage == SOFT_STAGE
        shades = np.arange(mixture.components) * len(self.bars) // mixture.components
        shade = shades[np.argmax(log_joint(self.centres, mixture), axis=0)]
        for i, bars in enumerate(self.bars):
            members = np.flatnonzero(shades == i)
            palest = members[np.argmin(np.abs(mixture.means[members]))]  # zero keeps its own colour
            bars.set_data(np.where(shade == i, counts, 0.0))
            bars.set_color((*colours[palest], 1.0 if soft else 0.45))
            self.axes.draw_artist(bars)
        if soft:
            density = _per_bin(mixture, self.grid, self.step) * counts.sum()
            self.curve.set_data(self.grid, np.maximum(density, AXIS_BOTTOM / 10))
            self.axes.draw_artist(self.curve)
        else:
            self._draw_pins(mixture, mixture.weights * counts.sum(), colours)
        self.ticks.set_offsets(np.column_stack([mixture.means, np.full(mixture.components, AXIS_BOTTOM)]))
        self.axes.draw_artist(self.ticks)

    def _draw_pins(self, mixture: Mixture, heights: Array, colours: Array) -> None:
        heights = np.where(heights < MIN_PIN_WEIGHTS, AXIS_BOTTOM / 10, heights)
        tops = np.column_stack([mixture.means, heights])
        self.pins.set_segments([[(mean, AXIS_BOTTOM / 10), (mean, top)] for mean, top in tops])
        self.pins.set_color(list(map(tuple, colours)))
        self.heads.set_offsets(tops)
        self.heads.set_facecolor(list(map(tuple, colours)))
        self.axes.draw_artist(self.pins)
        self.axes.draw_artist(self.heads)


def shown_range(name: str, snapshots: Sequence[Snapshot]) -> tuple[float, float]:
    """The axis of weights: all bins, and every value that the network uses at any time, which may lie beyond them."""
    first = snapshots[0].histograms[name]
    means = np.concatenate([snapshot.mixtures[name].means for snapshot in snapshots])
    margin = PIN_MARGIN * (max(first.high, means.max()) - min(first.low, means.min()))
    return float(min(first.low, means.min() - margin)), float(max(first.high, means.max() + margin))


def _sorted(mixture: Mixture) -> Mixture:
    """The mixture with its components in the order of their means."""
    order = np.argsort(mixture.means)
    return Mixture(mixture.weights[order], mixture.means[order], mixture.variances[order])


def _per_bin(mixture: Mixture, grid: Array, step: float) -> Array:
    """Share of the weights in a bin of width ``step`` about each point, smoothed so that no peak is thinner than it."""
    wide = Mixture(mixture.weights, mixture.means, mixture.variances + (step / 2) ** 2)
    density: Array = np.exp(wide.log_density(grid)) * step
    return density
