"""The mode that trains: the alternating loop on a copy of a torch module, steered to a size or a metric."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sws_compress.errors import ArgumentError, ModelError
from sws_compress.files import AnyPath, checked_output
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.projected import Scale, Template
from sws_compress.pipelines.publish import publish_module
from sws_compress.pipelines.source import Source, as_module, copied, measured, metric_of, open_module
from sws_compress.pipelines.watch import watching
from sws_compress.report.result import CompressionResult
from sws_compress.requests import DEFAULT_RATIO, Goal
from sws_compress.train.request import FineTuned
from sws_compress.train.targets import SteeringTarget

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sws_compress.mixture.mixture import Mixture
    from sws_compress.train.select import ParameterGroup

EXAMPLE_ROWS = 8
"""Rows of the first training batch that serve as example inputs."""

SIZE_TOLERANCE = 0.03
"""Relative miss of the size asked for up to which the result has no note."""


def fine_tune_module(model: nn.Module | AnyPath, request: FineTuned, job: Job) -> CompressionResult:
    """Train a copy of a module under soft weight sharing, snap it, verify the file and write it.

    Parameters
    ----------
    model : nn.Module
        The module; it is not changed. Files cannot be trained.
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
    module = as_module(model)
    network = copied(module)
    groups = float32_groups(network, request)
    if job.inputs is None:
        job = replace(job, inputs=first_inputs(module, request))
    source = open_module(module, job)  # early: a module that cannot be exported must not cost a run
    template = Template(source, job.file)
    before = metric_of(module, job)
    scale = Scale(network, template, groups, request, job.seed)
    target = _steering_target(request, job.goal, source, scale)
    mixtures = _run(network, groups, scale, request, target, job)
    result = publish_module(replace(source, model=template.model_of(network)), network, job)
    after = metric_of(network, job)
    notes = (*result.notes, *_missed(target, result.file_bytes, before, after), *_emptied(groups))
    return replace(result, before=before, after=after, network=network, mixtures=mixtures, notes=notes, trained=True)


def _check_request(request: FineTuned, job: Job) -> None:
    if request.state is not None:
        checked_output(request.state, "state")
    if request.bit_price is not None and job.goal is not None:
        (given,) = job.goal.given
        raise ArgumentError(f"{given} must be left out with bit_price, got both: ask for one of them")
    if job.goal is not None and job.goal.max_drop is not None and job.evaluate is None:
        raise ArgumentError("max_drop must come with evaluate, got none: pass the metric that may fall so far")


def _steering_target(request: FineTuned, goal: Goal | None, source: Source, scale: Scale) -> SteeringTarget | None:
    """The goal as a number that training can measure; None where a price of a bit is given.

    Raises
    ------
    ArgumentError
        If a size is above that of the plain file, or below that of the graph alone.
    """
    if request.bit_price is not None:
        return None
    goal = goal or Goal(ratio=DEFAULT_RATIO)
    if goal.max_drop is not None:
        return SteeringTarget(metric_drop=goal.max_drop)
    if goal.target_bytes is not None:
        if not goal.target_bytes < source.dense_bytes:
            raise ArgumentError(
                f"target_bytes must be below the {source.dense_bytes} of the plain file, got {goal.target_bytes}: "
                "ask for fewer"
            )
        least_bytes = scale.least_bytes()
        if goal.target_bytes <= least_bytes:
            raise ArgumentError(
                f"target_bytes must be above the {least_bytes} of its graph alone, got {goal.target_bytes}: "
                "ask for more"
            )
        return SteeringTarget(file_bytes=goal.target_bytes)
    ratio = DEFAULT_RATIO if goal.ratio is None else goal.ratio
    least_bytes = scale.least_bytes()
    if not ratio * least_bytes < source.dense_bytes:
        raise ArgumentError(
            f"ratio must be below {source.dense_bytes / least_bytes:.2f} for this network, got {ratio}: of its "
            f"{source.dense_bytes} bytes the graph alone takes {least_bytes}"
        )
    return SteeringTarget(file_bytes=round(source.dense_bytes / ratio))


def _run(
    network: nn.Module,
    groups: Sequence[ParameterGroup],
    scale: Scale,
    request: FineTuned,
    target: SteeringTarget | None,
    job: Job,
) -> dict[str, Mixture]:
    """Train, snap and settle ``network``, in place; the mixtures by parameter name."""
    from sws_compress.train.loop import fine_tune
    from sws_compress.train.steering import Measures

    evaluate = job.evaluate
    validate = None if evaluate is None else lambda: measured(network, evaluate)
    with watching(job.on_progress, request.log, request.frames) as watch:
        tuned = fine_tune(
            network,
            request,
            target,
            seed=job.seed,
            groups=groups,
            measures=Measures(file_bytes=scale.file_bytes, validate=validate),
            rescue_path=job.output.with_name(f"{job.output.name}.state") if request.state is None else None,
            on_progress=watch.on_progress,
            on_step=watch.on_step,
        )
    scale.settle(network)
    return tuned.mixtures


def _missed(target: SteeringTarget | None, file_bytes: int, before: float | None, after: float | None) -> Iterable[str]:
    """A line if the run did not reach its goal."""
    wanted = None if target is None else target.file_bytes
    if wanted is not None and abs(file_bytes - wanted) > SIZE_TOLERANCE * wanted:
        yield (
            f"the file has {file_bytes} bytes, {wanted} were asked for: "
            + ("graph and codebooks take much of it; " if file_bytes > wanted else "")
            + "train for more epochs to come closer"
        )
    drop = None if target is None else target.metric_drop
    if drop is not None and before is not None and after is not None and not before - after <= drop:
        yield (
            f"the metric fell by {before - after:.4g}, {drop:g} were allowed: "
            "train for more epochs, or with more components"
        )


def _emptied(groups: Iterable[ParameterGroup]) -> Iterable[str]:
    """A line for every compressed parameter that holds nothing but zeros."""
    for group in groups:
        for name, parameter in zip(group.names, group.parameters, strict=True):
            if not parameter.any():
                yield f"{name} holds nothing but zeros: ask for a larger file, or train for more epochs"


def first_inputs(module: nn.Module, request: FineTuned) -> tuple[Any, ...]:
    """A few rows of the first batch as positional arguments of the module, on its device."""
    from torch import Tensor

    from sws_compress.train.batches import inputs_and_targets, moved
    from sws_compress.train.request import no_batches

    device = next(module.parameters()).device
    for batch in request.train:
        inputs = inputs_and_targets(batch, labelled=False)[0]
        rows = [value[:EXAMPLE_ROWS] if isinstance(value, Tensor) and value.dim() else value for value in inputs]
        return tuple(moved(value, device) for value in rows)
    raise no_batches()


def float32_groups(network: nn.Module, request: FineTuned) -> tuple[ParameterGroup, ...]:
    """The parameters to compress.

    Raises
    ------
    ModelError
        If there are none, or if one of them is not float32.
    """
    from sws_compress.train.select import select_parameters

    groups = select_parameters(network, request.parameters, sharing=request.sharing)
    for group in groups:
        for name, parameter in zip(group.names, group.parameters, strict=True):
            refuse_other_float(name, parameter)
    return groups


def refuse_other_float(name: str, parameter: torch.Tensor) -> None:
    """Raise ModelError unless ``parameter`` is float32."""
    import torch

    if parameter.dtype != torch.float32:
        raise ModelError(f"{name} must be float32 to be packed, got {parameter.dtype}: call model.float() first")
