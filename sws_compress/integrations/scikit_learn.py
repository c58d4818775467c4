"""The mixture of soft weight sharing as an estimator of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sws_compress.arguments import whole_number
from sws_compress.mixture.em import Prior, fit, log_responsibilities
from sws_compress.mixture.histogram import WeightHistogram, weight_histogram, weight_range
from sws_compress.mixture.mixture import CHUNK_VALUES, Array, Mixture
from sws_compress.mixture.vector_data import VectorData
from sws_compress.quantize.initial import initial_mixture
from sws_compress.quantize.palette import check_components

try:
    from sklearn.base import BaseEstimator, DensityMixin, OneToOneFeatureMixin, TransformerMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        f"scikit-learn >= 1.6 must be installed, got '{error}': pip install 'sws-compress[scikit-learn]'"
    ) from error

MOST_SEED = 2**31 - 1
"""Seeds that are drawn from a generator are below it."""


class WeightMixture(OneToOneFeatureMixin, TransformerMixin, DensityMixin, BaseEstimator):  # type: ignore[misc]
    """Gaussian mixture with diagonal covariances whose first component stays at zero, fitted by EM.

    One column is fitted on a histogram with moments: an iteration costs as much for a billion values as for a thousand.
    Several columns are vectors, and an iteration reads them all.

    Parameters
    ----------
    components : int, default 16
        Components of the mixture, 2 .. 256. There are fewer where the data have fewer distinct values.
    fixed_zero : bool, default True
        Whether component 0 has mean 0 and keeps it, as in soft weight sharing. Data without a cluster about zero get a
        component of small weight there.
    concentration : float, default 1.0
        Of a symmetric Dirichlet prior on the weights; >= 1, which switches it off.
    precision_shape, precision_rate : float, default 1.0 and 0.0
        Of a Gamma prior on every precision, which 1 and 0 switch off.
    max_iter : int, default 100
        Steps of EM at most.
    tol : float, default 1e-7
        Gain of the log-posterior, in nats per sample, at which the fit ends.
    bins : int, default 4096
        Bins of the histogram of one column.
    random_state : int, RandomState or None, default None
        Seed of the start for several columns; that for one column is exact.

    Attributes
    ----------
    weights_ : ndarray, shape (k,)
        Mixing proportions.
    means_ : ndarray, shape (k, n_features)
        Component means; the first is 0 with ``fixed_zero``.
    variances_ : ndarray, shape (k, n_features)
        Diagonals of the covariances.
    mixture_ : Mixture
        The same as the package has it.
    converged_ : bool
        Whether the last step gained at most ``tol``.
    n_iter_ : int
        Steps taken.
    lower_bound_ : float
        Log-likelihood of the data, in nats per sample.

    Examples
    --------
    >>> import numpy as np
    >>> from sws_compress.integrations.scikit_learn import WeightMixture
    >>> rng = np.random.default_rng(0)
    >>> weights = np.concatenate([0.02 * rng.standard_normal(900), 0.5 + 0.02 * rng.standard_normal(100)])
    >>> found = WeightMixture(components=2).fit(weights[:, None])
    >>> found.means_.round(1).tolist(), found.weights_.round(1).tolist()
    ([[0.0], [0.5]], [0.9, 0.1])
    >>> found.transform([[0.48], [0.01]]).round(1).tolist()
    [[0.5], [0.0]]
    """

    def __init__(
        self,
        components: int = 16,
        *,
        fixed_zero: bool = True,
        concentration: float = 1.0,
        precision_shape: float = 1.0,
        precision_rate: float = 0.0,
        max_iter: int = 100,
        tol: float = 1e-7,
        bins: int = 4096,
        random_state: Any = None,
    ) -> None:
        self.components = components
        self.fixed_zero = fixed_zero
        self.concentration = concentration
        self.precision_shape = precision_shape
        self.precision_rate = precision_rate
        self.max_iter = max_iter
        self.tol = tol
        self.bins = bins
        self.random_state = random_state

    def fit(self, X: npt.ArrayLike, y: object = None) -> WeightMixture:
        """Fit the mixture.

        Parameters
        ----------
        X : array_like, shape (n_samples, n_features)
            The data; of one column, float32 is what the fit sees.
        y : object
            Not used.

        Returns
        -------
        WeightMixture
            The estimator itself.

        Raises
        ------
        ArgumentError
            If a parameter is out of range; it is a ValueError.
        """
        components = whole_number("components", self.components)
        check_components(components)
        values = validate_data(self, X, dtype=(np.float64, np.float32), ensure_min_samples=2)
        prior = Prior(
            concentration=self.concentration,
            precision_shape=self.precision_shape,
            precision_rate=self.precision_rate,
            fixed_zero=self.fixed_zero,
        )
        data = self._data(values)
        seed = int(check_random_state(self.random_state).randint(MOST_SEED))
        start = initial_mixture(data, components, fixed_zero=self.fixed_zero, seed=seed)
        found = fit(data, start, prior, max_iterations=self.max_iter, tolerance=self.tol)
        self.mixture_ = found.mixture
        self.weights_ = found.mixture.weights
        self.means_ = found.mixture.means.reshape(len(self.weights_), -1)
        self.variances_ = found.mixture.variances.reshape(len(self.weights_), -1)
        self.converged_, self.n_iter_ = found.converged, found.iterations
        self.lower_bound_ = found.mean_log_likelihood
        return self

    def _data(self, values: Array) -> WeightHistogram | VectorData:
        """The samples as EM takes them."""
        if values.shape[1] > 1:
            return VectorData(values)
        low, high = weight_range(values)
        return weight_histogram(values, low=low, high=high, bins=whole_number("bins", self.bins))

    def _samples(self, X: npt.ArrayLike) -> tuple[Array, Mixture]:
        """Samples that fit, and the mixture."""
        check_is_fitted(self)
        return validate_data(self, X, dtype=(np.float64, np.float32), reset=False), self.mixture_

    def predict_proba(self, X: npt.ArrayLike) -> Array:
        """Responsibilities of the components, shape (n_samples, k); rows sum to 1."""
        values, mixture = self._samples(X)
        starts = range(0, len(values), CHUNK_VALUES)
        parts = [np.exp(log_responsibilities(values[start : start + CHUNK_VALUES], mixture)) for start in starts]
        return np.concatenate(parts)

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.intp]:
        """The component with the greatest responsibility for every sample, shape (n_samples,)."""
        values, mixture = self._samples(X)
        starts = range(0, len(values), CHUNK_VALUES)
        parts = [log_responsibilities(values[i : i + CHUNK_VALUES], mixture).argmax(axis=1) for i in starts]
        return np.concatenate(parts)

    def transform(self, X: npt.ArrayLike) -> Array:
        """Every sample at the mean of its component, shape (n_samples, n_features): shared weights."""
        components = self.predict(X)
        snapped: Array = self.means_[components]
        return snapped

    def score_samples(self, X: npt.ArrayLike) -> Array:
        """Log-density of every sample, in nats, shape (n_samples,)."""
        values, mixture = self._samples(X)
        return mixture.log_density(values)

    def score(self, X: npt.ArrayLike, y: object = None) -> float:
        """Mean log-density of the samples, in nats."""
        return float(self.score_samples(X).mean())
