"""What is asked of a run: its goal, and settings of the request by hand beside the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.training.problems import Problem
from sws_compress import Distillation, Schedule, Sharing


@dataclass(frozen=True)
class Goal:
    """The goal of a run, by the name and value of the argument of ``compress``; nothing for its default."""

    argument: str | None = None
    value: float = 0.0

    @property
    def name(self) -> str:
        return "none" if self.argument is None else f"{self.argument}={self.value:g}"

    @property
    def arguments(self) -> dict[str, Any]:
        return {} if self.argument is None else {self.argument: self.value}


@dataclass(frozen=True)
class Setting:
    """Arguments of ``FineTuned`` that are not the defaults; a teacher only where outputs are logits.

    ``length`` is that of the run, in runs with the default epochs.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    distillation: float | None = None
    length: float = 1.0

    def request_arguments(self, problem: Problem) -> dict[str, Any]:
        """Arguments for one problem."""
        if self.distillation is None or not problem.distils:
            return dict(self.arguments)
        return {**self.arguments, "distillation": Distillation(weight=self.distillation)}


DEFAULTS = Setting("defaults")


def everything(name: str, parameter: object) -> bool:
    """A selection of all parameters."""
    return True


TUNED = (
    Setting("long", length=2.0),
    Setting("long, 2e-3", {"learning_rate": 2e-3}, length=2.0),
    Setting("long, 3e-4", {"learning_rate": 3e-4}, length=2.0),
    Setting("8 components", {"components": 8, "learning_rate": 1.2e-3}),
    Setting("5 components", {"components": 5, "learning_rate": 1.2e-3}),
    Setting("teacher", {"learning_rate": 1.2e-3}, distillation=0.7),
    Setting("teacher, 8", {"learning_rate": 2e-3, "components": 8}, distillation=0.7),
    Setting("biases of 32", {"learning_rate": 1.2e-3, "components": 8, "bias_components": 32}, 0.5),
    Setting(
        "all shared by module",
        {"learning_rate": 1.2e-3, "parameters": everything, "sharing": Sharing.MODULE},
        0.5,
    ),
    Setting(
        "slow way down",
        {"learning_rate": 1.2e-3, "components": 8, "schedule": Schedule(target_at=0.65)},
        0.5,
    ),
)
"""Ten settings by hand: longer runs, learning rates, components, a teacher, biases, what is shared, the schedule."""
