"""Frozen weights: clustered once, before the rest of the network is trained with them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from sws_compress.arguments import whole_number
from sws_compress.quantize.cluster import cluster
from sws_compress.quantize.palette import Palette, check_components
from sws_compress.train.ranks import undistributed
from sws_compress.train.select import Selection, frozen_weights


def cluster_frozen(
    model: nn.Module, *, components: int = 16, parameters: Selection | None = None, seed: int = 0
) -> dict[str, Palette]:
    """Snap the frozen weights of a module in place, such as the base under a low-rank adapter.

    No gradient reaches them, so training cannot gather them into clusters. What is trained afterwards makes up for
    their error. `FineTuned` does so by itself; in a loop of your own, call it before the loop.

    Parameters
    ----------
    model : torch.nn.Module
        The network.
    components : int, default 16
        Distinct values of each weight, 2..256.
    parameters : callable or iterable of str, optional
        A predicate on ``(name, parameter)``, or names; trainable parameters are left alone. Default: as in
        `SoftWeightSharing`.
    seed : int, default 0
        Seed of the clustering.

    Returns
    -------
    dict of str to Palette
        By parameter name, exactly what the parameters hold; for `export`, together with those of
        ``SoftWeightSharing.snap``.

    Raises
    ------
    ArgumentError
        If ``components`` is out of range, or a name is unknown.
    ModelError
        If a weight holds NaN or infinite values.

    Examples
    --------
    >>> net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 8))
    >>> net[0].requires_grad_(False)
    Linear(in_features=64, out_features=64, bias=True)
    >>> list(cluster_frozen(net, components=8)), len(net[0].weight.unique())
    (['0.weight'], 8)
    """
    components = whole_number("components", components)
    check_components(components)
    return snap_each(frozen_weights(undistributed(model), parameters).items(), components, seed)


@torch.no_grad()
def snap_each(tensors: Iterable[tuple[str, torch.Tensor]], components: int, seed: int) -> dict[str, Palette]:
    """Cluster each tensor by itself, in place; the palettes by name."""
    palettes = {}
    for name, tensor in tensors:
        snapped = cluster(tensor.float().cpu().numpy(), components, seed=seed).palette
        tensor.copy_(torch.from_numpy(snapped.expand()))
        half = tensor.dtype != torch.float32  # which rounds the values
        palettes[name] = cluster(tensor.float().cpu().numpy(), components, seed=seed).palette if half else snapped
    return palettes
