"""What follows the alternating loop: statistics of batch norms, and the few parameters that it left in float32."""

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
BatchNorm = nn.modules.batchnorm._BatchNorm


@torch.no_grad()
def reestimate_batch_norms(model: nn.Module, train: Iterable[Any], device: torch.device) -> None:
    """Means and variances of all batch norms anew, over up to 100 batches of ``train``, equally weighted.

    Those of a run are running averages over weights that still moved. Every other module is in evaluation mode
    meanwhile; all are put back into the mode they were in.
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
    """Move mean and variance of every batch norm into its weight and bias; it computes the same in evaluation mode.

    Afterwards all means are 0 and all variances 1, which cost nothing in a file. Norms that share a parameter, or lack
    one, stay as they are.
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
    """Snap the float32 vectors among the parameters (biases, scales of norms), those of one name together; their names.

    One mixture serves all ``bias`` vectors, one all ``weight`` vectors: a codebook for each would cost more than it
    saves. Its means are rounded to float16, unless they are too large or too small for that. Those named in
    ``besides`` are left alone.
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
    """Rounded to float16, in float32, if that costs at most 2^-11 of the greatest value."""
    halves = half_rounded(values)
    return halves if np.abs(halves - values).max() <= 2**-11 * np.abs(values).max() else values
