"""The report about a file: gathered from the file, its original and the result, and written as a page or as JSON."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from sws_compress.errors import DataError, ModelError, OutputError, VerificationError
from sws_compress.files import AnyPath, checked_output, file_path, write_atomically
from sws_compress.mixture.mixture import Mixture
from sws_compress.onnx_io.analyse.index_ranges import index_ranges
from sws_compress.onnx_io.analyse.inputs import model_inputs
from sws_compress.onnx_io.external_data import StoredModel
from sws_compress.onnx_io.read.on_disk import bytes_on_disk, lifted, stored_model
from sws_compress.ort.all_weights import StoredWeight, StoredWeights
from sws_compress.ort.running_cost import RunningCost, running_cost
from sws_compress.ort.session import Array
from sws_compress.ort.user_models import DECODABLE, callers_file, feeds_with_answers, open_model
from sws_compress.pipelines.clusters import clustered_weight
from sws_compress.pipelines.inspect import inspect_model
from sws_compress.pipelines.job import DEFAULT_LIMITS, Limits
from sws_compress.report.file_reports import Inspection
from sws_compress.report.html_page import html_page
from sws_compress.report.inspection import TensorRow
from sws_compress.report.loading_code import ModelInput, loading_code
from sws_compress.report.model_report import ModelReport, charted_tensors
from sws_compress.report.result import CompressionResult
from sws_compress.report.weight_charts import WeightChart, weight_chart
from sws_compress.terminal.printing import json_text
from sws_compress.terminal.progress_bar import LOGGER

WRITERS: dict[str, Callable[[ModelReport], str]] = {
    ".html": html_page,
    ".json": lambda report: json_text(report.to_json()),
}
"""How a report becomes text, by the ending of its file."""

Original: TypeAlias = AnyPath | Mapping[str, Array] | None
"""The model that was compressed: an ONNX file, or weights by name."""


def save_report(
    path: AnyPath, output: AnyPath, *, original: Original = None, result: CompressionResult | None = None
) -> Path:
    """Write all that is known of a model file into one page.

    The page is a single file that asks no server for anything: bytes before and after, the metric, where the bytes are,
    a table of the tensors, their histograms, mixtures and codebooks, their clusters on the matrices, what decoding
    costs, warnings, and how to load the file.

    Parameters
    ----------
    path : str or path
        A model file, compressed or not.
    output : str or path
        Where the report goes: a page (``.html``), or the same as data (``.json``), without pictures.
    original : str, path, or mapping of str to ndarray, optional
        The model that was compressed: an ONNX file, or its weights by name. Histograms are of its weights then.
    result : CompressionResult, optional
        What `compress` returned for this file.

    Returns
    -------
    Path
        ``output``.

    Raises
    ------
    ModelError
        If a file is no sound model.
    OutputError
        If the report has another ending, or cannot be written.

    Notes
    -----
    At most 32 tensors are drawn, those with the most bytes, and the page stays below 2 MB. The file is decoded once
    more, some tensors at a time.

    Examples
    --------
    >>> import numpy as np, onnx, sws_compress as sws
    >>> text = '<ir_version: 8, opset_import: ["": 17]> net (float[n, 64] x) => (float[n, 64] y) {y = MatMul(x, w)}'
    >>> weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    >>> model = onnx.parser.parse_model(text)
    >>> model.graph.initializer.extend([onnx.numpy_helper.from_array(weight, "w")])
    >>> onnx.save(model, "model.onnx")
    >>> result = sws.compress("model.onnx", "small.onnx")

    >>> sws.save_report("small.onnx", "report.html", original="model.onnx", result=result).name
    'report.html'
    """
    target = report_output(output)
    write_report(gathered(file_path("path", path), original, result), target)
    return target


def write_report(report: ModelReport, target: Path) -> None:
    """Write a report to a path of `report_output`."""
    write_atomically(target, WRITERS[target.suffix.lower()](report).encode())


def report_output(output: AnyPath) -> Path:
    """The path of a report, if one can be written there; it is checked before the work starts.

    Raises
    ------
    OutputError
        If it cannot be written, or if its ending is none of `WRITERS`.
    """
    target = checked_output(output, "report")
    if target.suffix.lower() not in WRITERS:
        raise OutputError(
            f"report {target} must end in {' or '.join(WRITERS)}, got {target.suffix or 'no ending'}: "
            "the ending says what it becomes"
        )
    return target


def gathered(
    path: Path, original: Original, result: CompressionResult | None, limits: Limits = DEFAULT_LIMITS
) -> ModelReport:
    """All that a report tells of a file; running is not measured above ``limits.model_bytes``."""
    model = stored_model(path)
    with callers_file(path, *DECODABLE):
        parts = inspect_model(model)
    rows = parts.rows if result is None else _with_own_names(parts.rows, result.tensors)
    names = charted_tensors(rows)
    own_names = {stored.name: row.name for stored, row in zip(parts.rows, rows, strict=True) if row.name in names}
    mixtures = {} if result is None else result.mixtures
    inputs = [ModelInput(*entry) for entry in model_inputs(model.proto)]
    before = Path(original) if isinstance(original, str | os.PathLike) else None
    cost, cost_before = _costs(path, before, model, limits)
    charts = {chart.name: chart for chart in _charts(model, own_names, _weights_before(original), mixtures)}
    return ModelReport(
        inspection=Inspection(path, bytes_on_disk(path), replace(parts, rows=rows)),
        result=result,
        original_bytes=None if before is None else bytes_on_disk(before),
        charts={name: charts[name] for name in names if name in charts},
        code=loading_code(path.name, inputs, [output.name for output in model.proto.graph.output]),
        cost=cost,
        cost_before=cost_before,
    )


def _costs(
    path: Path, original: Path | None, model: StoredModel, limits: Limits
) -> tuple[RunningCost | None, RunningCost | None]:
    """What a file and its original take on random inputs; None for a large one, and where it does not run on these."""
    sizes = [bytes_on_disk(file) for file in (path, original) if file is not None]
    if max(sizes) > limits.model_bytes:
        return None, None
    try:
        with open_model(path) as session:
            feeds, _ = feeds_with_answers(session, path, None, seed=0, ranges=index_ranges(lifted(model)))
        return running_cost(path, feeds), None if original is None else running_cost(original, feeds)
    except (ModelError, DataError, VerificationError) as error:
        LOGGER.info("running was not measured: %s", error)
        return None, None


def _with_own_names(stored: tuple[TensorRow, ...], told: tuple[TensorRow, ...]) -> tuple[TensorRow, ...]:
    """The rows of a file under the names that the result has for them: those in the file may have been shortened."""
    same = len(stored) == len(told) and all(
        replace(row, name=other.name) == other for row, other in zip(stored, told, strict=True)
    )
    return told if same else stored


def _weights_before(original: Original) -> Callable[[str], Array | None]:
    """The weights of the original by name; None where it has none of that name."""
    if original is None:
        return lambda name: None
    if isinstance(original, Mapping):
        return original.get
    path = Path(original)
    stored = StoredWeights(stored_model(path), together_elements=0)

    def weights(name: str) -> Array | None:
        with callers_file(path, *DECODABLE):
            found = stored.get(name)
        return None if found is None else found.values

    return weights


def _charts(
    model: StoredModel,
    own_names: Mapping[str, str],
    before: Callable[[str], Array | None],
    mixtures: Mapping[str, Mixture],
) -> Iterator[WeightChart]:
    """The charts of some tensors, one after the other; their own names are given by those in the file."""
    for weight in _each(model, own_names):
        name = own_names[weight.name]
        original = before(name)
        clusters = clustered_weight(weight, original)
        values = weight.values
        if weight.factors is not None:
            values, scales = weight.factors
            if original is not None and original.shape == values.shape:
                original = np.divide(original, scales, dtype=np.float32, casting="unsafe")
            else:
                original = None
        chart = weight_chart(name, values, clusters, original, mixtures.get(name))
        if chart is not None:
            yield chart


def _each(model: StoredModel, names: Collection[str]) -> Iterator[StoredWeight]:
    with callers_file(model.path or Path(), *DECODABLE):
        yield from StoredWeights(model).each(names)


def weights_of_module(module: Any) -> dict[str, Array]:
    """Weights of a torch module by name, on the CPU, as they are now."""
    return {
        name: np.asarray(tensor.detach().float().cpu().numpy())
        for name, tensor in module.state_dict().items()
        if tensor.is_floating_point()
    }
