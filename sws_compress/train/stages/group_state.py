"""One group in the hard stage: latent weights, their components, the codebook, and hard EM on them."""

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


COMPONENT_BITS = 100
"""What a component costs a small file: its value, and the constants and the table of its class of gaps."""


SMALLEST_VARIANCE = 1e-12  # of a component whose members all sit on its mean


SQUARES_MEMORY = 0.99  # where the optimiser keeps no second moments: one gradient alone calls whole rows insensitive


MEMBER_FIELDS = ("latent", "assignment", "sensitivity", "squares")  # of a group's state: one tensor per member


SHARED_FIELDS = ("codebook", "weights", "occupancy")


@dataclass
class GroupState:
    """One group: ``codebook`` (k,) float32 and ``weights`` (k,) float64, shared; of the rest one tensor per member.

    ``latent`` float32; ``assignment`` uint8; ``sensitivity`` float32 or None for 1 everywhere; ``squares`` float32,
    running sums of squared gradients, or None where the optimiser keeps its own. Of a sharded member all of them are
    the part on this rank; ``counted`` says whether statistics count it here (see ``ranks``). ``occupancy`` (k,)
    float64, weights per component over all ranks, is of the last EM step. ``mergers`` counts components that were
    merged into a neighbour.
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
        """The parameters as latent weights, all assigned to zero until the first EM step."""
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
    def copied(cls, saved: dict[str, Any], group: ParameterGroup, ranks: Ranks = ALONE) -> GroupState:
        """A state of its own from what ``saved`` returned, there of whole tensors, here of this rank's part."""
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
        """All fields but ``counted``, of whole tensors; on the first rank alone where they are sharded."""
        members = {
            name: [
                None if member is None else ranks.whole(member, parameter)
                for member, parameter in zip(getattr(self, name), group.parameters, strict=True)
            ]
            for name in MEMBER_FIELDS
        }
        return {**members, **{name: getattr(self, name) for name in SHARED_FIELDS}, "mergers": self.mergers}

    def add_square(self, member: int, gradient: torch.Tensor) -> None:
        """Running sum of squared gradients; its unit cancels when sensitivities are scaled."""
        before = self.squares[member]
        square = gradient.float().square()
        self.squares[member] = square if before is None else before.mul_(SQUARES_MEMORY).add_(square)

    def counts(self) -> torch.Tensor:
        """How many weights counted on this rank each component holds, shape (k,), float64."""
        counted = [member[: None if here else 0] for member, here in zip(self.assignment, self.counted, strict=True)]
        return hard.counts(counted, len(self.codebook))

    def coded_bits(self) -> float:
        """Order-0 entropy of the assignments plus the codebook entries in use, as of the last EM step."""
        return entropy_bits(self.occupancy.cpu().numpy()) + CODEBOOK_ENTRY_BITS * int((self.occupancy > 0).sum())

    def _counted_members(self) -> list[int]:
        """The members that statistics count on this rank."""
        return [i for i, counted in enumerate(self.counted) if counted]

    def retire_empty(self) -> None:
        """Components other than zero that had no members at the last EM step get none until the next one."""
        gone = self.occupancy == 0
        gone[0] = False
        self.weights = self.weights.masked_fill(gone, 0.0)

    def assign(self, rate: float) -> None:
        """The hard E-step: every latent weight to the component with the least distortion plus rate * code length."""
        code_bits = hard.code_lengths(self.weights)
        self.assignment = [
            hard.assign(latent, sensitivity, self.codebook, code_bits, rate)
            for latent, sensitivity in zip(self.latent, self.sensitivity, strict=True)
        ]

    def statistics(self) -> torch.Tensor:
        """Rows sum h, sum h w and number of the members of each component counted on this rank, (3, k) float64."""
        k = len(self.codebook)
        total = torch.zeros((3, k), dtype=torch.float64, device=self.codebook.device)
        for i in self._counted_members():
            latent, assignment, sensitivity = self.latent[i], self.assignment[i], self.sensitivity[i]
            h = torch.ones_like(latent) if sensitivity is None else sensitivity
            total[0] += hard.member_sums(h, assignment, k)
            total[1] += hard.member_sums(h * latent, assignment, k)
        total[2] = self.counts()
        return total

    def maximise(self, statistics: torch.Tensor, rate: float) -> bool:
        """The M-step: pi from counts, mu_k = sum h w / sum h over the members of k; False if a weight is not finite.

        ``statistics`` (3, k) of all ranks. Component 0 stays zero, components without members stay where they are.
        The pair that gains most by it at ``rate`` is merged first.
        """
        mass, moment, self.occupancy = statistics.clone()
        if not bool(torch.isfinite(moment).all()):
            return False
        means = torch.where(mass > 0, moment / mass.clamp_min(1e-300), self.codebook.double())
        means[0] = 0
        merger = hard.best_merge(self.occupancy, mass, means, rate, COMPONENT_BITS)
        if merger is not None:
            gone, kept = merger
            for assignment in self.assignment:
                assignment[assignment == gone] = kept
            if kept != 0:
                means[kept] = (moment[gone] + moment[kept]) / (mass[gone] + mass[kept]).clamp_min(1e-300)
            self.occupancy[kept] += self.occupancy[gone]
            self.occupancy[gone] = 0
            self.mergers += 1
        self.codebook.copy_(means)  # in place: the codebook's optimiser holds it
        self.weights = hard.update_code_lengths(self.weights, self.occupancy)
        return True

    def spread(self) -> torch.Tensor:
        """Rows number and sum of (w - mu)^2 of the members of each component counted on this rank, (2, k) float64."""
        scatter = torch.zeros_like(self.weights)
        for i in self._counted_members():
            scatter += hard.member_sums((self.latent[i] - self.snapped(i)).square(), self.assignment[i], len(scatter))
        return torch.stack([self.counts(), scatter])

    def mixture(self, spread: torch.Tensor) -> Mixture:
        """The mixture that the latent weights now follow: pi, mu, and the spread (2, k) of the members of all ranks."""
        counts, scatter = spread
        pooled = scatter.sum() / counts.sum()
        variances = torch.where(counts > 0, scatter / counts.clamp_min(1), pooled).clamp_min(SMALLEST_VARIANCE)
        weights = self.weights / self.weights.sum()
        return Mixture(*(array.double().cpu().numpy() for array in (weights, self.codebook, variances)))

    def snapped(self, member: int) -> torch.Tensor:
        """The means of a member's components, float32, in its shape."""
        return hard.expanded(self.codebook, self.assignment[member])
