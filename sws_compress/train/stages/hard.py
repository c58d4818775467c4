"""The hard stage: straight-through training of snapped weights, with hard EM as it goes."""

from __future__ import annotations

from typing import Any

import torch

from sws_compress.mixture.mixture import Mixture
from sws_compress.train.optimizers import gradient_of, groups_by_parameter, rate_of, second_moment_of
from sws_compress.train.ranks import local
from sws_compress.train.schedule import Schedule, Stage
from sws_compress.train.sensitivities import sensitivities
from sws_compress.train.stages.price import PriceControl
from sws_compress.train.stages.snapped import SnappedWeights

SENSITIVITY_EVERY = 10
"""EM steps per update of the sensitivities: second moments move slowly, and an update costs as much as an E-step."""


class HardStage:
    """Straight-through training of snapped weights.

    The model's parameters hold snapped values. The optimiser's move on them is carried over to the latent weights,
    which is the straight-through estimator without a hook in the forward pass. EM steps assign the latent weights anew.

    Parameters
    ----------
    weights : SnappedWeights
        The weights, as the soft stage left them.
    price : PriceControl
        Decides the price of a bit.
    schedule : Schedule
        ``hard_pull`` and ``sensitivity_power`` are used.
    """

    kind = Stage.HARD

    def __init__(self, weights: SnappedWeights, price: PriceControl, schedule: Schedule) -> None:
        self.weights, self.price, self._schedule = weights, price, schedule
        self._updates = 0
        self._first_learning_rate: float | None = None

    def begin(self, optimizer: torch.optim.Optimizer) -> None:
        """Assign the weights at once, whatever comes next: unassigned weights would all be tuned as zeros."""
        self.em_step(optimizer)
        self.price.begin(self.weights)

    def step(self, optimizer: torch.optim.Optimizer, progress: float) -> None:
        """Carry the optimiser's move over to the latent weights (see `carry_over`)."""
        self.carry_over(optimizer, self._schedule.hard_pull)

    def update(self, optimizer: torch.optim.Optimizer, progress: float) -> None:
        """EM step at the price that the control decides."""
        self.price.before_em_step(self.weights, progress)
        self.em_step(optimizer)
        self.price.after_em_step(self.weights, progress)

    @torch.no_grad()
    def carry_over(self, optimizer: torch.optim.Optimizer, pull: float) -> None:
        """Carry the optimiser's move over to the latent weights, pull them to their mean, snap the parameters again.

        The pull is the minimiser of ``1/(2 lr) (w' - w)^2 + pull/2 (w' - mu)^2``, with the weight's own learning rate
        lr; it is stable for any ``pull`` >= 0.
        """
        settings = groups_by_parameter(optimizer)
        weights = self.weights
        for group, state, written in zip(weights.groups, weights.states, weights.written, strict=True):
            for i, (parameter, latent, snapped) in enumerate(zip(group.parameters, state.latent, written, strict=True)):
                own, shard = settings[id(parameter)], local(parameter)
                if second_moment_of(optimizer, own, parameter) is None:
                    gradient = gradient_of(own, parameter)
                    if gradient is not None:
                        state.add_square(i, gradient)
                force = pull * rate_of(optimizer, own)
                mean = snapped.float()
                latent.add_(shard.float() - mean)
                latent.lerp_(mean, force / (1 + force))
                shard.copy_(snapped)

    def em_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Hard EM step at the present price; sensitivities are updated when they are due.

        Raises
        ------
        TrainingError
            If a latent weight is NaN or infinite.
        """
        if self._updates % SENSITIVITY_EVERY == 0:
            self.update_sensitivities(optimizer)
        self._updates += 1
        self.weights.em_step()

    @torch.no_grad()
    def update_sensitivities(self, optimizer: torch.optim.Optimizer) -> None:
        """Move sensitivities towards the present ones, by the share that is left of the learning rate.

        Sensitivities that follow gradients when latent weights can hardly move any more feed back on themselves: some
        weights are assigned worse, a few gradients grow, all others count for less and are assigned worse still. With
        sensitivities and latent weights at rest, hard EM descends on one objective and ends.
        """
        learning_rate = max(float(settings["lr"]) for settings in optimizer.param_groups)
        if self._first_learning_rate is None:
            self._first_learning_rate = learning_rate
        share = min(learning_rate / self._first_learning_rate, 1.0) if self._first_learning_rate > 0 else 1.0
        weights = self.weights
        found = sensitivities(
            optimizer,
            weights.groups,
            weights.latents(),
            [state.squares for state in weights.states],
            weights.ranks,
            self._schedule.sensitivity_power,
        )
        for state, own in zip(weights.states, found, strict=True):
            state.sensitivity = [
                new if old is None or new is None else old.lerp_(new, share)
                for old, new in zip(state.sensitivity, own, strict=True)
            ]

    def latents(self) -> list[list[torch.Tensor]]:
        """Latent weights on this rank, by group and member."""
        return self.weights.latents()

    def mixtures(self) -> list[Mixture]:
        """Mixture that the latent weights of each group now follow; one reduction over the ranks."""
        return self.weights.mixtures()

    def snap(self) -> None:
        """Round the codebooks to float16 where they fit, and write them."""
        self.weights.round_codebooks()

    def state_dict(self) -> dict[str, Any]:
        """State as tensors, numbers, lists and dicts; the tensors are the live ones, as in torch."""
        return {
            "weights": self.weights.state_dict(),
            "price": self.price.state_dict(),
            "updates": self._updates,
            "first_learning_rate": self._first_learning_rate,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from `state_dict`, with weights that were restored from it."""
        self.price.load_state_dict(saved["price"])
        self._updates = saved["updates"]
        self._first_learning_rate = saved["first_learning_rate"]
