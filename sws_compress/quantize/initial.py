"""Starting mixtures: optimal weighted 1-D k-means for fits without data, an even grid for training."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sws_compress.mixture.histogram import OccupiedBins, WeightHistogram
from sws_compress.mixture.mixture import CHUNK_VALUES, Array, Mixture
from sws_compress.mixture.statistics import smallest_variance, variance_resolution
from sws_compress.mixture.vector_data import Moments, VectorData
from sws_compress.quantize.assign import assign
from sws_compress.quantize.palette import check_components

MAX_POINTS = 4096
"""1-D k-means sees at most this many points; finer bins are grouped for the start."""


CAPPINGS = 16
"""Each takes from outliers what they have beyond one group, which raises what one group is."""


SAMPLE_VECTORS = 1 << 16
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
    if isinstance(data, WeightHistogram):
        return mixture_of_bins(data.occupied, components, fixed_zero=fixed_zero)
    check_components(components)
    clusters = _clusters_of(data, components, seed)
    if fixed_zero and not _near_zero(clusters):
        clusters = _with_zero_added(_clusters_of(data, components - 1, seed), components)
    elif fixed_zero:
        clusters = _moved_to_zero(clusters)
    return _mixture(clusters, clusters.means.shape, smallest_variance(data))


def mixture_of_bins(bins: OccupiedBins, components: int, *, fixed_zero: bool) -> Mixture:
    """`initial_mixture` on ascending bins: optimal k-means of up to 4,096 groups of them, in O(bins + 4096 k).

    Exact up to 4,096 bins; above, groups are narrow where weights are dense and where bins are far apart, in proportion
    to what optimal quantizers give their cells (the cube root of the density; Panter & Dite 1951).
    """
    check_components(components)
    clusters = _bin_clusters(bins, components)
    if fixed_zero and not _near_zero(clusters):
        clusters = _with_zero_added(_bin_clusters(bins, components - 1), components)
    elif fixed_zero:
        clusters = _moved_to_zero(clusters)
    return _mixture(clusters, (-1,), variance_resolution(float(np.abs(bins.points).max())))


def _mixture(clusters: Clusters, shape: tuple[int, ...], least_variance: float) -> Mixture:
    variances = np.maximum(clusters.variances, least_variance)
    return Mixture(clusters.counts / clusters.counts.sum(), clusters.means.reshape(shape), variances.reshape(shape))


def _nearest_to_zero(clusters: Clusters) -> int:
    return int((clusters.means**2).sum(axis=1).argmin())


def _near_zero(clusters: Clusters) -> bool:
    """Whether zero lies within two standard deviations of the cluster nearest to it."""
    nearest = _nearest_to_zero(clusters)
    return bool((clusters.means[nearest] ** 2).sum() <= 4 * clusters.variances[nearest].sum())


def _moved_to_zero(clusters: Clusters) -> Clusters:
    """The cluster nearest to zero first, its mean 0 and its variances about 0."""
    nearest = _nearest_to_zero(clusters)
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


def _bin_clusters(bins: OccupiedBins, components: int) -> Clusters:
    """Optimal k-means of the bins' points, weighted by sensitivity; variances count the spread within bins."""
    import ckwrap

    # A bin without sensitivity still has weights that want a component: let it weigh next to nothing.
    sensitivity = np.maximum(bins.sensitivity, 1e-12 * bins.counts)
    groups = _groups(bins.points, sensitivity)
    weights = np.bincount(groups, weights=sensitivity)
    points = np.bincount(groups, weights=sensitivity * bins.points) / weights
    found = ckwrap.ckmeans(points, min(components, len(points)), weights=weights)
    labels = np.asarray(found.labels)[groups]
    counts = np.bincount(labels, weights=bins.counts)
    mass = np.bincount(labels, weights=sensitivity)
    means = np.bincount(labels, weights=sensitivity * bins.points) / mass
    scatter = np.bincount(labels, weights=bins.scatter + sensitivity * (bins.points - means[labels]) ** 2)
    return Clusters(counts.astype(np.float64), means[:, None], (scatter / mass)[:, None])


def _groups(points: Array, sensitivity: Array) -> npt.NDArray[np.intp]:
    """Group of each ascending point, 0, 1, .. up to `MAX_POINTS` groups."""
    if len(points) <= MAX_POINTS:
        return np.arange(len(points))
    edges = np.concatenate([points[:1], (points[1:] + points[:-1]) / 2, points[-1:]])
    density = np.cbrt(sensitivity) * np.cbrt(np.diff(edges)) ** 2  # the integral of the cube root of the density
    for _ in range(CAPPINGS):  # a far outlier may have nearly all of that, and can use one group
        density = np.minimum(density, density.sum() / MAX_POINTS)
    position = (np.cumsum(density) - density / 2) / density.sum()
    return np.unique((position * MAX_POINTS).astype(np.intp), return_inverse=True)[1]


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
    if len(data.values) > SAMPLE_VECTORS:
        rows = np.sort(np.random.default_rng(seed).choice(len(data.values), SAMPLE_VECTORS, replace=False))
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


REACH_SHARE = 0.998


ZERO_WEIGHT = 0.9


def even_mixture(data: WeightHistogram, components: int, *, variance: float) -> Mixture:
    """Component 0 at zero, the others evenly on both sides out to the 0.998 quantile of |w|, of the weights away from
    zero where no more than the rest are.

    With an even number of components the side with the heavier tail gets the odd one. All have ``variance``; zero
    starts with 90 % of the weight, the prior belief that made the loop prune from the first EM step on.
    """
    bins = data.occupied
    order = np.argsort(np.abs(bins.points))
    if len(order) > 1 and bins.counts[order[0]] >= REACH_SHARE * bins.counts.sum():
        order = order[1:]
    share = np.cumsum(bins.counts[order]) / bins.counts[order].sum()
    last = min(int(np.searchsorted(share, REACH_SHARE)), len(order) - 1)
    reach = float(np.abs(bins.points[order[last]]))
    heavy_side = 1.0 if (bins.counts * bins.points**3).sum() >= 0 else -1.0
    more, fewer = components // 2, (components - 1) // 2
    steps = np.concatenate(
        [np.arange(1, more + 1) / more * heavy_side, -np.arange(1, fewer + 1) / max(fewer, 1) * heavy_side]
    )
    means = np.concatenate([[0.0], reach * steps])
    weights = np.full(components, (1 - ZERO_WEIGHT) / (components - 1))
    weights[0] = ZERO_WEIGHT
    return Mixture(weights, means, np.full(components, variance))
