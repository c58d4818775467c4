"""The interface of a stage of training."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from sws_compress.mixture.mixture import Mixture
from sws_compress.train.schedule import Stage
from sws_compress.train.stages.snapped import SnappedWeights


class TrainingStage(Protocol):
    """One stage of a run, for all groups of parameters; ``SoftWeightSharing`` makes one from the stage before.

    ``progress`` is the share of the run that is done, 0..1.
    """

    @property
    def kind(self) -> Stage:
        """The name of the stage."""

    @property
    def weights(self) -> SnappedWeights | None:
        """The snapped weights; None in the soft stage, which has none."""

    def step(self, optimizer: torch.optim.Optimizer, progress: float) -> None:
        """What the stage does after every step of the optimiser, before the gradients are cleared."""

    def update(self, optimizer: torch.optim.Optimizer, progress: float) -> None:
        """The EM step of the stage. Raises TrainingError if a weight is NaN or infinite."""

    def latents(self) -> list[list[torch.Tensor]]:
        """Latent weights on this rank, by group and member."""

    def mixtures(self) -> list[Mixture]:
        """The present mixture of each group."""

    def snap(self) -> None:
        """Set every parameter to the mean of a component."""

    def state_dict(self) -> dict[str, Any]:
        """State as tensors, numbers, lists and dicts."""

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
