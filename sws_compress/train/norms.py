"""Statistics of batch norms after the alternating loop."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from sws_compress.module_modes import evaluating
from sws_compress.train.batches import taken_apart
from sws_compress.train.model_calls import BatchNorm, called
from sws_compress.train.request import batches_of

STATISTICS_BATCHES = 100
"""Batches that the statistics of batch norms are taken over."""


@torch.no_grad()
def reestimate_batch_norms(model: nn.Module, train: Iterable[Any]) -> None:
    """Take means and variances of all batch norms anew, over up to `STATISTICS_BATCHES` batches of equal weight.

    Those that a run leaves are running averages over weights that still moved. Every other module is in evaluation
    mode meanwhile, and all are put back into the mode they were in.

    Parameters
    ----------
    model : torch.nn.Module
        The network; its statistics are replaced.
    train : iterable
        Batches, as of training.
    """
    norms = [module for module in model.modules() if isinstance(module, BatchNorm) and module.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    with evaluating(model):
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain average over batches
            norm.train()
        try:
            for batch in itertools.islice(batches_of(train), STATISTICS_BATCHES):
                called(model, taken_apart(batch, model, labelled=False))
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum


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
