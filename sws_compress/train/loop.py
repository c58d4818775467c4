"""The alternating loop as a whole: batches in, a snapped network and its palettes out."""

from __future__ import annotations

import copy
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from sws_compress.errors import ArgumentError, DataError, ModelError, TrainingError
from sws_compress.files import write_atomically
from sws_compress.mixture.params import Mixture
from sws_compress.mixture.snap import Palette
from sws_compress.train.prior import SoftWeightSharing
from sws_compress.train.schedule import Schedule, Stage
from sws_compress.train.select import Selection, Sharing

Loss = Callable[[Any, Any], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """The float network as teacher: ``weight`` of temperature * KL(teacher || student) in the loss (Hinton 2015).

    Classes lie on dimension 1 of the model's output, as in torch's cross_entropy.
    """

    weight: float = 0.7
    temperature: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 1:
            raise ArgumentError(
                f"distillation weight must be in (0, 1], got {self.weight}: leave distillation out for 0"
            )
        if self.temperature <= 0:
            raise ArgumentError(f"distillation temperature must be > 0, got {self.temperature}: 3 is usual")


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """Settings of one run; everything but the network, the data and the loss."""

    components: int = 16
    ratio: float = 20.0
    epochs: int = 20
    learning_rate: float = 7e-4
    distillation: Distillation | None = None
    schedule: Schedule = field(default_factory=Schedule)
    parameters: Selection | None = None
    sharing: Sharing = Sharing.TENSOR
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ArgumentError(f"epochs must be >= 1, got {self.epochs}: leave train out for data-free compression")
        if not 0 < self.learning_rate < math.inf:
            raise ArgumentError(f"learning_rate must be > 0, got {self.learning_rate}: 1e-4 to 1e-3 is usual for Adam")


@dataclass(frozen=True)
class Progress:
    """Handed to ``on_progress`` after every optimiser step; ``coded_bits`` is None in the soft stage."""

    step: int
    total_steps: int
    stage: Stage
    loss: float
    coded_bits: float | None


@dataclass(frozen=True)
class FineTuned:
    """``palettes`` by parameter name; the model's parameters hold the same values."""

    palettes: dict[str, Palette]
    mixtures: dict[str, Mixture]
    steps: int


def fine_tune(
    model: nn.Module,
    train: Iterable[Any],
    settings: FineTuning,
    *,
    loss: Loss | None = None,
    state_path: Path | None = None,
    rescue_path: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> FineTuned:
    """Run the alternating loop on ``model`` in place: soft stage, hard stage, codebook tuning, snap.

    train         sized iterable of batches: (inputs, targets) with ``loss``, else inputs alone (targets are ignored)
    loss          ``loss(outputs, targets)``; None trains on the teacher alone (Distillation with weight 1)
    state_path    the run's state is saved here after every epoch, and a run that finds one goes on from it: with the
                  same settings the result is the same as without the interruption, provided that ``train`` draws
                  its randomness from torch's global generator, which is seeded per epoch from ``settings.seed``
    rescue_path   where the last good state goes when the loss breaks down (default: ``state_path``)

    Raises DataError when ``train`` yields nothing, TrainingError when the loss is not finite.
    """
    distillation = settings.distillation
    if loss is None:
        distillation = distillation or Distillation(weight=1.0)
        if distillation.weight < 1:
            raise ArgumentError(
                f"distillation weight must be 1 without a loss, got {distillation.weight}: "
                "give loss= or set the weight to 1"
            )
    settings = replace(settings, distillation=distillation)
    return _Run(model, train, settings, loss, state_path, rescue_path or state_path, on_progress).go()


class _Run:
    """One call of ``fine_tune``: the objects that live through the epochs."""

    def __init__(
        self,
        model: nn.Module,
        train: Iterable[Any],
        settings: FineTuning,
        loss: Loss | None,
        state_path: Path | None,
        rescue_path: Path | None,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.model, self.train, self.settings, self.loss = model, train, settings, loss
        self.state_path, self.rescue_path, self.on_progress = state_path, rescue_path, on_progress
        self.teacher = _frozen_copy(model) if settings.distillation else None
        self.device = next(model.parameters()).device
        self.total_steps = settings.epochs * _length(train)
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not trainable:
            raise ModelError("a model must have trainable parameters, got none: set requires_grad")
        self.optimizer = torch.optim.Adam(trainable, lr=settings.learning_rate, fused=self.device.type != "mps")
        self.prior = SoftWeightSharing(
            model,
            self.optimizer,
            components=settings.components,
            ratio=settings.ratio,
            total_steps=self.total_steps,
            schedule=settings.schedule,
            parameters=settings.parameters,
            sharing=settings.sharing,
        )

    def go(self) -> FineTuned:
        first_epoch = self._resume()
        was_training = self.model.training
        self.model.train()
        try:
            for epoch in range(first_epoch, self.settings.epochs):
                good = self._state(epoch)
                with _seeded(self.settings.seed, epoch, self.device):
                    self._epoch(good)
                if self.state_path is not None:
                    write_atomically(self.state_path, self._state(epoch + 1))
            palettes = self.prior.snap()
        finally:
            self.model.train(was_training)
        return FineTuned(palettes, self.prior.mixtures, self.prior.steps)

    def _epoch(self, good: bytes) -> None:
        batches = 0
        for batch in self.train:
            batches += 1
            rate = 0.5 * (1 + math.cos(math.pi * min(self.prior.steps / self.total_steps, 1)))
            for group in self.optimizer.param_groups:
                group["lr"] = self.settings.learning_rate * rate
            loss = self._loss(batch)
            value = float(loss.detach())
            if not math.isfinite(value):
                self._rescue(value, good)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.prior.step()
            self.optimizer.zero_grad()
            if self.on_progress is not None:
                self.on_progress(
                    Progress(self.prior.steps, self.total_steps, self.prior.stage, value, self.prior.coded_bits)
                )
        if batches == 0:
            raise DataError("train must yield at least one batch per epoch, got none: check the loader")

    def _loss(self, batch: Any) -> torch.Tensor:
        inputs, targets = _inputs_and_targets(batch, labelled=self.loss is not None)
        inputs, targets = _moved(inputs, self.device), _moved(targets, self.device)
        outputs = self.model(*inputs)
        parts = []
        distillation = self.settings.distillation
        share = distillation.weight if distillation else 0.0
        if self.loss is not None and share < 1:
            parts.append((1 - share) * self.loss(outputs, targets))
        if distillation and self.teacher is not None:
            with torch.no_grad():
                wanted = self.teacher(*inputs)
            parts.append(share * _distillation_loss(outputs, wanted, distillation.temperature))
        return torch.stack(parts).sum()

    # -- state ------------------------------------------------------------------------------------------------------

    def _state(self, epoch: int) -> bytes:
        buffer = io.BytesIO()
        state = {
            "epoch": epoch,
            "total_steps": self.total_steps,
            "model": self.model.state_dict(),
            "teacher": None if self.teacher is None else self.teacher.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "prior": self.prior.state_dict(),
        }
        torch.save(state, buffer)
        return buffer.getvalue()

    def _resume(self) -> int:
        if self.state_path is None or not os.path.exists(self.state_path):
            return 0
        try:
            saved = torch.load(self.state_path, map_location=self.device, weights_only=True)
            if saved["total_steps"] != self.total_steps:
                raise ArgumentError(
                    f"{self.state_path} was saved by a run of {saved['total_steps']} steps, got {self.total_steps}: "
                    "use the same data and epochs, or another state file"
                )
            self.model.load_state_dict(saved["model"])
            if self.teacher is not None:
                self.teacher.load_state_dict(saved["teacher"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.prior.load_state_dict(saved["prior"])
        except ArgumentError:
            raise
        except Exception as error:  # torch.load raises many kinds for a file that is not its own
            raise ArgumentError(
                f"{self.state_path} must be a state that this run saved, got {type(error).__name__}: "
                "delete it to start anew"
            ) from error
        return int(saved["epoch"])

    def _rescue(self, value: float, good: bytes) -> None:
        where = "not saved (no state path given)"
        if self.rescue_path is not None:
            write_atomically(self.rescue_path, good)
            where = f"saved in {self.rescue_path}"
        raise TrainingError(
            f"loss must stay finite, got {value} at step {self.prior.steps + 1} of {self.total_steps}: "
            f"the state of the last good epoch is {where}; lower learning_rate and start again"
        )


def _frozen_copy(model: nn.Module) -> nn.Module:
    teacher = copy.deepcopy(model).eval()
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
    return teacher


def _length(train: Iterable[Any]) -> int:
    if not isinstance(train, Sized):
        raise DataError(
            f"train must have a length, got {type(train).__name__}: the schedule needs the number of batches; "
            "use a list or a loader over a map-style dataset"
        )
    if len(train) == 0:
        raise DataError("train must yield at least one batch per epoch, got none: check the loader")
    return len(train)


def _inputs_and_targets(batch: Any, *, labelled: bool) -> tuple[tuple[Any, ...], Any]:
    """((inputs...), targets): the last item of a pair is the target; without a loss targets are not looked at."""
    if labelled:
        if not isinstance(batch, list | tuple) or len(batch) != 2:
            raise DataError(
                f"train must yield (inputs, targets) pairs, got {type(batch).__name__}: "
                "leave loss out for unlabelled data"
            )
        inputs, targets = batch
    else:
        inputs, targets = (batch[0] if isinstance(batch, list | tuple) else batch), None
    return (tuple(inputs) if isinstance(inputs, list | tuple) else (inputs,)), targets


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, list | tuple):
        return tuple(_moved(item, device) for item in value)
    return value


def _distillation_loss(outputs: torch.Tensor, wanted: torch.Tensor, temperature: float) -> torch.Tensor:
    """temperature * KL(teacher || student) of softened classes on dimension 1, mean over all other dimensions."""
    student = functional.log_softmax(outputs / temperature, dim=1)
    teacher = functional.log_softmax(wanted / temperature, dim=1)
    return temperature * (teacher.exp() * (teacher - student)).sum(1).mean()


@contextmanager
def _seeded(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """torch's global generators seeded for this epoch, and put back as they were afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed((seed * 1_000_003 + epoch) % 2**63)
        yield
