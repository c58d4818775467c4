"""Drawings of a page as paths of SVG: the curve of sizes, and the weights of a tensor."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sws_compress.report.inspection import TensorRow
from sws_compress.report.result import DENSE, MeasuredSize
from sws_compress.report.weight_charts import WeightChart

CHART_WIDTH, CHART_HEIGHT = 320, 110
CURVE_WIDTH, CURVE_HEIGHT = 640, 240
CURVE_LEFT, CURVE_RIGHT, CURVE_TOP, CURVE_BOTTOM = 62, 620, 14, 206
"""Edges of the panel of the curve within its drawing."""

LEAST_COUNT = 0.5
"""Weights where the logarithmic axis of counts begins: a lone weight is seen."""

MAX_WIDE_STEMS = 48
"""Values of a codebook up to which their stems are wide."""

MAX_TICKS = 4
MIN_GAP = 58
"""Distance of labels on the axis of bytes."""

Floats = npt.NDArray[np.float64]


def chart_drawing(chart: WeightChart, row: TensorRow) -> dict[str, Any]:
    """Paths, labels and texts of a chart, for the template."""
    top = max(float(chart.counts.max()), float(chart.members.max(initial=0)), float(chart.expected.max(initial=0)), 1)
    edges = np.linspace(0, CHART_WIDTH, len(chart.counts) + 1)
    places = CHART_WIDTH * (chart.codebook - chart.low) / (chart.high - chart.low)
    stems = zip(places, _heights(chart.members, top), strict=True)
    zero = CHART_WIDTH * -chart.low / (chart.high - chart.low)
    labels = [(0.0, "start", f"{chart.low:.3g}"), (float(CHART_WIDTH), "end", f"{chart.high:.3g}")]
    if 50 < zero < CHART_WIDTH - 50:
        labels.append((round(zero, 1), "middle", "0"))
    tall, wide = chart.cell
    each = "a weight" if chart.cell == (1, 1) else f"the mean of {tall}x{wide} weights"
    count = row.distinct_values
    values = "" if row.encoding == DENSE else f", {count:,} value{'' if count == 1 else 's'}"
    return {
        "name": chart.name,
        "text": f"{'x'.join(map(str, row.shape)) or 'scalar'}{values}",
        "width": CHART_WIDTH,
        "height": CHART_HEIGHT,
        "histogram": f"{_steps(edges, _heights(chart.counts, top))}V{CHART_HEIGHT}Z",
        "mixture": _steps(edges, _heights(chart.expected, top)) if chart.mixture is not None else "",
        "dense": len(chart.codebook) > MAX_WIDE_STEMS,
        "codebook": "".join(f"M{x:.1f} {CHART_HEIGHT}V{y:.1f}" for x, y in stems),
        "labels": [dict(zip(("x", "anchor", "text"), label, strict=True)) for label in labels],
        "picture": f"data:image/png;base64,{base64.b64encode(chart.png).decode()}" if chart.png else "",
        "picture_text": f"a point is {each}",
    }


def _heights(counts: npt.NDArray[Any], top: float) -> Floats:
    """Vertical places of counts on the logarithmic axis, from the top."""
    share = np.log(np.maximum(counts, LEAST_COUNT) / LEAST_COUNT) / math.log(top / LEAST_COUNT)
    heights: Floats = CHART_HEIGHT * (1 - share)
    return heights


def _steps(edges: Floats, heights: Floats) -> str:
    """A path of horizontal and vertical lines; equal neighbours are one line."""
    path = f"M0 {CHART_HEIGHT}"
    for index, height in enumerate(heights):
        if index == 0 or height != heights[index - 1]:
            path += f"H{edges[index]:.1f}V{height:.1f}"
    return f"{path}H{edges[-1]:.1f}"


def curve_drawing(curve: Sequence[MeasuredSize], file_bytes: int, before: float | None) -> dict[str, Any] | None:
    """The sizes that were tried with the metric there, for the template; None for fewer than two."""
    points = sorted((size for size in curve if math.isfinite(size.metric)), key=lambda size: size.file_bytes)
    if len(points) < 2:
        return None
    metrics = [size.metric for size in points] + ([before] if before is not None and math.isfinite(before) else [])
    low, high = _widened(min(metrics), max(metrics))
    least, most = _widened(math.log(points[0].file_bytes), math.log(points[-1].file_bytes))

    def x(count: float) -> float:
        return round(CURVE_LEFT + (math.log(count) - least) / (most - least) * (CURVE_RIGHT - CURVE_LEFT), 1)

    def y(metric: float) -> float:
        return round(CURVE_BOTTOM - (metric - low) / (high - low) * (CURVE_BOTTOM - CURVE_TOP), 1)

    return {
        "text": "Files that were measured; the orange one was written, and the dashed line is the float network."
        if len(metrics) > len(points)
        else "Files that were measured; the orange one was written.",
        "width": CURVE_WIDTH,
        "height": CURVE_HEIGHT,
        "left": CURVE_LEFT,
        "right": CURVE_RIGHT,
        "bottom": CURVE_BOTTOM,
        "before": y(metrics[-1]) if len(metrics) > len(points) else None,
        "path": "M" + "L".join(f"{x(size.file_bytes)} {y(size.metric)}" for size in points),
        "points": [
            {
                "x": x(size.file_bytes),
                "y": y(size.metric),
                "kind": "written" if size.file_bytes == file_bytes else "tried",
                "radius": 6 if size.file_bytes == file_bytes else 4,
                "text": f"{size.metric:.4g} at {size.file_bytes:,} bytes",
            }
            for size in points
        ],
        "ticks_y": [{"y": y(value), "text": f"{value:.4g}"} for value in _ticks(low, high)],
        "ticks_x": _apart([{"x": x(size.file_bytes), "text": f"{size.file_bytes:,}"} for size in points]),
    }


def _widened(low: float, high: float) -> tuple[float, float]:
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers within a range, at most some `MAX_TICKS`."""
    rough = (high - low) / MAX_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _apart(labels: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those labels, from the left, that are far enough from the one before."""
    kept: list[dict[str, Any]] = []
    for label in labels:
        if not kept or label["x"] - kept[-1]["x"] >= MIN_GAP:
            kept.append(label)
    return kept
