"""After the alternating loop: statistics of batch norms, and the vectors that the loop left in float32."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sws_compress.quantize.cluster import cluster
from sws_compress.quantize.palette import half_rounded
from sws_compress.train.batches import inputs_and_targets, moved
from sws_compress.train.select import ParameterGroup, plain_name

STATISTICS_BATCHES = 100
"""Batches that the statistics of batch norms are taken over."""

HALF_TOLERANCE = 2**-11
"""Greatest error of a vector in float16, as a share of its greatest value: half a unit in the last place."""

BatchNorm = nn.modules.batchnorm._BatchNorm


@torch.no_grad()
def reestimate_batch_norms(model: nn.Module, train: Iterable[Any], device: torch.device) -> None:
    """Take means and variances of all batch norms anew, over up to `STATISTICS_BATCHES` batches of equal weight.

    Those that a run leaves are running averages over weights that still moved. Every other module is in evaluation
    mode meanwhile, and all are put back into the mode they were in.

    Parameters
    ----------
    model : torch.nn.Module
        The network; its statistics are replaced.
    train : iterable
        Batches, as of training.
    device : torch.device
        Device that the inputs are moved to.
    """
    norms = [module for module in model.modules() if isinstance(module, BatchNorm) and module.track_running_stats]
    if not norms:
        return
    modes = [(module, module.training) for module in model.modules()]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over batches
        norm.train()
    try:
        for batch in itertools.islice(train, STATISTICS_BATCHES):
            model(*moved(inputs_and_targets(batch, labelled=False)[0], device))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, training in modes:
            module.training = training


@torch.no_grad()
def fold_batch_norm_statistics(model: nn.Module) -> None:
    """Fold mean and variance of every batch norm into its weight and bias; in evaluation mode it computes the same.

    Afterwards all means are 0 and all variances 1, which cost next to nothing in a file. Norms that share a parameter,
    or lack one, stay as they are.
    """
    users: dict[int, int] = {}
    norms = [module for module in model.modules() if isinstance(module, BatchNorm) and module.track_running_stats]
    for parameter in (p for module in model.modules() for p in module.parameters(recurse=False)):
        users[id(parameter)] = users.get(id(parameter), 0) + 1
    for norm in norms:
        if norm.weight is None or norm.bias is None or users[id(norm.weight)] + users[id(norm.bias)] > 2:
            continue
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean, variance = norm.running_mean.double(), norm.running_var.double()
        scale = norm.weight.double() / (variance + norm.eps).sqrt()
        norm.bias.copy_(norm.bias.double() - mean * scale)
        norm.weight.copy_(scale * (1 + norm.eps) ** 0.5)
        norm.running_mean.zero_()
        norm.running_var.fill_(1)


@torch.no_grad()
def cluster_vectors(model: nn.Module, components: int, *, besides: Collection[str], seed: int) -> tuple[str, ...]:
    """Snap biases and norm scales: the float32 vectors among the parameters, in place.

    All vectors of one last name (``bias``, ``weight``) share a mixture: a codebook for each would cost more than it
    saves. Means are rounded to float16 unless that costs more than `HALF_TOLERANCE`.

    Parameters
    ----------
    model : torch.nn.Module
        The network.
    components : int
        Distinct values for each name, 2..256.
    besides : collection of str
        Names of parameters to leave alone.
    seed : int
        Seed of the clustering.

    Returns
    -------
    tuple of str
        Names of the vectors that were snapped.
    """
    kinds: dict[str, dict[str, nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if plain_name(name) not in besides and parameter.dim() == 1 and parameter.dtype == torch.float32:
            kinds.setdefault(name.rpartition(".")[2], {})[plain_name(name)] = parameter
    for kind, members in kinds.items():
        group = ParameterGroup(kind, tuple(members), tuple(members.values()))
        group.write(_in_half(cluster(group.values(), components, seed=seed).palette.expand()))
    return tuple(name for members in kinds.values() for name in members)


def _in_half(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Values rounded to float16, in float32, if that costs at most `HALF_TOLERANCE`; else as they are."""
    halves = half_rounded(values)
    return halves if np.abs(halves - values).max() <= HALF_TOLERANCE * np.abs(values).max() else values
