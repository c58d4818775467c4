"""Hard EM on one group: rate-aware assignment of weights to a codebook, and its closed-form M-step.

With one variance for all components, hard EM on a Gaussian mixture is entropy-constrained scalar quantization
(Chou, Lookabaugh & Gray 1989)::

    k* = argmin_k  h (w - mu_k)^2 - bit_price * log2 pi_k

All functions are pure, run on the device of their arguments and hold O(n) memory: no n x k array exists.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch

CODE_LENGTH_MOMENTUM = 0.7
"""Share of the old mixing proportions that an EM step keeps: code lengths move slowly, so that sizes do not swing."""


def assign(
    latent: torch.Tensor,
    sensitivity: torch.Tensor | None,
    codebook: torch.Tensor,
    code_bits: torch.Tensor,
    bit_price: float,
) -> torch.Tensor:
    """Cheapest component of each weight, by distortion plus priced code length.

    Parameters
    ----------
    latent : tensor, any shape, float32
        The weights w.
    sensitivity : tensor like ``latent``, or None
        Their sensitivities h >= 0; None means 1 everywhere.
    codebook, code_bits : tensor, shape (k,), k <= 256
        Means mu_k, and code lengths in bits. A component of infinite code length is never chosen.
    bit_price : float
        Sensitivity-weighted squared error that one bit is worth.

    Returns
    -------
    tensor like ``latent``, uint8
        ``argmin_k h (w - mu_k)^2 + bit_price * code_bits_k``; the lowest index on ties.
    """
    best = torch.full_like(latent, math.inf)
    chosen = torch.zeros_like(latent, dtype=torch.uint8)
    cost = torch.empty_like(latent)
    for k, (mean, bits) in enumerate(zip(codebook.tolist(), code_bits.tolist(), strict=True)):
        if not math.isfinite(bits):
            continue
        torch.sub(latent, mean, out=cost)
        cost.square_()
        if sensitivity is not None:
            cost.mul_(sensitivity)
        cost.add_(bit_price * bits)
        better = (cost < best).view(torch.uint8)
        torch.minimum(best, cost, out=best)
        torch.maximum(chosen, better.mul_(k), out=chosen)  # k only grows; three times as fast as masked writes
    return chosen


def code_lengths(weights: torch.Tensor) -> torch.Tensor:
    """Code length of each component, ``-log2 pi_k`` in bits, shape (k,); component 0 costs no more than any other.

    Weights without sensitivity, such as those behind a dead unit, go wherever it is cheapest. Only as zeros can whole
    rows and columns of them leave the file, so zero (component 0) must never be dearer than another value.
    """
    bits = -torch.log2(weights)
    bits[0] = bits.min()
    return bits


def counts(assignments: Sequence[torch.Tensor], components: int) -> torch.Tensor:
    """Number of weights in each component over all ``assignments``, shape (k,), float64."""
    total = torch.zeros(components, dtype=torch.float64, device=assignments[0].device)
    for chosen in assignments:
        total += torch.bincount(chosen.reshape(-1), minlength=components)
    return total


def member_sums(values: torch.Tensor, assignment: torch.Tensor, components: int) -> torch.Tensor:
    """Sum of ``values`` over the members of each component, shape (k,), float64."""
    return torch.bincount(assignment.reshape(-1).int(), weights=values.reshape(-1).double(), minlength=components)


def expanded(codebook: torch.Tensor, assignment: torch.Tensor) -> torch.Tensor:
    """Codebook value of every weight, in the shape of ``assignment``."""
    return codebook.index_select(0, assignment.reshape(-1).int()).view(assignment.shape)


def best_merge(
    occupancy: torch.Tensor, mass: torch.Tensor, means: torch.Tensor, bit_price: float, component_bits: float
) -> tuple[int, int] | None:
    """Pair of neighbouring components whose merger pays most, or None if no merger pays.

    A single weight cannot see what a whole component costs. Merged, members a and b save
    ``log2 (n_a + n_b choose n_a)`` bits between them and the cost of a component, for
    ``m_a m_b / (m_a + m_b) (mu_a - mu_b)^2`` of distortion. Component 0 keeps its mean and takes others in for
    ``m_a mu_a^2``.

    Parameters
    ----------
    occupancy, mass, means : tensor, shape (k,)
        Number of members n, sum of their sensitivities m, and mean mu of each component.
    bit_price : float
        Sensitivity-weighted squared error that one bit is worth.
    component_bits : float
        Bits that a file saves with a component.

    Returns
    -------
    (int, int) or None
        The component that goes, and the one that takes its members.
    """
    alive = torch.nonzero(occupancy > 0).reshape(-1)
    order = alive[torch.argsort(means[alive])].tolist()
    best, best_gain = None, 0.0
    n, m, mu = occupancy.tolist(), mass.tolist(), means.tolist()
    for one, other in itertools.pairwise(order):
        gone, kept = (one, other) if other == 0 or (one != 0 and n[one] <= n[other]) else (other, one)
        saved = _n_log_n(n[gone] + n[kept]) - _n_log_n(n[gone]) - _n_log_n(n[kept]) + component_bits
        pooled = m[gone] if kept == 0 else m[gone] * m[kept] / max(m[gone] + m[kept], 1e-300)
        gain = bit_price * saved - pooled * (mu[gone] - mu[kept]) ** 2
        if gain > best_gain:
            best, best_gain = (gone, kept), gain
    return best


def _n_log_n(count: float) -> float:
    return count * math.log2(count) if count > 0 else 0.0


def update_proportions(
    weights: torch.Tensor, occupancy: torch.Tensor, momentum: float = CODE_LENGTH_MOMENTUM
) -> torch.Tensor:
    """New mixing proportions, shape (k,): a running average of the smoothed share of each component.

    One virtual weight per component (a Dirichlet prior) keeps the code length of an empty one finite, so that it can
    come back.
    """
    share = (occupancy + 1) / (occupancy + 1).sum()
    return momentum * weights + (1 - momentum) * share
