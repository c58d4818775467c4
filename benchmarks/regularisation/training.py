"""Training from scratch with one regulariser at one strength, each network on its own cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from benchmarks.regularisation.nets import Nets, losses, scores
from benchmarks.regularisation.problems import Problem
from sws_compress.train.prior import SoftWeightSharing
from sws_compress.train.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings that all strengths share: Adam at ``learning_rate`` times half a cosine, on all cases at once.

    For the mixture: components per layer, EM steps over the run, and the ``ratio`` of the hard stage in the second half
    of the run, if there is one.
    """

    steps: int
    learning_rate: float = 0.01
    components: int = 8
    em_steps: int = 10
    ratio: float = 10.0


@dataclass(frozen=True)
class Setting:
    """A point in the grid of a method.

    ``value`` is the weight of the penalty in the loss (of -log p for the mixture), or the share of the run for early
    stopping. ``floor`` is (start, end) of the least standard deviation of a component, in those of the initial weights.
    """

    method: str
    value: float
    floor: tuple[float, float] | None = None

    @property
    def has_mixture(self) -> bool:
        return self.floor is not None


SNAPPED = "mixture, snapped"
GRIDS: dict[str, tuple[Setting, ...]] = {
    "none": (Setting("none", 0.0),),
    "early stopping": tuple(Setting("early stopping", x) for x in (0.03, 0.05, 0.08, 0.12, 0.2, 0.35, 0.6, 1.0)),
    "L1": tuple(Setting("L1", x) for x in (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)),
    "L2": tuple(Setting("L2", x) for x in (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)),
    "mixture": tuple(
        Setting("mixture", x, floor) for floor in ((1.0, 0.3), (4.0, 2.0)) for x in (3e-5, 1e-4, 3e-4, 1e-3)
    ),
}


def penalty(setting: Setting, weights: tuple[torch.Tensor, ...]) -> torch.Tensor | float:
    """Penalty over all weights of all networks, without biases. The mixture acts beside the loss instead."""
    if setting.method == "L1":
        return setting.value * sum(layer.abs().sum() for layer in weights)
    if setting.method == "L2":
        return setting.value / 2 * sum(layer.square().sum() for layer in weights)
    return 0.0


def prior_of(setting: Setting, nets: Nets, optimizer: torch.optim.Optimizer, recipe: Recipe) -> SoftWeightSharing:
    """A prior with one mixture for every layer of every network."""
    assert setting.floor is not None
    schedule = Schedule(
        soft_until=0.5 if setting.method == SNAPPED else 1,
        target_at=0.65,
        penalty=(setting.value, setting.value),
        floor=setting.floor,
        soft_every=max(recipe.steps // recipe.em_steps, 1),
    )
    return SoftWeightSharing(
        nets,
        optimizer,
        components=recipe.components,
        coded_ratio=recipe.ratio,
        total_steps=recipe.steps,
        schedule=schedule,
        parameters=lambda name, _: name.endswith("weight"),
    )


@dataclass(frozen=True)
class Trained:
    """Networks after training, and their ``prior`` if there was one."""

    nets: Nets
    prior: SoftWeightSharing | None


def train(problem: Problem, setting: Setting, recipe: Recipe, seeds: Sequence[int], kept: torch.Tensor) -> Trained:
    """Train network i from ``seeds[i]``, on the cases of its sample where ``kept`` (nets, n) is 1."""
    inputs, targets = problem.stacked(seeds)
    nets = Nets(inputs.shape[-1], problem.hidden, problem.outputs, seeds, apart=setting.has_mixture)
    share = kept / kept.sum(1, keepdim=True)
    optimizer = torch.optim.Adam(nets.parameters(), lr=recipe.learning_rate, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps)
    prior = prior_of(setting, nets, optimizer, recipe) if setting.has_mixture else None
    for _ in range(round(setting.value * recipe.steps) if setting.method == "early stopping" else recipe.steps):
        outputs, weights = nets(inputs)
        loss = (share * losses(outputs, targets)).sum() + penalty(setting, weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if prior is not None:
            prior.step()
        scheduler.step()
    if prior is not None and setting.method == SNAPPED:
        prior.snap()
    return Trained(nets, prior)


@torch.no_grad()
def cross_validation(problem: Problem, setting: Setting, recipe: Recipe, folds: int) -> torch.Tensor:
    """Mean score and mean loss of each seed's cases, each measured while its fold is held out; (seeds, 2)."""
    count = len(problem.samples)
    seeds = [seed for seed in range(count) for _ in range(folds)]
    fold = torch.arange(folds).repeat(count)[:, None]
    held = (torch.stack([problem.samples[seed].fold for seed in seeds]) == fold).float()
    with torch.enable_grad():
        trained = train(problem, setting, recipe, seeds, 1 - held)
    inputs, targets = problem.stacked(seeds)
    outputs, _ = trained.nets(inputs)
    sums = torch.stack([(held * measure(outputs, targets)).sum(1) for measure in (scores, losses)], dim=1)
    return sums.view(count, folds, 2).sum(1) / targets.shape[1]


@torch.no_grad()
def scores_on_tests(nets: Nets, problem: Problem) -> dict[str, torch.Tensor]:
    """Mean score and mean loss of every network, (nets, 2), for every test set."""
    result = {}
    for name, (inputs, targets) in problem.tests.items():
        outputs, _ = nets(inputs)
        expanded = targets.expand(nets.count, -1)
        result[name] = torch.stack([measure(outputs, expanded).mean(1) for measure in (scores, losses)], dim=1)
    return result
