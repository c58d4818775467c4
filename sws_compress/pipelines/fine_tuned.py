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
from sws_compress.pipelines.calls import positional, tried
from sws_compress.pipelines.fixed_weights import fixed_note, fixed_weights, snap_fixed
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.metrics import (
    constant_metric,
    measured,
    metric_before,
    metric_of,
    refuse_wrong_sense,
    wrong_sense_note,
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
from sws_compress.pipelines.watch import watching
from sws_compress.pipelines.weight_names import unnamed_note, with_names_settled
from sws_compress.report.result import CompressionResult, MeasuredSize
from sws_compress.requests import Goal
from sws_compress.train.request import FineTuned
from sws_compress.train.targets import USUAL_LOSS_SHARE, SteeringTarget

if TYPE_CHECKING:
    from torch import nn

    from sws_compress.train.loop import FineTuneResult
    from sws_compress.train.select import ParameterGroup, Selection

EXAMPLE_ROWS = 8
"""Rows of the first training batch that serve as example inputs."""

SEEN_ROWS = 128
"""Rows of it, at most, on which the values of biases and norms are judged."""

TRAIN_CURE = "yield tensors, several as a tuple or by the names of forward, before the targets"
"""What to do about batches that a module does not take."""

SIZE_TOLERANCE = 0.03
"""Relative miss of the size asked for up to which the result has no note."""

EXPECTED_RATIO = 20.0
"""How many times smaller a file is taken to become where no size is asked for."""


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
    request, seen = _checked_on_first_batch(module, network, request)
    if job.inputs is None:
        job = replace(job, inputs=_first_rows(seen, EXAMPLE_ROWS))
    source = opened or open_module(module, job)  # early: a module that cannot be exported must not cost a run
    asked = job.file
    job = replace(job, file=with_names_settled(asked, source.model, _bytes_asked_for(job.goal, source)))
    before = metric_before(source, job)
    fixed = fixed_weights(network, source, request)
    if fixed:
        request = _taught_by(module, request)
        snap_fixed(fixed, request.components, job.seed)
    job.on_progress("measuring the smallest file", 0, 0)
    chosen = [name for group in groups for name in group.names]
    template = Template(source, job.file, (*chosen, *fixed))
    scale = Scale(network, template, groups, request, job.seed, seen)
    target = _steering_target(request, job, source, scale, before)
    questions = _questioned(network, job, before, steered=target is not None and target.metric_drop is not None)
    tuned = _run(network, groups, scale, request, target, job)
    _refuse_not_finite(answers_of(network, source), source)
    result = publish_module(replace(source, model=template.model_of(network)), network, job)
    after = metric_of(network, job)
    notes = (
        *source.notes,
        *result.notes,
        *fixed_note(fixed),
        *_missed(target, result.file_bytes, tuned.broke, request.components),
        *questions,
        *_unasked(target, job),
        *_fallen(target, before, after, job.sense),
        *_forgotten(target, tuned.allowance_used),
        *_emptied(groups),
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


def _bytes_asked_for(goal: Goal | None, source: Source) -> float:
    """Bytes of the file, as far as they are known before the run."""
    if goal is not None and goal.target_bytes is not None:
        return goal.target_bytes
    return source.dense_bytes / (EXPECTED_RATIO if goal is None or goal.ratio is None else goal.ratio)


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


def _default_target(before: float | None, sense: Sense) -> SteeringTarget:
    """What a run without a goal is steered to: a share of the metric, or of what the network knows."""
    if before is None:
        return SteeringTarget(loss_share=USUAL_LOSS_SHARE)
    if before == 0:
        raise ArgumentError("max_drop must be given where evaluate returns 0 for the network, got none: say how far")
    return SteeringTarget(metric_drop=sense.usual_drop(before))


def _steering_target(
    request: FineTuned, job: Job, source: Source, scale: Scale, before: float | None
) -> SteeringTarget | None:
    """The goal as a number that training can measure; None where a price of a bit is given.

    Raises
    ------
    ArgumentError
        If a size is above that of the plain file, or below that of the smallest file.
    """
    if request.bit_price is not None:
        return None
    goal = job.goal
    if goal is None:
        return _default_target(before, job.sense)
    if goal.max_drop is not None:
        return SteeringTarget(metric_drop=goal.max_drop)
    if goal.target_bytes is not None:
        if not goal.target_bytes < source.dense_bytes:
            raise ArgumentError(
                f"target_bytes must be below the {source.dense_bytes} of the plain file, got {goal.target_bytes}: "
                "ask for fewer"
            )
        least = scale.least()
        if goal.target_bytes <= least.file_bytes:
            raise ArgumentError(
                f"target_bytes must be above {least.file_bytes} for this network, got {goal.target_bytes}: its "
                f"smallest file takes so many, {least.parts}"
            )
        return SteeringTarget(file_bytes=goal.target_bytes)
    ratio, least = goal.ratio or 1.0, scale.least()
    if not ratio * least.file_bytes < source.dense_bytes:
        raise ArgumentError(
            f"ratio must be below {source.dense_bytes / least.file_bytes:.2f} for this network, got {ratio}: "
            f"of its {source.dense_bytes} bytes the smallest file takes {least.file_bytes}, {least.parts}"
        )
    return SteeringTarget(file_bytes=round(source.dense_bytes / ratio))


def _questioned(network: nn.Module, job: Job, before: float | None, *, steered: bool) -> tuple[str, ...]:
    """A line if a network of constant outputs has a better metric.

    Raises
    ------
    ArgumentError
        If the run is steered by that metric: it would be steered to constant outputs.
    """
    constant = None if job.evaluate is None or before is None else constant_metric(network, job.evaluate)
    if before is None or constant is None:
        return ()
    if steered:
        refuse_wrong_sense(before, constant, job.sense)
    return wrong_sense_note(before, constant, job.sense)


def _run(
    network: nn.Module,
    groups: Sequence[ParameterGroup],
    scale: Scale,
    request: FineTuned,
    target: SteeringTarget | None,
    job: Job,
) -> FineTuneResult:
    """Train, snap and settle ``network``, in place."""
    from sws_compress.train.loop import fine_tune
    from sws_compress.train.measures import Measures

    evaluate = job.evaluate
    measures = Measures(file_bytes=scale.file_bytes, least_bytes=scale.least_bytes)
    if evaluate is not None:
        measures = replace(
            measures,
            validate=lambda: measured(network, evaluate),
            validate_file=lambda: measured(scale.settled(), evaluate),
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


def _missed(target: SteeringTarget | None, file_bytes: int, broke: bool, components: int) -> Iterable[str]:
    """A line if the run did not reach the size asked for, with the cure; ``broke`` if smaller networks did not work."""
    wanted = None if target is None else target.file_bytes
    if wanted is None or abs(file_bytes - wanted) <= SIZE_TOLERANCE * wanted:
        return
    if file_bytes < wanted:
        why = (
            f"with {components} values for each weight tensor the run found no better use for more; raise components= "
            "if it has lost too much"
        )
    elif broke:
        why = (
            "smaller networks no longer worked on the way (result.curve has their sizes and metrics); train for more "
            "epochs, or ask for a larger file"
        )
    else:
        why = "graph and codebooks take much of it; train for more epochs to come closer"
    yield f"the file has {file_bytes} bytes, {wanted} were asked for: {why}"


def _unasked(target: SteeringTarget | None, job: Job) -> Iterable[str]:
    """A line about what a run without a goal went for."""
    if job.goal is not None or target is None:
        return
    if target.metric_drop is not None:
        share = f"{job.sense.usual_share:.0%} of itself"
        allowed = f"metric {job.sense.falls} by at most {target.metric_drop:.4g} ({share})"
        yield f"no goal was given, so the file is as small as the run could make it while the {allowed}"
    if target.loss_share is not None:
        yield (
            "neither a goal nor evaluate was given, so the file is as small as the run could make it while the loss "
            f"rises by at most {target.loss_share:.0%} of the way to that of constant outputs"
        )


def _forgotten(target: SteeringTarget | None, used: float | None) -> Iterable[str]:
    """A line if more of what the network knows was lost than a run without a goal allows."""
    if target is not None and target.loss_share is not None and used is not None and not used <= 1:
        yield (
            f"the loss rose by {used * target.loss_share:.1%} of the way to that of constant outputs, more than the "
            f"{target.loss_share:.0%} allowed: train for more epochs, or with more components"
        )


def _fallen(target: SteeringTarget | None, before: float | None, after: float | None, sense: Sense) -> Iterable[str]:
    """A line if the metric got worse by more than was allowed, or is usual where nothing was said."""
    if before is None or after is None:
        return
    fall, drop = sense.drop(before, after), None if target is None else target.metric_drop
    if drop is not None and not fall <= drop:
        yield (
            f"the metric {sense.fell} by {fall:.4g}, {drop:g} were allowed: train for more epochs, or with more "
            "components"
        )
    if drop is None and not fall <= sense.usual_drop(before):
        yield (
            f"the metric {sense.fell} from {before:.4g} to {after:.4g}: ask for a larger file, train for more epochs, "
            "or say what is allowed with max_drop="
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


def _emptied(groups: Iterable[ParameterGroup]) -> Iterable[str]:
    """A line for every compressed parameter that holds nothing but zeros."""
    for group in groups:
        for name, parameter in zip(group.names, group.parameters, strict=True):
            if not parameter.any():
                yield f"{name} holds nothing but zeros: ask for a larger file, or train for more epochs"


def _checked_on_first_batch(
    module: nn.Module, network: nn.Module, request: FineTuned
) -> tuple[FineTuned, tuple[Any, ...]]:
    """The request with the loss that it will have, and rows of the first batch as positional arguments.

    Raises
    ------
    DataError, ArgumentError
        If the module does not take the batch, or if there is no loss of it that training could lower.
    """
    from sws_compress.train.batches import taken_apart
    from sws_compress.train.first_batch import check_batches, refuse_single_samples, settled

    batch = _first_batch(request)
    refuse_single_samples(request.train, batch)
    inputs = taken_apart(batch, module, labelled=request.loss is not None).inputs
    seen = positional(module, _first_rows(inputs, SEEN_ROWS))
    tried(module, _first_rows(seen, EXAMPLE_ROWS), "inputs of train", TRAIN_CURE)
    with evaluating(module):
        request = settled(request, module, batch)
    check_batches(network, request, batch)
    return request, seen


def _first_batch(request: FineTuned) -> Any:
    """The first batch; torch's generators stay as they are."""
    import torch

    from sws_compress.train.request import batches_of, no_batches

    with torch.random.fork_rng([]):  # a loader that shuffles draws
        for batch in batches_of(request.train):
            return batch
    raise no_batches()


def _first_rows(value: Any, rows: int) -> Any:
    """The first rows of a tensor, or of those in a tuple or dict; anything else as it is."""
    import torch

    if isinstance(value, tuple):
        return tuple(_first_rows(each, rows) for each in value)
    if isinstance(value, dict):
        return {name: _first_rows(each, rows) for name, each in value.items()}
    return value[:rows] if isinstance(value, torch.Tensor) and value.dim() else value


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
