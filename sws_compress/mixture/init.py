"""Where EM starts: optimal weighted 1-D k-means on the histogram, k-means++ and a few Lloyd steps for vectors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sws_compress.errors import ArgumentError
from sws_compress.mixture.histogram import WeightHistogram
from sws_compress.mixture.params import CHUNK_VALUES, Array, Mixture
from sws_compress.mixture.snap import MAX_CODEBOOK, assign
from sws_compress.mixture.statistics import smallest_variance
from sws_compress.mixture.vector import Moments, VectorData

MAX_POINTS = 4096
"""1-D k-means sees at most this many points; finer histograms are coarsened for the start."""

SAMPLE_ROWS = 1 << 16
"""Vectors that k-means sees; the moments of its clusters are taken over all vectors."""

LLOYD_STEPS = 10

ADDED_ZERO_SHARE = 0.01
"""Weight of a zero component that no cluster supports, as a share of an equal weight: EM grows it if data do."""


class Clusters(NamedTuple):
    """A hard clustering: ``counts`` (k,) weights, ``means`` (k, d) and ``variances`` (k, d) about them."""

    counts: Array
    means: Array
    variances: Array


def initial_mixture(
    data: WeightHistogram | VectorData, components: int, *, fixed_zero: bool = True, seed: int
) -> Mixture:
    """A start for `fit` with ``components`` components, fewer if the data have fewer distinct points.

    Weights are the clusters' shares, means and variances their moments (weighted by the sensitivities), variances no
    smaller than float32 resolves. With ``fixed_zero`` component 0 has mean exactly 0: the cluster nearest to zero moves
    there if zero lies within two of its standard deviations; otherwise no cluster is bent that far, and a component of
    small weight and the smallest of the clusters' variances is added within the same number of components.

    ``seed`` drives the sample and k-means++ for vectors (Arthur & Vassilvitskii 2007); the histogram's k-means is exact
    (Wang & Song 2011) and needs none.

    Raises ArgumentError if ``components`` is not in 2 .. 256.
    """
    check_components(components)
    clusters = _clusters(data, components, seed)
    if fixed_zero:
        norms = (clusters.means**2).sum(axis=1)
        nearest = int(norms.argmin())
        if norms[nearest] <= 4 * clusters.variances[nearest].sum():
            clusters = _moved_to_zero(clusters, nearest)
        else:
            clusters = _with_zero_added(_clusters(data, components - 1, seed), components)
    shape = (-1,) if isinstance(data, WeightHistogram) else clusters.means.shape
    variances = np.maximum(clusters.variances, smallest_variance(data))
    return Mixture(clusters.counts / clusters.counts.sum(), clusters.means.reshape(shape), variances.reshape(shape))


def check_components(components: int) -> None:
    """Raise ArgumentError if ``components`` is not in 2 .. 256."""
    if components < 2:
        raise ArgumentError(f"components must be >= 2, got {components}: one is reserved for zero")
    if components > MAX_CODEBOOK:
        raise ArgumentError(f"components must be <= {MAX_CODEBOOK}, got {components}: indices are uint8")


def _moved_to_zero(clusters: Clusters, nearest: int) -> Clusters:
    """Cluster ``nearest`` first, its mean 0 and its variances about 0."""
    means, variances = clusters.means.copy(), clusters.variances.copy()
    variances[nearest] += means[nearest] ** 2
    means[nearest] = 0.0
    order = np.r_[nearest, np.delete(np.arange(len(means)), nearest)]
    return Clusters(clusters.counts[order], means[order], variances[order])


def _with_zero_added(clusters: Clusters, components: int) -> Clusters:
    """A component at zero before all others, with a small share of the weights."""
    dimension = clusters.means.shape[1]
    return Clusters(
        np.r_[ADDED_ZERO_SHARE / components * clusters.counts.sum(), clusters.counts],
        np.r_[np.zeros((1, dimension)), clusters.means],
        np.r_[clusters.variances.min(axis=0, keepdims=True), clusters.variances],
    )


def _clusters(data: WeightHistogram | VectorData, components: int, seed: int) -> Clusters:
    return (
        _bin_clusters(data, components) if isinstance(data, WeightHistogram) else _clusters_of(data, components, seed)
    )


def _bin_clusters(data: WeightHistogram, components: int) -> Clusters:
    """Optimal k-means of the bins' points, weighted by sensitivity; variances count the spread within bins."""
    import ckwrap

    bins = data.occupied
    groups = np.arange(len(bins.points)) * min(MAX_POINTS, len(bins.points)) // len(bins.points)
    # A bin without sensitivity still has weights that want a component: let it weigh next to nothing.
    sensitivity = np.maximum(bins.sensitivity, 1e-12 * bins.counts)
    weights = np.bincount(groups, weights=sensitivity)
    points = np.bincount(groups, weights=sensitivity * bins.points) / weights
    found = ckwrap.ckmeans(points, min(components, len(points)), weights=weights)
    labels = np.asarray(found.labels)[groups]
    counts = np.bincount(labels, weights=bins.counts)
    mass = np.bincount(labels, weights=sensitivity)
    means = np.bincount(labels, weights=sensitivity * bins.points) / mass
    scatter = np.bincount(labels, weights=bins.scatter + sensitivity * (bins.points - means[labels]) ** 2)
    return Clusters(counts.astype(np.float64), means[:, None], (scatter / mass)[:, None])


def _clusters_of(data: VectorData, components: int, seed: int) -> Clusters:
    """k-means++ and a few Lloyd steps on a sample of the rows, then the moments of all rows by nearest centre."""
    centres = _sample_centres(data, components, seed)
    counts = np.zeros(len(centres))
    moments = Moments.none(centres.shape)
    for start in range(0, len(data.values), CHUNK_VALUES):
        points, sensitivities = data.chunk(slice(start, start + CHUNK_VALUES))
        members = _memberships(points, centres)
        counts += members.sum(axis=1)
        moments = moments.merge(Moments.of(points, sensitivities, members))
    used = counts > 0
    sensitivity = moments.sensitivity[used]
    known = sensitivity > 0  # rows without sensitivity have no moments: keep the centre
    variances = np.divide(moments.scatter[used], sensitivity, out=np.zeros_like(sensitivity), where=known)
    return Clusters(counts[used], np.where(known, moments.means[used], centres[used]), variances)


def _sample_centres(data: VectorData, components: int, seed: int) -> Array:
    """Centres (k, d), k <= components, of a sample of the rows."""
    from sklearn.cluster import KMeans, kmeans_plusplus

    rows: npt.NDArray[np.intp] | slice = slice(None)
    if len(data.values) > SAMPLE_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(len(data.values), SAMPLE_ROWS, replace=False))
    sample, sensitivities = data.chunk(rows)
    weights = None if sensitivities is None else sensitivities.mean(axis=1) + 1e-12
    distinct = np.unique(sample, axis=0)
    if len(distinct) <= components:
        return distinct
    centres, _ = kmeans_plusplus(sample, components, sample_weight=weights, random_state=seed)
    lloyd = KMeans(components, init=centres, n_init=1, max_iter=LLOYD_STEPS).fit(sample, sample_weight=weights)
    return np.asarray(lloyd.cluster_centers_, dtype=np.float64)


def _memberships(points: Array, centres: Array) -> Array:
    """One-hot rows (k, n): 1 where the centre is the nearest one."""
    nearest = assign(points, centres, np.zeros(len(centres)))
    members: Array = np.equal(nearest, np.arange(len(centres))[:, None]).astype(np.float64)
    return members
