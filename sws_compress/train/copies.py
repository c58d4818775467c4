"""Copies of modules."""

from __future__ import annotations

import copy

import torch
from torch import nn


def copied_module(module: nn.Module) -> nn.Module:
    """A deep copy; a tensor that was computed with gradients, which torch does not copy, is copied without them.

    The older weight norm and spectral norm keep such a tensor, and compute it anew at every call.
    """
    memo: dict[int, torch.Tensor] = {}
    for part in module.modules():
        for value in (*vars(part).values(), *part._buffers.values()):
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    copied: nn.Module = copy.deepcopy(module, memo)
    return copied
