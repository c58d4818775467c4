"""The alternation: which stage a run is in, and how one stage hands the weights on to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sws_compress.train.ranks import Ranks
from sws_compress.train.schedule import Schedule, Stage
from sws_compress.train.select import ParameterGroup
from sws_compress.train.stages.hard import HardStage
from sws_compress.train.stages.price import PriceControl
from sws_compress.train.stages.snapped import SnappedWeights
from sws_compress.train.stages.soft import SoftStage
from sws_compress.train.stages.stage import TrainingStage
from sws_compress.train.stages.tune import TuneStage


class Alternation:
    """Soft stage, hard stage and codebook tuning, one after the other.

    Parameters
    ----------
    groups : sequence of ParameterGroup
        The compressed parameters.
    components : int
        Components of each group's mixture.
    price : PriceControl
        Decides the price of a bit from the hard stage on.
    schedule : Schedule
        When each stage begins.
    total_steps : int or None
        Optimiser steps of the whole run; None stays in the soft stage.
    ranks : Ranks
        The processes that train together.

    Attributes
    ----------
    now : TrainingStage
        The present stage. It becomes the next one with the first step, or the first EM step, that is due there.
    steps : int
        Optimiser steps so far.
    """

    def __init__(
        self,
        groups: Sequence[ParameterGroup],
        components: int,
        price: PriceControl,
        schedule: Schedule,
        total_steps: int | None,
        ranks: Ranks,
    ) -> None:
        self._groups, self._components, self._price = groups, components, price
        self._schedule, self._total_steps, self._ranks = schedule, total_steps, ranks
        self.steps = 0
        self.now: TrainingStage = SoftStage(groups, components, schedule, ranks)

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0..1; the end of the soft stage if ``total_steps`` is unknown."""
        if self._total_steps is None:
            return self._schedule.soft_until * (1 - 1e-9)
        return min(self.steps / self._total_steps, 1.0)

    @property
    def due(self) -> Stage:
        """Stage of the next step; always SOFT if ``total_steps`` is unknown.

        If the schedule tunes at all, the last step of a run does, however short the run: it assigns the weights for
        the size that was asked for.
        """
        if self._total_steps is None:
            return Stage.SOFT
        last = self.steps >= self._total_steps - 1
        return Stage.TUNE if self._schedule.tunes and last else self._schedule.stage(self.progress)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Count a step of the optimiser, and do what is due after it."""
        stage = self.due
        self.steps += 1
        begins = stage is not self.now.kind
        if begins:
            self._hand_on(stage, optimizer)
        if begins and stage is Stage.HARD:
            self.update(optimizer)  # the latent weights begin here: there is no move to carry over
            return
        self.now.step(optimizer, self.progress)
        if begins and self.now.weights is not None:
            self._price.settle(self.now.weights)
        if self._update_is_due(stage):
            self.update(optimizer)

    def update(self, optimizer: torch.optim.Optimizer) -> None:
        """EM step of the stage that is due; none in the tuning stage."""
        stage = self.due
        if stage is not Stage.SOFT and self.now.kind is Stage.SOFT:
            self._hand_on(Stage.HARD, optimizer)
        if self.now.kind is stage:
            self.now.update(optimizer, self.progress)

    def _update_is_due(self, stage: Stage) -> bool:
        if self._total_steps is None or stage is Stage.TUNE:
            return False
        return self.steps % self._schedule.update_every(stage) == 0

    def _hand_on(self, stage: Stage, optimizer: torch.optim.Optimizer) -> None:
        """Hand the weights on to ``stage``, through the stages in between: the one place where stages change."""
        if isinstance(self.now, SoftStage):
            weights = SnappedWeights.start(self._groups, self.now.mixtures(), self._ranks)
            self.now = HardStage(weights, self._price, self._schedule)
            self.now.begin(optimizer)
        if isinstance(self.now, HardStage) and stage is Stage.TUNE:
            self._price.before_tuning(self.now.weights)
            self.now = TuneStage(self.now.weights, self._schedule)

    def state_dict(self) -> dict[str, Any]:
        """State as tensors, numbers, lists and dicts."""
        return {"steps": self.steps, "stage": self.now.kind.value, "state": self.now.state_dict()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.steps = saved["steps"]
        stage, state = Stage(saved["stage"]), saved["state"]
        if stage is Stage.SOFT:
            self.now = SoftStage(self._groups, self._components, self._schedule, self._ranks)
        else:
            weights = SnappedWeights.restored(self._groups, state["weights"], self._ranks)
            hard = stage is Stage.HARD
            self.now = HardStage(weights, self._price, self._schedule) if hard else TuneStage(weights, self._schedule)
        self.now.load_state_dict(state)
