"""The alternating loop as a whole: batches in, a snapped network and its palettes out."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sws_compress.errors import ArgumentError, ModelError, TrainingError
from sws_compress.files import write_atomically
from sws_compress.mixture.mixture import Mixture
from sws_compress.quantize.palette import Palette
from sws_compress.train.batches import inputs_and_targets, moved, seeded
from sws_compress.train.distillation import Distillation, distillation_loss, frozen_copy
from sws_compress.train.identity import at_any_rate, refuse_other_run, run_identity
from sws_compress.train.norms import reestimate_batch_norms
from sws_compress.train.prior import SoftWeightSharing
from sws_compress.train.progress import Progress
from sws_compress.train.ranks import ALONE
from sws_compress.train.request import Loss, batches_per_epoch, no_batches
from sws_compress.train.schedule import Schedule
from sws_compress.train.select import DivergedError, Selection
from sws_compress.train.sharing import Sharing
from sws_compress.train.steering import Goal, Measures, Steering

START_AGAIN = "lower learning_rate and start again"


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """Settings of one run; everything but the network, the data and the loss.

    ``ratio`` (32 bits a weight over coded bits) holds where ``goal`` is empty. With ``bfloat16`` the network, teacher
    too, computes under ``torch.autocast``: much faster where the processor has it; weights and losses stay float32.
    """

    components: int = 16
    ratio: float = 20.0
    goal: Goal = field(default_factory=Goal)
    epochs: int = 20
    learning_rate: float = 7e-4
    distillation: Distillation | None = None
    schedule: Schedule = field(default_factory=Schedule)
    parameters: Selection | None = None
    sharing: Sharing = Sharing.TENSOR
    bfloat16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ArgumentError(f"epochs must be >= 1, got {self.epochs}: leave train out for data-free compression")
        if not 0 < self.learning_rate < math.inf:
            raise ArgumentError(f"learning_rate must be > 0, got {self.learning_rate}: 1e-4 to 1e-3 is usual for Adam")


@dataclass(frozen=True)
class FineTuneResult:
    """``palettes`` and ``mixtures`` by parameter name; the model's parameters hold the palettes' values."""

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
    validate: Callable[[], float] | None = None,
    file_bytes: Callable[[], int] | None = None,
    on_step: Callable[[SoftWeightSharing], None] | None = None,
) -> FineTuneResult:
    """Run the alternating loop on ``model`` in place: soft stage, hard stage, codebook tuning, snap.

    train         sized iterable of batches: (inputs, targets) with ``loss``, else inputs alone (targets are ignored)
    loss          ``loss(outputs, targets)``; None trains on the teacher alone (Distillation with weight 1)
    state_path    the run's state is saved here after every epoch, and a run that finds one goes on from it, or has its
                  result if it was finished: the same as without the interruption, provided that ``train`` draws its
                  randomness from torch's global generator, which is seeded per epoch from ``settings.seed``. A state
                  of other settings, or of a network that began with other weights, is refused
    rescue_path   where the last good state goes when the loss or weights break down (default: ``state_path``); it is a
                  state like those in ``state_path``, from which a run goes on with any learning rate
    validate      metric of ``model`` as it is, higher is better: measured after every epoch of the hard stage; needed
                  for ``max_drop``, which measures it at the start and at the end as well
    file_bytes    bytes that the file of ``model`` as it is would have: measured a few times in the hard stage; needed
                  for ``target_bytes``
    on_step       handed the prior before the first step and after every one, only to look at (``WeightFrames.add``)

    ``train`` may leave the global generators of torch as it likes: the caller's are put back.

    Raises DataError when ``train`` yields nothing or has no length, TrainingError when the loss, a gradient or a
    weight is not finite, ArgumentError when the file at ``state_path`` is not the state of this run.
    """
    distillation = settings.distillation
    if loss is None:
        distillation = distillation or Distillation(weight=1.0)
        if distillation.weight < 1:
            raise ArgumentError(
                f"distillation weight must be 1 without a loss, got {distillation.weight}: "
                "give loss= or set the weight to 1"
            )
    settings = replace(settings, distillation=distillation, learning_rate=float(settings.learning_rate))
    paths = state_path, rescue_path or state_path
    return _Run(model, train, settings, loss, *paths, on_progress, on_step, Measures(file_bytes, validate)).go()


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
        on_step: Callable[[SoftWeightSharing], None] | None,
        measures: Measures,
    ) -> None:
        self.model, self.train, self.settings, self.loss = model, train, settings, loss
        self.state_path, self.rescue_path = state_path, rescue_path
        self.on_progress, self.on_step = on_progress, on_step or (lambda prior: None)
        self.trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not self.trainable:
            raise ModelError("a model must have trainable parameters, got none: set requires_grad")
        self.device = self.trainable[0].device
        self.total_steps = settings.epochs * batches_per_epoch(train)
        distillation = settings.distillation
        self.teacher = frozen_copy(distillation.teacher or model, self.device) if distillation else None
        self.optimizer = torch.optim.Adam(self.trainable, lr=settings.learning_rate, fused=True)
        self.prior = SoftWeightSharing(
            model,
            self.optimizer,
            components=settings.components,
            ratio=settings.ratio,
            strength=settings.goal.strength,
            total_steps=self.total_steps,
            schedule=settings.schedule,
            parameters=settings.parameters,
            sharing=settings.sharing,
            ranks=ALONE,
        )
        self.steering = Steering(settings.goal, model, self.prior, settings.schedule, measures)
        self.identity = {}
        if self.rescue_path is not None:
            self.identity = run_identity(settings, model, distillation.teacher if distillation else None)

    def go(self) -> FineTuneResult:
        first_epoch = self._resume()
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.train()
        self.optimizer.zero_grad()  # the caller's gradients are none of this run's
        try:
            self.steering.start()
            self._epochs(first_epoch)
            self.prior.snap()
            with seeded(self.settings.seed, self.settings.epochs, self.device), self._precision():
                reestimate_batch_norms(self.model, self.train, self.device)
            self.steering.finish()
            palettes = self.prior.palettes()
        finally:
            for module, training in modes:
                module.training = training
        return FineTuneResult(palettes, self.prior.mixtures, self.prior.steps)

    def _epochs(self, first: int) -> None:
        """Saves the state after every one; should a loss or weights break down, the last good one is saved, too."""
        good = self._state(first)
        try:
            self.on_step(self.prior)
            for epoch in range(first, self.settings.epochs):
                with seeded(self.settings.seed, epoch, self.device):
                    self._epoch()
                    self._check_weights()
                    self.steering.after_epoch(self.settings.epochs)
                good = self._state(epoch + 1)
                if self.state_path is not None:
                    write_atomically(self.state_path, good)
        except DivergedError as error:
            cure = START_AGAIN
            if self.rescue_path is not None:
                saved = torch.load(io.BytesIO(good), map_location="cpu", weights_only=True)
                write_atomically(self.rescue_path, _packed({**saved, "run": at_any_rate(saved["run"])}))
                cure = f"lower learning_rate and go on from the last good state, saved in {self.rescue_path}"
            raise TrainingError(f"{error.found}: {cure}") from error

    def _epoch(self) -> None:
        batches = 0
        for batch in self.train:
            batches += 1
            rate = self.settings.schedule.learning_rate(self.prior.progress)
            for group in self.optimizer.param_groups:
                group["lr"] = self.settings.learning_rate * rate
            loss = self._loss(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            value = self._checked(loss)
            self.optimizer.step()
            self.prior.step()
            self.optimizer.zero_grad()
            self.steering.after_step()
            if self.on_progress is not None:
                self.on_progress(self._progress(value))
            self.on_step(self.prior)
        if batches == 0:
            raise no_batches()

    def _checked(self, loss: torch.Tensor) -> float:
        """The loss; DivergedError if it or a gradient is not finite, before a step can carry that into the weights."""
        value, step = float(loss.detach()), self.prior.steps + 1
        if not math.isfinite(value):
            raise self._diverged("loss", value, step)
        gradients = [parameter.grad for parameter in self.trainable if parameter.grad is not None]
        # The Euclidean norm takes a thirtieth of the time of the largest gradient, but overflows earlier.
        if not math.isfinite(float(torch.nn.utils.get_total_norm(gradients))):
            largest = float(torch.nn.utils.get_total_norm(gradients, norm_type=math.inf))
            if not math.isfinite(largest):
                raise self._diverged("gradients", largest, step)
        return value

    @torch.no_grad()
    def _check_weights(self) -> None:
        """DivergedError if a weight, or one behind a snapped one, is not finite: the state would not be a good one."""
        self.prior.check_finite()
        largest = float(torch.nn.utils.get_total_norm(self.trainable, norm_type=math.inf))
        if not math.isfinite(largest):
            raise self._diverged("weights", largest, self.prior.steps)

    def _diverged(self, thing: str, value: float, step: int) -> DivergedError:
        return DivergedError(f"{thing} must stay finite, got {value} at step {step} of {self.total_steps}", START_AGAIN)

    def _progress(self, loss: float) -> Progress:
        prior, steering = self.prior, self.steering
        living = prior.living_components
        return Progress(
            step=prior.steps,
            total_steps=self.total_steps,
            stage=prior.stage,
            loss=loss,
            coded_bits=prior.coded_bits,
            ratio=prior.coded_ratio,
            metric=steering.metric,
            projected_bytes=steering.projected_bytes,
            bit_price=prior.rate,
            components=sum(living.values()) if living else None,
            mergers=prior.mergers if living else None,
        )

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.bfloat16)

    def _loss(self, batch: Any) -> torch.Tensor:
        inputs, targets = inputs_and_targets(batch, labelled=self.loss is not None)
        inputs, targets = moved(inputs, self.device), moved(targets, self.device)
        with self._precision():
            outputs = _float32(self.model(*inputs))
        parts = []
        distillation = self.settings.distillation
        share = distillation.weight if distillation else 0.0
        if self.loss is not None and share < 1:
            parts.append((1 - share) * self.loss(outputs, targets))
        if distillation and self.teacher is not None:
            with torch.no_grad(), self._precision():
                wanted = _float32(self.teacher(*inputs))
            parts.append(share * distillation_loss(outputs, wanted, distillation.temperature))
        return torch.stack(parts).sum()

    # -- state ------------------------------------------------------------------------------------------------------

    def _state(self, epoch: int) -> bytes:
        """Everything that the epochs from ``epoch`` on depend on; empty where nobody would write it."""
        if self.rescue_path is None:
            return b""
        state = {
            "run": self.identity,
            "epoch": epoch,
            "prior": self.prior.state_dict(),
            "model": self.model.state_dict(),
            "teacher": None if self.teacher is None else self.teacher.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steering": self.steering.state_dict(),
        }
        return _packed(state)

    def _resume(self) -> int:
        if self.state_path is None or not os.path.exists(self.state_path):
            return 0
        try:
            # To the CPU first: parts of the state belong there, the others are moved to their parameters.
            saved = torch.load(self.state_path, map_location="cpu", weights_only=True)
            refuse_other_run(saved["run"], self.identity)
            self.prior.load_state_dict(saved["prior"])  # first, because it refuses the state of another run, too
            self.model.load_state_dict(saved["model"])
            if self.teacher is not None:
                self.teacher.load_state_dict(saved["teacher"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.steering.load_state_dict(saved["steering"])
            return int(saved["epoch"])
        except ArgumentError as error:
            raise ArgumentError(f"{self.state_path} cannot be resumed: {error}") from error
        except Exception as error:  # torch.load raises many kinds for a file that is not its own
            raise ArgumentError(
                f"{self.state_path} must be a state that this run saved, got {type(error).__name__}: "
                "delete it to start anew"
            ) from error


def _packed(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _float32(outputs: Any) -> Any:
    """Half precision outputs of autocast, widened for the loss."""
    return outputs.float() if isinstance(outputs, torch.Tensor) and outputs.is_floating_point() else outputs
