"""The vectors that the loop leaves in float32, such as biases and norm scales: as few values as the outputs allow."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils import _pytree as pytree

from sws_compress.entropy import entropy_bits
from sws_compress.mixture.sensitivity import Sensitivity
from sws_compress.quantize.cluster import cluster
from sws_compress.quantize.palette import Palette, half_rounded
from sws_compress.train.select import ParameterGroup, plain_name

HALF_TOLERANCE = 2**-11
"""Greatest error of a vector in float16, as a share of its greatest value: half a unit in the last place."""

ERROR_SHARE = 1 / 30
"""Error that vectors may add to the outputs, as a share of what the weights have changed them by: 15 dB below it."""

ERROR_RANGE = (1e-6, 10**-2.5)
"""Least and greatest error that vectors may add, as a share of the energy of the outputs: 60 and 25 dB below it. At 28
dB no network of a suite of small ones lost accuracy, on held-out data."""

COMPONENT_STEPS = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Numbers of values that are tried."""

FURTHER_STEPS = 2
"""Larger numbers of values that are tried after the first that keeps the error: bits with a price choose among them."""

PRICE_HALVINGS = 8
"""Halvings of the range of the logarithm of the price."""

PRICE_RANGE = 1e6
"""Greatest price per bit over the least."""

PROBES = 16
"""Random directions of the outputs that sensitivities are averaged over."""

LEAST_SENSITIVITY = 0.05
"""Sensitivity of a number at least, as a share of the mean of its vector: a unit that is silent on the inputs seen may
speak on others."""

MISJUDGED = 2.0
"""Times the error allowed from which the sensitivities are taken to have misjudged it."""

CORRECTION = 4.0
"""What the error allowed is divided by then, at most `MOST_CORRECTIONS` times."""

MOST_CORRECTIONS = 3

CODEBOOK_ENTRY_BITS = 16
"""Bits of a value in a file."""


@dataclass(frozen=True, eq=False)
class Seen:
    """Inputs of a network, and what the float network answers to them.

    Parameters
    ----------
    arguments : tuple
        Positional arguments of a call.
    outputs : sequence of torch.Tensor
        The floating-point tensors that the float network returned.
    """

    arguments: tuple[Any, ...]
    outputs: Sequence[torch.Tensor]

    @classmethod
    @torch.no_grad()
    def by(cls, network: nn.Module, arguments: tuple[Any, ...]) -> Seen:
        """What ``network``, in evaluation mode, answers now."""
        return cls(arguments, _answers(network, arguments))

    @property
    def energies(self) -> list[float]:
        """Squared distance of every output from its mean over the rows; 1 if it is 0 or not finite."""
        found = [float((each - each.mean(0, keepdim=True)).square().sum()) for each in self.outputs if each.dim()]
        found = found if len(found) == len(self.outputs) else [float(each.square().sum()) for each in self.outputs]
        return [energy if 0 < energy < float("inf") else 1.0 for energy in found]

    def error(self, answers: Sequence[torch.Tensor]) -> float:
        """Squared distance of answers, as a share of the energy, averaged over the outputs."""
        pairs = zip(answers, self.outputs, self.energies, strict=True)
        shares = [float((one.double() - other.double()).square().sum()) / energy for one, other, energy in pairs]
        return sum(shares) / max(len(shares), 1)


def _answers(network: nn.Module, arguments: tuple[Any, ...]) -> list[torch.Tensor]:
    """The floating-point tensors that a network returns, float32."""
    leaves = pytree.tree_leaves(network(*arguments))
    return [each.float() for each in leaves if isinstance(each, torch.Tensor) and each.is_floating_point()]


def cluster_vectors(
    model: nn.Module, components: int, *, besides: Collection[str], seed: int, seen: Seen | None = None
) -> tuple[str, ...]:
    """Snap biases, norm scales and other float32 parameters with at most one dimension longer than 1, in place.

    All biases share a mixture, and so do others of one last name: a codebook for each would cost more than it saves.
    Means are rounded to float16 unless that costs more than `HALF_TOLERANCE`.

    Parameters
    ----------
    model : torch.nn.Module
        The network, in evaluation mode if ``seen`` is given.
    components : int
        Distinct values of each mixture at most, 2..256.
    besides : collection of str
        Names of parameters to leave alone.
    seed : int
        Seed of the clustering and of the sensitivities.
    seen : Seen, optional
        Inputs. With them there are as few values as keep the outputs: their error is at most `ERROR_SHARE` of what
        ``model`` is away from the float network, within `ERROR_RANGE`.

    Returns
    -------
    tuple of str
        Names of the parameters that were snapped.
    """
    groups = tuple(_kinds(model, besides))
    if groups and not _snapped_within(model, groups, components, seed, seen):
        for group in groups:
            group.write(_in_half(cluster(group.values(), components, seed=seed).palette.expand()))
    return tuple(name for group in groups for name in group.names)


def _kinds(model: nn.Module, besides: Collection[str]) -> Iterator[ParameterGroup]:
    """The vectors of a network: biases, also those of recurrent layers, then those of one last name together."""
    kinds: dict[str, dict[str, nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        long = sum(length > 1 for length in parameter.shape)
        if plain_name(name) not in besides and long <= 1 < parameter.numel() and parameter.dtype == torch.float32:
            last = name.rpartition(".")[2]
            kinds.setdefault("bias" if "bias" in last else last, {})[plain_name(name)] = parameter
    for kind, members in kinds.items():
        yield ParameterGroup(kind, tuple(members), tuple(members.values()))


def _snapped_within(
    model: nn.Module, groups: Sequence[ParameterGroup], components: int, seed: int, seen: Seen | None
) -> bool:
    """Snap the groups to as few values as the outputs allow; False if that cannot be told."""
    found = None if seen is None else _sensitivities(model, groups, seen, seed)
    if seen is None or found is None:
        return False
    before = Seen.by(model, seen.arguments)
    error = seen.error(before.outputs)
    if not error < float("inf"):
        return False
    allowed = aim = min(max(ERROR_SHARE * error, ERROR_RANGE[0]), ERROR_RANGE[1])
    values = [group.values() for group in groups]
    for _ in range(1 + MOST_CORRECTIONS):
        for group, palette in zip(groups, palettes_within(values, found, components, aim, seed=seed), strict=True):
            group.write(_in_half(palette.expand()))
        if before.error(Seen.by(model, seen.arguments).outputs) <= MISJUDGED * allowed:
            break
        aim /= CORRECTION
    return True


def palettes_within(
    values: Sequence[npt.NDArray[np.float32]],
    sensitivities: Sequence[npt.NDArray[np.float64]],
    components: int,
    error: float,
    *,
    seed: int,
) -> list[Palette]:
    """The palettes of several tensors that take the fewest bits at a sum of h (w - w')^2.

    Parameters
    ----------
    values : sequence of ndarray (n,), float32
        The tensors.
    sensitivities : sequence of ndarray (n,), float64
        Their sensitivities h.
    components : int
        Values of a palette at most, 2..256.
    error : float
        The sum that is allowed, over all tensors. Where no palettes keep it, they have ``components`` values.
    seed : int
        Seed of the clustering.
    """

    def clustered(count: int, price: float) -> _Clustered:
        return _clustered(values, sensitivities, count, price, seed)

    best: _Clustered | None = None
    fitting = 0
    for count in (*(count for count in COMPONENT_STEPS if count < components), components):
        found = clustered(count, 0.0)
        if found.error > error:
            continue
        best = found if best is None or found.bits < best.bits else best
        high = math.log(error)
        low = high - math.log(PRICE_RANGE)
        for _ in range(PRICE_HALVINGS):
            middle = (low + high) / 2
            found = clustered(count, math.exp(middle))
            low, high = (middle, high) if found.error <= error else (low, middle)
            if found.error <= error and found.bits < best.bits:
                best = found
        fitting += 1
        if fitting > FURTHER_STEPS:
            break
    return (best or clustered(components, 0.0)).palettes


@dataclass(frozen=True, eq=False)
class _Clustered:
    """Palettes of several tensors, their error and their bits."""

    palettes: list[Palette]
    error: float
    bits: float


def _clustered(
    values: Sequence[npt.NDArray[np.float32]],
    sensitivities: Sequence[npt.NDArray[np.float64]],
    components: int,
    bit_price: float,
    seed: int,
) -> _Clustered:
    palettes = [
        cluster(each, components, sensitivity=Sensitivity(h), bit_price=bit_price, seed=seed).palette
        for each, h in zip(values, sensitivities, strict=True)
    ]
    errors = [
        float((h * (each.astype(np.float64) - palette.expand()) ** 2).sum())
        for each, h, palette in zip(values, sensitivities, palettes, strict=True)
    ]
    bits = [entropy_bits(each.counts) + CODEBOOK_ENTRY_BITS * np.count_nonzero(each.counts) for each in palettes]
    return _Clustered(palettes, sum(errors), sum(bits))


def _sensitivities(
    model: nn.Module, groups: Sequence[ParameterGroup], seen: Seen, seed: int
) -> list[npt.NDArray[np.float64]] | None:
    """What a squared error of every number does to the outputs, as a share of their energy; None if nothing does.

    The mean over random signs r of the squared gradient of sum(r outputs) is the sum of the squared gradients of all
    outputs (Hutchinson 1990).
    """
    parameters = [parameter for group in groups for parameter in group.parameters]
    draw = torch.Generator().manual_seed(seed)
    squares = [torch.zeros_like(parameter, dtype=torch.float64) for parameter in parameters]
    weights = [energy**-0.5 for energy in seen.energies]
    # cuDNN does not differentiate recurrent layers in evaluation mode.
    with _differentiable(parameters), torch.backends.cudnn.flags(enabled=False):
        answers = _answers(model, seen.arguments)
        if not any(each.requires_grad for each in answers):
            return None
        for probe in range(PROBES):
            signs = [(2 * torch.randint(0, 2, each.shape, generator=draw) - 1).to(each.device) for each in answers]
            total = torch.stack(
                [weight * (sign * each).sum() for weight, sign, each in zip(weights, signs, answers, strict=True)]
            ).sum()
            gradients = torch.autograd.grad(total, parameters, allow_unused=True, retain_graph=probe + 1 < PROBES)
            for square, gradient in zip(squares, gradients, strict=True):
                if gradient is not None:
                    square += gradient.double().square() / (PROBES * len(answers))
    overall = float(torch.cat([square.reshape(-1) for square in squares]).mean())
    if not 0 < overall < float("inf"):
        return None
    known = iter(square.reshape(-1).cpu().numpy() for square in squares)
    return [np.concatenate([_raised(next(known), overall) for _ in group.parameters]) for group in groups]


@contextmanager
def _differentiable(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Let parameters have gradients, those that are frozen, too."""
    frozen = [parameter for parameter in parameters if not parameter.requires_grad]
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _raised(found: npt.NDArray[np.float64], overall: float) -> npt.NDArray[np.float64]:
    """Sensitivities of one tensor without zeros."""
    return found + LEAST_SENSITIVITY * (found.mean() or LEAST_SENSITIVITY * overall)


def _in_half(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Values rounded to float16, in float32, if that costs at most `HALF_TOLERANCE`; else as they are."""
    halves = half_rounded(values)
    return halves if np.abs(halves - values).max() <= HALF_TOLERANCE * np.abs(values).max() else values
