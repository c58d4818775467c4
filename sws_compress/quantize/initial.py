"""Starts of fits: optimal weighted 1-D k-means without data, k-means++ for vectors, an even grid for training."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sws_compress.mixture.histogram import OccupiedBins, WeightHistogram
from sws_compress.mixture.mixture import CHUNK_VALUES, Array, Mixture
from sws_compress.mixture.statistics import smallest_variance, variance_resolution
from sws_compress.mixture.vector_data import Moments, VectorData
from sws_compress.quantize.assign import assign
from sws_compress.quantize.palette import check_components

MAX_KMEANS_POINTS = 4096
"""Points that 1-D k-means sees at most; finer bins are put into groups for the start."""


GROUP_CAP_ROUNDS = 16
"""Rounds in which outliers lose what they have beyond one group; each round raises what one group is."""


SAMPLE_VECTORS = 1 << 16
"""Vectors that k-means sees; the moments of its clusters are taken over all vectors."""


LLOYD_STEPS = 10
"""Steps of k-means on that sample; EM goes on from there."""


NEAR_ZERO_DEVIATIONS = 2.0
"""Distance from zero, in standard deviations of the nearest cluster, up to which that cluster moves to zero."""


LEAST_RELATIVE_SENSITIVITY = 1e-12
"""Weights without sensitivity count this much in k-means, relative to the mean: they want a component as well."""


ADDED_ZERO_SHARE = 0.01
"""Weight of a zero component that no cluster supports, as a share of an equal weight. EM raises it if the data do."""


EVEN_MIXTURE_QUANTILE = 0.998
"""Quantile of |w| up to which `even_mixture` spreads its components: further out there are outliers."""


EVEN_MIXTURE_ZERO_WEIGHT = 0.9
"""Weight at zero of `even_mixture`: the prior belief that made training prune from the first EM step on."""


class Clusters(NamedTuple):
    """A hard clustering.

    Parameters
    ----------
    counts : ndarray, shape (k,), float64
        Number of weights (vectors) in each cluster.
    means, variances : ndarray, shape (k, d), float64
        Moments of each cluster, weighted by the sensitivities.
    """

    counts: Array
    means: Array
    variances: Array


def initial_mixture(
    data: WeightHistogram | VectorData, components: int, *, fixed_zero: bool = True, seed: int
) -> Mixture:
    """Start for `fit`: a component for each cluster of k-means.

    Parameters
    ----------
    data : WeightHistogram or VectorData
        The weights. Sensitivities weigh the clusters' means and variances.
    components : int, 2 .. 256
        Number of components; fewer come back if the data have fewer distinct points.
    fixed_zero : bool
        Whether component 0 has mean exactly 0. If zero lies within two standard deviations of the nearest cluster,
        that cluster moves there. Otherwise a component of small weight, and of the least variance of all clusters,
        takes the place of one cluster.
    seed : int
        Seed of the sample and of k-means++ for vectors; k-means of histograms is exact and needs none.

    Returns
    -------
    Mixture
        Weights are the clusters' shares; variances are at least what float32 resolves.

    Raises
    ------
    ArgumentError
        If ``components`` is not in 2 .. 256.

    References
    ----------
    Wang & Song 2011, Ckmeans.1d.dp: optimal k-means clustering in one dimension by dynamic programming.
    Arthur & Vassilvitskii 2007, k-means++: the advantages of careful seeding.
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
    """Start on ascending bins: optimal k-means of up to 4,096 groups of bins, in O(bins + 4096 k).

    Up to 4,096 bins the start is optimal. Above that, groups share the bins as the cells of an optimal quantizer would:
    evenly in the integral of the cube root of the density (Panter & Dite 1951).

    Parameters
    ----------
    bins : OccupiedBins
        The weights, ascending.
    components, fixed_zero
        As for `initial_mixture`.

    Returns
    -------
    Mixture
        A scalar mixture.

    Raises
    ------
    ArgumentError
        If ``components`` is not in 2 .. 256.
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
    """Whether zero is close enough to the nearest cluster."""
    nearest = _nearest_to_zero(clusters)
    squared_distance = (clusters.means[nearest] ** 2).sum()
    return bool(squared_distance <= NEAR_ZERO_DEVIATIONS**2 * clusters.variances[nearest].sum())


def _moved_to_zero(clusters: Clusters) -> Clusters:
    """Clusters with the nearest to zero first, its mean 0 and its variances about 0."""
    nearest = _nearest_to_zero(clusters)
    means, variances = clusters.means.copy(), clusters.variances.copy()
    variances[nearest] += means[nearest] ** 2
    means[nearest] = 0.0
    order = np.r_[nearest, np.delete(np.arange(len(means)), nearest)]
    return Clusters(clusters.counts[order], means[order], variances[order])


def _with_zero_added(clusters: Clusters, components: int) -> Clusters:
    """Clusters with one at zero before all others, which has a small share of the weights."""
    dimension = clusters.means.shape[1]
    return Clusters(
        np.r_[ADDED_ZERO_SHARE / components * clusters.counts.sum(), clusters.counts],
        np.r_[np.zeros((1, dimension)), clusters.means],
        np.r_[clusters.variances.min(axis=0, keepdims=True), clusters.variances],
    )


def _bin_clusters(bins: OccupiedBins, components: int) -> Clusters:
    """Optimal k-means of the bins' points, weighted by sensitivity; variances include the spread within bins."""
    import ckwrap

    sensitivity = np.maximum(bins.sensitivity, LEAST_RELATIVE_SENSITIVITY * bins.counts)
    groups = _groups(bins.points, sensitivity)
    weights = np.bincount(groups, weights=sensitivity)
    points = np.bincount(groups, weights=sensitivity * bins.points) / weights
    found = ckwrap.ckmeans(points, min(components, len(points)), weights=weights)
    labels = np.unique(np.asarray(found.labels), return_inverse=True)[1][groups]  # beside a far outlier some are empty
    counts = np.bincount(labels, weights=bins.counts)
    mass = np.bincount(labels, weights=sensitivity)
    means = np.bincount(labels, weights=sensitivity * bins.points) / mass
    scatter = np.bincount(labels, weights=bins.scatter + sensitivity * (bins.points - means[labels]) ** 2)
    return Clusters(counts.astype(np.float64), means[:, None], (scatter / mass)[:, None])


def _groups(points: Array, sensitivity: Array) -> npt.NDArray[np.intp]:
    """Group of each ascending point: 0, 1, ..."""
    if len(points) <= MAX_KMEANS_POINTS:
        return np.arange(len(points))
    edges = np.concatenate([points[:1], (points[1:] + points[:-1]) / 2, points[-1:]])
    density = np.cbrt(sensitivity) * np.cbrt(np.diff(edges)) ** 2  # the integral of the cube root of the density
    for _ in range(GROUP_CAP_ROUNDS):  # a far outlier may have nearly all of it, but can use one group
        density = np.minimum(density, density.sum() / MAX_KMEANS_POINTS)
    position = (np.cumsum(density) - density / 2) / density.sum()
    return np.unique((position * MAX_KMEANS_POINTS).astype(np.intp), return_inverse=True)[1]


def _clusters_of(data: VectorData, components: int, seed: int) -> Clusters:
    """Clusters of k-means on a sample of the vectors, with the moments of all vectors by nearest centre."""
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
    known = sensitivity > 0  # vectors without sensitivity have no moments: keep the centre
    variances = np.divide(moments.scatter[used], sensitivity, out=np.zeros_like(sensitivity), where=known)
    return Clusters(counts[used], np.where(known, moments.means[used], centres[used]), variances)


def _sample_centres(data: VectorData, components: int, seed: int) -> Array:
    """Centres (k, d) of k-means++ and a few Lloyd steps on a sample of the vectors, k <= components."""
    from sklearn.cluster import KMeans, kmeans_plusplus
    from sklearn.exceptions import ConvergenceWarning

    rows: npt.NDArray[np.intp] | slice = slice(None)
    if len(data.values) > SAMPLE_VECTORS:
        rows = np.sort(np.random.default_rng(seed).choice(len(data.values), SAMPLE_VECTORS, replace=False))
    sample, sensitivities = data.chunk(rows)
    weights = None if sensitivities is None else sensitivities.mean(axis=1) + LEAST_RELATIVE_SENSITIVITY
    distinct = np.unique(sample, axis=0)
    if len(distinct) <= components:
        return distinct
    centres, _ = kmeans_plusplus(sample, components, sample_weight=weights, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # centres that fall together stay apart from no vector
        lloyd = KMeans(components, init=centres, n_init=1, max_iter=LLOYD_STEPS).fit(sample, sample_weight=weights)
    return np.asarray(lloyd.cluster_centers_, dtype=np.float64)


def _memberships(points: Array, centres: Array) -> Array:
    """One-hot rows (k, n): 1 where the centre is the nearest one."""
    nearest = assign(points, centres, np.zeros(len(centres)))
    members: Array = np.equal(nearest, np.arange(len(centres))[:, None]).astype(np.float64)
    return members


def even_mixture(data: WeightHistogram, components: int, *, variance: float) -> Mixture:
    """Start for training: component 0 at zero, the others evenly on both sides.

    Parameters
    ----------
    data : WeightHistogram
        The weights. The outermost component lies at the 0.998 quantile of |w|. If at least that share of the weights
        is in the bin nearest to zero, the quantile is that of the other weights.
    components : int, >= 2
        Number of components. If it is even, the side with the heavier tail gets the odd one.
    variance : float, > 0
        Variance of all components, in units of the weights squared.

    Returns
    -------
    Mixture
        Component 0 has 90 % of the weight.
    """
    bins = data.occupied
    order = np.argsort(np.abs(bins.points))
    if len(order) > 1 and bins.counts[order[0]] >= EVEN_MIXTURE_QUANTILE * bins.counts.sum():
        order = order[1:]
    share = np.cumsum(bins.counts[order]) / bins.counts[order].sum()
    last = min(int(np.searchsorted(share, EVEN_MIXTURE_QUANTILE)), len(order) - 1)
    reach = float(np.abs(bins.points[order[last]]))
    heavy_side = 1.0 if (bins.counts * bins.points**3).sum() >= 0 else -1.0
    more, fewer = components // 2, (components - 1) // 2
    steps = np.concatenate(
        [np.arange(1, more + 1) / more * heavy_side, -np.arange(1, fewer + 1) / max(fewer, 1) * heavy_side]
    )
    means = np.concatenate([[0.0], reach * steps])
    weights = np.full(components, (1 - EVEN_MIXTURE_ZERO_WEIGHT) / (components - 1))
    weights[0] = EVEN_MIXTURE_ZERO_WEIGHT
    return Mixture(weights, means, np.full(components, variance))
