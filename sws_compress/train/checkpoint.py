"""Checkpoints: one file with everything a run needs to go on, on any number of ranks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sws_compress.errors import ArgumentError
from sws_compress.train.prior import SoftWeightSharing
from sws_compress.train.ranks import Ranks, local, sharded_like, undistributed
from sws_compress.train.saved_state import check_optimizer, check_state_dict, read_state, refusing_others, write_state

PARTS = {"model", "optimizer", "prior", "progress"}
"""Contents of a checkpoint."""


def save_checkpoint(
    path: str | os.PathLike[str],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    prior: SoftWeightSharing,
    **progress: Any,
) -> None:
    """Save the state of a training run to one file.

    All ranks call it. The first one writes whole tensors, gathered one after the other into its CPU memory. The file at
    ``path`` is replaced only when the new one is complete.

    Parameters
    ----------
    path : str or path
        The file.
    model, optimizer, prior : torch.nn.Module, torch.optim.Optimizer, SoftWeightSharing
        What is saved.
    **progress
        Numbers and strings of your own, such as the epoch.

    Raises
    ------
    OutputError
        If the file cannot be written.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Linear(32, 16)
    >>> optimizer = torch.optim.Adam(net.parameters())
    >>> prior = SoftWeightSharing(net, optimizer, coded_ratio=10, total_steps=100)
    >>> save_checkpoint("run.pt", net, optimizer, prior, epoch=3)
    >>> load_checkpoint("run.pt", net, optimizer, prior)
    {'epoch': 3}
    """
    state = {
        "model": _whole_tensors(undistributed(model).state_dict(), prior.ranks),
        "optimizer": _whole_optimizer(optimizer, prior.ranks),
        "prior": prior.state_dict(),
        "progress": progress,
    }
    if prior.ranks.rank == 0:
        write_state(Path(path), state)


def load_checkpoint(
    path: str | os.PathLike[str], model: nn.Module, optimizer: torch.optim.Optimizer, prior: SoftWeightSharing
) -> dict[str, Any]:
    """Go on from a checkpoint of `save_checkpoint`, on any number of ranks, sharded or not.

    All ranks call it, and each reads its own rows. Model, optimiser and prior must be made as at the start of the run;
    they are loaded in place.

    Parameters
    ----------
    path : str or path
        The file.
    model, optimizer, prior : torch.nn.Module, torch.optim.Optimizer, SoftWeightSharing
        What is loaded.

    Returns
    -------
    dict
        What was given to `save_checkpoint` as ``progress``.

    Raises
    ------
    ArgumentError
        If ``path`` is no checkpoint of such a run, or its bytes have changed. Nothing is loaded then.

    Examples
    --------
    See `save_checkpoint`.
    """
    with refusing_others(path, "a checkpoint of this run"):
        saved = read_state(path, mapped=True)  # a rank touches its own rows alone
        if set(saved) != PARTS:
            raise ArgumentError("its parts must be those of a checkpoint, got others: delete it to start anew")
        inner = undistributed(model)
        own = inner.state_dict()
        check_state_dict("network", saved["model"], own)
        check_optimizer(saved["optimizer"], optimizer)
        progress = dict(saved["progress"])
        prior.load_state_dict(saved["prior"])
        inner.load_state_dict({name: _part(value, own.get(name)) for name, value in saved["model"].items()})
        optimizer.load_state_dict(_optimizer_parts(saved["optimizer"], optimizer))
    return progress


def _whole_tensors(state: dict[str, Any], ranks: Ranks) -> dict[str, Any]:
    """Gather sharded tensors; everything else stays as it is."""
    return {
        name: ranks.whole(local(value), value) if isinstance(value, torch.Tensor) else value
        for name, value in state.items()
    }


def _part(value: Any, like: Any) -> Any:
    """The part on this rank of a whole tensor, sharded as ``like`` is; anything else as it is."""
    if isinstance(value, torch.Tensor) and isinstance(like, torch.Tensor) and value.shape == like.shape:
        return sharded_like(value, like)
    return value


def _whole_optimizer(optimizer: torch.optim.Optimizer, ranks: Ranks) -> dict[str, Any]:
    """The optimiser's ``state_dict`` with whole tensors.

    torch's own ``get_state_dict`` would take, and count, a step of an optimiser that has not taken one yet.
    """
    state = optimizer.state_dict()
    return {**state, "state": {i: _whole_tensors(own, ranks) for i, own in state["state"].items()}}


def _optimizer_parts(saved: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The part on this rank of what `_whole_optimizer` returned."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    parts = {
        i: {
            name: _part(value, parameters[i]) if isinstance(value, torch.Tensor) else value
            for name, value in own.items()
        }
        for i, own in saved["state"].items()
    }
    return {**saved, "state": parts}
