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
from sws_compress.train.schedule import Schedule, Stage
from sws_compress.train.select import ParameterGroup
from sws_compress.train.stages import hard_em as hard

BINS = 4096
"""Bins of the histogram that EM reads."""

TABLE_SIZE = 8192
"""Points of the table that the pull looks weights up in."""

CONSTANT_VARIANCE = 1e-30
"""Variance, in squared units of the weights, at or below which all weights of a group count as equal."""

EM_ITERATIONS = 5
"""EM iterations per update: the mixture follows the weights, it need not converge on them."""

Grid = tuple[float, float]
"""Ends (low, high) of a histogram."""


def agreed_grids(groups: Sequence[ParameterGroup], parts: Sequence[Sequence[torch.Tensor]], ranks: Ranks) -> list[Grid]:
    """Range of the weights in each of ``parts`` over all ranks; one reduction.

    Parameters
    ----------
    groups : sequence of ParameterGroup
        ``groups[i]`` is the group that ``parts[i]`` belongs to; an error names it.
    parts : sequence of sequence of tensor
        Weights on this rank.
    ranks : Ranks
        The processes that train together.

    Returns
    -------
    list of (float, float)
        Least and greatest weight of each part, moved apart if they are equal.

    Raises
    ------
    TrainingError
        If a weight is NaN or infinite; on all ranks.
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
    """Moments per bin of the weights that this rank counts, (BINS, 3) float64 on their device."""
    low, high = grid
    table = torch.zeros((BINS, 3), dtype=torch.float64, device=group.parameters[0].device)
    for shard in group.counted(ranks):
        table += moment_table(shard, low=low, high=high, bins=BINS)
    return table


def group_histograms(groups: Sequence[ParameterGroup], ranks: Ranks = ALONE) -> list[WeightHistogram]:
    """Histogram of each group, over all its members and all ranks; two reductions."""
    grids = agreed_grids(groups, [group.shards() for group in groups], ranks)
    tables = ranks.sums([group_table(group, grid, ranks) for group, grid in zip(groups, grids, strict=True)])
    return [_histogram(grid, table) for grid, table in zip(grids, tables, strict=True)]


def _histogram(grid: Grid, table: torch.Tensor) -> WeightHistogram:
    return WeightHistogram.of_moments(*grid, table.cpu().numpy())


def _start(histogram: WeightHistogram, components: int, variance_floor: float) -> tuple[float, Mixture]:
    """Scale of a group, and the mixture that EM starts from."""
    scale = histogram.standard_deviation
    return scale, even_mixture(histogram, components, variance=max(variance_floor * scale**2, CONSTANT_VARIANCE))


class SoftStage:
    """Pull of every weight towards the mixture of its group.

    Spreads are measured in ``scales``: the standard deviation that a group had at the start, or as soon as its weights
    differed. So one schedule serves all layers. A strength is multiplied by scale and root-mean-square gradient: at a
    distance d from the mean of a component with spread s, the pull equals ``strength * scale * d / s^2`` typical
    gradients. A penalty is taken as it is: a regulariser must not fade as the training loss does.

    Parameters
    ----------
    groups : sequence of ParameterGroup
        The parameters; one mixture for each group.
    components : int
        Components of each mixture.
    schedule : Schedule
        Strength or penalty of the pull, and least spread, over the run.
    ranks : Ranks, optional
        The processes that train together.
    """

    kind = Stage.SOFT
    weights = None

    def __init__(
        self, groups: Sequence[ParameterGroup], components: int, schedule: Schedule, ranks: Ranks = ALONE
    ) -> None:
        self.groups = groups
        self.ranks = ranks
        self._components, self._schedule = components, schedule
        floor = schedule.variance_floor(0.0)
        starts = [_start(histogram, components, floor) for histogram in group_histograms(groups, ranks)]
        self.scales = [scale for scale, _ in starts]
        self._mixtures = [mixture for _, mixture in starts]
        self.gradient_rms = [0.0 for _ in groups]
        self._squares: list[torch.Tensor | None] = [None for _ in groups]  # of the gradients of the last step
        self._ranges: list[Grid | None] = [None for _ in groups]  # of the tables
        self._tables: list[PullTable | DeviceTable | None] = [None for _ in groups]

    def step(self, optimizer: torch.optim.Optimizer, progress: float) -> None:
        """One pull of every weight at the strength, or penalty, of the schedule."""
        strength = self._schedule.pull_strength(progress)
        self.pull(optimizer, strength, penalty=self._schedule.penalty is not None)

    def update(self, optimizer: torch.optim.Optimizer, progress: float) -> None:
        """EM step with the variance floor of the schedule."""
        self.em_step(optimizer, self._schedule.variance_floor(progress))

    def em_step(self, optimizer: torch.optim.Optimizer, variance_floor: float) -> None:
        """EM iterations from the present mixture; two reductions over the ranks.

        From then on the strength of the pull follows the gradients of the last step, cleared since or not.

        Parameters
        ----------
        optimizer : torch.optim.Optimizer
            The optimiser of the parameters.
        variance_floor : float
            Least variance of a component, in squared ``scales``.

        Raises
        ------
        TrainingError
            If a weight is NaN or infinite.
        """
        grids = agreed_grids(self.groups, self.latents(), self.ranks)
        tables = [group_table(group, grid, self.ranks) for group, grid in zip(self.groups, grids, strict=True)]
        self._note_gradients(optimizer)
        squares = [tables[i].new_zeros(()) if own is None else own for i, own in enumerate(self._squares)]
        totals = self.ranks.sums([*tables, *squares])
        for i, group in enumerate(self.groups):
            histogram = _histogram(grids[i], totals[i])
            if self.scales[i] ** 2 <= CONSTANT_VARIANCE:  # as in a layer that starts at zero
                self.scales[i], self._mixtures[i] = _start(histogram, self._components, variance_floor)
            prior = Prior(variance_floor=variance_floor * self.scales[i] ** 2)
            self._mixtures[i] = fit(histogram, self._mixtures[i], prior, max_iterations=EM_ITERATIONS).mixture
            self.gradient_rms[i] = float(np.sqrt(float(totals[len(grids) + i]) / group.elements))
            self._ranges[i] = grids[i]
            self._tables[i] = self._table(i)

    @torch.no_grad()
    def pull(self, optimizer: torch.optim.Optimizer, strength: float, *, penalty: bool = False) -> None:
        """One pull of every weight, in the metric of the optimiser's last step; nothing before the first EM step.

        Parameters
        ----------
        optimizer : torch.optim.Optimizer
            The optimiser of the parameters, after its step.
        strength : float
            Strength tau, in root-mean-square gradients at one standard deviation.
        penalty : bool, default False
            ``strength`` is the weight of -log p in the loss instead, whatever scale and gradients are.
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
        """Keep the sum of squared gradients that this rank counts; where there are none, the last sum stays."""
        settings = groups_by_parameter(optimizer)
        for i, group in enumerate(self.groups):
            counted = [parameter for parameter in group.parameters if self.ranks.counts(parameter)]
            squares = [_squares(optimizer, settings[id(parameter)], parameter) for parameter in counted]
            found = [square for square in squares if square is not None]
            if found:
                self._squares[i] = torch.stack(found).sum()

    def latents(self) -> list[list[torch.Tensor]]:
        """The parameters themselves, on this rank, by group and member."""
        return [group.shards() for group in self.groups]

    def mixtures(self) -> list[Mixture]:
        """Mixture of each group, as of the last EM step."""
        return list(self._mixtures)

    @torch.no_grad()
    def snap(self) -> None:
        """Set every parameter to the mean of the members of its nearest component; a component at zero stays there.

        Raises
        ------
        TrainingError
            If a weight is NaN or infinite.
        """
        chosen, sums = [], []
        for group, mixture in zip(self.groups, self._mixtures, strict=True):
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
            group, means = self.groups[i], torch.tensor(self._mixtures[i].means, device=counts.device)
            if not bool(torch.isfinite(deviations).all()):
                raise group.diverged()
            centres = torch.where(means == 0, means, means + deviations / counts.clamp_min(1)).float() + 0.0
            for shard, assignment in zip(group.shards(), chosen[i], strict=True):
                shard.copy_(hard.expanded(centres, assignment))

    def _table(self, i: int) -> PullTable | DeviceTable | None:
        ends = self._ranges[i]
        if ends is None:
            return None
        table = pull_table(self._mixtures[i], low=ends[0], high=ends[1], size=TABLE_SIZE)
        device = self.groups[i].parameters[0].device
        return table if device.type == "cpu" else DeviceTable.of(table, device)

    def state_dict(self) -> dict[str, Any]:
        """State as tensors, numbers, lists and dicts."""
        return {
            "scales": list(self.scales),
            "gradient_rms": list(self.gradient_rms),
            "ranges": list(self._ranges),
            "mixtures": [
                tuple(torch.from_numpy(np.array(a)) for a in (m.weights, m.means, m.variances)) for m in self._mixtures
            ],
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.scales = list(saved["scales"])
        self.gradient_rms = list(saved["gradient_rms"])
        self._mixtures = [Mixture(*(array.cpu().numpy() for array in arrays)) for arrays in saved["mixtures"]]
        self._ranges = list(saved["ranges"])
        self._tables = [self._table(i) for i in range(len(self.groups))]


def _squares(optimizer: torch.optim.Optimizer, group: dict[str, Any], parameter: torch.Tensor) -> torch.Tensor | None:
    """Sum of the squared gradient, float64 (), from the optimiser's second moments where it keeps them."""
    metric = metric_of(optimizer, group, parameter)
    if metric is not None and metric.second_moment is not None:
        return metric.second_moment.sum(dtype=torch.float64) / metric.bias_correction2
    gradient = gradient_of(group, parameter)
    return None if gradient is None else torch.linalg.vector_norm(gradient, dtype=torch.float32).double().square()
