"""Short runs of the loop on the digits: batches that fail, and a network with randomness and a buffer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sws_compress.train.fine_tune_result import FineTuneResult
from sws_compress.train.loop import fine_tune
from sws_compress.train.measures import Measures
from sws_compress.train.request import FineTuned
from sws_compress.train.schedule import Schedule
from sws_compress.train.targets import SteeringTarget
from tests.train.digits import Batches, trained

EPOCHS = 10
SHORT = FineTuned(
    train=Batches(400, 50),
    loss=functional.cross_entropy,
    components=8,
    epochs=EPOCHS,
    learning_rate=1e-3,
    schedule=Schedule(soft_until=0.35, target_at=0.6, tune_from=0.75, soft_every=4, hard_every=3),
)
SIZE = SteeringTarget(coded_ratio=16)
SEED = 3


class KilledError(BaseException):
    """Raised where a process would be killed."""


class Failing:
    """``Batches`` that raise, or hold NaN, at one batch counted over all epochs."""

    def __init__(self, at: int, poison: bool = False) -> None:
        self.batches, self.at, self.poison, self.seen = Batches(400, 50), at, poison, 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for pixels, labels in self.batches:
            self.seen += 1
            if self.seen == self.at:
                if not self.poison:
                    raise KilledError
                pixels = pixels * float("nan")
            yield pixels, labels


class Dropping(nn.Sequential):
    """Draws from torch's generator in every step, and counts steps in a buffer."""

    def __init__(self) -> None:
        super().__init__(*trained(), nn.Dropout(0.1))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, pixels: Tensor) -> Tensor:
        self.steps += self.training
        return super().forward(pixels)


def tune(
    model: nn.Module,
    train: Iterable[Any],
    request: FineTuned = SHORT,
    target: SteeringTarget | None = SIZE,
    *,
    seed: int = SEED,
    state: Path | None = None,
    measures: Measures | None = None,
    **options: Any,
) -> FineTuneResult:
    """Run ``request`` on other batches, with a state to save or to go on from."""
    request = replace(request, train=train, state=state)
    return fine_tune(model, request, target, seed=seed, measures=measures, **options)


def assert_same(one: nn.Module, other: nn.Module) -> None:
    theirs = other.state_dict()
    for name, value in one.state_dict().items():
        assert torch.equal(value, theirs[name]), name
