"""SoftWeightSharing: the mixture prior beside any training loop."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sws_compress.errors import ArgumentError
from sws_compress.mixture.params import Mixture
from sws_compress.mixture.snap import Palette
from sws_compress.train.hard_stage import HardStage
from sws_compress.train.optimizers import check_optimizer, group_of
from sws_compress.train.schedule import Schedule, Stage
from sws_compress.train.select import Selection, Sharing, select_parameters
from sws_compress.train.soft_stage import SoftStage

FLOAT_BITS = 32


class SoftWeightSharing:
    """Soft weight sharing (Nowlan & Hinton 1992) around a torch model and its optimiser.

        prior = SoftWeightSharing(net, optimizer, components=16, total_steps=len(loader) * epochs)
        for x, y in batches:
            loss(net(x), y).backward(); optimizer.step(); prior.step(); optimizer.zero_grad()
        palettes = prior.snap()

    ``step`` follows every optimiser step, before the gradients are cleared. With ``total_steps`` it runs the whole
    alternation by itself: EM steps at the schedule's intervals, then the hard stage, then codebook tuning. Without it
    the prior stays in the soft stage at its final strength, and ``update`` (the EM step) is the caller's.

    components    mixture components per group, 2..256, one of them at zero
    ratio         32 bits * (selected weights) / (coded bits) to reach in the hard stage
    parameters    which parameters: predicate on (name, parameter), names, or None for all weights of
                  linear, convolution, embedding and recurrent modules
    sharing       one mixture per tensor, per module or for the model
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        components: int = 16,
        ratio: float = 20.0,
        total_steps: int | None = None,
        schedule: Schedule | None = None,
        parameters: Selection | None = None,
        sharing: Sharing = Sharing.TENSOR,
    ) -> None:
        if not 2 <= components <= 256:
            raise ArgumentError(
                f"components must be >= 2, got {components}: one is reserved for zero"
                if components < 2
                else f"components must be <= 256, got {components}: an index is one byte"
            )
        if ratio <= 1:
            raise ArgumentError(f"ratio must be > 1, got {ratio}: it is how many times smaller the weights become")
        if total_steps is not None and total_steps < 1:
            raise ArgumentError(f"total_steps must be >= 1, got {total_steps}: count the optimizer steps of the run")
        check_optimizer(optimizer)
        self.optimizer = optimizer
        self.schedule = schedule or Schedule()
        self.ratio = ratio
        self.total_steps = total_steps
        self.steps = 0
        self.groups = select_parameters(model, parameters, sharing=sharing)
        for group in self.groups:
            for parameter in group.parameters:
                group_of(optimizer, parameter)
        self._soft = SoftStage(self.groups, components, self.schedule.variance_floor(0.0))
        self._hard: HardStage | None = None
        self._first_bits: float | None = None

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0..1; the end of the soft stage when ``total_steps`` is unknown."""
        if self.total_steps is None:
            return self.schedule.soft_until * (1 - 1e-9)
        return min(self.steps / self.total_steps, 1.0)

    @property
    def stage(self) -> Stage:
        return self.schedule.stage(self.progress)

    @property
    def mixtures(self) -> dict[str, Mixture]:
        """The present mixture of every group, by label."""
        return {group.label: mixture for group, mixture in zip(self.groups, self._soft.mixtures, strict=True)}

    @property
    def coded_bits(self) -> float | None:
        """Order-0 entropy of all assignments plus codebooks, in bits; None before the hard stage."""
        return None if self._hard is None else self._hard.coded_bits()

    def step(self) -> None:
        """After ``optimizer.step()``, before ``zero_grad()``: pull, and whatever the schedule says is due."""
        stage = self.stage
        self.steps += 1
        due = self.total_steps is not None and self.steps % self.schedule.update_every(stage) == 0
        if stage is Stage.SOFT:
            self._soft.pull(self.optimizer, self.schedule.pull_strength(self.progress))
        elif self._hard is None:
            due = True
        elif stage is Stage.HARD:
            self._hard.step(self.optimizer, self.schedule.hard_pull)
        else:
            self._hard.tune_step(self.optimizer, self.schedule.codebook_rate)
            due = False
        if due:
            self.update()

    def update(self) -> None:
        """The EM step: of the mixtures in the soft stage, of assignments, pi and mu in the hard stage."""
        stage = self.stage
        if stage is Stage.SOFT:
            self._soft.update(self.optimizer, self.schedule.variance_floor(self.progress))
            return
        if self._hard is None:
            self._hard = HardStage(self.groups, self._soft.mixtures)
        if stage is Stage.HARD:
            self._hard.update(self.optimizer, self._target_bits())

    def _target_bits(self) -> float:
        assert self._hard is not None
        elements = sum(group.elements for group in self.groups)
        last_bits = FLOAT_BITS * elements / self.ratio
        if self._first_bits is None:
            self._hard.update(self.optimizer, last_bits)
            self._first_bits = max(self._hard.coded_bits(), last_bits)
        return self.schedule.target_bits(self.progress, self._first_bits, last_bits)

    def snap(self) -> dict[str, Palette]:
        """Set every compressed parameter to a cluster mean; the palettes by parameter name."""
        if self._hard is None:
            return self._soft.snap()
        self._hard.write_snapped()
        return self._hard.palettes()

    def state_dict(self) -> dict[str, Any]:
        """Everything that ``load_state_dict`` needs to go on exactly: tensors, numbers and lists only."""
        return {
            "steps": self.steps,
            "first_bits": self._first_bits,
            "soft": self._soft.state_dict(),
            "hard": None if self._hard is None else self._hard.state_dict(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from ``state_dict``; model and optimiser are restored by the caller."""
        self.steps = saved["steps"]
        self._first_bits = saved["first_bits"]
        self._soft.load_state_dict(saved["soft"])
        if saved["hard"] is not None:
            self._hard = HardStage(self.groups, self._soft.mixtures)
            self._hard.load_state_dict(saved["hard"])
