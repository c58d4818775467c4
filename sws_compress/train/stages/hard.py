"""The hard stage: latent weights behind the snapped ones, one codebook a group, one rate for all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from sws_compress.mixture.mixture import Mixture
from sws_compress.train.optimizers import gradient_of, groups_by_parameter, rate_of, second_moment_of
from sws_compress.train.ranks import ALONE, Ranks, local
from sws_compress.train.select import ParameterGroup
from sws_compress.train.sensitivities import sensitivities
from sws_compress.train.stages import hard_em as hard
from sws_compress.train.stages.group_state import GroupState

SENSITIVITY_EVERY = 10  # EM steps: second moments move slowly, and their factors cost as much as an assignment


RATE_GAIN = 0.3  # d log(rate) per d log(bits); measured bits answer within a few EM steps


GREATEST_RATE = 1e4


RATE_BISECTIONS = 16  # to a factor of 1.0003


START_RATE = 1e-4  # in units of the mean sensitivity-weighted squared weight, per bit


class HardStage:
    """Straight-through training of snapped weights: see ``step`` and ``update``.

    The model's parameters hold snapped values; the optimiser's move on them is carried over to the latent weights,
    which is the straight-through estimator without any hook in the forward pass. Sensitivities are expected squared
    gradients to ``sensitivity_power``; they come to rest as the learning rate falls.
    """

    def __init__(
        self,
        groups: Sequence[ParameterGroup],
        mixtures: Sequence[Mixture],
        sensitivity_power: float,
        ranks: Ranks = ALONE,
    ) -> None:
        self.groups = groups
        self.sensitivity_power = sensitivity_power
        self.ranks = ranks
        self.rate = START_RATE
        self.updates = 0
        self._first_learning_rate: float | None = None
        self.states = [GroupState.start(group, mixture, ranks) for group, mixture in zip(groups, mixtures, strict=True)]
        # What the parameters hold between two steps, in their own dtype: the move is measured from here.
        self._written = [[shard.clone() for shard in group.shards()] for group in groups]
        self._coded_bits = self._count_bits()
        self._retired = False  # whether components that the last EM step left empty are out of use
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
                own, shard = settings[id(parameter)], local(parameter)
                if second_moment_of(optimizer, own, parameter) is None:
                    gradient = gradient_of(own, parameter)
                    if gradient is not None:
                        state.add_square(i, gradient)
                force = pull * rate_of(optimizer, own)
                mean = snapped.float()
                latent.add_(shard.float() - mean)
                latent.lerp_(mean, force / (1 + force))
                shard.copy_(snapped)

    @torch.no_grad()
    def tune_step(self, optimizer: torch.optim.Optimizer, codebook_rate: float) -> None:
        """Frozen assignments: move each mean along the summed gradient of its members; zero stays zero."""
        if self._codebook_optimizer is None:
            self._codebook_optimizer = self._make_codebook_optimizer()
        settings = groups_by_parameter(optimizer)
        gradients = []
        for group, state in zip(self.groups, self.states, strict=True):
            total = torch.zeros_like(state.codebook, dtype=torch.float64)
            for i, parameter in enumerate(group.parameters):
                gradient = gradient_of(settings[id(parameter)], parameter)
                if gradient is not None and state.counted[i]:
                    total += hard.member_sums(gradient, state.assignment[i], len(total))
            gradients.append(total)
        optimized = self._codebook_optimizer.param_groups
        for group, state, total, own in zip(
            self.groups, self.states, self.ranks.sums(gradients), optimized, strict=True
        ):
            total[0] = 0
            state.codebook.grad = total.float()
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
        for state in self.states:
            state.assign(self.rate)
        totals = self.ranks.sums([state.statistics() for state in self.states])
        for group, state, total in zip(self.groups, self.states, totals, strict=True):
            if not state.maximise(total, self.rate):
                raise group.diverged()
        self._retired = False
        self.write_snapped()
        self._coded_bits = self._count_bits()
        if target_bits is None:
            return
        error = math.log(self._coded_bits / target_bits)
        self.rate *= math.exp(min(max(RATE_GAIN * error, -0.3), 0.3))
        self.rate = min(max(self.rate, START_RATE), GREATEST_RATE)  # beyond, bits would not answer for many EM steps

    def _update_sensitivities(self, optimizer: torch.optim.Optimizer) -> None:
        """Move them towards the present ones by the share that is left of the learning rate.

        Sensitivities that follow gradients when latent weights can hardly move any more feed back on themselves: some
        weights are assigned worse, a few gradients grow, all others count for less and are assigned worse still. With
        sensitivities and latent weights at rest hard EM descends on one objective and ends.
        """
        learning_rate = max(float(settings["lr"]) for settings in optimizer.param_groups)
        if self._first_learning_rate is None:
            self._first_learning_rate = learning_rate
        share = min(learning_rate / self._first_learning_rate, 1.0) if self._first_learning_rate > 0 else 1.0
        latents, squares = [state.latent for state in self.states], [state.squares for state in self.states]
        found = sensitivities(optimizer, self.groups, latents, squares, self.ranks, self.sensitivity_power)
        for state, own in zip(self.states, found, strict=True):
            state.sensitivity = [
                new if old is None or new is None else old.lerp_(new, share)
                for old, new in zip(state.sensitivity, own, strict=True)
            ]

    @torch.no_grad()
    def find_rate(self, target_bits: float) -> None:
        """Set the rate at which the present latent weights would be assigned ``target_bits``, by bisection.

        Feedback alone would spend a short run on climbing to where the rate matters. Components without members at the
        last EM step stay without, a few weights would hardly be worth another one in the file; those that an assignment
        since then has emptied may come back.
        """
        if not self._retired:
            for state in self.states:
                state.retire_empty()
            self._retired = True
        low, high = math.log(START_RATE), math.log(GREATEST_RATE)
        for _ in range(RATE_BISECTIONS):
            middle = (low + high) / 2
            self._assign(math.exp(middle))
            low, high = (middle, high) if self._count_bits() > target_bits else (low, middle)
        self.assign_at(math.exp(low))

    @torch.no_grad()
    def assign_at(self, rate: float) -> None:
        """Set the rate, and assign the present latent weights at it."""
        self.rate = rate
        self._assign(rate)
        self.write_snapped()
        self._coded_bits = self._count_bits()

    def _assign(self, rate: float) -> None:
        """The E-step alone, and how many weights each component then holds."""
        for state in self.states:
            state.assign(rate)
        totals = self.ranks.sums([state.counts() for state in self.states])
        for state, total in zip(self.states, totals, strict=True):
            state.occupancy = total

    @torch.no_grad()
    def write_snapped(self) -> None:
        """Set every parameter to the mean of its component."""
        for group, state, written in zip(self.groups, self.states, self._written, strict=True):
            for i, shard in enumerate(group.shards()):
                written[i] = state.snapped(i).to(shard.dtype)
                shard.copy_(written[i])

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
        """The mixture of every group; one reduction over the ranks."""
        spreads = self.ranks.sums([state.spread() for state in self.states])
        return [state.mixture(spread) for state, spread in zip(self.states, spreads, strict=True)]

    def _count_bits(self) -> float:
        self.living_components = [int((state.occupancy > 0).sum()) for state in self.states]
        return sum(state.coded_bits() for state in self.states)

    def _make_codebook_optimizer(self) -> torch.optim.Adam:
        return torch.optim.Adam([{"params": [state.codebook]} for state in self.states])

    # -- state ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers, lists and dicts; the tensors are the live ones, as in torch."""
        return {
            "rate": self.rate,
            "updates": self.updates,
            "first_learning_rate": self._first_learning_rate,
            "groups": [state.saved(group, self.ranks) for group, state in zip(self.groups, self.states, strict=True)],
            "codebook_optimizer": None if self._codebook_optimizer is None else self._codebook_optimizer.state_dict(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from ``state_dict``; the parameters get their snapped values."""
        self.rate = saved["rate"]
        self.updates = saved["updates"]
        self._first_learning_rate = saved["first_learning_rate"]
        self.states = [
            GroupState.copied(state, group, self.ranks)
            for group, state in zip(self.groups, saved["groups"], strict=True)
        ]
        self._codebook_optimizer = None
        if saved["codebook_optimizer"] is not None:
            self._codebook_optimizer = self._make_codebook_optimizer()
            self._codebook_optimizer.load_state_dict(saved["codebook_optimizer"])
        self._coded_bits = self._count_bits()
        self.write_snapped()
