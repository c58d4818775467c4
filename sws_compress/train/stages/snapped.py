"""The snapped weights of all groups: what the hard stage hands on to codebook tuning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from sws_compress.mixture.mixture import Mixture
from sws_compress.train.ranks import ALONE, Ranks
from sws_compress.train.select import ParameterGroup
from sws_compress.train.stages.group_state import CODEBOOK_ENTRY_BITS, GroupState
from sws_compress.train.targets import FLOAT_BITS

LEAST_BIT_PRICE = 1e-4
"""Price of a bit that the hard stage starts from, in units of the mean sensitivity-weighted squared weight. Below it
bits hardly count."""

GREATEST_BIT_PRICE = 1e4
"""Price of a bit beyond which bits would not answer for many EM steps, in the same units."""

PRICE_BISECTIONS = 16
"""Halvings of the price range in the search for a size; they leave a factor of 1.0003."""


def greatest_ratio(groups: Sequence[ParameterGroup]) -> float:
    """Coded ratio that no weights can reach: one codebook entry per group and no bits for the weights."""
    elements = sum(group.elements for group in groups)
    return FLOAT_BITS * elements / (CODEBOOK_ENTRY_BITS * len(groups))


class SnappedWeights:
    """Latent weights of all groups, their assignments, and the snapped values that the parameters hold.

    Parameters
    ----------
    groups : sequence of ParameterGroup
        The parameters.
    states : list of GroupState
        Their states, in the same order.
    ranks : Ranks, optional
        The processes that train together.

    Attributes
    ----------
    bit_price : float
        Price at which the weights were assigned, or will be at the next EM step; in units of the mean
        sensitivity-weighted squared weight.
    coded_bits : float
        Order-0 entropy of all assignments plus the codebook entries in use, at the last assignment.
    living_components : list of int
        Components of each group that have members, zero included.
    written : list of list of tensor
        What the parameters hold between two steps, in their own dtype.
    """

    def __init__(self, groups: Sequence[ParameterGroup], states: list[GroupState], ranks: Ranks = ALONE) -> None:
        self.groups, self.states, self.ranks = groups, states, ranks
        self.bit_price = LEAST_BIT_PRICE
        self.written = [[shard.clone() for shard in group.shards()] for group in groups]
        self._empty_retired = False
        self._count_bits()

    @classmethod
    def start(
        cls, groups: Sequence[ParameterGroup], mixtures: Sequence[Mixture], ranks: Ranks = ALONE
    ) -> SnappedWeights:
        """Make the parameters the latent weights; the mixtures give codebooks and proportions until the EM step."""
        states = [GroupState.start(group, mixture, ranks) for group, mixture in zip(groups, mixtures, strict=True)]
        return cls(groups, states, ranks)

    @classmethod
    def restored(cls, groups: Sequence[ParameterGroup], saved: dict[str, Any], ranks: Ranks = ALONE) -> SnappedWeights:
        """Go on from `state_dict`; the parameters get their snapped values."""
        states = [
            GroupState.restored(state, group, ranks) for group, state in zip(groups, saved["groups"], strict=True)
        ]
        weights = cls(groups, states, ranks)
        weights.bit_price = saved["bit_price"]
        weights.write()
        return weights

    @property
    def mergers(self) -> int:
        """Components that were merged into a neighbour so far, over all groups."""
        return sum(state.mergers for state in self.states)

    @torch.no_grad()
    def em_step(self) -> None:
        """Hard E-step at the present price, then the M-step of pi and mu; one reduction over the ranks.

        Raises
        ------
        TrainingError
            If a latent weight is NaN or infinite.
        """
        for state in self.states:
            state.assign(self.bit_price)
        totals = self.ranks.sums([state.statistics() for state in self.states])
        for group, state, total in zip(self.groups, self.states, totals, strict=True):
            if not state.maximise(total, self.bit_price):
                raise group.diverged()
        self._empty_retired = False
        self.write()
        self._count_bits()

    @torch.no_grad()
    def assign_bits(self, coded_bits: float) -> None:
        """Assign the present latent weights so that they take ``coded_bits``, by bisection of the price.

        Feedback alone would spend a short run on climbing to where the price matters. Components that were empty at
        the last EM step stay so: a few weights would hardly be worth another component in the file. Components that an
        assignment since then has emptied may come back.
        """
        if not self._empty_retired:
            for state in self.states:
                state.retire_empty()
            self._empty_retired = True
        low, high = math.log(LEAST_BIT_PRICE), math.log(GREATEST_BIT_PRICE)
        for _ in range(PRICE_BISECTIONS):
            middle = (low + high) / 2
            self._assign(math.exp(middle))
            self._count_bits()
            low, high = (middle, high) if self.coded_bits > coded_bits else (low, middle)
        self.assign_at(math.exp(low))

    @torch.no_grad()
    def assign_at(self, bit_price: float) -> None:
        """Set the price, and assign the present latent weights at it."""
        self.bit_price = bit_price
        self._assign(bit_price)
        self.write()
        self._count_bits()

    def _assign(self, bit_price: float) -> None:
        """The E-step alone, and how many weights each component then holds."""
        for state in self.states:
            state.assign(bit_price)
        totals = self.ranks.sums([state.counts() for state in self.states])
        for state, total in zip(self.states, totals, strict=True):
            state.occupancy = total

    @torch.no_grad()
    def write(self) -> None:
        """Set every parameter to the means of its components."""
        for group, state, written in zip(self.groups, self.states, self.written, strict=True):
            for i, shard in enumerate(group.shards()):
                written[i] = state.snapped(i).to(shard.dtype)
                shard.copy_(written[i])

    @torch.no_grad()
    def round_codebooks(self) -> None:
        """Round means to float16, which a file stores in half the bytes, and write them.

        The relative error is at most 2^-11, less than any spread. A codebook whose means are out of range, vanish or
        coincide in float16 stays in float32.
        """
        for state in self.states:
            halves = state.codebook.half().float()
            apart = len(set(halves.tolist())) == len(set(state.codebook.tolist()))  # zero is one of the means
            if apart and halves.isfinite().all():
                state.codebook.copy_(halves)
        self.write()

    def latents(self) -> list[list[torch.Tensor]]:
        """Latent weights on this rank, by group and member."""
        return [state.latent for state in self.states]

    def mixtures(self) -> list[Mixture]:
        """Mixture that the latent weights of each group now follow; one reduction over the ranks."""
        spreads = self.ranks.sums([state.spread() for state in self.states])
        return [state.mixture(spread) for state, spread in zip(self.states, spreads, strict=True)]

    def _count_bits(self) -> None:
        self.living_components = [int((state.occupancy > 0).sum()) for state in self.states]
        self.coded_bits = sum(state.coded_bits() for state in self.states)

    def state_dict(self) -> dict[str, Any]:
        """State as tensors, numbers, lists and dicts; the tensors are the live ones, as in torch."""
        groups = [state.saved(group, self.ranks) for group, state in zip(self.groups, self.states, strict=True)]
        return {"bit_price": self.bit_price, "groups": groups}
