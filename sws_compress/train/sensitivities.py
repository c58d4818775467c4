"""Sensitivities of weights from squared gradients: the h of the hard stage."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from sws_compress.train.optimizers import gradient_of, groups_by_parameter, second_moment_of
from sws_compress.train.ranks import Ranks, is_sharded
from sws_compress.train.select import ParameterGroup

Members = list[torch.Tensor]
"""One tensor per member of a group: the part that this rank holds of it."""


def sensitivities(
    optimizer: torch.optim.Optimizer,
    groups: Sequence[ParameterGroup],
    latents: Sequence[Members],
    squares: Sequence[list[torch.Tensor | None]],
    ranks: Ranks,
    power: float,
) -> list[list[torch.Tensor | None]]:
    """Sensitivity h of every weight: its expected squared gradient to a power.

    One scale serves all groups, so that the mean of h w^2 over all latent weights w is 1. A scale per group would
    forget that a small convolution matters more per weight. Two reductions over the ranks.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Its second moments are the expected squared gradients, where it keeps them.
    groups : sequence of ParameterGroup
        The parameters.
    latents : sequence of list of tensor
        Latent weights by group and member.
    squares : sequence of list of tensor or None
        Squared gradients by group and member, for optimisers without second moments. None falls back to the gradient
        of the last step.
    ranks : Ranks
        The processes that train together.
    power : float
        1 gives the Fisher information, 0.5 the metric of Adam, 0 equal sensitivities.

    Returns
    -------
    list of list of tensor or None
        h by group and member, float32; None, which means 1 everywhere, if no gradient is known or all weights are 0.

    Raises
    ------
    TrainingError
        If a latent weight or a gradient is NaN or infinite.
    """
    moments = [_moments(optimizer, *each) for each in zip(groups, latents, squares, strict=True)]
    factors = [
        [sensitivity_factors(moment, power, means) for moment, means in zip(own, columns, strict=True)]
        for own, columns in zip(moments, _column_means(groups, moments, ranks), strict=True)
    ]
    shares = ranks.sums([_energy(*each, ranks) for each in zip(groups, factors, latents, strict=True)])
    for group, share in zip(groups, shares, strict=True):
        if not math.isfinite(share):
            raise group.diverged()  # before it makes the sensitivities of all groups NaN
    energy, elements = float(sum(shares)), sum(group.elements for group in groups)
    return [[None if energy == 0 else member * (elements / energy) for member in own] for own in factors]


def sensitivity_factors(
    second_moment: torch.Tensor, power: float, column_means: torch.Tensor | None = None
) -> torch.Tensor:
    """Squared gradients, smoothed, to a power.

    A single entry of Adam's second moment is noisy; the means of its row and column are not. For a linear layer the
    expectation of the squared gradient nearly is their product (Adafactor, Shazeer & Stern 2018).

    Parameters
    ----------
    second_moment : tensor, shape (out, ...)
        Expected squared gradients >= 0: all rows, or some of them with the ``column_means`` of all.
    power : float
        Exponent.
    column_means : tensor, shape (columns,), optional
        Means over the rows of all ranks.

    Returns
    -------
    tensor like ``second_moment``
        ``(row mean * column mean / mean) ** power`` for matrices, elementwise powers for vectors.
    """
    if second_moment.dim() < 2:
        return second_moment.pow(power)
    matrix = second_moment.flatten(1)  # reshape would not know how many columns no rows have
    rows = matrix.mean(1, keepdim=True)
    columns = matrix.mean(0, keepdim=True) if column_means is None else column_means.to(matrix.dtype)[None]
    mean = (rows if column_means is None else columns).mean().clamp_min(torch.finfo(matrix.dtype).tiny)
    return (rows * columns / mean).pow(power).reshape(second_moment.shape)


def column_sums(second_moment: torch.Tensor) -> torch.Tensor:
    """Sums over the rows of (out, ...), shape (columns,), float64; a vector has no columns."""
    rows = second_moment.flatten(1) if second_moment.dim() > 1 else second_moment.new_zeros(0, 0)
    return rows.sum(0, dtype=torch.float64)


def _moments(
    optimizer: torch.optim.Optimizer,
    group: ParameterGroup,
    latents: Members,
    squares: list[torch.Tensor | None],
) -> Members:
    """Squared gradients, float32: averaged by the optimiser, else ``squares``, else of the last step, else zeros."""
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
    """Column means of every sharded member over the rows of all ranks, float64; None where all rows are here."""
    sharded = [
        (parameter, moment)
        for group, own in zip(groups, moments, strict=True)
        for parameter, moment in zip(group.parameters, own, strict=True)
        if is_sharded(parameter)
    ]
    sums = ranks.sums([column_sums(moment) * ranks.counts(parameter) for parameter, moment in sharded])
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
