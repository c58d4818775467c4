"""Training from scratch with one regulariser at one strength, each network on its own cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from benchmarks.regularisation.learned_mixture import LearnedMixture
from benchmarks.regularisation.nets import Nets, losses, scores
from benchmarks.regularisation.problems import Problem
from benchmarks.regularisation.settings import Setting
from sws_compress.train.prior import SoftWeightSharing
from sws_compress.train.schedule import Schedule
from sws_compress.train.sharing import Sharing

RESTART_SEED = 1000
"""Initial weights of restart r of a seed are those of seed + r times this."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings that all trials share: Adam at ``learning_rate`` times half a cosine, on all cases at once.

    Every network is trained from ``restarts`` initial weights, and the one with the least objective on its training
    cases (loss and penalty) is kept. ``em_steps`` of the mixture are spread over the run.
    """

    steps: int
    learning_rate: float = 0.01
    em_steps: int = 20
    restarts: int = 3


def prior_of(setting: Setting, nets: Nets, optimizer: torch.optim.Optimizer, recipe: Recipe) -> SoftWeightSharing:
    """A prior with one mixture for every layer, or for every network."""
    schedule = Schedule(
        soft_until=1,
        penalty=(setting.start, setting.value),
        floor=setting.floor,
        soft_every=max(recipe.steps // recipe.em_steps, 1),
    )
    return SoftWeightSharing(
        nets,
        optimizer,
        components=setting.components,
        total_steps=recipe.steps,
        schedule=schedule,
        parameters=lambda name, _: name.endswith("weight"),
        sharing=Sharing.MODULE if setting.one_mixture else Sharing.TENSOR,
    )


def penalty(setting: Setting, weights: tuple[torch.Tensor, ...], mixture: LearnedMixture | None) -> torch.Tensor:
    """Penalty of every network, (nets,), at strength 1; biases have none. `SoftWeightSharing` acts beside the loss."""
    if setting.method == "L1":
        return torch.stack([layer.abs().sum((1, 2)) for layer in weights]).sum(0)
    if setting.method == "L2":
        return torch.stack([layer.square().sum((1, 2)) for layer in weights]).sum(0) / 2
    if mixture is not None:
        return mixture(weights)
    return torch.zeros(len(weights[0]))


@torch.no_grad()
def surprise(prior: SoftWeightSharing, nets: Nets) -> torch.Tensor:
    """-log p of the weights of every network, (nets,), under the prior's mixtures."""
    total = torch.zeros(nets.count)
    for name, mixture in prior.mixtures.items():
        weights = nets.get_parameter(name).detach().numpy().ravel()
        total[int(name.split(".")[1])] -= float(mixture.log_density(weights).sum())
    return total


def train(
    problem: Problem, setting: Setting, recipe: Recipe, seeds: Sequence[int], kept: torch.Tensor
) -> tuple[Nets, torch.Tensor]:
    """Train network i from ``seeds[i]``, on the cases of its sample where ``kept`` (nets, n) is 1.

    A seed beyond the problem's samples is a restart. Returns the networks and their objectives, (nets,).
    """
    inputs, targets = problem.stacked([seed % RESTART_SEED for seed in seeds])
    by_em = setting.method == "mixture"
    nets = Nets(inputs.shape[-1], problem.hidden, problem.outputs, seeds, apart=by_em)
    share = kept / kept.sum(1, keepdim=True)
    learned = LearnedMixture(setting, nets) if setting.method == "mixture by gradients" else None
    parameters = [*nets.parameters(), *(learned.parameters() if learned is not None else ())]
    optimizer = torch.optim.Adam(parameters, lr=recipe.learning_rate, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps)
    prior = prior_of(setting, nets, optimizer, recipe) if by_em else None
    steps = round(setting.value * recipe.steps) if setting.method == "early stopping" else recipe.steps
    for step in range(steps):
        outputs, weights = nets(inputs)
        loss = (share * losses(outputs, targets)).sum()
        if setting.value and setting.method != "early stopping" and not by_em:
            strength = setting.start ** (1 - step / steps) * setting.value ** (step / steps)
            loss = loss + strength * penalty(setting, weights, learned).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if prior is not None:
            prior.step()
        scheduler.step()
    with torch.no_grad():
        outputs, weights = nets(inputs)
        cost = surprise(prior, nets) if prior is not None else penalty(setting, weights, learned)
        weight = 0.0 if setting.method == "early stopping" else setting.value
        return nets, (share * losses(outputs, targets)).sum(1) + weight * cost


def restarted(seeds: Sequence[int], restarts: int) -> list[int]:
    """Seeds of all restarts, restart by restart."""
    return [seed + RESTART_SEED * restart for restart in range(restarts) for seed in seeds]


def best(values: torch.Tensor, objectives: torch.Tensor, restarts: int) -> torch.Tensor:
    """Rows of ``values`` (restarts * nets, ...) of the restart with the least objective, (nets, ...)."""
    chosen = objectives.view(restarts, -1).argmin(0)
    return values.view(restarts, len(chosen), *values.shape[1:])[chosen, torch.arange(len(chosen))]


@torch.no_grad()
def cross_validation(problem: Problem, setting: Setting, recipe: Recipe, folds: int) -> torch.Tensor:
    """Mean score and mean loss of each seed's cases, each measured while its fold is held out; (seeds, 2)."""
    count = len(problem.samples)
    seeds = [seed for seed in range(count) for _ in range(folds)]
    fold = torch.arange(folds).repeat(count)[:, None]
    held = (torch.stack([problem.samples[seed].fold for seed in seeds]) == fold).float()
    everyone = restarted(seeds, recipe.restarts)
    with torch.enable_grad():
        nets, objectives = train(problem, setting, recipe, everyone, (1 - held).repeat(recipe.restarts, 1))
    inputs, targets = problem.stacked([seed % RESTART_SEED for seed in everyone])
    outputs, _ = nets(inputs)
    measured = torch.stack([measure(outputs, targets) for measure in (scores, losses)], dim=1)
    sums = (held[:, None] * best(measured, objectives, recipe.restarts)).sum(2)
    return sums.view(count, folds, 2).sum(1) / targets.shape[1]


def scores_on_tests(
    problem: Problem, setting: Setting, recipe: Recipe, seeds: Sequence[int]
) -> dict[str, torch.Tensor]:
    """Train on whole samples; mean score and mean loss of every seed, (seeds, 2), for every test set."""
    everyone = restarted(seeds, recipe.restarts)
    nets, objectives = train(problem, setting, recipe, everyone, torch.ones(len(everyone), problem.cases))
    result = {}
    for name, (inputs, targets) in problem.tests.items():
        with torch.no_grad():
            outputs, _ = nets(inputs)
        expanded = targets.expand(nets.count, -1)
        measured = torch.stack([measure(outputs, expanded).mean(1) for measure in (scores, losses)], dim=1)
        result[name] = best(measured, objectives, recipe.restarts)
    return result
