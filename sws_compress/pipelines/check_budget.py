"""Whether a model file keeps within a size and a metric, for builds that shall fail where it does not."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sws_compress.arguments import number, whole_number
from sws_compress.errors import ArgumentError
from sws_compress.files import AnyPath, file_path
from sws_compress.metric_sense import Sense
from sws_compress.onnx_io.read.on_disk import bytes_on_disk, stored_model
from sws_compress.pipelines.file_metric import finite, metric
from sws_compress.report.budget_check import BudgetCheck


def check(
    path: AnyPath,
    *,
    max_bytes: int | None = None,
    evaluate: Callable[[Path], float] | None = None,
    worst_metric: float | None = None,
    mode: str = "max",
    original: AnyPath | None = None,
    max_drop: float | None = None,
) -> BudgetCheck:
    """Check the size of a model file, and how good it is.

    Parameters
    ----------
    path : str or path
        An ONNX file, compressed or not; external data counts.
    max_bytes : int, optional
        The largest size that passes; > 0.
    evaluate : callable, optional
        The metric, a function of the path of an ONNX file.
    worst_metric : float, optional
        The worst metric that passes, in units of ``evaluate``.
    mode : str
        "max" if more of ``evaluate`` is better, "min" if less is.
    original : str or path, optional
        The model that was compressed, for ``max_drop``.
    max_drop : float, optional
        How much worse the metric may be than that of ``original``; >= 0.

    Returns
    -------
    BudgetCheck
        Size and metric beside their limits; ``passed`` tells whether the file keeps within all of them.

    Raises
    ------
    ArgumentError
        If there is no limit, or if a limit is out of range or lacks what it needs.
    ModelError
        If the file is no sound model.
    DataError
        If ``evaluate`` raises, or returns no finite number.

    Examples
    --------
    >>> import numpy as np, onnx, sws_compress as sws
    >>> text = '<ir_version: 8, opset_import: ["": 17]> net (float[n, 64] x) => (float[n, 64] y) {y = MatMul(x, w)}'
    >>> model = onnx.parser.parse_model(text)
    >>> model.graph.initializer.extend([onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "w")])
    >>> onnx.save(model, "model.onnx")
    >>> sws.check("model.onnx", max_bytes=10_000).passed
    False
    """
    max_bytes, worst_metric, max_drop = _limits(max_bytes, worst_metric, max_drop)
    sense = Sense.of(mode)
    by_metric = worst_metric is not None or max_drop is not None
    if by_metric and evaluate is None:
        raise ArgumentError("worst_metric and max_drop must come with evaluate, got none: name the metric (--evaluate)")
    if (max_drop is None) != (original is None):
        given, missing = ("original", "max_drop") if max_drop is None else ("max_drop", "original")
        raise ArgumentError(f"{given} must come with {missing}, got it alone: give both, or neither")
    file = file_path("path", path)
    stored_model(file)
    found = None if evaluate is None else _measured(evaluate, file)
    limits = [] if worst_metric is None else [worst_metric]
    if max_drop is not None and original is not None and evaluate is not None:
        before = file_path("original", original)
        stored_model(before)
        limits.append(sense.signed(sense.signed(_measured(evaluate, before)) - max_drop))
    return BudgetCheck(file, bytes_on_disk(file), max_bytes, found, max(limits, key=sense.signed, default=None), mode)


def _limits(
    max_bytes: int | None, worst_metric: float | None, max_drop: float | None
) -> tuple[int | None, float | None, float | None]:
    """The limits as numbers. Raises ArgumentError if there is none, or if one is out of range."""
    if max_bytes is None and worst_metric is None and max_drop is None:
        raise ArgumentError(
            "a check must have a limit, got none: give max_bytes (--max-bytes), worst_metric (--worst-metric) or "
            "max_drop (--max-drop)"
        )
    if max_bytes is not None:
        max_bytes = whole_number("max_bytes", max_bytes)
        if max_bytes <= 0:
            raise ArgumentError(f"max_bytes must be > 0, got {max_bytes}: give the bytes that the file may have")
    if worst_metric is not None:
        worst_metric = number("worst_metric", worst_metric)
        if math.isnan(worst_metric):
            raise ArgumentError("worst_metric must be a number, got nan: give the worst metric that passes")
    if max_drop is not None:
        max_drop = number("max_drop", max_drop)
        if not max_drop >= 0:
            raise ArgumentError(f"max_drop must be >= 0, got {max_drop}: it is how far the metric may fall")
    return max_bytes, worst_metric, max_drop


def _measured(evaluate: Callable[[Any], float], path: Path) -> float:
    return finite(metric(evaluate, path, "the path of an ONNX file"))
