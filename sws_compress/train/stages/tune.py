"""The tuning stage: assignments are frozen, and only the codebooks move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sws_compress.mixture.mixture import Mixture
from sws_compress.train.optimizers import gradient_of, groups_by_parameter
from sws_compress.train.schedule import Schedule, Stage
from sws_compress.train.stages import hard_em as hard
from sws_compress.train.stages.snapped import SnappedWeights


def codebook_optimizer(codebooks: Sequence[torch.Tensor]) -> torch.optim.Adam:
    """The optimiser of the codebooks, one group each: every codebook has a learning rate of its own."""
    return torch.optim.Adam([{"params": [codebook]} for codebook in codebooks])


class TuneStage:
    """Codebook tuning: every mean moves along the summed gradient of its members, by Adam; zero stays zero.

    This is the trained quantisation of Han et al. 2016.

    Parameters
    ----------
    weights : SnappedWeights
        The weights, assigned for the last time.
    schedule : Schedule
        ``codebook_rate`` is used.
    """

    kind = Stage.TUNE

    def __init__(self, weights: SnappedWeights, schedule: Schedule) -> None:
        self.weights, self._schedule = weights, schedule
        self._optimizer = codebook_optimizer([state.codebook for state in weights.states])

    @torch.no_grad()
    def step(self, optimizer: torch.optim.Optimizer, progress: float) -> None:
        """Move each mean along the summed gradient of its members; one reduction over the ranks."""
        settings = groups_by_parameter(optimizer)
        weights = self.weights
        gradients = []
        for group, state in zip(weights.groups, weights.states, strict=True):
            total = torch.zeros_like(state.codebook, dtype=torch.float64)
            for i, parameter in enumerate(group.parameters):
                gradient = gradient_of(settings[id(parameter)], parameter)
                if gradient is not None and state.counted[i]:
                    total += hard.member_sums(gradient, state.assignment[i], len(total))
            gradients.append(total)
        for group, state, total, own in zip(
            weights.groups, weights.states, weights.ranks.sums(gradients), self._optimizer.param_groups, strict=True
        ):
            total[0] = 0
            state.codebook.grad = total.float()
            own["lr"] = self._schedule.codebook_rate * float(settings[id(group.parameters[0])]["lr"])
        self._optimizer.step()
        weights.write()

    def update(self, optimizer: torch.optim.Optimizer, progress: float) -> None:
        """Nothing: assignments are frozen."""

    def latents(self) -> list[list[torch.Tensor]]:
        """Latent weights on this rank, by group and member, as the hard stage left them."""
        return self.weights.latents()

    def mixtures(self) -> list[Mixture]:
        """Mixture of each group about the present means; one reduction over the ranks."""
        return self.weights.mixtures()

    def snap(self) -> None:
        """Round the codebooks to float16 where they fit, and write them."""
        self.weights.round_codebooks()

    def state_dict(self) -> dict[str, Any]:
        """State as tensors, numbers, lists and dicts; the tensors are the live ones, as in torch."""
        return {"weights": self.weights.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from `state_dict`, with weights that were restored from it."""
        self._optimizer.load_state_dict(saved["optimizer"])
