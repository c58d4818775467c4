"""Without data: every group of parameters clustered from its values alone."""

from __future__ import annotations

import torch
from torch import nn

from sws_compress.mixture.mixture import Mixture
from sws_compress.quantize.cluster import cluster
from sws_compress.train.select import Selection, select_parameters
from sws_compress.train.sharing import Sharing


@torch.no_grad()
def cluster_parameters(
    model: nn.Module, *, components: int, parameters: Selection | None, sharing: Sharing, seed: int
) -> dict[str, Mixture]:
    """Set every selected parameter to cluster means, in place; mixtures by parameter name.

    A group that held no more than ``components`` distinct values keeps them, and has no mixture.
    """
    mixtures: dict[str, Mixture] = {}
    for group in select_parameters(model, parameters, sharing=sharing):
        found = cluster(group.values(), components, seed=seed)
        group.write(found.palette.expand())
        if found.mixture is not None:
            mixtures.update(dict.fromkeys(group.names, found.mixture))
    return mixtures
