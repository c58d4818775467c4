"""Pruning, trained quantization, Huffman coding: Han, Mao & Dally 2016, "Deep Compression".

First, the weights of least magnitude, in standard deviations of their layer, are pruned while the network trains. The
density falls along a cubic ramp (Zhu & Gupta 2017) instead of in a few steps. Second, the remaining weights and biases
of each layer are clustered by k-means from linearly spaced centroids, and the centroids are trained with the summed
gradients of their weights. The third stage is the packer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.records.taught import TaughtBatches, cosine, taught_loss
from sws_compress.demo.lenet import LeNet300100


@dataclass(frozen=True, kw_only=True)
class DeepCompression:
    """Settings of Deep Compression.

    ``density`` is the share of weights kept, ``values`` the number of centroids per layer besides zero. ``prune_until``
    and ``cluster_from`` are shares of the run. ``rate``, the learning rate of Adam, falls along a cosine to a twentieth
    while weights are trained; ``codebook_rate`` falls along another one to zero.
    """

    density: float
    values: int = 16
    prune_until: float = 0.55
    cluster_from: float = 0.75
    rate: float = 1e-3
    codebook_rate: float = 5e-4
    prune_every: int = 50

    def density_at(self, progress: float) -> float:
        left = max(1 - progress / self.prune_until, 0.0)
        return self.density + (1 - self.density) * left**3


def train_deep_compression(
    network: LeNet300100, batches: TaughtBatches, settings: DeepCompression, *, epochs: int
) -> None:
    """Train the network in place and snap it; randomness comes from torch's global generator."""
    steps = epochs * len(batches)
    first = round(settings.cluster_from * steps)
    pruning = _Pruning(network, settings)
    tuning: _Tuning | None = None
    step = 0
    for _ in range(epochs):
        for pixels, targets in batches:
            if step == first:
                pruning.prune(settings.density)
                tuning = _Tuning(network, settings)
            network.zero_grad()
            taught_loss(network(pixels), targets).backward()  # type: ignore[no-untyped-call]
            if tuning is None:
                pruning.step(step / steps)
            else:
                tuning.step((step - first) / (steps - first))
            step += 1


class _Pruning:
    """Adam on the remaining weights, whose number falls during the run."""

    def __init__(self, network: LeNet300100, settings: DeepCompression) -> None:
        self.settings = settings
        self.parameters = list(network.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, lr=settings.rate, fused=True)
        layers = [layer for layer in network.children() if isinstance(layer, nn.Linear)]
        spreads = [float(layer.weight.detach().std()) for layer in layers]
        self.scales = [spread for spread in spreads for _ in range(2)]  # once for the weight, once for the bias
        self.masks = [torch.ones_like(parameter) for parameter in self.parameters]
        self.steps = 0

    @torch.no_grad()
    def step(self, progress: float) -> None:
        rate = 0.05 + 0.95 * cosine(progress / self.settings.cluster_from)
        self.optimizer.param_groups[0]["lr"] = self.settings.rate * rate
        self.optimizer.step()
        self.steps += 1
        if progress <= self.settings.prune_until and self.steps % self.settings.prune_every == 0:
            self.prune(self.settings.density_at(progress))
        for parameter, mask in zip(self.parameters, self.masks, strict=True):
            parameter *= mask

    @torch.no_grad()
    def prune(self, density: float) -> None:
        """Prune all but this share of the weights."""
        pairs = list(zip(self.parameters, self.scales, strict=True))
        scores = torch.cat([(parameter / scale).abs().flatten() for parameter, scale in pairs])
        bound = scores.kthvalue(max(1, len(scores) - round(density * len(scores)))).values
        for mask, (parameter, scale) in zip(self.masks, pairs, strict=True):
            mask.copy_((parameter / scale).abs() > bound)
            parameter *= mask


class _Tuning:
    """Adam on the centroids; pruned weights stay at zero."""

    def __init__(self, network: LeNet300100, settings: DeepCompression) -> None:
        self.settings = settings
        layers = [layer for layer in network.children() if isinstance(layer, nn.Linear)]
        self.members: list[tuple[nn.Parameter, int, Tensor, Tensor]] = []
        self.codebooks: list[nn.Parameter] = []
        for number, layer in enumerate(layers):
            kept = [(parameter, parameter.detach().flatten().nonzero()[:, 0]) for parameter in layer.parameters()]
            values = torch.cat([parameter.detach().flatten()[places] for parameter, places in kept])
            codebook, owners = linear_k_means(values, settings.values)
            self.codebooks.append(nn.Parameter(codebook))
            parts = owners.split([len(places) for _, places in kept])
            for (parameter, places), part in zip(kept, parts, strict=True):
                self.members.append((parameter, number, places, part))
        self.optimizer = torch.optim.Adam(self.codebooks, lr=settings.codebook_rate)
        self._write()

    @torch.no_grad()
    def step(self, progress: float) -> None:
        for codebook in self.codebooks:
            codebook.grad = torch.zeros_like(codebook)
        for parameter, number, places, owners in self.members:
            summed = self.codebooks[number].grad
            assert summed is not None
            assert parameter.grad is not None
            summed.index_add_(0, owners, parameter.grad.flatten()[places])
        self.optimizer.param_groups[0]["lr"] = self.settings.codebook_rate * cosine(progress)
        self.optimizer.step()
        self._write()

    @torch.no_grad()
    def _write(self) -> None:
        for parameter, number, places, owners in self.members:
            parameter.view(-1)[places] = self.codebooks[number][owners]


def linear_k_means(values: Tensor, count: int, iterations: int = 100) -> tuple[Tensor, Tensor]:
    """Ascending centroids (count,), and the index (n,) of the centroid of every value.

    Lloyd's algorithm starts from centroids spaced linearly between the extremes, which serves large weights well. A
    centroid that loses all its values stays where it is.
    """
    if not len(values):
        return torch.zeros(count), torch.zeros(0, dtype=torch.int64)
    values = values.double()
    centroids = torch.linspace(float(values.min()), float(values.max()), count, dtype=torch.float64)
    for _ in range(iterations):
        owners = torch.bucketize(values, (centroids[1:] + centroids[:-1]) / 2)
        counts = torch.bincount(owners, minlength=count)
        sums = torch.bincount(owners, weights=values, minlength=count)
        moved = torch.where(counts > 0, sums / counts.clamp(min=1), centroids)
        if torch.equal(moved, centroids):
            break
        centroids = moved
    return centroids.float(), torch.bucketize(values, (centroids[1:] + centroids[:-1]) / 2)
