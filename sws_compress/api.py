"""The public calls that write a compressed file; each checks its arguments and hands on to one pipeline."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sws_compress.arguments import check_kind
from sws_compress.errors import ArgumentError
from sws_compress.file_options import FileOptions
from sws_compress.files import AnyPath, file_path
from sws_compress.metric_sense import Sense
from sws_compress.packages import packages_for
from sws_compress.pipelines.calibrated import compress_calibrated
from sws_compress.pipelines.calibration_examples import with_examples
from sws_compress.pipelines.export import export_snapped
from sws_compress.pipelines.file_metric import FileMetric
from sws_compress.pipelines.fine_tuned import fine_tune_module
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.joined_model import joined_model
from sws_compress.pipelines.low_bit import compress_to_low_bits
from sws_compress.pipelines.save_report import report_output, save_report, weights_of_module
from sws_compress.pipelines.source import as_module, open_source
from sws_compress.pipelines.weights_only import compress_weights
from sws_compress.quantize.palette import Palette
from sws_compress.report.result import CompressionResult
from sws_compress.requests import Calibrated, Goal, LowBit, Request, WeightsOnly, cure_of, refuse_unknown
from sws_compress.terminal.progress_bar import LOGGER, OnProgress, progress_of
from sws_compress.train.request import FineTuned

if TYPE_CHECKING:
    from torch import nn

WEIGHTS_ONLY = WeightsOnly()
DEFAULT_FILE = FileOptions()


def compress(
    model: nn.Module | AnyPath,
    output: AnyPath,
    request: Request = WEIGHTS_ONLY,
    *,
    ratio: float | None = None,
    target_bytes: int | None = None,
    max_drop: float | None = None,
    evaluate: Callable[[Any], float] | None = None,
    mode: str = "max",
    keep: Sequence[str] = (),
    overrides: Mapping[str, WeightsOnly] | None = None,
    weights: AnyPath | None = None,
    file: FileOptions = DEFAULT_FILE,
    example_inputs: Any = None,
    strict: bool = False,
    seed: int = 0,
    progress: bool | OnProgress = True,
    report: AnyPath | None = None,
) -> CompressionResult:
    """Compress a network into a small ONNX file of standard operators.

    Nothing is written unless the file passes: the ONNX checker and ONNX Runtime accept it, every decoded weight equals
    the snapped one bit for bit, its outputs agree with those of the snapped network, and it is smaller than the plain
    file. A model is never changed in place.

    Parameters
    ----------
    model : str, path or torch.nn.Module
        An ONNX file or a torch module.
    output : str or path
        Where the small file goes.
    request : WeightsOnly, Calibrated, LowBit or FineTuned
        What to do. `WeightsOnly` rounds the weights without data, `Calibrated` assigns them with a few inputs,
        `LowBit` keeps matrices in 4 or 8 bits while the model runs, and `FineTuned` trains the network, which gives
        the smallest files.
    ratio : float, optional
        Calibrated and FineTuned: how many times smaller than the plain ONNX file the file becomes. FineTuned without
        any goal makes it as small as it can while ``evaluate`` falls by at most 1 % of itself; without ``evaluate``,
        while the loss rises by at most 1 % of the way to that of constant outputs.
    target_bytes : int, optional
        Calibrated and FineTuned: bytes of the file. Sizes are met within 2 and 3 %; otherwise the result has a note.
    max_drop : float, optional
        Calibrated and FineTuned: how far the metric may fall, in units of ``evaluate``, or rise with ``mode="min"``.
        The file becomes as small as the run can make it.
    evaluate : callable, optional
        A metric. Of a torch module it gets the module, in evaluation mode, of an ONNX file the path
        of an ONNX file. It is measured before and after, in training also after every epoch from the hard stage on, and
        of every file that is tried for ``max_drop``. Use data that neither calibration, training nor your report uses.
    mode : {"max", "min"}
        Whether more or less of ``evaluate`` is better. With "min", the metric may rise by 10 % of itself where nothing
        else is said.
    keep : sequence of str
        WeightsOnly and Calibrated: weights that stay as they are. A pattern is a name or a glob over the names of
        weights, such as ``"head.*"``, or over the operators that read them, such as ``"op:Gather"``.
    overrides : mapping of str to WeightsOnly, optional
        WeightsOnly and Calibrated: how weights are rounded from their values alone, by pattern. The last that matches
        counts.
    weights : str or path, optional
        ONNX files: where initialisers without data, and inputs that are weights, have it: a safetensors file, a folder
        of them, or their index. Names and shapes are those of the graph; narrower floats are widened.
    file : FileOptions
        What the file is like: load budget, names, embeddings, pruning.
    example_inputs : optional
        Torch modules: the arguments of one call, as a tuple, as a dict by name, or a lone tensor; two rows or more
        leave the batch dimension free. By default the first rows of the training data or of the calibration inputs.
        ONNX files: arrays by input name, or the path of an .npz file of them, for the check; by default random.
    strict : bool
        Refuse a network whose outputs cannot be compared with the original's. By default its weights are compared bit
        for bit, and a note says what was not compared.
    seed : int
        Seed of training and of random inputs; >= 0.
    progress : bool or callable
        True draws a progress bar on standard error if that is a terminal, or in a notebook (with ipywidgets); it
        vanishes at the end. False draws none. A function is called as ``progress(description, done, total)`` as the
        work goes, in training after every step; the total is 0 where it is not known. What is done also goes to the
        logger ``sws_compress``.

    Returns
    -------
    CompressionResult
        Sizes, a row per tensor, the snapped module (for torch modules), and the mixtures.

    Raises
    ------
    ArgumentError
        If an argument is out of range, or if the mode does not take it.
    ModelError
        If the model cannot be read, exported or compressed.
    DataError
        If inputs or training data do not fit the model.
    OutputError
        If the output cannot be written.
    TrainingError
        If the loss or a weight becomes NaN or infinite.
    VerificationError
        If the written file does not do what the snapped network does. The old output stays.

    Notes
    -----
    Files with more than 256 MiB of weights are streamed: weights are coded by radix words, which load fastest, and
    checked one by one, without running the network. `Calibrated` streams those with more than 512 MiB, to a quality. It
    keeps finished work in a folder beside the output, ``OUTPUT.sws-work``, until the file is written: a run that was
    killed goes on there.

    Examples
    --------
    >>> import numpy as np, onnx, sws_compress as sws
    >>> text = '<ir_version: 8, opset_import: ["": 17]> net (float[n, 64] x) => (float[n, 64] y) {y = MatMul(x, w)}'
    >>> weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    >>> model = onnx.parser.parse_model(text)
    >>> model.graph.initializer.extend([onnx.numpy_helper.from_array(weight, "w")])
    >>> onnx.save(model, "model.onnx")

    >>> result = sws.compress("model.onnx", "small.onnx")
    >>> result.ratio > 4
    True
    >>> result.output_error < 0.1
    True

    >>> few = sws.WeightsOnly(components=16, granularity=sws.PerChannel())
    >>> sws.compress("model.onnx", "few.onnx", few).tensors[0].distinct_values
    16
    """
    job = Job(
        output=file_path("output", output),
        goal=Goal.of(ratio=ratio, target_bytes=target_bytes, max_drop=max_drop),
        file=file,
        inputs=example_inputs,
        evaluate=evaluate,
        sense=Sense.of(mode),
        keep=_patterns(keep),
        overrides=overrides or {},
        strict=strict,
        seed=seed,
    )
    refuse_unknown(request, job.given)
    if max_drop is not None and evaluate is None:
        raise ArgumentError("max_drop must come with evaluate, got none: pass the metric that may fall so far")
    if mode != "max" and evaluate is None:
        raise ArgumentError(f"mode must come with evaluate, got {mode!r} alone: pass the metric that it is about")
    of_file = isinstance(model, str | os.PathLike)
    page = None if report is None else report_output(report)
    with ExitStack() as stack:
        stack.enter_context(packages_for(type(request).__name__ if of_file else "torch modules"))
        job = replace(job, on_progress=stack.enter_context(progress_of(progress)))
        if weights is not None:
            if not isinstance(model, str | os.PathLike):
                raise ArgumentError("weights must come with an ONNX file, got a module: load them into it")
            model = stack.enter_context(joined_model(Path(model), file_path("weights", weights), job.output))
        result = _logged(replace(_compressed(model, request, job), cure=cure_of(request, job.goal)))
        if page is not None:
            original = model if isinstance(model, str | os.PathLike) else weights_of_module(model)
            save_report(result.output, page, original=original, result=result)
        return result


def _compressed(model: nn.Module | AnyPath, request: Request, job: Job) -> CompressionResult:
    """What the way of a request makes of a model."""
    if isinstance(request, FineTuned):
        return fine_tune_module(model, request, job)
    if isinstance(request, Calibrated) and not isinstance(model, str | os.PathLike):
        request, job = with_examples(as_module(model), request, job)
    source = open_source(model, job)
    if source.path is not None and job.evaluate is not None:
        job = replace(job, evaluate=None, file_metric=FileMetric(job.evaluate, source.path))
    if isinstance(request, Calibrated):
        return compress_calibrated(source, request, job)
    if isinstance(request, LowBit):
        return compress_to_low_bits(source, request, job)
    return compress_weights(source, request, job)


def _logged(result: CompressionResult) -> CompressionResult:
    """The result, after the log was told of it."""
    for decision in result.decisions:
        LOGGER.debug("%s: %s bytes, decided by %s", decision.name, decision.file_bytes, decision.how)
    for note in result.notes:
        LOGGER.info("%s", note)
    for warning in result.warnings:
        LOGGER.warning("%s", warning)
    LOGGER.info("%s", result.verdict)
    return result


def _patterns(keep: Sequence[str]) -> tuple[str, ...]:
    if isinstance(keep, str) or not isinstance(keep, Sequence):
        raise ArgumentError(f"keep must be a sequence of patterns, got {keep!r}: put them into a list")
    return tuple(keep)


def export(
    model: nn.Module,
    palettes: Mapping[str, Palette],
    output: AnyPath,
    *,
    example_inputs: Any,
    file: FileOptions = DEFAULT_FILE,
    progress: bool | OnProgress = True,
) -> CompressionResult:
    """Write a snapped torch module as a small ONNX file, for example after ``SoftWeightSharing.snap``.

    The file is checked and written as by `compress`.

    Parameters
    ----------
    model : torch.nn.Module
        The module; its parameters hold the values of ``palettes``, bit for bit.
    palettes : mapping of str to Palette
        Palettes by parameter name, as ``snap`` returns them.
    output : str or path
        Where the file goes.
    example_inputs
        The arguments of one call, as a tuple, as a dict by name, or a lone tensor; two rows or more leave the batch
        dimension free.
    file : FileOptions
        What the file is like.
    progress : bool or callable
        As for `compress`.

    Returns
    -------
    CompressionResult
        Sizes, and a row per tensor; ``network`` is ``model`` itself.

    Raises
    ------
    ArgumentError
        If a palette names no parameter.
    ModelError
        If a parameter does not hold the values of its palette, or if the module cannot be exported.
    OutputError
        If the output cannot be written.
    VerificationError
        If the written file does not do what the module does. The old output stays.

    Examples
    --------
    >>> import torch, sws_compress as sws
    >>> net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 8))
    >>> prior = sws.SoftWeightSharing(net, torch.optim.Adam(net.parameters()), components=8)
    >>> palettes = prior.snap()  # after a training loop that calls prior.step() and prior.update()
    >>> result = sws.export(net, palettes, "small.onnx", example_inputs=torch.zeros(2, 64))
    >>> result.ratio > 3
    True
    """
    check_kind("palettes", palettes, Mapping, "what prior.snap() returned")
    job = Job(output=file_path("output", output), file=file, inputs=example_inputs)
    with packages_for("torch modules"), progress_of(progress) as on_progress:
        return _logged(export_snapped(model, palettes, replace(job, on_progress=on_progress)))
