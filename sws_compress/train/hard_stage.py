"""State of the hard stage: latent weights behind the snapped ones, one codebook a group, one rate for all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sws_compress.mixture.params import Mixture
from sws_compress.train import hard
from sws_compress.train.optimizers import groups_by_parameter, rate_of, second_moment_of
from sws_compress.train.select import ParameterGroup

CODEBOOK_ENTRY_BITS = 16
SENSITIVITY_EVERY = 10  # EM steps: second moments move slowly, and their factors cost as much as an assignment
RATE_GAIN = 0.3  # d log(rate) per d log(bits); measured bits answer within a few EM steps
SMALLEST_VARIANCE = 1e-12  # of a component whose members all sit on its mean
SQUARES_MEMORY = 0.99  # where the optimiser keeps no second moments: one gradient alone calls whole rows insensitive
GREATEST_RATE = 1e4
RATE_BISECTIONS = 16  # to a factor of 1.0003
START_RATE = 1e-4  # in units of the mean sensitivity-weighted squared weight, per bit


@dataclass
class GroupState:
    """One group: ``codebook`` (k,) float32 and ``weights`` (k,) float64, shared; of the rest one tensor per member.

    ``latent`` float32; ``assignment`` uint8; ``sensitivity`` float32 or None for 1 everywhere; ``squares`` float32,
    running sums of squared gradients, or None where the optimiser keeps its own. ``mergers`` counts components that
    were merged into a neighbour.
    """

    latent: list[torch.Tensor]
    assignment: list[torch.Tensor]
    sensitivity: list[torch.Tensor | None]
    squares: list[torch.Tensor | None]
    codebook: torch.Tensor
    weights: torch.Tensor
    mergers: int = 0

    @classmethod
    def start(cls, group: ParameterGroup, mixture: Mixture) -> GroupState:
        """The parameters as latent weights, all assigned to zero until the first EM step."""
        device = group.parameters[0].device
        latent = [parameter.detach().to(torch.float32, copy=True) for parameter in group.parameters]
        return cls(
            latent=latent,
            assignment=[torch.zeros_like(member, dtype=torch.uint8) for member in latent],
            sensitivity=[None for _ in latent],
            squares=[None for _ in latent],
            codebook=torch.tensor(mixture.means, dtype=torch.float32, device=device),
            weights=torch.tensor(mixture.weights, dtype=torch.float64, device=device),
        )

    @classmethod
    def copied(cls, saved: dict[str, Any], device: torch.device) -> GroupState:
        """A state of its own from ``vars`` of another one."""
        return cls(
            latent=[member.to(device, copy=True) for member in saved["latent"]],
            assignment=[member.to(device, copy=True) for member in saved["assignment"]],
            sensitivity=[None if member is None else member.to(device, copy=True) for member in saved["sensitivity"]],
            squares=[None if member is None else member.to(device, copy=True) for member in saved["squares"]],
            codebook=saved["codebook"].to(device, copy=True),
            weights=saved["weights"].to(device, copy=True),
            mergers=saved["mergers"],
        )

    def add_square(self, member: int, gradient: torch.Tensor) -> None:
        """Running sum of squared gradients; its unit cancels when sensitivities are scaled."""
        before = self.squares[member]
        square = gradient.float().square()
        self.squares[member] = square if before is None else before.mul_(SQUARES_MEMORY).add_(square)

    def occupancy(self) -> torch.Tensor:
        """How many weights each component holds, shape (k,), float64."""
        return hard.counts(self.assignment, len(self.codebook))

    def coded_bits(self) -> float:
        """Order-0 entropy of the assignments plus the codebook entries in use."""
        occupancy = self.occupancy()
        return hard.entropy_bits(occupancy) + CODEBOOK_ENTRY_BITS * int((occupancy > 0).sum())

    def assign(self, rate: float) -> None:
        """The hard E-step: every latent weight to the component with the least distortion plus rate * code length."""
        code_bits = -torch.log2(self.weights)
        self.assignment = [
            hard.assign(latent, sensitivity, self.codebook, code_bits, rate)
            for latent, sensitivity in zip(self.latent, self.sensitivity, strict=True)
        ]

    def maximise(self, rate: float) -> bool:
        """The M-step: pi from counts, mu_k = sum h w / sum h over the members of k; False if a weight is not finite.

        Component 0 stays zero, components without members stay where they are. The pair that gains most by it at
        ``rate`` is merged first.
        """
        k = len(self.codebook)
        mass = torch.zeros(k, dtype=torch.float64, device=self.codebook.device)
        moment = torch.zeros_like(mass)
        for latent, assignment, sensitivity in zip(self.latent, self.assignment, self.sensitivity, strict=True):
            h = torch.ones_like(latent) if sensitivity is None else sensitivity
            mass += hard.member_sums(h, assignment, k)
            moment += hard.member_sums(h * latent, assignment, k)
        if not bool(torch.isfinite(moment).all()):
            return False
        means = torch.where(mass > 0, moment / mass.clamp_min(1e-300), self.codebook.double())
        means[0] = 0
        merger = hard.best_merge(self.occupancy(), mass, means, rate, CODEBOOK_ENTRY_BITS)
        if merger is not None:
            gone, kept = merger
            for assignment in self.assignment:
                assignment[assignment == gone] = kept
            if kept != 0:
                means[kept] = (moment[gone] + moment[kept]) / (mass[gone] + mass[kept]).clamp_min(1e-300)
            self.mergers += 1
        self.codebook.copy_(means)  # in place: the codebook's optimiser holds it
        self.weights = hard.update_code_lengths(self.weights, self.occupancy())
        return True

    def mixture(self) -> Mixture:
        """The mixture that the latent weights now follow: pi, mu, and the spread of the members about each mean."""
        k = len(self.codebook)
        scatter = torch.zeros(k, dtype=torch.float64, device=self.codebook.device)
        for i, latent in enumerate(self.latent):
            scatter += hard.member_sums((latent - self.snapped(i)).square(), self.assignment[i], k)
        counts = self.occupancy()
        pooled = scatter.sum() / counts.sum()
        variances = torch.where(counts > 0, scatter / counts.clamp_min(1), pooled).clamp_min(SMALLEST_VARIANCE)
        weights = self.weights / self.weights.sum()
        return Mixture(*(array.double().cpu().numpy() for array in (weights, self.codebook, variances)))

    def snapped(self, member: int) -> torch.Tensor:
        """The means of a member's components, float32, in its shape."""
        assignment = self.assignment[member]
        return self.codebook.index_select(0, assignment.reshape(-1).int()).view(assignment.shape)


class HardStage:
    """Straight-through training of snapped weights: see ``step`` and ``update``.

    The model's parameters hold snapped values; the optimiser's move on them is carried over to the latent weights,
    which is the straight-through estimator without any hook in the forward pass.
    """

    def __init__(self, groups: Sequence[ParameterGroup], mixtures: Sequence[Mixture]) -> None:
        self.groups = groups
        self.rate = START_RATE
        self.updates = 0
        self.states = [GroupState.start(group, mixture) for group, mixture in zip(groups, mixtures, strict=True)]
        # What the parameters hold between two steps, in their own dtype: the move is measured from here.
        self._written = [[parameter.detach().clone() for parameter in group.parameters] for group in groups]
        self._coded_bits = self._count_bits()
        self._codebook_optimizer: torch.optim.Adam | None = None

    def coded_bits(self) -> float:
        """Order-0 entropy of all assignments plus the codebooks, in bits, as of the last EM step."""
        return self._coded_bits

    @property
    def tuning(self) -> bool:
        """Whether codebook tuning has begun."""
        return self._codebook_optimizer is not None

    # -- every optimiser step ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def step(self, optimizer: torch.optim.Optimizer, pull: float) -> None:
        """Carry the optimiser's move over to the latent weights, pull them to their mean, snap the parameters again.

        The pull is the minimiser of 1/(2 rate) (w' - w)^2 + pull/2 (w' - mu)^2, stable for any ``pull``.
        """
        settings = groups_by_parameter(optimizer)
        for group, state, written in zip(self.groups, self.states, self._written, strict=True):
            for i, (parameter, latent, snapped) in enumerate(zip(group.parameters, state.latent, written, strict=True)):
                own = settings[id(parameter)]
                if parameter.grad is not None and second_moment_of(optimizer, own, parameter) is None:
                    state.add_square(i, parameter.grad)
                force = pull * rate_of(optimizer, own)
                mean = snapped.float()
                latent.add_(parameter.float() - mean)
                latent.lerp_(mean, force / (1 + force))
                parameter.copy_(snapped)

    @torch.no_grad()
    def tune_step(self, optimizer: torch.optim.Optimizer, codebook_rate: float) -> None:
        """Frozen assignments: move each mean along the summed gradient of its members; zero stays zero."""
        if self._codebook_optimizer is None:
            self._codebook_optimizer = self._make_codebook_optimizer()
        settings = groups_by_parameter(optimizer)
        for group, state, own in zip(self.groups, self.states, self._codebook_optimizer.param_groups, strict=True):
            gradient = torch.zeros_like(state.codebook, dtype=torch.float64)
            for parameter, assignment in zip(group.parameters, state.assignment, strict=True):
                if parameter.grad is not None:
                    gradient += hard.member_sums(parameter.grad, assignment, len(state.codebook))
            gradient[0] = 0
            state.codebook.grad = gradient.float()
            own["lr"] = codebook_rate * float(settings[id(group.parameters[0])]["lr"])
        self._codebook_optimizer.step()
        self.write_snapped()

    # -- every EM step ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def update(self, optimizer: torch.optim.Optimizer, target_bits: float | None) -> None:
        """Hard E-step at the present rate, M-step of pi and mu, then the rate follows the size target if there is one.

        Raises TrainingError when a latent weight is NaN or infinite.
        """
        if self.updates % SENSITIVITY_EVERY == 0:
            self._update_sensitivities(optimizer)
        self.updates += 1
        for group, state in zip(self.groups, self.states, strict=True):
            state.assign(self.rate)
            if not state.maximise(self.rate):
                raise group.diverged()
        self.write_snapped()
        self._coded_bits = self._count_bits()
        if target_bits is None:
            return
        error = math.log(self._coded_bits / target_bits)
        self.rate *= math.exp(min(max(RATE_GAIN * error, -0.3), 0.3))

    @torch.no_grad()
    def find_rate(self, target_bits: float) -> None:
        """Set the rate at which the present latent weights would be assigned ``target_bits``, by bisection.

        Feedback alone would spend a short run on climbing to where the rate matters.
        """
        low, high = math.log(START_RATE), math.log(GREATEST_RATE)
        for _ in range(RATE_BISECTIONS):
            middle = (low + high) / 2
            for state in self.states:
                state.assign(math.exp(middle))
            low, high = (middle, high) if self._count_bits() > target_bits else (low, middle)
        self.rate = math.exp(low)
        for state in self.states:
            state.assign(self.rate)
        self.write_snapped()
        self._coded_bits = self._count_bits()

    @torch.no_grad()
    def write_snapped(self) -> None:
        """Set every parameter to the mean of its component."""
        for group, state, written in zip(self.groups, self.states, self._written, strict=True):
            for i, parameter in enumerate(group.parameters):
                written[i] = state.snapped(i).to(parameter.dtype)
                parameter.copy_(written[i])

    @torch.no_grad()
    def round_codebooks(self) -> None:
        """Round means to float16, which a file stores in half the bytes: a share of 2^-11, less than any spread."""
        for state in self.states:
            halves = state.codebook.half().float()
            fits = halves.isfinite().all() and bool(((halves == 0) == (state.codebook == 0)).all())
            if fits and len(set(halves.tolist())) == len(set(state.codebook.tolist())):
                state.codebook.copy_(halves)
        self.write_snapped()

    def mixtures(self) -> list[Mixture]:
        """The mixture of every group."""
        return [state.mixture() for state in self.states]

    def _count_bits(self) -> float:
        return sum(state.coded_bits() for state in self.states)

    def _update_sensitivities(self, optimizer: torch.optim.Optimizer) -> None:
        """h from squared gradients, scaled over all groups so that the mean of h w^2 is 1.

        One scale for all groups: a scale per group would forget that a small convolution matters more per weight.
        """
        energy, elements = 0.0, 0
        settings = groups_by_parameter(optimizer)
        for group, state in zip(self.groups, self.states, strict=True):
            for i, (parameter, latent) in enumerate(zip(group.parameters, state.latent, strict=True)):
                moment = second_moment_of(optimizer, settings[id(parameter)], parameter)
                if moment is None:
                    moment = state.squares[i]
                if moment is None:
                    moment = torch.zeros_like(latent) if parameter.grad is None else parameter.grad.square()
                factors = hard.sensitivity_factors(moment.float())
                state.sensitivity[i] = factors
                share = float((factors * latent.square()).sum())
                if not math.isfinite(share):
                    raise group.diverged()  # before it makes the sensitivities of all groups NaN
                energy += share
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
        """Tensors, numbers, lists and dicts; the tensors are the live ones, as in torch."""
        return {
            "rate": self.rate,
            "updates": self.updates,
            "groups": [vars(state).copy() for state in self.states],
            "codebook_optimizer": None if self._codebook_optimizer is None else self._codebook_optimizer.state_dict(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from ``state_dict``; the parameters get their snapped values."""
        self.rate = saved["rate"]
        self.updates = saved["updates"]
        self.states = [
            GroupState.copied(state, group.parameters[0].device)
            for group, state in zip(self.groups, saved["groups"], strict=True)
        ]
        self._codebook_optimizer = None
        if saved["codebook_optimizer"] is not None:
            self._codebook_optimizer = self._make_codebook_optimizer()
            self._codebook_optimizer.load_state_dict(saved["codebook_optimizer"])
        self._coded_bits = self._count_bits()
        self.write_snapped()
