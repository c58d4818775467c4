"""Clustering of one tensor to scalars, without data: fine bins, optimal start, hard EM, snap.

Hard EM (classification EM, Celeux & Govaert 1992) on a mixture whose components share one small variance is k-means
where bits are free, and entropy-constrained scalar quantization where they have a price (Chou, Lookabaugh & Gray 1989):
it lowers sum_i h_i (w_i - mu_k)^2 - bit_price log2 pi_k in each step. Soft EM with free variances fits the density
better and the weights worse: its means are no codebook.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sws_compress.mixture.bins import fine_bins
from sws_compress.mixture.histogram import OccupiedBins
from sws_compress.mixture.mixture import AnyArray, Array, Mixture
from sws_compress.mixture.sensitivity import Sensitivity
from sws_compress.quantize.assign import bit_costs, lower_envelope, scalar_members, snap
from sws_compress.quantize.initial import mixture_of_bins
from sws_compress.quantize.palette import Clustering, in_half

MAX_HARD_STEPS = 1000
"""Hard EM ends when no bin moves: mostly after a few steps from the optimal start, rarely a hundred, more with a price
per bit."""


def cluster_scalars(
    values: AnyArray, components: int, *, sensitivity: Sensitivity | None = None, bit_price: float = 0.0
) -> Clustering:
    """Cluster with one codebook of scalars, as `cluster` with `PerTensor`.

    Zeros stay zeros where they are an even share of the components or more (a pruned tensor), or where bits have a
    price. Elsewhere no component is held at zero, which would cost error.

    Parameters
    ----------
    values : ndarray, any shape, one of FLOATS
        The weights. The result is exact only by chance; `cluster` keeps few distinct values as they are.
    components : int, 2 .. 256
        Entries of the codebook, at most.
    sensitivity : Sensitivity, optional
        h of every weight, by default 1.
    bit_price : float, >= 0
        What one bit is worth, in units of h w^2.

    Returns
    -------
    Clustering
        The mixture's variance is that of the weights about their means, under the relative sensitivities.

    Raises
    ------
    ArgumentError, ModelError
        As for `cluster`.
    """
    relative, price = relative_to_mean(sensitivity, bit_price)
    zeros = values.size - int(np.count_nonzero(values))
    fixed_zero = price > 0 or components * zeros >= values.size
    bins = fine_bins(values, relative)
    mixture = hard_em(bins, mixture_of_bins(bins, components, fixed_zero=fixed_zero), price, fixed_zero=fixed_zero)
    palette = snap(values, mixture, sensitivity=relative, bit_price=price)
    return Clustering(in_half(palette, float(mixture.variances[0]) * values.size), mixture)


def relative_to_mean(sensitivity: Sensitivity | None, bit_price: float) -> tuple[Sensitivity | None, float]:
    """Sensitivities of mean 1 (None if all are alike) and the price in their unit: what is minimised stays the same."""
    if sensitivity is None:
        return None, bit_price
    return None if sensitivity.uniform else sensitivity.relative, bit_price / sensitivity.mean


def hard_em(bins: OccupiedBins, start: Mixture, bit_price: float, *, fixed_zero: bool) -> Mixture:
    """Alternate the assignment of bins and the means of their weights until no bin moves.

    Parameters
    ----------
    bins : OccupiedBins
        The weights, ascending.
    start : Mixture
        A scalar mixture; its weights price the first assignment.
    bit_price : float, >= 0
        What one bit is worth, in units of the weights squared times relative sensitivities.
    fixed_zero : bool
        Whether component 0 keeps its mean.

    Returns
    -------
    Mixture
        All components have one variance, so that the assignment is an E-step in the limit. Components that lose all
        bins keep their mean with weight 0 and are never chosen again.
    """
    weights, means = start.weights.copy(), start.means.copy()
    moments = bins.sensitivity * bins.points
    partition: _Partition | None = None
    for _ in range(MAX_HARD_STEPS):
        previous, partition = partition, _partition(bins, weights, means, bit_price)
        if previous is not None and previous.same_as(partition):
            break
        weights = np.zeros_like(weights)
        weights[partition.owners] = partition.sums(bins.counts)
        mass, sums = partition.sums(bins.sensitivity), partition.sums(moments)
        means[partition.owners[mass > 0]] = sums[mass > 0] / mass[mass > 0]
        if fixed_zero:
            means[0] = start.means[0]
    assert partition is not None  # there is at least one step
    scatter = bins.scatter + bins.sensitivity * (bins.points - means[partition.labels]) ** 2
    spread = scatter.sum() / bins.sensitivity.sum()
    return Mixture(weights / weights.sum(), means, np.full(len(means), max(spread, start.variances.min())))


@dataclass(frozen=True, eq=False)
class _Partition:
    """Owners of all bins.

    Parameters
    ----------
    owners : ndarray, shape (m,), intp
        Components that own bins.
    starts : ndarray, shape (m,), intp
        Where the bins of each owner start, in the order of ``order``.
    order : ndarray, shape (bins,), intp, or None
        The bins sorted by owner; None if they are as they stand, each owner having one run of them.
    size : int
        Number of bins.
    """

    owners: npt.NDArray[np.intp]
    starts: npt.NDArray[np.intp]
    order: npt.NDArray[np.intp] | None
    size: int

    @property
    def labels(self) -> npt.NDArray[np.intp]:
        """Owner of each bin, shape (bins,)."""
        labels = np.repeat(self.owners, np.diff(np.append(self.starts, self.size)))
        if self.order is None:
            return labels
        unsorted = np.empty_like(labels)
        unsorted[self.order] = labels
        return unsorted

    def sums(self, values: Array) -> Array:
        """Sum over the bins of each owner, shape (m,)."""
        sums: Array = np.add.reduceat(values if self.order is None else values[self.order], self.starts)
        return sums

    def same_as(self, other: _Partition) -> bool:
        same_order = self.order is other.order or (
            self.order is not None and other.order is not None and np.array_equal(self.order, other.order)
        )
        return same_order and np.array_equal(self.owners, other.owners) and np.array_equal(self.starts, other.starts)


def _partition(bins: OccupiedBins, weights: Array, means: Array, bit_price: float) -> _Partition:
    """Cheapest component of each bin, by sensitivity (w - mu_k)^2 - bit_price count log2 pi_k."""
    size = len(bins.points)
    costs = bit_costs(weights, bit_price) if bit_price > 0 else np.where(weights > 0, 0.0, np.inf)
    per_weight = bins.sensitivity / bins.counts
    if bit_price > 0 and (per_weight != 1).any():
        labels = scalar_members(bins.points, per_weight, means, costs).assignment
        order = np.argsort(labels, kind="stable")
        owners, starts = np.unique(labels[order], return_index=True)
        return _Partition(owners.astype(np.intp), starts, order, size)
    winners, breakpoints = lower_envelope(means, costs)
    first = np.append(0, np.searchsorted(bins.points, breakpoints, side="right"))
    held = np.diff(np.append(first, size)) > 0
    return _Partition(winners[held], first[held], None, size)
