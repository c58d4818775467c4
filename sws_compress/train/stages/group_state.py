"""One group from the hard stage on: latent weights, their components, the codebook, and hard EM on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from sws_compress.entropy import entropy_bits
from sws_compress.mixture.mixture import Mixture
from sws_compress.train.ranks import ALONE, Ranks, rows_here
from sws_compress.train.select import ParameterGroup
from sws_compress.train.stages import hard_em as hard

CODEBOOK_ENTRY_BITS = 16
"""Bits of a codebook entry in a file: most codebooks are stored as float16."""

COMPONENT_BITS = 100
"""Bits that a component costs a small file: its codebook entry, and the constants and the table of its gap class."""

LEAST_VARIANCE = 1e-12
"""Variance of a component whose members all sit on its mean, in squared units of the weights."""

SQUARES_MEMORY = 0.99
"""Share of the running sum of squared gradients that is kept per step, where the optimiser keeps no second moments.
One gradient alone would call whole rows insensitive."""

MEMBER_FIELDS = ("latent", "assignment", "sensitivity", "squares")
"""Fields of a state with one tensor per member of the group."""

SHARED_FIELDS = ("codebook", "weights", "occupancy")
"""Fields of a state with one tensor for the whole group."""


@dataclass
class GroupState:
    """State of one group of parameters from the hard stage on.

    Lists hold one tensor per member of the group. Where a member is sharded, its tensors are the part on this rank.

    Parameters
    ----------
    latent : list of tensor, float32
        Weights behind the snapped ones; the optimiser's moves are carried over to them.
    assignment : list of tensor, uint8
        Component of every weight.
    sensitivity : list of tensor or None, float32
        Sensitivity h of every weight; None means 1 everywhere.
    squares : list of tensor or None, float32
        Running sums of squared gradients; None where the optimiser keeps its own.
    codebook : tensor, shape (k,), float32
        Means mu_k; component 0 is zero.
    weights : tensor, shape (k,), float64
        Mixing proportions pi_k.
    occupancy : tensor, shape (k,), float64
        Members of each component over all ranks, at the last assignment.
    counted : list of bool
        Whether statistics count a member on this rank; over all ranks every weight is counted once.
    mergers : int
        Components that were merged into a neighbour so far.
    """

    latent: list[torch.Tensor]
    assignment: list[torch.Tensor]
    sensitivity: list[torch.Tensor | None]
    squares: list[torch.Tensor | None]
    codebook: torch.Tensor
    weights: torch.Tensor
    occupancy: torch.Tensor
    counted: list[bool]
    mergers: int = 0

    @classmethod
    def start(cls, group: ParameterGroup, mixture: Mixture, ranks: Ranks = ALONE) -> GroupState:
        """State with the parameters as latent weights, all assigned to zero until the first EM step."""
        device = group.parameters[0].device
        latent = [shard.to(torch.float32, copy=True) for shard in group.shards()]
        weights = torch.tensor(mixture.weights, dtype=torch.float64, device=device)
        return cls(
            latent=latent,
            assignment=[torch.zeros_like(member, dtype=torch.uint8) for member in latent],
            sensitivity=[None for _ in latent],
            squares=[None for _ in latent],
            codebook=torch.tensor(mixture.means, dtype=torch.float32, device=device),
            weights=weights,
            occupancy=torch.zeros_like(weights).index_fill(0, torch.tensor([0], device=device), group.elements),
            counted=[ranks.counts(parameter) for parameter in group.parameters],
        )

    @classmethod
    def restored(cls, saved: dict[str, Any], group: ParameterGroup, ranks: Ranks = ALONE) -> GroupState:
        """State from what `saved` returned: a copy of this rank's part of its whole tensors."""
        device = group.parameters[0].device
        members = {
            name: [
                None if member is None else member[rows_here(parameter)].to(device, copy=True)
                for member, parameter in zip(saved[name], group.parameters, strict=True)
            ]
            for name in MEMBER_FIELDS
        }
        shared = {name: saved[name].to(device, copy=True) for name in SHARED_FIELDS}
        counted = [ranks.counts(parameter) for parameter in group.parameters]
        fields: dict[str, Any] = {**members, **shared, "mergers": saved["mergers"], "counted": counted}
        return cls(**fields)

    def saved(self, group: ParameterGroup, ranks: Ranks) -> dict[str, Any]:
        """All fields but ``counted``, as whole tensors; where they are sharded, on the first rank alone."""
        members = {
            name: [
                None if member is None else ranks.whole(member, parameter)
                for member, parameter in zip(getattr(self, name), group.parameters, strict=True)
            ]
            for name in MEMBER_FIELDS
        }
        return {**members, **{name: getattr(self, name) for name in SHARED_FIELDS}, "mergers": self.mergers}

    def add_square(self, member: int, gradient: torch.Tensor) -> None:
        """Add a squared gradient to the running sum of a member; its unit cancels when sensitivities are scaled."""
        before = self.squares[member]
        square = gradient.float().square()
        self.squares[member] = square if before is None else before.mul_(SQUARES_MEMORY).add_(square)

    def counts(self) -> torch.Tensor:
        """Weights in each component, of those that this rank counts; shape (k,), float64."""
        counted = [member[: None if here else 0] for member, here in zip(self.assignment, self.counted, strict=True)]
        return hard.counts(counted, len(self.codebook))

    def coded_bits(self) -> float:
        """Order-0 entropy of the assignments plus the codebook entries in use, at the last assignment."""
        return entropy_bits(self.occupancy.cpu().numpy()) + CODEBOOK_ENTRY_BITS * int((self.occupancy > 0).sum())

    def _counted_members(self) -> list[int]:
        return [i for i, counted in enumerate(self.counted) if counted]

    def retire_empty(self) -> None:
        """Keep components without members empty until the next EM step; component 0 stays in use."""
        gone = self.occupancy == 0
        gone[0] = False
        self.weights = self.weights.masked_fill(gone, 0.0)

    def assign(self, bit_price: float) -> None:
        """Hard E-step: every latent weight goes to its cheapest component (see ``hard_em.assign``)."""
        code_bits = hard.code_lengths(self.weights)
        self.assignment = [
            hard.assign(latent, sensitivity, self.codebook, code_bits, bit_price)
            for latent, sensitivity in zip(self.latent, self.sensitivity, strict=True)
        ]

    def statistics(self) -> torch.Tensor:
        """Sufficient statistics of the M-step, of the members that this rank counts.

        Returns
        -------
        tensor, shape (3, k), float64
            Rows sum h, sum h w and number of members.
        """
        k = len(self.codebook)
        total = torch.zeros((3, k), dtype=torch.float64, device=self.codebook.device)
        for i in self._counted_members():
            latent, assignment, sensitivity = self.latent[i], self.assignment[i], self.sensitivity[i]
            h = torch.ones_like(latent) if sensitivity is None else sensitivity
            total[0] += hard.member_sums(h, assignment, k)
            total[1] += hard.member_sums(h * latent, assignment, k)
        total[2] = self.counts()
        return total

    def maximise(self, statistics: torch.Tensor, bit_price: float) -> bool:
        """M-step: pi from counts, mu_k = sum h w / sum h over the members of k.

        The pair of components that gains most by it at ``bit_price`` is merged first. Component 0 stays zero, and
        components without members keep their mean.

        Parameters
        ----------
        statistics : tensor, shape (3, k), float64
            Sum over all ranks of what `statistics` returned.
        bit_price : float
            Sensitivity-weighted squared error that one bit is worth.

        Returns
        -------
        bool
            False, with codebook and proportions as they were, if a latent weight is NaN or infinite.
        """
        mass, moment, self.occupancy = statistics.clone()
        if not bool(torch.isfinite(moment).all()):
            return False
        means = torch.where(mass > 0, moment / mass.clamp_min(1e-300), self.codebook.double())
        means[0] = 0
        merger = hard.best_merge(self.occupancy, mass, means, bit_price, COMPONENT_BITS)
        if merger is not None:
            gone, kept = merger
            for assignment in self.assignment:
                assignment[assignment == gone] = kept
            if kept != 0:
                means[kept] = (moment[gone] + moment[kept]) / (mass[gone] + mass[kept]).clamp_min(1e-300)
            self.occupancy[kept] += self.occupancy[gone]
            self.occupancy[gone] = 0
            self.mergers += 1
        self.codebook.copy_(means)
        self.weights = hard.update_proportions(self.weights, self.occupancy)
        return True

    def spread(self) -> torch.Tensor:
        """Number and sum of (w - mu)^2 of the members that this rank counts, shape (2, k), float64."""
        scatter = torch.zeros_like(self.weights)
        for i in self._counted_members():
            scatter += hard.member_sums((self.latent[i] - self.snapped(i)).square(), self.assignment[i], len(scatter))
        return torch.stack([self.counts(), scatter])

    def mixture(self, spread: torch.Tensor) -> Mixture:
        """Mixture that the latent weights now follow, given the sum of `spread` over all ranks."""
        counts, scatter = spread
        pooled = scatter.sum() / counts.sum()
        variances = torch.where(counts > 0, scatter / counts.clamp_min(1), pooled).clamp_min(LEAST_VARIANCE)
        weights = self.weights / self.weights.sum()
        return Mixture(*(array.double().cpu().numpy() for array in (weights, self.codebook, variances)))

    def snapped(self, member: int) -> torch.Tensor:
        """Means of a member's components, float32, in its shape."""
        return hard.expanded(self.codebook, self.assignment[member])
