"""State of the hard stage: latent weights behind the snapped ones, one codebook a group, one rate for all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sws_compress.mixture.params import Mixture
from sws_compress.mixture.snap import Palette
from sws_compress.train import hard
from sws_compress.train.optimizers import group_of, metric_of
from sws_compress.train.select import ParameterGroup

CODEBOOK_ENTRY_BITS = 16
SENSITIVITY_EVERY = 10  # EM steps: second moments move slowly, and their factors cost as much as an assignment
RATE_GAIN = 0.3  # d log(rate) per d log(bits); measured bits answer within a few EM steps
START_RATE = 1e-4  # in units of the mean sensitivity-weighted squared weight, per bit


@dataclass
class GroupState:
    """latent, sensitivity, assignment: one tensor per member; codebook, weights: (k,) shared by the members."""

    latent: list[torch.Tensor]
    assignment: list[torch.Tensor]
    sensitivity: list[torch.Tensor | None]
    codebook: torch.Tensor
    weights: torch.Tensor

    def occupancy(self) -> torch.Tensor:
        return hard.counts(self.assignment, len(self.codebook))

    def coded_bits(self) -> float:
        """Order-0 entropy of the assignments plus the codebook entries in use."""
        occupancy = self.occupancy()
        return hard.entropy_bits(occupancy) + CODEBOOK_ENTRY_BITS * int((occupancy > 0).sum())


class HardStage:
    """Straight-through training of snapped weights: see ``step`` and ``update``.

    The model's parameters hold snapped values; the optimiser's move on them is carried over to the latent weights,
    which is the straight-through estimator without any hook in the forward pass.
    """

    def __init__(self, groups: Sequence[ParameterGroup], mixtures: Sequence[Mixture]) -> None:
        self.groups = groups
        self.rate = START_RATE
        self.updates = 0
        self.states = [
            GroupState(
                latent=[p.detach().float().clone() for p in group.parameters],
                assignment=[torch.zeros(p.shape, dtype=torch.uint8, device=p.device) for p in group.parameters],
                sensitivity=[None for _ in group.parameters],
                codebook=torch.tensor(mixture.means, dtype=torch.float32, device=group.parameters[0].device),
                weights=torch.tensor(mixture.weights, dtype=torch.float64, device=group.parameters[0].device),
            )
            for group, mixture in zip(groups, mixtures, strict=True)
        ]
        self._codebook_optimizer: torch.optim.Adam | None = None

    def coded_bits(self) -> float:
        return sum(state.coded_bits() for state in self.states)

    # -- every optimiser step ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def step(self, optimizer: torch.optim.Optimizer, pull: float) -> None:
        """Carry the optimiser's move over to the latent weights, pull them to their mean, snap the parameters again.

        The pull is the minimiser of 1/(2 rate) (w' - w)^2 + pull/2 (w' - mu)^2, stable for any ``pull``.
        """
        for group, state in zip(self.groups, self.states, strict=True):
            for parameter, latent, assignment in zip(group.parameters, state.latent, state.assignment, strict=True):
                snapped = state.codebook[assignment.int()]
                metric = metric_of(optimizer, group_of(optimizer, parameter), parameter)
                latent.add_(parameter.detach().float() - snapped)
                if metric is not None:
                    latent.lerp_(snapped, pull * metric.rate / (1 + pull * metric.rate))
                parameter.copy_(snapped)

    @torch.no_grad()
    def tune_step(self, optimizer: torch.optim.Optimizer, codebook_rate: float) -> None:
        """Frozen assignments: move each mean along the summed gradient of its members; zero stays zero."""
        if self._codebook_optimizer is None:
            self._codebook_optimizer = self._make_codebook_optimizer()
        for group, state, settings in zip(self.groups, self.states, self._codebook_optimizer.param_groups, strict=True):
            gradient = torch.zeros_like(state.codebook, dtype=torch.float64)
            for parameter, assignment in zip(group.parameters, state.assignment, strict=True):
                if parameter.grad is not None:
                    gradient += hard.member_sums(parameter.grad, assignment, len(state.codebook))
            gradient[0] = 0
            state.codebook.grad = gradient.float()
            settings["lr"] = codebook_rate * float(group_of(optimizer, group.parameters[0])["lr"])
        self._codebook_optimizer.step()
        self.write_snapped()

    # -- every EM step ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def update(self, optimizer: torch.optim.Optimizer, target_bits: float) -> None:
        """Hard E-step at the present rate, M-step of pi and mu, then the rate follows the size target."""
        if self.updates % SENSITIVITY_EVERY == 0:
            self._update_sensitivities(optimizer)
        self.updates += 1
        for state in self.states:
            code_bits = -torch.log2(state.weights)
            state.assignment = [
                hard.assign(latent, sensitivity, state.codebook, code_bits, self.rate)
                for latent, sensitivity in zip(state.latent, state.sensitivity, strict=True)
            ]
            state.weights = hard.update_code_lengths(state.weights, state.occupancy())
            state.codebook = _member_means(state)
        self.write_snapped()
        error = math.log(self.coded_bits() / target_bits)
        self.rate *= math.exp(min(max(RATE_GAIN * error, -0.3), 0.3))

    @torch.no_grad()
    def write_snapped(self) -> None:
        """Set every parameter to the mean of its component."""
        for group, state in zip(self.groups, self.states, strict=True):
            for parameter, assignment in zip(group.parameters, state.assignment, strict=True):
                parameter.copy_(state.codebook[assignment.int()])

    def palettes(self) -> dict[str, Palette]:
        """Codebook and indices of every parameter, by name."""
        return {
            name: Palette(state.codebook.cpu().numpy(), assignment.reshape(-1).cpu().numpy(), tuple(assignment.shape))
            for group, state in zip(self.groups, self.states, strict=True)
            for name, assignment in zip(group.names, state.assignment, strict=True)
        }

    def _update_sensitivities(self, optimizer: torch.optim.Optimizer) -> None:
        """h from squared gradients, scaled over all groups so that the mean of h w^2 is 1.

        One scale for all groups: a scale per group would forget that a small convolution matters more per weight.
        """
        energy, elements = 0.0, 0
        for group, state in zip(self.groups, self.states, strict=True):
            for i, (parameter, latent) in enumerate(zip(group.parameters, state.latent, strict=True)):
                metric = metric_of(optimizer, group_of(optimizer, parameter), parameter)
                moment = None if metric is None else metric.second_moment
                if moment is None:
                    moment = torch.zeros_like(latent) if parameter.grad is None else parameter.grad.float().square()
                factors = hard.sensitivity_factors(moment)
                state.sensitivity[i] = factors
                energy += float((factors * latent.square()).sum())
                elements += latent.numel()
        for state in self.states:
            state.sensitivity = [
                None if factors is None or energy == 0 else factors * (elements / energy)
                for factors in state.sensitivity
            ]

    def _make_codebook_optimizer(self) -> torch.optim.Adam:
        return torch.optim.Adam([{"params": [state.codebook]} for state in self.states])

    # -- state ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        return {
            "rate": self.rate,
            "updates": self.updates,
            "groups": [vars(state).copy() for state in self.states],
            "codebook_optimizer": None if self._codebook_optimizer is None else self._codebook_optimizer.state_dict(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.rate = saved["rate"]
        self.updates = saved["updates"]
        self.states = [GroupState(**group) for group in saved["groups"]]
        if saved["codebook_optimizer"] is not None:
            self._codebook_optimizer = self._make_codebook_optimizer()
            self._codebook_optimizer.load_state_dict(saved["codebook_optimizer"])


def _member_means(state: GroupState) -> torch.Tensor:
    """mu_k = sum h w / sum h over the members of k; component 0 stays zero, empty components stay where they are."""
    k = len(state.codebook)
    weight = torch.zeros(k, dtype=torch.float64, device=state.codebook.device)
    moment = torch.zeros_like(weight)
    for latent, assignment, sensitivity in zip(state.latent, state.assignment, state.sensitivity, strict=True):
        h = torch.ones_like(latent) if sensitivity is None else sensitivity
        weight += hard.member_sums(h, assignment, k)
        moment += hard.member_sums(h * latent, assignment, k)
    means = torch.where(weight > 0, moment / weight.clamp_min(1e-300), state.codebook.double()).float()
    means[0] = 0
    return means
