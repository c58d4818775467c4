"""The mode that trains: the alternating loop on a copy of a torch module, steered to a size or a metric."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sws_compress.errors import ArgumentError, TrainingError
from sws_compress.files import AnyPath, checked_output
from sws_compress.messages import shown
from sws_compress.metric_sense import Sense
from sws_compress.module_modes import evaluating
from sws_compress.ort.session import Array
from sws_compress.pipelines.calls import EXAMPLE_ROWS, positional, tried
from sws_compress.pipelines.fixed_weights import fixed_note, fixed_weights, snap_fixed
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.metrics import (
    measured,
    metric_before,
    metric_of,
)
from sws_compress.pipelines.projected import Scale, Template
from sws_compress.pipelines.publish import publish_module
from sws_compress.pipelines.source import (
    Source,
    answers_of,
    as_module,
    copied,
    open_module,
    refuse_other_float,
)
from sws_compress.pipelines.trainable_file import trainable_file
from sws_compress.pipelines.training_goal import bytes_asked_for, questioned, steering_target
from sws_compress.pipelines.training_notes import emptied_note, fallen_note, forgotten_note, missed_note, unasked_note
from sws_compress.pipelines.watch import watching
from sws_compress.pipelines.weight_names import unnamed_note, with_names_settled
from sws_compress.report.result import CompressionResult, MeasuredSize
from sws_compress.train.request import FineTuned
from sws_compress.train.targets import SteeringTarget

if TYPE_CHECKING:
    from torch import nn

    from sws_compress.train.fine_tune_result import FineTuneResult
    from sws_compress.train.select import ParameterGroup, Selection

SEEN_ROWS = 128
"""Rows of it, at most, on which the values of biases and norms are judged."""

TRAIN_CURE = "yield tensors, several as a tuple or by the names of forward, before the targets"
"""What to do about batches that a module does not take."""


def fine_tune_module(model: nn.Module | AnyPath, request: FineTuned, job: Job) -> CompressionResult:
    """Train a copy of a module under soft weight sharing, snap it, verify the file and write it.

    Parameters
    ----------
    model : nn.Module, str or path
        The module; it is not changed. An ONNX file becomes one, which learns from its float outputs.
    request : FineTuned
        Data, loss and settings of the run.
    job : Job
        Everything else. Without example inputs, the first rows of the training data serve.

    Raises
    ------
    ArgumentError
        If ``model`` is no module, or if the goal cannot be reached by any weights or contradicts the request.
    ModelError
        If the module cannot be exported, or if there is nothing to compress.
    DataError
        If the training data do not yield what is needed.
    TrainingError
        If the loss or a weight becomes NaN or infinite. The last good state is saved then.
    VerificationError
        If the file does not do what the snapped network does.
    """
    _check_request(request, job)
    opened = None
    if isinstance(model, str | os.PathLike):
        opened, request, job = trainable_file(Path(model), request, job)
    module = as_module(model if opened is None else opened.module)
    network = copied(module)
    request = replace(request, parameters=_selection(request.parameters))
    groups = float32_groups(network, request)
    request, seen, examples = _checked_on_first_batch(module, network, request)
    if job.inputs is None:
        job = replace(job, inputs=examples)
    source = opened or open_module(module, job)  # early: a module that cannot be exported must not cost a run
    asked = job.file
    job = replace(job, file=with_names_settled(asked, source.model, bytes_asked_for(job.goal, source)))
    before = metric_before(source, job)
    fixed = fixed_weights(network, source, request)
    if fixed:
        request = _taught_by(module, request)
        snap_fixed(fixed, request.components, job.seed)
    job.on_progress("measuring the smallest file", 0, 0)
    chosen = [name for group in groups for name in group.names]
    template = Template(source, job.file, (*chosen, *fixed))
    scale = Scale(network, template, groups, request, job.seed, seen)
    target = steering_target(request, job, source, scale, before)
    questions = questioned(network, job, before, steered=target is not None and target.metric_drop is not None)
    tuned = _run(network, groups, scale, request, target, before, job)
    _refuse_not_finite(answers_of(network, source), source)
    result = publish_module(replace(source, model=template.model_of(network)), network, job)
    after = metric_of(network, job)
    notes = (
        *source.notes,
        *result.notes,
        *fixed_note(fixed),
        *missed_note(target, result.file_bytes, tuned.broke, request.components),
        *questions,
        *unasked_note(target, job),
        *fallen_note(target, before, after, job.sense),
        *forgotten_note(target, tuned.allowance_used),
        *emptied_note(groups),
        *unnamed_note(job.file, asked, source.model),
    )
    return replace(
        result,
        before=before,
        after=after,
        network=network,
        mixtures=tuned.mixtures,
        curve=_curve(tuned.curve, result.file_bytes, after, job.sense),
        notes=notes,
        trained=True,
    )


def _selection(parameters: Selection | None) -> Selection | None:
    """The selection, names as a tuple: they are read more than once."""
    several = parameters is not None and not callable(parameters) and not isinstance(parameters, str)
    return tuple(parameters) if several else parameters  # type: ignore[arg-type]


def _taught_by(module: nn.Module, request: FineTuned) -> FineTuned:
    """The request with the original as its teacher, if it has none: the copy's frozen weights are clustered."""
    distillation = request.distillation
    if distillation is None or distillation.teacher is not None:
        return request
    return replace(request, distillation=replace(distillation, teacher=module))


def _check_request(request: FineTuned, job: Job) -> None:
    if request.state is not None:
        checked_output(request.state, "state")
    if request.bit_price is not None and job.goal is not None:
        (given,) = job.goal.given
        raise ArgumentError(f"{given} must be left out with bit_price, got both: ask for one of them")


def _run(
    network: nn.Module,
    groups: Sequence[ParameterGroup],
    scale: Scale,
    request: FineTuned,
    target: SteeringTarget | None,
    before: float | None,
    job: Job,
) -> FineTuneResult:
    """Train, snap and settle ``network``, in place; ``before`` is the metric of the original."""
    from sws_compress.train.loop import fine_tune
    from sws_compress.train.measures import Measures

    evaluate = job.evaluate
    measures = Measures(file_bytes=scale.file_bytes, least_bytes=scale.least_bytes)
    if evaluate is not None:
        measures = replace(
            measures,
            validate=lambda: measured(network, evaluate),
            validate_file=lambda: measured(scale.settled(), evaluate),
            validate_float=None if before is None else lambda: before,
            sense=job.sense,
        )
    with watching(job.on_progress, request.log, request.frames) as watch:
        tuned = fine_tune(
            network,
            request,
            target,
            seed=job.seed,
            groups=groups,
            measures=measures,
            rescue_path=job.output.with_name(f"{job.output.name}.state") if request.state is None else None,
            on_progress=watch.on_progress,
            on_step=watch.on_step,
        )
    scale.settle(network)
    return tuned


def _refuse_not_finite(outputs: Sequence[Array], source: Source) -> None:
    """Raise TrainingError if outputs of the trained network are NaN or infinite where the original's are not."""
    for name, values, wanted in zip(source.output_names, outputs, source.outputs, strict=True):
        if np.isfinite(wanted).all() and not np.isfinite(values).all():
            raise TrainingError(
                f"output {shown(name)} must stay finite, got NaN or infinite values of the trained network: ask for a "
                "larger file, or leave weights that it divides by out with parameters="
            )


def _curve(
    measured: Iterable[tuple[int, float]], file_bytes: int, after: float | None, sense: Sense
) -> tuple[MeasuredSize, ...]:
    """The file and the networks on the way that no smaller one was better than, the largest first."""
    if after is None:
        return ()
    sizes = sorted({*measured, (file_bytes, after)}, key=lambda size: (size[0], -sense.signed(size[1])))
    front: list[MeasuredSize] = []
    for size, metric in sizes:
        if size == file_bytes or not front or sense.drop(front[-1].metric, metric) < 0:
            front.append(MeasuredSize(size, metric))
    return tuple(reversed(front))


def _checked_on_first_batch(
    module: nn.Module, network: nn.Module, request: FineTuned
) -> tuple[FineTuned, tuple[Any, ...], tuple[Any, ...]]:
    """The request with the loss that it will have, and rows of the first batch as positional arguments, many and few.

    Raises
    ------
    DataError, ArgumentError
        If the module does not take the batch, or if there is no loss of it that training could lower.
    """
    from sws_compress.train.batches import taken_apart
    from sws_compress.train.first_batch import check_batches, first_rows, refuse_single_samples, settled

    batch = _first_batch(request)
    refuse_single_samples(request.train, batch)
    inputs = taken_apart(batch, module, labelled=request.loss is not None).inputs
    seen = positional(module, first_rows(inputs, SEEN_ROWS))
    examples = first_rows(seen, EXAMPLE_ROWS)
    tried(module, examples, "inputs of train", TRAIN_CURE)
    with evaluating(module):
        request = settled(request, module, batch)
    check_batches(network, request, batch)
    return request, seen, examples


def _first_batch(request: FineTuned) -> Any:
    """The first batch; torch's generators stay as they are."""
    import torch

    from sws_compress.train.request import batches_of, no_batches

    with torch.random.fork_rng([]):  # a loader that shuffles draws
        for batch in batches_of(request.train):
            return batch
    raise no_batches()


def float32_groups(network: nn.Module, request: FineTuned) -> tuple[ParameterGroup, ...]:
    """The parameters to compress.

    Raises
    ------
    ModelError
        If there are none, or if one of them is not float32.
    """
    from sws_compress.train.select import frozen_weights, plain_name, select_parameters

    parameters = request.parameters
    if parameters is not None and not callable(parameters):
        frozen = {id(parameter) for parameter in frozen_weights(network, parameters).values()}
        named = network.named_parameters(remove_duplicate=False)
        left_out = {plain_name(name) for name, parameter in named if id(parameter) in frozen}
        parameters = [name for name in parameters if plain_name(name) not in left_out]
    groups = select_parameters(network, parameters, sharing=request.sharing)
    for group in groups:
        for name, parameter in zip(group.names, group.parameters, strict=True):
            refuse_other_float(name, parameter)
    return groups
