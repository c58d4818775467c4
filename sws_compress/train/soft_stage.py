"""The soft stage: every weight is pulled towards the mixture of its group, which EM re-estimates as it goes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sws_compress.errors import ModelError
from sws_compress.mixture.em import Prior, fit
from sws_compress.mixture.grid import even_mixture
from sws_compress.mixture.histogram import WeightHistogram, weight_histogram, weight_range
from sws_compress.mixture.params import Mixture
from sws_compress.mixture.pull import PullTable, pull_table
from sws_compress.mixture.snap import snap
from sws_compress.train.optimizers import groups_by_parameter, metric_of
from sws_compress.train.pull import pull_
from sws_compress.train.select import ParameterGroup

BINS = 4096
TABLE_SIZE = 8192
TINY_VARIANCE = 1e-30  # of a constant tensor
EM_ITERATIONS = 5  # per update: the mixture follows the weights, it need not converge on them


def group_histogram(group: ParameterGroup) -> WeightHistogram:
    """Statistics of all members on one grid from their least to their greatest weight."""
    arrays = [parameter.detach().float().cpu().numpy() for parameter in group.parameters]
    ranges = [weight_range(array) for array in arrays]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    return functools.reduce(
        WeightHistogram.merge, (weight_histogram(array, low=low, high=high, bins=BINS) for array in arrays)
    )


class SoftStage:
    """Mixtures, their look-up tables and the force of the pull, one of each per group.

    Spreads are measured in the standard deviation that a group had at the start (``scales``), so that one schedule
    serves all layers. The strength of the pull is ``strength * scale * rms gradient``: at a distance d from the mean
    of a component with spread s, the pull equals ``strength * scale * d / s^2`` typical gradients. A penalty is
    taken as it is, without scale and gradients: a regulariser must not fade as the training loss does.
    """

    def __init__(self, groups: Sequence[ParameterGroup], components: int, variance_floor: float) -> None:
        self.groups = groups
        self.scales = [group.standard_deviation() for group in groups]
        self.mixtures = [
            even_mixture(group_histogram(group), components, variance=max(variance_floor * scale**2, TINY_VARIANCE))
            for group, scale in zip(groups, self.scales, strict=True)
        ]
        self.gradient_rms = [0.0 for _ in groups]
        self._ranges: list[tuple[float, float] | None] = [None for _ in groups]  # of the tables
        self._tables: list[PullTable | None] = [None for _ in groups]

    def update(self, optimizer: torch.optim.Optimizer, variance_floor: float) -> None:
        """EM steps from the present mixture; ``variance_floor`` in squared scales.

        Raises TrainingError when a weight is NaN or infinite.
        """
        for i, group in enumerate(self.groups):
            try:
                histogram = group_histogram(group)
            except ModelError as error:
                raise group.diverged() from error
            prior = Prior(variance_floor=variance_floor * self.scales[i] ** 2)
            result = fit(histogram, self.mixtures[i], prior, max_iterations=EM_ITERATIONS)
            self.mixtures[i] = result.mixture
            self.gradient_rms[i] = _gradient_rms(optimizer, group)
            self._ranges[i] = histogram.low, histogram.high
            self._tables[i] = self._table(i)

    def pull(self, optimizer: torch.optim.Optimizer, strength: float, *, penalty: bool = False) -> None:
        """One pull of every weight, in the metric of the optimiser's last step; none before the first ``update``.

        ``penalty``: ``strength`` is the weight of -log p in the loss, not relative to scale and gradients.
        """
        settings = groups_by_parameter(optimizer)
        for group, table, scale, rms in zip(self.groups, self._tables, self.scales, self.gradient_rms, strict=True):
            if table is None:
                continue
            for parameter in group.parameters:
                metric = metric_of(optimizer, settings[id(parameter)], parameter)
                if metric is not None:
                    pull_(parameter.data, metric, table, strength if penalty else strength * scale * rms)

    @torch.no_grad()
    def snap(self) -> None:
        """Set every parameter to the nearest cluster mean of its group."""
        for group, mixture in zip(self.groups, self.mixtures, strict=True):
            flat = np.concatenate([p.detach().float().cpu().numpy().ravel() for p in group.parameters])
            snapped = torch.from_numpy(snap(flat, mixture).expand())
            parts = torch.split(snapped, [parameter.numel() for parameter in group.parameters])
            for parameter, part in zip(group.parameters, parts, strict=True):
                parameter.copy_(part.view(parameter.shape))

    def _table(self, i: int) -> PullTable | None:
        ends = self._ranges[i]
        return None if ends is None else pull_table(self.mixtures[i], low=ends[0], high=ends[1], size=TABLE_SIZE)

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers, lists and dicts."""
        return {
            "scales": list(self.scales),
            "gradient_rms": list(self.gradient_rms),
            "ranges": list(self._ranges),
            "mixtures": [
                tuple(torch.from_numpy(np.array(a)) for a in (m.weights, m.means, m.variances)) for m in self.mixtures
            ],
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self.scales = list(saved["scales"])
        self.gradient_rms = list(saved["gradient_rms"])
        self.mixtures = [Mixture(*(array.cpu().numpy() for array in arrays)) for arrays in saved["mixtures"]]
        self._ranges = list(saved["ranges"])
        self._tables = [self._table(i) for i in range(len(self.groups))]


def _gradient_rms(optimizer: torch.optim.Optimizer, group: ParameterGroup) -> float:
    """Root-mean-square gradient of a group, from the optimiser's second moments where it keeps them."""
    total, elements = 0.0, 0
    settings = groups_by_parameter(optimizer)
    for parameter in group.parameters:
        metric = metric_of(optimizer, settings[id(parameter)], parameter)
        if metric is not None and metric.second_moment is not None:
            total += float(metric.second_moment.double().sum()) / metric.bias_correction2
        elif parameter.grad is not None:
            total += float(parameter.grad.double().square().sum())
        elements += parameter.numel()
    return float(np.sqrt(total / elements))
