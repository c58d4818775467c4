"""Whether a model file keeps within a size and a metric, for builds that shall fail where it does not."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sws_compress.arguments import number, whole_number
from sws_compress.errors import ArgumentError
from sws_compress.files import AnyPath, file_path
from sws_compress.onnx_io.read.on_disk import bytes_on_disk, stored_model
from sws_compress.pipelines.file_metric import finite, metric
from sws_compress.report.budget_check import BudgetCheck


def check(
    path: AnyPath,
    *,
    max_bytes: int | None = None,
    evaluate: Callable[[Path], float] | None = None,
    min_metric: float | None = None,
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
        The metric, a function of the path of an ONNX file; higher is better.
    min_metric : float, optional
        The least metric that passes, in units of ``evaluate``.
    original : str or path, optional
        The model that was compressed, for ``max_drop``.
    max_drop : float, optional
        How far the metric may be below that of ``original``; >= 0.

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
    max_bytes, min_metric, max_drop = _limits(max_bytes, min_metric, max_drop)
    by_metric = min_metric is not None or max_drop is not None
    if by_metric and evaluate is None:
        raise ArgumentError("min_metric and max_drop must come with evaluate, got none: name the metric (--evaluate)")
    if (max_drop is None) != (original is None):
        given, missing = ("original", "max_drop") if max_drop is None else ("max_drop", "original")
        raise ArgumentError(f"{given} must come with {missing}, got it alone: give both, or neither")
    file = file_path("path", path)
    stored_model(file)
    found = None if evaluate is None else _measured(evaluate, file)
    least = [] if min_metric is None else [min_metric]
    if max_drop is not None and original is not None and evaluate is not None:
        before = file_path("original", original)
        stored_model(before)
        least.append(_measured(evaluate, before) - max_drop)
    return BudgetCheck(file, bytes_on_disk(file), max_bytes, found, max(least, default=None))


def _limits(
    max_bytes: int | None, min_metric: float | None, max_drop: float | None
) -> tuple[int | None, float | None, float | None]:
    """The limits as numbers. Raises ArgumentError if there is none, or if one is out of range."""
    if max_bytes is None and min_metric is None and max_drop is None:
        raise ArgumentError(
            "a check must have a limit, got none: give max_bytes (--max-bytes), min_metric (--min-metric) or max_drop "
            "(--max-drop)"
        )
    if max_bytes is not None:
        max_bytes = whole_number("max_bytes", max_bytes)
        if max_bytes <= 0:
            raise ArgumentError(f"max_bytes must be > 0, got {max_bytes}: give the bytes that the file may have")
    if min_metric is not None:
        min_metric = number("min_metric", min_metric)
        if math.isnan(min_metric):
            raise ArgumentError("min_metric must be a number, got nan: give the least metric that passes")
    if max_drop is not None:
        max_drop = number("max_drop", max_drop)
        if not max_drop >= 0:
            raise ArgumentError(f"max_drop must be >= 0, got {max_drop}: it is how far the metric may fall")
    return max_bytes, min_metric, max_drop


def _measured(evaluate: Callable[[Any], float], path: Path) -> float:
    return finite(metric(evaluate, path, "the path of an ONNX file"))
