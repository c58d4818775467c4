"""The soft stage: every weight is pulled towards the mixture of its group, which EM re-estimates as it goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sws_compress.mixture.em import Prior, fit
from sws_compress.mixture.histogram import WeightHistogram, widened
from sws_compress.mixture.majoriser import PullTable, pull_table
from sws_compress.mixture.mixture import Mixture
from sws_compress.quantize.initial import even_mixture
from sws_compress.train.device_histogram import moment_table, value_range
from sws_compress.train.device_pull import DeviceTable, pull_
from sws_compress.train.optimizers import gradient_of, groups_by_parameter, metric_of
from sws_compress.train.ranks import ALONE, Ranks, local
from sws_compress.train.select import ParameterGroup
from sws_compress.train.stages import hard_em as hard

BINS = 4096


TABLE_SIZE = 8192


TINY_VARIANCE = 1e-30  # of a constant tensor


EM_ITERATIONS = 5  # per update: the mixture follows the weights, it need not converge on them


Grid = tuple[float, float]


def agreed_grids(groups: Sequence[ParameterGroup], parts: Sequence[Sequence[torch.Tensor]], ranks: Ranks) -> list[Grid]:
    """(low, high) of the weights in each of ``parts``, from the least to the greatest on any rank; one reduction.

    ``groups[i]`` is the group of which ``parts[i]`` is some or all. Raises TrainingError, on all ranks, when a weight
    is NaN or infinite.
    """
    ends = [torch.stack([value_range(one) for one in part]).amax(0) for part in parts]
    grids = []
    for group, found in zip(groups, ranks.greatest(ends), strict=True):
        low, high = float(-found[0]), float(found[1])
        if not np.isfinite([low, high]).all():
            raise group.diverged()
        grids.append(widened(low, high))
    return grids


def group_table(group: ParameterGroup, grid: Grid, ranks: Ranks) -> torch.Tensor:
    """Moments per bin of the members' weights that are counted on this rank, (BINS, 3) float64 on their device."""
    low, high = grid
    table = torch.zeros((BINS, 3), dtype=torch.float64, device=group.parameters[0].device)
    for shard in group.counted(ranks):
        table += moment_table(shard, low=low, high=high, bins=BINS)
    return table


def group_histograms(groups: Sequence[ParameterGroup], ranks: Ranks = ALONE) -> list[WeightHistogram]:
    """Statistics of all members of each group on one grid, over all ranks."""
    grids = agreed_grids(groups, [group.shards() for group in groups], ranks)
    tables = ranks.sums([group_table(group, grid, ranks) for group, grid in zip(groups, grids, strict=True)])
    return [_histogram(grid, table) for grid, table in zip(grids, tables, strict=True)]


def _histogram(grid: Grid, table: torch.Tensor) -> WeightHistogram:
    return WeightHistogram.of_moments(*grid, table.cpu().numpy())


def _start(histogram: WeightHistogram, components: int, variance_floor: float) -> tuple[float, Mixture]:
    """A group's scale, and the mixture that EM starts from."""
    scale = histogram.standard_deviation
    return scale, even_mixture(histogram, components, variance=max(variance_floor * scale**2, TINY_VARIANCE))


class SoftStage:
    """Mixtures, their look-up tables and the force of the pull, one of each per group.

    Spreads are measured in the standard deviation that a group had at the start, or as soon as its weights differ
    (``scales``), so that one schedule serves all layers. The strength of the pull is ``strength * scale * rms
    gradient``: at a distance d from the mean of a component with spread s, the pull equals ``strength * scale * d /
    s^2`` typical gradients. A penalty is taken as it is, without scale and gradients: a regulariser must not fade as
    the training loss does.
    """

    def __init__(
        self, groups: Sequence[ParameterGroup], components: int, variance_floor: float, ranks: Ranks = ALONE
    ) -> None:
        self.groups = groups
        self.ranks = ranks
        histograms = group_histograms(groups, ranks)
        starts = [_start(histogram, components, variance_floor) for histogram in histograms]
        self.scales = [scale for scale, _ in starts]
        self.mixtures = [mixture for _, mixture in starts]
        self._components = components
        self.gradient_rms = [0.0 for _ in groups]
        self._squares: list[torch.Tensor | None] = [None for _ in groups]  # of the gradients of the last step
        self._ranges: list[Grid | None] = [None for _ in groups]  # of the tables
        self._tables: list[PullTable | DeviceTable | None] = [None for _ in groups]

    def update(self, optimizer: torch.optim.Optimizer, variance_floor: float) -> None:
        """EM steps from the present mixture; ``variance_floor`` in squared scales. Two reductions over the ranks.

        The strength of the pull follows the gradients of the last step, whether they have been cleared since or not.
        Raises TrainingError when a weight is NaN or infinite.
        """
        grids = agreed_grids(self.groups, [group.shards() for group in self.groups], self.ranks)
        tables = [group_table(group, grid, self.ranks) for group, grid in zip(self.groups, grids, strict=True)]
        self._note_gradients(optimizer)
        squares = [tables[i].new_zeros(()) if own is None else own for i, own in enumerate(self._squares)]
        totals = self.ranks.sums([*tables, *squares])
        for i, group in enumerate(self.groups):
            histogram = _histogram(grids[i], totals[i])
            if self.scales[i] ** 2 <= TINY_VARIANCE:  # all weights were equal, as in a layer that starts at zero
                self.scales[i], self.mixtures[i] = _start(histogram, self._components, variance_floor)
            prior = Prior(variance_floor=variance_floor * self.scales[i] ** 2)
            self.mixtures[i] = fit(histogram, self.mixtures[i], prior, max_iterations=EM_ITERATIONS).mixture
            self.gradient_rms[i] = float(np.sqrt(float(totals[len(grids) + i]) / group.elements))
            self._ranges[i] = grids[i]
            self._tables[i] = self._table(i)

    @torch.no_grad()
    def pull(self, optimizer: torch.optim.Optimizer, strength: float, *, penalty: bool = False) -> None:
        """One pull of every weight, in the metric of the optimiser's last step; none before the first ``update``.

        ``penalty``: ``strength`` is the weight of -log p in the loss, not relative to scale and gradients.
        """
        if isinstance(optimizer, torch.optim.SGD):  # others keep squares that are there when they are asked for
            self._note_gradients(optimizer)
        settings = groups_by_parameter(optimizer)
        for group, table, scale, rms in zip(self.groups, self._tables, self.scales, self.gradient_rms, strict=True):
            if table is None:
                continue
            for parameter in group.parameters:
                metric = metric_of(optimizer, settings[id(parameter)], parameter)
                if metric is not None:
                    pull_(local(parameter), metric, table, strength if penalty else strength * scale * rms)

    @torch.no_grad()
    def _note_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        """Sums of squared gradients, float64 (), of what is counted on this rank; those of last time where none are."""
        settings = groups_by_parameter(optimizer)
        for i, group in enumerate(self.groups):
            counted = [parameter for parameter in group.parameters if self.ranks.counts(parameter)]
            squares = [_squares(optimizer, settings[id(parameter)], parameter) for parameter in counted]
            found = [square for square in squares if square is not None]
            if found:
                self._squares[i] = torch.stack(found).sum()

    @torch.no_grad()
    def snap(self) -> None:
        """Set every parameter to the mean of the members of its nearest component; a component at zero stays there.

        Raises TrainingError when a weight is NaN or infinite.
        """
        chosen, sums = [], []
        for group, mixture in zip(self.groups, self.mixtures, strict=True):
            means = torch.tensor(mixture.means, dtype=torch.float32, device=group.parameters[0].device)
            equal = torch.zeros_like(means)
            chosen.append([hard.assign(shard.float(), None, means, equal, 0.0) for shard in group.shards()])
            total = torch.zeros(2, len(means), dtype=torch.float64, device=means.device)
            for parameter, assignment in zip(group.parameters, chosen[-1], strict=True):
                if self.ranks.counts(parameter):
                    deviations = local(parameter).float() - hard.expanded(means, assignment)
                    total[0] += hard.counts([assignment], len(means))
                    total[1] += hard.member_sums(deviations, assignment, len(means))
            sums.append(total)
        for i, (counts, deviations) in enumerate(self.ranks.sums(sums)):
            group, means = self.groups[i], torch.tensor(self.mixtures[i].means, device=counts.device)
            if not bool(torch.isfinite(deviations).all()):
                raise group.diverged()
            centres = torch.where(means == 0, means, means + deviations / counts.clamp_min(1)).float() + 0.0
            for shard, assignment in zip(group.shards(), chosen[i], strict=True):
                shard.copy_(hard.expanded(centres, assignment))

    def _table(self, i: int) -> PullTable | DeviceTable | None:
        ends = self._ranges[i]
        if ends is None:
            return None
        table = pull_table(self.mixtures[i], low=ends[0], high=ends[1], size=TABLE_SIZE)
        device = self.groups[i].parameters[0].device
        return table if device.type == "cpu" else DeviceTable.of(table, device)

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


def _squares(optimizer: torch.optim.Optimizer, group: dict[str, Any], parameter: torch.Tensor) -> torch.Tensor | None:
    """Sum of the squared gradient, float64 (), from the optimiser's second moments where it keeps them."""
    metric = metric_of(optimizer, group, parameter)
    if metric is not None and metric.second_moment is not None:
        return metric.second_moment.sum(dtype=torch.float64) / metric.bias_correction2
    gradient = gradient_of(group, parameter)
    return None if gradient is None else torch.linalg.vector_norm(gradient, dtype=torch.float32).double().square()
