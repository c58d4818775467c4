"""Whether a network still works: where its loss lies between that of the float network and that of constant outputs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from sws_compress.module_modes import evaluating
from sws_compress.train.model_calls import BatchNorm
from sws_compress.train.norms import reestimate_batch_norms
from sws_compress.train.saved_state import check_number
from sws_compress.train.training_loss import TrainingLoss

MOST_BATCHES = 8
"""Batches that the loss is measured on after every epoch, at most."""

EPOCH_SHARE = 4
"""They are at most every fourth batch of an epoch: a pass without gradients takes a third of a step, so measuring
takes a tenth of the time of short epochs, and less of long ones."""

GREATEST_LOSS_SHARE = 0.3
"""Way from the loss of the float network (0) to that of constant outputs (1) beyond which a network counts as broken.
At 0.3 networks have lost 8 to 15 points of accuracy, and many are on the way to chance, where they are an epoch or two
later (``python -m benchmarks.training mixer transformer residual_cnn --ratios 20``)."""

LEAST_GAP = 0.05
"""Least distance of the two losses, as a share of that of constant outputs, that tells anything: a network that was
hardly trained cannot get much worse."""


class Collapse:
    """Measures how much of what the float network knows is lost, on batches that are kept.

    Batch norms use the statistics of the batch, because running averages lag behind weights that move; all other
    modules are in evaluation mode.

    Parameters
    ----------
    model : torch.nn.Module
        The network that is trained.
    loss : TrainingLoss
        Its loss.

    Attributes
    ----------
    float_loss, constant_loss : float or None
        Loss of the float network, and of constant outputs; None until `begin`, or if it cannot be told.
    """

    def __init__(self, model: nn.Module, loss: TrainingLoss) -> None:
        self._model, self._loss = model, loss
        self._batches: tuple[Any, ...] = ()
        self.float_loss: float | None = None
        self.constant_loss: float | None = None

    def keep(self, batches: Sequence[Any]) -> tuple[Any, ...]:
        """Keep copies of these batches for the measurements to come, and return them."""
        self._batches = tuple(pytree.tree_map_only(torch.Tensor, torch.clone, batch) for batch in batches)
        return self._batches

    @torch.no_grad()
    def begin(self) -> None:
        """Measure the float network, before the first step."""
        with _measuring(self._model):
            pairs = [self._loss.of_constant(batch) for batch in self._batches]
        constants = [constant for _, constant in pairs if constant is not None]
        self.float_loss = _mean([found for found, _ in pairs])
        self.constant_loss = _mean(constants) if constants else None

    @torch.no_grad()
    def share_lost(self) -> float:
        """Way of the present loss from that of the float network (0) to that of constant outputs (1).

        Infinite if the loss is not finite, and 0 where the two levels are unknown or too close.
        """
        with _measuring(self._model):
            found = _mean([float(self._loss.of(batch)) for batch in self._batches])
        if not math.isfinite(found):
            return math.inf
        gap = self._gap
        return 0.0 if gap is None or self.float_loss is None else max(found - self.float_loss, 0.0) / gap

    @property
    def tells(self) -> bool:
        """Whether the two levels are known, and apart."""
        return self._gap is not None

    @property
    def _gap(self) -> float | None:
        """Distance of the two levels, if it tells anything."""
        if self.float_loss is None or self.constant_loss is None:
            return None
        gap = self.constant_loss - self.float_loss
        return gap if LEAST_GAP * abs(self.constant_loss) < gap < math.inf else None

    def settle_norms(self) -> None:
        """Take the statistics of batch norms over the kept batches, for a metric of the network as it is."""
        if not self._batches:
            return
        with self._loss.precision():
            reestimate_batch_norms(self._model, self._batches)

    def state_dict(self) -> dict[str, Any]:
        """The two levels."""
        return {"float_loss": self.float_loss, "constant_loss": self.constant_loss}

    def check_saved(self, saved: dict[str, Any]) -> None:
        """Raise an error unless ``saved`` is what `state_dict` returns."""
        for name in ("float_loss", "constant_loss"):
            if saved[name] is not None:
                check_number(name, saved[name])

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.float_loss, self.constant_loss = saved["float_loss"], saved["constant_loss"]


def batches_to_keep(batches_per_epoch: int) -> int:
    """How many batches of an epoch are kept."""
    return max(1, min(MOST_BATCHES, batches_per_epoch // EPOCH_SHARE))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.inf


@contextmanager
def _measuring(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, in which batch norms use the statistics of the batch and keep their own."""
    norms = [module for module in model.modules() if isinstance(module, BatchNorm) and module.track_running_stats]
    kept = [(norm, norm.running_mean, norm.running_var, norm.num_batches_tracked) for norm in norms]
    with evaluating(model):
        for norm in norms:
            norm.running_mean = norm.running_var = norm.num_batches_tracked = None
        try:
            yield
        finally:
            for norm, mean, variance, count in kept:
                norm.running_mean, norm.running_var, norm.num_batches_tracked = mean, variance, count
