"""A torch module into a small file: from its weights alone, or by the alternating loop."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sws_compress.errors import ArgumentError, ModelError
from sws_compress.files import checked_output
from sws_compress.onnx_io.from_torch import evaluating
from sws_compress.pipelines.publish import PACKING, Packing, Template, ship_module
from sws_compress.quantize.palette import check_components
from sws_compress.report.result import CompressionResult

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sws_compress.mixture.mixture import Mixture
    from sws_compress.pipelines.watch import Watch
    from sws_compress.train.request import FineTuned
    from sws_compress.train.select import ParameterGroup, Selection
    from sws_compress.train.sharing import Sharing
    from sws_compress.train.targets import SteeringTarget


EXAMPLE_ROWS = 8
"""Rows of the first training batch that serve as example inputs."""


TOLERANCE = 0.03
"""Share by which a file may miss the bytes that were asked for without a note."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What size is asked for: at most one of four, as in ``api.compress``; ``ratio`` 20 if none."""

    ratio: float | None = None
    target_bytes: int | None = None
    max_drop: float | None = None
    strength: float | None = None

    def goal(self, dense_bytes: int, measure_least: Callable[[], int]) -> SteeringTarget | None:
        """For a network that is ``dense_bytes`` long as a plain file. ``measure_least`` tells how long it is with
        nothing but zeros in the weights to compress; it is asked where bytes are. Raises ArgumentError for several, or
        for one out of range."""
        from sws_compress.train.targets import SteeringTarget

        given = [name for name, value in vars(self).items() if value is not None]
        if len(given) > 1:
            raise ArgumentError(f"one of ratio, target_bytes, max_drop, strength must be given, got {', '.join(given)}")
        if self.strength is not None:
            return None
        if self.max_drop is not None:
            return SteeringTarget(metric_drop=self.max_drop)
        if self.target_bytes is not None:
            if not 0 < self.target_bytes < dense_bytes:
                raise ArgumentError(
                    f"target_bytes must be below the {dense_bytes} of the plain file, got {self.target_bytes}: "
                    "ask for fewer"
                )
            least_bytes = measure_least()
            if self.target_bytes <= least_bytes:
                raise ArgumentError(
                    f"target_bytes must be above the {least_bytes} of its graph alone, got {self.target_bytes}: "
                    "ask for more"
                )
            return SteeringTarget(file_bytes=self.target_bytes)
        ratio = 20.0 if self.ratio is None else self.ratio
        if not ratio > 1:
            raise ArgumentError(f"ratio must be > 1, got {ratio}: it is how many times smaller the file becomes")
        least_bytes = measure_least()
        if not ratio * least_bytes < dense_bytes:
            raise ArgumentError(
                f"ratio must be below {dense_bytes / least_bytes:.2f} for this network, got {ratio}: of its "
                f"{dense_bytes} bytes the graph alone takes {least_bytes}"
            )
        return SteeringTarget(file_bytes=round(dense_bytes / ratio))


def compress_module(
    model: nn.Module,
    target: Path,
    request: FineTuned | None,
    wanted: Wanted,
    *,
    components: int,
    parameters: Selection | None,
    sharing: Sharing,
    seed: int,
    evaluate: Callable[[nn.Module], float] | None,
    example_inputs: Any,
    watch: Watch,
    packing: Packing = PACKING,
) -> CompressionResult:
    """As ``api.compress`` for torch modules; ``request`` is None without training. ``model`` stays as it is."""
    started = time.perf_counter()
    check_components(components)
    train = None if request is None else request.train
    network = _copied(model)
    if train is None:  # nothing is trained, so that frozen weights are clustered as well
        for parameter in network.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
    groups = float32_groups(network, parameters, sharing)
    examples = first_inputs(model, train) if example_inputs is None else arguments(example_inputs)
    template = Template(model, examples, packing)  # early: a module that cannot be exported must not cost a run
    measured = None if evaluate is None else _in_evaluation_mode(evaluate)
    before = None if measured is None else measured(model)
    notes: tuple[str, ...] = ()
    goal = None
    if request is None:
        mixtures = _cluster(network, components, parameters, sharing, seed)
    else:
        scale = _Scale(network, template, groups, request.bias_components, seed)
        goal = wanted.goal(template.dense_bytes, scale.least_bytes)
        mixtures = _fine_tune(network, scale, request, goal, seed, groups, measured, target, watch)
    shipped = ship_module(network, target, examples, dense_bytes=template.dense_bytes, packing=packing)
    after = None if measured is None else measured(network)
    if train is not None:
        notes = (*_missed(goal, shipped.file_bytes, before, after), *_emptied(groups))
    return CompressionResult(
        **{**vars(shipped), "notes": (*shipped.notes, *notes)},
        seconds=time.perf_counter() - started,
        before=before,
        after=after,
        network=network,
        mixtures=mixtures,
    )


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except RuntimeError as error:  # tensors that are computed, like those of the older weight norm, are not copied
        raise ModelError(
            f"{type(model).__name__} must be copied before it is compressed, got '{str(error).splitlines()[0]}': "
            "make computed weights parameters, with torch.nn.utils.remove_weight_norm for one"
        ) from error


def _missed(goal: SteeringTarget | None, file_bytes: int, before: float | None, after: float | None) -> Iterable[str]:
    """A line if the run did not reach what it was steered to."""
    if goal is None:
        return
    wanted = goal.file_bytes
    if wanted is not None and abs(file_bytes - wanted) > TOLERANCE * wanted:
        yield (
            f"the file has {file_bytes} bytes, {wanted} were asked for: "
            + ("graph and codebooks take much of it; " if file_bytes > wanted else "")
            + "train for more epochs to come closer"
        )
    drop = goal.metric_drop
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


def _in_evaluation_mode(evaluate: Callable[[nn.Module], float]) -> Callable[[nn.Module], float]:
    def measured(network: nn.Module) -> float:
        with evaluating(network):
            return float(evaluate(network))

    return measured


def _cluster(
    network: nn.Module, components: int, parameters: Selection | None, sharing: Sharing, seed: int
) -> dict[str, Mixture]:
    from sws_compress.train.cluster_parameters import cluster_parameters

    return cluster_parameters(network, components=components, parameters=parameters, sharing=sharing, seed=seed)


class _Scale:
    """Weighs the network as it is: the bytes of its file.

    With a copy that is made before the run: a module that keeps an activation cannot be copied after a step.
    """

    def __init__(
        self, network: nn.Module, template: Template, groups: Iterable[ParameterGroup], vectors: int | None, seed: int
    ) -> None:
        self._network, self._template, self._vectors, self._seed = network, template, vectors, seed
        self._copy = copy.deepcopy(network)
        self._chosen = frozenset(name for group in groups for name in group.names)

    def settle(self, module: nn.Module) -> None:
        """What the loop leaves in float32 becomes small, too."""
        from sws_compress.train.norms import cluster_vectors, fold_batch_norm_statistics

        if self._vectors is not None:
            fold_batch_norm_statistics(module)
            cluster_vectors(module, self._vectors, besides=self._chosen, seed=self._seed)

    def file_bytes(self) -> int:
        """Of the network with its present weights, settled."""
        self._copy.load_state_dict(self._network.state_dict())
        return self._bytes_of_copy()

    def least_bytes(self) -> int:
        """With nothing but zeros in the weights that are compressed: no file of this network is smaller."""
        import torch

        from sws_compress.train.select import plain_name

        with torch.no_grad():
            for name, parameter in self._copy.named_parameters():
                if plain_name(name) in self._chosen:
                    parameter.zero_()
        return self._bytes_of_copy()

    def _bytes_of_copy(self) -> int:
        self.settle(self._copy)
        return self._template.packed_bytes(self._copy)


def _fine_tune(
    network: nn.Module,
    scale: _Scale,
    request: FineTuned,
    goal: SteeringTarget | None,
    seed: int,
    groups: tuple[ParameterGroup, ...],
    evaluate: Callable[[nn.Module], float] | None,
    target: Path,
    watch: Watch,
) -> dict[str, Mixture]:
    from sws_compress.train.loop import fine_tune
    from sws_compress.train.steering import Measures

    if request.state is not None:
        checked_output(request.state, "state")
    validate = None if evaluate is None else lambda: evaluate(network)
    tuned = fine_tune(
        network,
        request,
        goal,
        seed=seed,
        groups=groups,
        measures=Measures(file_bytes=scale.file_bytes, validate=validate),
        rescue_path=target.with_name(target.name + ".state") if request.state is None else None,
        on_progress=watch.on_progress,
        on_step=watch.on_step,
    )
    scale.settle(network)
    return tuned.mixtures


def arguments(example_inputs: Any) -> tuple[Any, ...]:
    """Positional arguments of one call; a lone tensor needs no tuple."""
    return example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)


def first_inputs(model: nn.Module, train: Iterable[Any] | None) -> tuple[Any, ...]:
    """A few rows of the first batch, as positional arguments of the module, on its device."""
    if train is None:
        raise ArgumentError("example_inputs must be given without train, got none: pass the arguments of one call")
    from torch import Tensor

    from sws_compress.train.batches import inputs_and_targets, moved
    from sws_compress.train.request import no_batches

    device = next(model.parameters()).device
    for batch in train:
        inputs = inputs_and_targets(batch, labelled=False)[0]
        rows = [value[:EXAMPLE_ROWS] if isinstance(value, Tensor) and value.dim() else value for value in inputs]
        return tuple(moved(value, device) for value in rows)
    raise no_batches()


def float32_groups(model: nn.Module, parameters: Selection | None, sharing: Sharing) -> tuple[ParameterGroup, ...]:
    """What is to be compressed. Errors, before the work, if that is nothing or not all of it float32."""
    from sws_compress.train.select import select_parameters

    groups = select_parameters(model, parameters, sharing=sharing)
    for group in groups:
        for name, parameter in zip(group.names, group.parameters, strict=True):
            refuse_other_float(name, parameter)
    return groups


def refuse_other_float(name: str, parameter: torch.Tensor) -> None:
    """ModelError unless ``parameter`` is float32."""
    import torch

    if parameter.dtype != torch.float32:
        raise ModelError(f"{name} must be float32 to be packed, got {parameter.dtype}: call model.float() first")
