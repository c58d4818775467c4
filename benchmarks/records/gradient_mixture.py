"""Soft weight sharing with gradients: Adam trains weights and mixture together.

Ullrich, Meeds & Welling 2017, "Soft weight-sharing for neural network compression". The loss is

    L(w) + tau / N * ( -sum_i log sum_k pi_k N(w_i; mu_k, 1 / lambda_k) - sum_k log Gamma(lambda_k; alpha_k, beta_k) )

with N training examples. mu_0 is 0, pi_0 is fixed near 1, and everything else is learned. At the end, components that
hardly differ are merged, and every weight becomes the mean of its most probable component.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.records.taught import TaughtBatches, cosine, taught_loss
from sws_compress.demo.lenet import LeNet300100

CELLS = 4096
"""Cells in which log p(w) is taken as linear. They are a few 1e-4 wide; standard deviations are about 1e-3."""


@dataclass(frozen=True, kw_only=True)
class GradientMixture:
    """Settings; learning rates and hyper-priors are those of the authors.

    ``tau`` is the price of the prior, ``zero_share`` is pi_0, and ``components`` includes the one at zero. The Gamma
    priors on precisions are (shape, rate), for the zero component and for the others. ``weight_rate`` falls to zero
    along a cosine; the authors keep it constant.
    """

    tau: float
    zero_share: float = 0.99
    components: int = 17
    weight_rate: float = 5e-4
    mean_rate: float = 1e-4
    shape_rate: float = 3e-3
    zero_prior: tuple[float, float] = (5e3, 2.0)
    other_prior: tuple[float, float] = (250.0, 0.1)
    reach: float = 0.6
    first_spread: float = 0.25
    merge_below: float = 0.1


class LearnedMixture(nn.Module):
    """Mixture to be learned: means (k - 1,), log-precisions (k,), logits of shares (k - 1,).

    Component 0 is at zero and has a fixed share.
    """

    def __init__(self, settings: GradientMixture) -> None:
        super().__init__()
        self.settings = settings
        others = settings.components - 1
        self.means = nn.Parameter(torch.linspace(-settings.reach, settings.reach, others))
        self.log_precisions = nn.Parameter(torch.full((others + 1,), -2 * math.log(settings.first_spread)))
        self.logits = nn.Parameter(torch.zeros(others))
        shapes, rates = zip(settings.zero_prior, *[settings.other_prior] * others, strict=True)
        self.register_buffer("prior_shapes", torch.tensor(shapes))
        self.register_buffer("prior_rates", torch.tensor(rates))

    def all_means(self) -> Tensor:
        return torch.cat([self.means.new_zeros(1), self.means])

    def log_shares(self) -> Tensor:
        share = self.settings.zero_share
        others = math.log1p(-share) + self.logits.log_softmax(0)
        return torch.cat([others.new_full((1,), math.log(share)), others])

    def log_joint(self, points: Tensor) -> Tensor:
        """Joint log density log pi_k + log N(w; mu_k, 1 / lambda_k) at points (n,), shape (n, k)."""
        scale = self.log_shares() + (self.log_precisions - math.log(2 * math.pi)) / 2
        return scale - (points[:, None] - self.all_means()) ** 2 * (self.log_precisions.exp() / 2)

    def penalty(self) -> Tensor:
        """-sum_k log Gamma(lambda_k), up to a constant."""
        terms = (self.prior_shapes - 1) * self.log_precisions - self.prior_rates * self.log_precisions.exp()
        return -terms.sum()


def add_prior_gradients(parameters: list[nn.Parameter], mixture: LearnedMixture, price: float) -> None:
    """Add the gradients of price * (-log p(w) - log p(lambda)) to those of the weights and of the mixture.

    log p is a function of one number. It is evaluated at the edges of ``CELLS`` cells instead of at every weight, and
    taken as linear between them. ``parameters`` must already have gradients.
    """
    flat = torch.cat([parameter.detach().flatten() for parameter in parameters])
    reach = float(flat.abs().max()) * (1 + 1e-5) + 1e-6
    width = 2 * reach / CELLS
    log_density = mixture.log_joint(torch.linspace(-reach, reach, CELLS + 1)).logsumexp(1)
    cell = ((flat + reach) / width).int().clamp_(0, CELLS - 1)
    counts = torch.bincount(cell, minlength=CELLS)
    complexity = mixture.penalty() - (counts * (log_density[1:] + log_density[:-1]) / 2).sum()
    (price * complexity).backward()
    slopes = log_density.detach().diff() * (-price / width)
    gradients = slopes.index_select(0, cell).split([parameter.numel() for parameter in parameters])
    for parameter, gradient in zip(parameters, gradients, strict=True):
        assert parameter.grad is not None
        parameter.grad += gradient.view_as(parameter)


def train_gradient_mixture(
    network: LeNet300100, batches: TaughtBatches, settings: GradientMixture, *, epochs: int
) -> LearnedMixture:
    """Train the network in place and snap it; randomness comes from torch's global generator."""
    mixture = LearnedMixture(settings)
    parameters = list(network.parameters())
    groups = [
        {"params": parameters, "lr": settings.weight_rate},
        {"params": [mixture.means], "lr": settings.mean_rate},
        {"params": [mixture.log_precisions, mixture.logits], "lr": settings.shape_rate},
    ]
    optimizer = torch.optim.Adam(groups, fused=True)
    price = settings.tau / len(batches.padded)
    steps = epochs * len(batches)
    step = 0
    for _ in range(epochs):
        for pixels, targets in batches:
            optimizer.param_groups[0]["lr"] = settings.weight_rate * cosine(step / steps)
            optimizer.zero_grad()
            taught_loss(network(pixels), targets).backward()  # type: ignore[no-untyped-call]
            add_prior_gradients(parameters, mixture, price)
            optimizer.step()
            step += 1
    snap_to_means(network, mixture)
    return mixture


@torch.no_grad()
def snap_to_means(network: nn.Module, mixture: LearnedMixture) -> None:
    """Merge components, then set every weight to the mean of its most probable component."""
    means = merged_means(mixture)
    for parameter in network.parameters():
        owner = torch.cat([mixture.log_joint(part).argmax(1) for part in parameter.flatten().split(1 << 16)])
        parameter.copy_(means[owner].view_as(parameter))


@torch.no_grad()
def merged_means(mixture: LearnedMixture) -> Tensor:
    """Mean (k,) of every component after merging neighbours.

    From left to right, a component joins the one before it if the symmetric KL divergence of the two is below
    ``merge_below``. Their common mean is weighted by their shares. A component that joins the zero component becomes
    zero.
    """
    means, precisions, shares = mixture.all_means(), mixture.log_precisions.exp(), mixture.log_shares().exp()
    merged = means.clone()
    order = means.argsort().tolist()
    group = [order[0]]
    for previous, current in zip(order, [*order[1:], None], strict=True):
        if current is not None:
            ratio = precisions[previous] / precisions[current]
            apart = (means[previous] - means[current]) ** 2 * (precisions[previous] + precisions[current])
            if (ratio + 1 / ratio - 2 + apart) / 2 < mixture.settings.merge_below:
                group.append(current)
                continue
        merged[group] = 0.0 if 0 in group else (shares[group] @ means[group]) / shares[group].sum()
        group = [] if current is None else [current]
    return merged
