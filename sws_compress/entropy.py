"""Order-0 entropy: the bits that an ideal entropy coder needs if it knows no context."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def entropy_bits(counts: npt.ArrayLike) -> float:
    """Order-0 entropy of a sequence, in bits for all its symbols together.

    Parameters
    ----------
    counts : array_like, shape (k,)
        How often each symbol occurs; 0 is allowed.

    Returns
    -------
    float
        ``-sum_k n_k log2(n_k / n)``; 0.0 for an empty sequence. Shannon 1948.

    Examples
    --------
    >>> entropy_bits([2, 1, 1, 0])
    6.0
    """
    occurring = np.asarray(counts, dtype=np.float64)
    occurring = occurring[occurring > 0]
    return float(-(occurring * np.log2(occurring / occurring.sum())).sum()) + 0.0  # -0.0 + 0.0 = 0.0
