"""The alternating loop as a whole: batches in, a snapped network and its palettes out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sws_compress.errors import ArgumentError, ModelError, TrainingError
from sws_compress.module_modes import modes_kept
from sws_compress.terminal.progress_bar import LOGGER
from sws_compress.train.batches import seeded
from sws_compress.train.best_network import restore
from sws_compress.train.collapse import GREATEST_LOSS_SHARE, Collapse, batches_to_keep
from sws_compress.train.distillation import Distillation
from sws_compress.train.fine_tune_result import FineTuneResult
from sws_compress.train.finite import FiniteCheck
from sws_compress.train.identity import run_identity
from sws_compress.train.measures import Measures, with_norms_settled
from sws_compress.train.norms import reestimate_batch_norms
from sws_compress.train.prior import SoftWeightSharing
from sws_compress.train.progress import Progress
from sws_compress.train.ranks import ALONE
from sws_compress.train.request import FineTuned, batches_of, no_batches
from sws_compress.train.run_state import RunState
from sws_compress.train.select import DivergedError, ParameterGroup, select_parameters
from sws_compress.train.steering import Steering
from sws_compress.train.targets import DEFAULT_CODED_RATIO, SteeringTarget
from sws_compress.train.training_loss import TrainingLoss, backward

RATE_AFTER_SOFT_COLLAPSE = 0.1
"""Factor of the learning rate when the network broke before anything was compressed."""

RATE_AFTER_HARD_COLLAPSE = 0.5
"""Factor of the learning rate when the network broke on its way to a size."""

BITS_AFTER_COLLAPSE = 1.1
"""Coded bits that a network begins again with, as a share of those that it worked with: a lower price of a bit."""

RECOVERY = 0.9
"""What is lost after an epoch of a network that recovers, as a share of what was lost after the epoch before."""

SUDDEN_LOSS_SHARE = 0.45
"""Share of what the network knew that it loses within an epoch if it falls, and does not slide. One that has worked
with snapped weights is not waited for then: recovering, it stays worse than the state before (``python -m
benchmarks.training residual_cnn --ratios 20``: a loss of 0.02 became 1.3, and 0.2 at the end, not 0.03)."""

GREATEST_RECOVERY = 1.0
"""Share of what the network knew that must not be lost if it is to recover: outputs of a network that lost all are
constant, and give no gradients to speak of."""


def fine_tune(
    model: nn.Module,
    request: FineTuned,
    target: SteeringTarget | None = None,
    *,
    seed: int = 0,
    groups: Sequence[ParameterGroup] | None = None,
    measures: Measures | None = None,
    rescue_path: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_step: Callable[[SoftWeightSharing], None] | None = None,
) -> FineTuneResult:
    """Run the alternating loop on ``model``, in place: soft stage, hard stage, codebook tuning, snap.

    With ``request.state`` a run that finds its own state there goes on from it, or has its result if it was finished:
    the same as without the interruption, provided that ``request.train`` draws its randomness from torch's global
    generator, which is seeded per epoch from ``seed``. A loader may leave torch's generators as it likes: the caller's
    are put back.

    Parameters
    ----------
    model : torch.nn.Module
        The network; its trainable parameters are trained.
    request : FineTuned
        Data and settings. Its ``bias_components``, ``log`` and ``frames`` are the caller's to see to.
    target : SteeringTarget, optional
        What the run is steered to. Default: ``request.bit_price``, or a coded ratio of 20 without one.
    seed : int, default 0
        Seed of the run.
    groups : sequence of ParameterGroup, optional
        What `select_parameters` chose of ``model``; by default it is called.
    measures : Measures, optional
        How to measure the file of ``model`` as it is, and the caller's metric.
    rescue_path : path, optional
        Where the last good state goes if the loss or the weights break down; a run goes on from it with any learning
        rate. Default: ``request.state``.
    on_progress : callable, optional
        Called after every step.
    on_step : callable, optional
        Called with the prior before the first step and after every one, only to look at it (``WeightFrames.add``).

    Returns
    -------
    FineTuneResult

    Raises
    ------
    DataError
        If ``request.train`` yields nothing.
    TrainingError
        If the loss, a gradient or a weight is not finite.
    ArgumentError
        If the target cannot be measured, or the file at ``request.state`` is not the state of this run: other settings
        or other weights at the start.
    ModelError
        If ``model`` has nothing to train or to compress.
    """
    if request.bit_price is not None and target is not None:
        raise ArgumentError("bit_price must be left out where a size is asked for, got both: give one")
    distillation = request.distillation or (Distillation(weight=1.0) if request.loss is None else None)
    epochs, learning_rate = request.run_epochs, float(request.learning_rate)
    request = replace(request, distillation=distillation, epochs=epochs, learning_rate=learning_rate)
    run = _Run(model, request, target, seed, groups, measures or Measures(), rescue_path, on_progress, on_step)
    return run.go()


class _Run:
    """One call of `fine_tune`: the objects that live through the epochs."""

    def __init__(
        self,
        model: nn.Module,
        request: FineTuned,
        target: SteeringTarget | None,
        seed: int,
        groups: Sequence[ParameterGroup] | None,
        measures: Measures,
        rescue_path: Path | None,
        on_progress: Callable[[Progress], None] | None,
        on_step: Callable[[SoftWeightSharing], None] | None,
    ) -> None:
        self.model, self.request, self.seed = model, request, seed
        self.on_progress, self.on_step = on_progress, on_step or (lambda prior: None)
        self.trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not self.trainable:
            raise ModelError("a model must have trainable parameters, got none: set requires_grad")
        self.device = self.trainable[0].device
        self.epochs, self.total_steps = request.run_epochs, request.total_steps
        self.finite = FiniteCheck(self.trainable, self.total_steps)
        self.loss = TrainingLoss(model, request, self.device)
        self.collapse = Collapse(model, self.loss)
        self.broken_share, self.snapped_works = GREATEST_RECOVERY, False
        fused = not any(parameter.is_complex() for parameter in self.trainable)
        self.optimizer = torch.optim.Adam(self.trainable, lr=request.learning_rate, fused=fused)
        groups = groups or select_parameters(model, request.parameters, sharing=request.sharing)
        elements = sum(group.elements for group in groups)
        measures = with_norms_settled(measures, self.collapse.settle_norms, self._settle_norms)
        self.steering = Steering(target, model, elements, request.schedule, measures, self.collapse.share_lost)
        ratio = None if target is None else target.coded_ratio
        self.prior = self._prior_of(groups, DEFAULT_CODED_RATIO if ratio is None else ratio)
        self.epoch, self.resumed_epoch = 0, -1
        path = None if request.state is None else Path(request.state)
        identity: dict[str, Any] = {}
        if path is not None or rescue_path is not None:
            teacher = request.distillation.teacher if request.distillation else None
            identity = {**run_identity(request, target, seed, model, teacher), "mode": measures.sense.value}
        self.state = RunState(
            model,
            self.loss.teacher,
            self.prior,
            self.steering,
            self.collapse,
            identity=identity,
            path=path,
            rescue_path=rescue_path or path,
        )

    def _prior_of(self, groups: Sequence[ParameterGroup], ratio: float) -> SoftWeightSharing:
        return SoftWeightSharing(
            self.model,
            self.optimizer,
            components=self.request.components,
            coded_ratio=ratio,
            bit_price=self.request.bit_price,
            size_target=self.steering if self.steering.steers else None,
            total_steps=self.total_steps,
            schedule=self.request.schedule,
            groups=groups,
            ranks=ALONE,
        )

    def go(self) -> FineTuneResult:
        """Train, snap, and hand back the result; modules are left in the mode they were in."""
        first_epoch = self._resumed()
        self.snapped_works = self.prior.coded_bits is not None
        batches, rate = self.total_steps // self.epochs, self.request.learning_rate
        LOGGER.info("trains for %d epochs of %d batches, at a learning rate of %g", self.epochs, batches, rate)
        with modes_kept(self.model):
            self.model.train()
            self.optimizer.zero_grad()  # the caller's gradients are none of this run's
            self.steering.start()
            self._epochs(first_epoch)
            self.prior.snap()
            self.steering.settle_at_end(self.prior.snapped_weights)
            self._settle_norms()  # the metric was measured with those of a few batches
            self._choose()
            palettes = self.prior.palettes()
        steering = self.steering
        return FineTuneResult(
            palettes,
            self.prior.mixtures,
            self.prior.steps,
            curve=tuple(steering.curve),
            restarts=steering.descent.restarts,
            broke=steering.descent.restarts > 0 or steering.descent.floor_bits > 0,
            allowance_used=steering.allowance_used,
        )

    def _resumed(self) -> int:
        """Go on from a saved state, if there is one; the epoch to begin with."""
        found = self.state.resume()
        if found is None:
            return 0
        self.resumed_epoch = found
        LOGGER.info("goes on at epoch %d of %d from %s", found + 1, self.epochs, self.state.path)
        return found

    def _choose(self) -> None:
        """End with the best network of the run."""
        kept = self.steering.ending(self.prior.coded_bits or 0.0)
        if kept is None:
            return
        last = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        restore(self.model, self.prior.groups, kept)
        self._settle_norms()
        if not self.steering.confirms(kept):
            self.model.load_state_dict(last)

    def _settle_norms(self) -> None:
        with seeded(self.seed, self.epochs, self.device), self.loss.precision():
            reestimate_batch_norms(self.model, self.request.train)

    def _epochs(self, first: int) -> None:
        """Train the epochs from ``first`` on, and save the state after each.

        If the loss or the weights break down, the last good state is saved.
        """
        good = self.state.packed(first)
        if 0 < first < self.epochs:
            with seeded(self.seed, 0, self.device):
                self._kept_batches(iter(batches_of(self.request.train)))
        try:
            self.on_step(self.prior)
            for epoch in range(first, self.epochs):
                self.epoch = epoch
                with seeded(self.seed, epoch, self.device):
                    self._epoch(epoch)
                    self.prior.check_finite()  # or the state would not be a good one
                    self.finite.weights(self.prior.steps)
                    if not self._look(good):
                        continue
                good = self.state.packed(epoch + 1)
                self.state.save(good)
        except DivergedError as error:
            raise TrainingError(f"{error.found}: {self.state.rescue(good)}") from error

    def _kept_batches(self, loader: Iterator[Any]) -> tuple[Any, ...]:
        """The first batches of an epoch, kept for the measurements of the run."""
        count = batches_to_keep(self.total_steps // self.epochs)
        return self.collapse.keep(tuple(itertools.islice(loader, count)))

    def _look(self, good: bytes) -> bool:
        """Measure the network after an epoch. Whether it works as it is then, so that its state is a good one.

        One that works no more is not made smaller as long as it recovers, either from being snapped at all or from a
        gentle loss; otherwise the run goes back to the last good state, slower and larger.
        """
        share_lost = self.collapse.share_lost()
        bits, over = self.prior.coded_bits, self.prior.steps >= self.total_steps
        works = share_lost <= GREATEST_LOSS_SHARE or (bits is not None and self.steering.keeps_metric())
        if works or over or not (bits is None or self.steering.steers):
            self.steering.after_epoch(self.prior, self.epochs, share_lost)
            self.broken_share, self.snapped_works = GREATEST_RECOVERY, bits is not None
            return True
        gentle = not self.snapped_works or share_lost < SUDDEN_LOSS_SHARE
        if bits is not None and gentle and share_lost < RECOVERY * self.broken_share:
            self.broken_share = share_lost
            self.steering.after_epoch(self.prior, self.epochs, share_lost)
            return False
        self._go_back(good, bits)
        self.broken_share = GREATEST_RECOVERY
        return True

    def _go_back(self, good: bytes, bits: float | None) -> None:
        """Go back to a good state, from a network of ``bits`` that works no more."""
        self.state.go_back(good)
        LOGGER.info("epoch %d of %d broke the network down: undone, learning rate lowered", self.epoch + 1, self.epochs)
        self.state.rate_share *= RATE_AFTER_SOFT_COLLAPSE if bits is None else RATE_AFTER_HARD_COLLAPSE
        if bits is not None:
            if self.prior.coded_bits is not None:
                self.prior.assign_bits(BITS_AFTER_COLLAPSE * self.prior.coded_bits)
            self.steering.after_collapse(self.prior, bits)

    def _epoch(self, epoch: int) -> None:
        loader, batches = iter(batches_of(self.request.train)), 0
        first = self._kept_batches(loader) if epoch == 0 else ()
        if first:
            self.collapse.begin()
            self.steering.refuse_unmeasured(self.collapse.tells)
        for batch in itertools.chain(first, loader):
            batches += 1
            share = self.request.schedule.learning_rate(self.prior.progress)
            for group in self.optimizer.param_groups:
                group["lr"] = self.request.learning_rate * self.state.rate_share * share
            loss = self.loss.of(batch)
            backward(loss)
            value = self.finite.loss(loss, self.prior.steps + 1)
            self.optimizer.step()
            self.prior.step()
            self.optimizer.zero_grad()
            self.steering.after_step(self.prior)
            if self.on_progress is not None:
                self.on_progress(self._progress(value))
            self.on_step(self.prior)
        if batches == 0:
            raise no_batches()

    def _progress(self, loss: float) -> Progress:
        prior, steering = self.prior, self.steering
        living = prior.living_components
        return Progress(
            step=prior.steps,
            total_steps=self.total_steps,
            epoch=self.epoch + 1,
            epochs=self.epochs,
            resumed=self.epoch == self.resumed_epoch,
            stage=prior.stage,
            loss=loss,
            coded_bits=prior.coded_bits,
            ratio=prior.coded_ratio,
            metric=steering.metric,
            projected_bytes=steering.projected_bytes(prior.coded_bits),
            bit_price=prior.bit_price,
            components=sum(living.values()) if living else None,
            mergers=prior.mergers if living else None,
        )
