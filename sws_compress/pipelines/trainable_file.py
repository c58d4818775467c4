"""An ONNX file that enters the training loop: its graph in torch, taught by its own float outputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sws_compress.errors import ArgumentError, ModelError
from sws_compress.onnx_io.analyse.draws import draws
from sws_compress.onnx_io.analyse.nothing_to_do import refuse_nothing_to_do
from sws_compress.onnx_io.write.serialise import plain_bytes
from sws_compress.pipelines.calibration_inputs import calibration_feeds
from sws_compress.pipelines.file_metric import FileMetric
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.projected import Template
from sws_compress.pipelines.source import Source, in_memory, open_file, refuse_checkpoint
from sws_compress.pipelines.twins import NoTwinError, readouts_of, twin_of_graph
from sws_compress.pipelines.untrained import weights_of
from sws_compress.train.request import FineTuned

if TYPE_CHECKING:
    from torch import nn


def trainable_file(path: Path, request: FineTuned, job: Job) -> tuple[Source, FineTuned, Job]:
    """Open a file, and make its graph a module.

    Parameters
    ----------
    path : Path
        The file.
    request : FineTuned
        Its ``train`` are inputs, as those of `Calibrated`.
    job : Job
        Its metric takes the path of a file.

    Returns
    -------
    source : Source
        The file with a module, which computes what its graph does.
    request : FineTuned
        Batches with the answers of the module as targets.
    job : Job
        Its metric takes a module, and measures the file that it makes.

    Raises
    ------
    ArgumentError
        If a loss or a teacher is given.
    ModelError
        If there is no sound model, nothing to compress in it, or no module that computes the same.
    DataError
        If the inputs do not fit.
    """
    for name in ("loss", "distillation"):
        if getattr(request, name) is not None:
            raise ArgumentError(
                f"{name} must be left out for an ONNX file, got {getattr(request, name)}: it learns from its own "
                "float outputs"
            )
    refuse_checkpoint(path)
    source = open_file(path, job)
    feeds = calibration_feeds(request.train, source)
    if job.inputs is None:
        job = replace(job, inputs=feeds[0])
    source = in_memory(source, job)
    assert source.feeds is not None  # inputs were given: whatever does not run is refused
    weights = weights_of(source)
    refuse_nothing_to_do(source.name, source.model, weights)
    names = [weight.name for weight in weights]
    try:
        if draws(source.model):
            raise NoTwinError("the network draws random numbers")
        twin = twin_of_graph(source.model, names, source.feeds, source.output_names)
    except NoTwinError as error:
        raise ModelError(f"{path} must be covered to be trained, got: {error}: compress it with Calibrated") from error
    from sws_compress.train.taught_batches import TaughtBatches

    batches = TaughtBatches(twin.network, [twin.arguments(each) for each in feeds], readouts_of(source.model))
    source = replace(source, module=twin.network, examples=twin.arguments(source.feeds))
    taught = replace(request, train=batches, loss=batches.loss, parameters=request.parameters or names)
    return source, taught, _measuring(source, job)


def _measuring(source: Source, job: Job) -> Job:
    """The job with a metric of modules: that of the file that a module makes."""
    if job.evaluate is None or source.path is None:
        return job
    metric, template = FileMetric(job.evaluate, source.path), Template(source, job.file, ())

    def evaluate(network: nn.Module) -> float:
        return metric.of(plain_bytes(template.model_of(network)))

    return replace(job, evaluate=evaluate)
