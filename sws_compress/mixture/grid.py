"""An even start for training: with entropy coding an even grid is nearly optimal, wherever the weights are dense.

Gish & Pierce 1968. Where optimal k-means puts most means among the small weights, the alternating loop then prices most
of those to zero; an even grid keeps means where large weights will be.
"""

from __future__ import annotations

import numpy as np

from sws_compress.mixture.histogram import WeightHistogram
from sws_compress.mixture.params import Mixture

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
