"""How much each weight matters to the loss, from squared gradients: the h of the hard stage."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from sws_compress.train.optimizers import gradient_of, groups_by_parameter, second_moment_of
from sws_compress.train.ranks import Ranks, is_sharded
from sws_compress.train.select import ParameterGroup
from sws_compress.train.stages import hard_em as hard

Members = list[torch.Tensor]
"""One tensor per member of a group, of what this rank holds of it."""


def sensitivities(
    optimizer: torch.optim.Optimizer,
    groups: Sequence[ParameterGroup],
    latents: Sequence[Members],
    squares: Sequence[list[torch.Tensor | None]],
    ranks: Ranks,
    power: float,
) -> list[list[torch.Tensor | None]]:
    """h of every member of every group, scaled so that the mean of h w^2 over all latent weights w is 1; None for 1.

    h is an expected squared gradient to ``power``; ``squares`` are squared gradients to use where the optimiser keeps
    no second moments. One scale for all groups: a scale per group would forget that a small convolution matters more
    per weight. Two reductions over the ranks.

    Raises TrainingError when a latent weight or a gradient is NaN or infinite.
    """
    moments = [_moments(optimizer, *each) for each in zip(groups, latents, squares, strict=True)]
    factors = [
        [hard.sensitivity_factors(moment, power, means) for moment, means in zip(own, columns, strict=True)]
        for own, columns in zip(moments, _column_means(groups, moments, ranks), strict=True)
    ]
    shares = ranks.sums([_energy(*each, ranks) for each in zip(groups, factors, latents, strict=True)])
    for group, share in zip(groups, shares, strict=True):
        if not math.isfinite(share):
            raise group.diverged()  # before it makes the sensitivities of all groups NaN
    energy, elements = float(sum(shares)), sum(group.elements for group in groups)
    return [[None if energy == 0 else member * (elements / energy) for member in own] for own in factors]


def _moments(
    optimizer: torch.optim.Optimizer,
    group: ParameterGroup,
    latents: Members,
    squares: list[torch.Tensor | None],
) -> Members:
    """Squared gradients as the optimiser or else the stage averaged them, or of the last step, or zeros; float32."""
    settings = groups_by_parameter(optimizer)
    moments = []
    for parameter, latent, square in zip(group.parameters, latents, squares, strict=True):
        moment = second_moment_of(optimizer, settings[id(parameter)], parameter)
        if moment is None:
            moment = square
        if moment is None:
            gradient = gradient_of(settings[id(parameter)], parameter)
            moment = None if gradient is None else gradient.square()
        moments.append(torch.zeros_like(latent) if moment is None else moment.float())
    return moments


def _column_means(
    groups: Sequence[ParameterGroup], moments: Sequence[Members], ranks: Ranks
) -> list[list[torch.Tensor | None]]:
    """Of every sharded member over the rows of all ranks, (columns,) float64; None where all rows are here."""
    sharded = [
        (parameter, moment)
        for group, own in zip(groups, moments, strict=True)
        for parameter, moment in zip(group.parameters, own, strict=True)
        if is_sharded(parameter)
    ]
    sums = ranks.sums([hard.column_sums(moment) * ranks.counts(parameter) for parameter, moment in sharded])
    means = {id(parameter): total / len(parameter) for (parameter, _), total in zip(sharded, sums, strict=True)}
    return [[means.get(id(parameter)) for parameter in group.parameters] for group in groups]


def _energy(group: ParameterGroup, factors: Members, latents: Members, ranks: Ranks) -> torch.Tensor:
    """Sum of h w^2 over the weights that this rank counts, float64 ()."""
    parts = [
        float((own * latent.square()).sum())
        for parameter, own, latent in zip(group.parameters, factors, latents, strict=True)
        if ranks.counts(parameter)
    ]
    return torch.tensor(sum(parts), dtype=torch.float64)
