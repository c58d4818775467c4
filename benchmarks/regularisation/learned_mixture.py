"""The mixture as published: means, spreads and proportions are trained by the optimiser that trains the weights.

Nowlan & Hinton 1992, with the Gamma prior on the precisions of Ullrich, Meeds & Welling 2017. All networks are computed
side by side.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from benchmarks.regularisation.nets import Nets
from benchmarks.regularisation.settings import Setting

FIRST_ZERO_SHARE = 0.5
"""Proportion of the component at zero at the start, where it is learned."""


class LearnedMixture(nn.Module):
    """One mixture for every network, or for every layer of every network; component 0 has mean zero.

    The means start evenly over the range of the initial weights, and the spreads as the distance between them.
    """

    def __init__(self, setting: Setting, nets: Nets) -> None:
        super().__init__()
        self.setting = setting
        layers = [nets.stacked(name).detach() for name in ("hidden_weight", "output_weight")]
        reach = torch.stack([layer.abs().amax((1, 2)) for layer in layers])  # (layers, nets)
        if setting.one_mixture:
            reach = reach.amax(0, keepdim=True)
        others = setting.components - 1
        places = torch.linspace(-1, 1, others)
        self.means = nn.Parameter(reach[..., None] * places)
        spacing = reach[..., None].expand(*reach.shape, setting.components) * 2 / max(others - 1, 1)
        self.log_spreads = nn.Parameter(spacing.log())
        self.logits = nn.Parameter(torch.zeros(*reach.shape, others))
        share = FIRST_ZERO_SHARE if setting.zero_share is None else setting.zero_share
        self.zero_logit = nn.Parameter(
            torch.full((*reach.shape, 1), math.log(share / (1 - share))), requires_grad=setting.zero_share is None
        )

    def forward(self, weights: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """-log p of the weights of every network and of the spreads under their prior, (nets,)."""
        flat = [layer.flatten(1) for layer in weights]
        parts = [torch.cat(flat, 1)] if self.setting.one_mixture else flat
        log_shares = torch.cat(
            [
                nn.functional.logsigmoid(self.zero_logit),
                nn.functional.logsigmoid(-self.zero_logit) + self.logits.log_softmax(-1),
            ],
            -1,
        )
        means = torch.cat([torch.zeros_like(self.means[..., :1]), self.means], -1)
        precisions = (-2 * self.log_spreads).exp()
        total = torch.zeros(len(parts[0]))
        for i, part in enumerate(parts):
            constant = log_shares[i] - self.log_spreads[i]
            joint = constant[:, None] - (part[..., None] - means[i][:, None]).square() * (precisions[i] / 2)[:, None]
            total = total - joint.logsumexp(-1).sum(1)
        more = self.setting.shape - 1
        hyper = more * (2 * self.log_spreads + self.setting.spread**2 * precisions)
        return total + hyper.sum((0, 2))
