"""The hard stage: rate-aware assignment of latent weights to a codebook, and its closed-form M-step.

With one variance for all components, hard EM on a Gaussian mixture is entropy-constrained scalar quantization
(Chou, Lookabaugh & Gray 1989): ``k* = argmin_k h (w - mu_k)^2 - lambda log2 pi_k``. All functions are pure, work on the
device of their arguments, and hold O(n) memory: no n x k array exists.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch


def assign(
    latent: torch.Tensor,
    sensitivity: torch.Tensor | None,
    codebook: torch.Tensor,
    code_bits: torch.Tensor,
    rate: float,
) -> torch.Tensor:
    """Index of the component with the least ``h (w - mu_k)^2 + rate * code_bits_k``; same shape as ``latent``, uint8.

    latent, sensitivity: equal shapes; codebook, code_bits: (k,), k <= 256; bits; ``rate`` in squared-error units per
    bit. Components of infinite code length are never chosen.
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
        cost.add_(rate * bits)
        better = (cost < best).view(torch.uint8)
        torch.minimum(best, cost, out=best)
        torch.maximum(chosen, better.mul_(k), out=chosen)  # k only grows; thrice as fast as masked writes
    return chosen


def code_lengths(weights: torch.Tensor) -> torch.Tensor:
    """-log2 pi_k in bits, (k,); that of component 0, which is zero, at most that of the cheapest other.

    Weights without sensitivity, like those behind a dead unit, go wherever it is cheapest, and only as zeros do whole
    rows and columns of them leave the file.
    """
    bits = -torch.log2(weights)
    bits[0] = bits.min()
    return bits


def counts(assignments: Sequence[torch.Tensor], components: int) -> torch.Tensor:
    """How many weights each component holds over all members, shape (k,), float64."""
    total = torch.zeros(components, dtype=torch.float64, device=assignments[0].device)
    for chosen in assignments:
        total += torch.bincount(chosen.reshape(-1), minlength=components)
    return total


def member_sums(values: torch.Tensor, assignment: torch.Tensor, components: int) -> torch.Tensor:
    """Sum of ``values`` over the members of each component, shape (k,), float64."""
    return torch.bincount(assignment.reshape(-1).int(), weights=values.reshape(-1).double(), minlength=components)


def expanded(codebook: torch.Tensor, assignment: torch.Tensor) -> torch.Tensor:
    """The value of each weight's component, in the shape of ``assignment``."""
    return codebook.index_select(0, assignment.reshape(-1).int()).view(assignment.shape)


def best_merge(
    occupancy: torch.Tensor, mass: torch.Tensor, means: torch.Tensor, rate: float, entry_bits: float
) -> tuple[int, int] | None:
    """The pair of neighbouring components (gone, kept) whose merger lowers distortion + rate * bits most, if any does.

    occupancy (members), mass (sum of h) and means: (k,). Single weights cannot see what a whole component costs:
    merged, members a and b save ``log2 (n_a + n_b choose n_a)`` bits between them and a codebook entry, for
    ``m_a m_b / (m_a + m_b) (mu_a - mu_b)^2`` of distortion. Component 0 keeps its mean and takes others in at
    ``m_a mu_a^2``.
    """
    alive = torch.nonzero(occupancy > 0).reshape(-1)
    order = alive[torch.argsort(means[alive])].tolist()
    best, best_gain = None, 0.0
    n, m, mu = occupancy.tolist(), mass.tolist(), means.tolist()
    for one, other in itertools.pairwise(order):
        gone, kept = (one, other) if other == 0 or (one != 0 and n[one] <= n[other]) else (other, one)
        saved = _n_log_n(n[gone] + n[kept]) - _n_log_n(n[gone]) - _n_log_n(n[kept]) + entry_bits
        pooled = m[gone] if kept == 0 else m[gone] * m[kept] / max(m[gone] + m[kept], 1e-300)
        gain = rate * saved - pooled * (mu[gone] - mu[kept]) ** 2
        if gain > best_gain:
            best, best_gain = (gone, kept), gain
    return best


def _n_log_n(count: float) -> float:
    return count * math.log2(count) if count > 0 else 0.0


def update_code_lengths(weights: torch.Tensor, occupancy: torch.Tensor, momentum: float = 0.7) -> torch.Tensor:
    """pi <- momentum * pi + (1 - momentum) * (smoothed share of each component), shape (k,).

    One virtual weight per component (a Dirichlet prior) keeps the price of an empty one finite, so that it can
    come back.
    """
    share = (occupancy + 1) / (occupancy + 1).sum()
    return momentum * weights + (1 - momentum) * share


def column_sums(second_moment: torch.Tensor) -> torch.Tensor:
    """Sums over the rows of (out, ...), (columns,) float64; none of a vector."""
    rows = second_moment.flatten(1) if second_moment.dim() > 1 else second_moment.new_zeros(0, 0)
    return rows.sum(0, dtype=torch.float64)


def sensitivity_factors(
    second_moment: torch.Tensor, power: float, column_means: torch.Tensor | None = None
) -> torch.Tensor:
    """Squared gradients to a power: row mean * column mean / mean of matrices, elementwise of vectors.

    second_moment: (out, ...) non-negative, all rows, or some of them with the ``column_means`` of all. A single entry
    of Adam's second moment is noisy; its row and column means are not, and for a linear layer the expectation of the
    squared gradient nearly factorises that way (Adafactor, Shazeer & Stern 2018).
    """
    if second_moment.dim() < 2:
        return second_moment.pow(power)
    matrix = second_moment.flatten(1)  # reshape would not know how many columns no rows have
    rows = matrix.mean(1, keepdim=True)
    columns = matrix.mean(0, keepdim=True) if column_means is None else column_means.to(matrix.dtype)[None]
    mean = (rows if column_means is None else columns).mean().clamp_min(torch.finfo(matrix.dtype).tiny)
    return (rows * columns / mean).pow(power).reshape(second_moment.shape)
